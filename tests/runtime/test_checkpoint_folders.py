"""One directory that is used again: what a save did not write there is not part of it."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import accelerate.state
import accelerate.utils
import pytest
import torch
from torch import nn
from torch.distributed.fsdp import StateDictType

from runtime import Accelerator, FullyShardedDataParallelPlugin, checkpointing
from runtime.checkpoint import manifest
from runtime.config.plugins import ProjectConfiguration
from runtime.utils import load_checkpoint_in_model, merge_fsdp_weights
from runtime.utils.fsdp_utils import load_fsdp_model, save_fsdp_model
from tests.states import fresh


class Kept:
    """A registered object."""

    def __init__(self, value: float) -> None:
        self.value = value

    def state_dict(self) -> Any:
        return self.value

    def load_state_dict(self, state: Any) -> None:
        self.value = state


class Training:
    """A model whose weights are all one number, and other objects that say the same."""

    def __init__(
        self, value: float, *, objects: int = 1, library: Any = None, **options: Any
    ) -> None:
        fresh()
        self.accelerator = (library or Accelerator)(cpu=True, **options)
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        optimizer = torch.optim.SGD(model.parameters(), lr=value)
        prepared: tuple[Any, Any] = self.accelerator.prepare(model, optimizer)
        self.model, self.optimizer = prepared
        self.kept = [Kept(value) for _ in range(objects)]
        self.accelerator.register_for_checkpointing(*self.kept)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(value)

    def found(self) -> set[float]:
        """All the numbers that there are."""
        rates = {group["lr"] for group in self.optimizer.param_groups}
        return weights(self.model) | rates | {one.value for one in self.kept}


def weights(model: nn.Module) -> set[float]:
    return {float(one.detach().mean()) for one in model.parameters()}


def state(folder: Path, value: float, *, is_safe: bool = True, **options: Any) -> None:
    Training(value, **options).accelerator.save_state(folder, safe_serialization=is_safe)


def sharded(kind: str) -> dict[str, Any]:
    plugin = FullyShardedDataParallelPlugin(state_dict_type=kind)
    return {"fsdp_plugin": plugin}


def theirs(folder: Path, value: float, *, is_safe: bool = True, objects: int = 1) -> None:
    state(folder, value, is_safe=is_safe, objects=objects, library=accelerate.Accelerator)


def of_two_ranks(folder: Path, value: float) -> None:
    """As if there had been another process."""
    state(folder, value, objects=3)
    shutil.copy(folder / "random_states_0.pkl", folder / "random_states_1.pkl")
    facts = manifest.read(folder) or {}
    facts["files"]["random_states_1.pkl"] = manifest.checked(folder / "random_states_1.pkl")
    (folder / "manifest.json").write_bytes(manifest.text(facts))


Save = Callable[[Path, float], None]
STATES: dict[str, Save] = {
    "safetensors": state,
    "bin": lambda folder, value: state(folder, value, is_safe=False),
    "three objects of two ranks": of_two_ranks,
    "Accelerate's": lambda folder, value: theirs(folder, value, objects=2),
    "Accelerate's bin": lambda folder, value: theirs(folder, value, is_safe=False),
    "sharded": lambda folder, value: state(folder, value, **sharded("SHARDED_STATE_DICT")),
    "FSDP, whole": lambda folder, value: state(folder, value, **sharded("FULL_STATE_DICT")),
}
OURS = [name for name in STATES if "Accelerate" not in name]
LOADERS = {"sharded": "SHARDED_STATE_DICT", "FSDP, whole": "FULL_STATE_DICT"}


@pytest.mark.parametrize("second", OURS)
def test_a_state_is_what_was_saved_last_whatever_was_there(tmp_path: Path, second: str) -> None:
    (tmp_path / "alone").mkdir()
    STATES[second](tmp_path / "alone", 2.0)
    alone = {str(one.relative_to(tmp_path / "alone")) for one in (tmp_path / "alone").rglob("*")}
    for first, save in STATES.items():
        folder = tmp_path / first
        save(folder, 1.0)
        for name in NOTES:
            (folder / name).write_text("mine")
        STATES[second](folder, 2.0)
        there = {str(one.relative_to(folder)) for one in folder.rglob("*")}
        assert there == alone | set(NOTES), first
        assert manifest.damage(folder) is None, first
        options = sharded(LOADERS[second]) if second in LOADERS else {}
        training = Training(9.0, objects=3 if "two ranks" in second else 1, **options)
        training.accelerator.load_state(folder)
        assert training.found() == {2.0}, first


NOTES = [
    "notes.txt",
    "config.json",
    "my_model.safetensors",
    "model.safetensors.bak",
    "custom_checkpoint_best.pkl",
    "optimizer_notes.bin",
]


def test_a_file_that_the_manifest_does_not_list_is_not_loaded(tmp_path: Path) -> None:
    """Nor counted, if another has put it there."""
    state(tmp_path / "it", 1.0, is_safe=False)
    state(tmp_path / "other", 7.0, objects=2)
    for name in ("model.safetensors", "custom_checkpoint_1.pkl"):
        shutil.copy(tmp_path / "other" / name, tmp_path / "it")
    training = Training(9.0)
    training.accelerator.load_state(tmp_path / "it")
    assert training.found() == {1.0}


def test_a_state_that_was_not_saved_is_missed_although_its_file_is_there(tmp_path: Path) -> None:
    state(tmp_path / "with", 1.0)
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    accelerator.save_state(tmp_path / "it")
    shutil.copy(tmp_path / "with" / "optimizer.bin", tmp_path / "it")
    with pytest.raises(FileNotFoundError, match=r"optimizer\.bin"):
        Training(9.0, objects=0).accelerator.load_state(tmp_path / "it")


def model(folder: Path, value: float, **how: Any) -> None:
    training = Training(value)
    training.accelerator.save_model(training.model, folder, **how)


MODELS: dict[str, dict[str, Any]] = {
    "whole": {},
    "bin": {"safe_serialization": False},
    "shards": {"max_shard_size": 300},
    "fewer shards": {"max_shard_size": 500},
    "shards, bin": {"max_shard_size": 300, "safe_serialization": False},
}


@pytest.mark.parametrize("second", MODELS)
def test_a_model_is_what_was_saved_last_whatever_was_there(tmp_path: Path, second: str) -> None:
    for first, how in MODELS.items():
        folder = tmp_path / first
        model(folder, 1.0, **how)
        for name in NOTES:
            (folder / name).write_text("mine")
        model(folder, 2.0, **MODELS[second])
        for load in (load_checkpoint_in_model, accelerate.load_checkpoint_in_model):
            loaded = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
            load(loaded, str(folder), strict=True)
            assert weights(loaded) == {2.0}, first
        assert all((folder / name).read_text() == "mine" for name in NOTES)


@pytest.mark.parametrize("of_model", MODELS)
@pytest.mark.parametrize("is_safe", [True, False])
def test_a_model_and_a_state_in_one_directory_are_each_what_was_saved_last(
    tmp_path: Path, of_model: str, *, is_safe: bool
) -> None:
    """A model of the state's own form is written over it, as in Accelerate."""
    state(tmp_path / "model last", 1.0, is_safe=is_safe)
    model(tmp_path / "model last", 2.0, **MODELS[of_model])
    model(tmp_path / "state last", 1.0, **MODELS[of_model])
    state(tmp_path / "state last", 2.0, is_safe=is_safe)
    for folder in tmp_path.iterdir():
        loaded = Training(9.0)
        load_checkpoint_in_model(loaded.model, folder)
        assert weights(loaded.model) == {2.0}, folder
        loaded.accelerator.load_state(folder)
        of_state = "whole" if is_safe else "bin"
        overwritten = folder.name == "state last" or of_model == of_state
        assert weights(loaded.model) == {2.0 if overwritten else 1.0}, folder


@pytest.mark.parametrize("is_safe", [True, False])
def test_merged_weights_are_the_only_ones(tmp_path: Path, *, is_safe: bool) -> None:
    model(tmp_path / "merged", 1.0, safe_serialization=not is_safe)
    state(tmp_path / "it", 2.0, **sharded("SHARDED_STATE_DICT"))
    parts = tmp_path / "it/pytorch_model_fsdp_0"
    merge_fsdp_weights(str(parts), str(tmp_path / "merged"), safe_serialization=is_safe)
    loaded = Training(9.0).model
    load_checkpoint_in_model(loaded, tmp_path / "merged")
    assert weights(loaded) == {2.0}


@pytest.mark.parametrize("is_safe", [True, False])
def test_states_that_are_written_file_by_file_replace_a_checkpoint(
    tmp_path: Path, *, is_safe: bool
) -> None:
    state(tmp_path, 1.0, is_safe=not is_safe)
    training = Training(2.0)
    models, optimizers = [training.model.state_dict()], training.accelerator._optimizers
    checkpointing.save_accelerator_state(
        tmp_path, models, optimizers, [], [], 0, 0, safe_serialization=is_safe
    )
    loaded = Training(9.0, objects=0)
    objects: Any = (loaded.accelerator._models, loaded.accelerator._optimizers, [], [], 0)
    checkpointing.load_accelerator_state(tmp_path, *objects)
    assert loaded.found() == {2.0}


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.permutations(["SHARDED_STATE_DICT", "FULL_STATE_DICT"]))
)
def test_a_sharded_model_that_is_written_alone_replaces_a_checkpoints(
    tmp_path: Path, first: str, second: str
) -> None:
    state(tmp_path, 1.0, **sharded(first))
    training = Training(2.0, **sharded(first))
    plugin: Any = training.accelerator.state.fsdp_plugin
    plugin.state_dict_type = StateDictType[second]
    save_fsdp_model(plugin, training.accelerator, training.model, tmp_path)
    load_fsdp_model(plugin, training.accelerator, Training(9.0, **sharded(second)).model, tmp_path)
    loaded = Training(9.0, **sharded(second))
    load_fsdp_model(plugin, loaded.accelerator, loaded.model, tmp_path)
    assert weights(loaded.model) == {2.0}


FOREIGN = [
    "best",
    "checkpoint_best",
    "checkpoint_007",
    "tb_logs_2024",
    "backup_99",
    "checkpoint_3x",
]


def test_of_a_projects_directory_only_checkpoints_are_counted_and_removed(tmp_path: Path) -> None:
    """Also a directory of a checkpoint's name is somebody else's, if it has no checkpoint."""
    config = ProjectConfiguration(str(tmp_path), automatic_checkpoint_naming=True, total_limit=2)
    training = Training(1.0, project_config=config)
    parent = tmp_path / "checkpoints"
    made = [training.accelerator.save_state() for _ in range(2)]
    for name in (*FOREIGN, "checkpoint_2", "checkpoint_2024"):
        (parent / name).mkdir()
        (parent / name / "notes.txt").write_text("mine")
    (parent / "checkpoint_2025").write_text("a file")
    (parent / "checkpoint_2026").symlink_to(made[1])
    saved = [training.accelerator.save_state() for _ in range(3)]
    assert [one.name for one in saved] == ["checkpoint_3", "checkpoint_4", "checkpoint_5"]
    assert manifest.checkpoints_in(parent) == saved[1:]
    training.accelerator.load_state()
    kept = {one.name for one in parent.iterdir()} - {"checkpoint_4", "checkpoint_5"}
    others = {"checkpoint_2", "checkpoint_2024", "checkpoint_2025", "checkpoint_2026"}
    assert kept == {*FOREIGN, *others}
    assert (parent / "checkpoint_2" / "notes.txt").read_text() == "mine"


def test_checkpoints_of_accelerate_count_and_go(tmp_path: Path) -> None:
    project: dict[str, Any] = {"automatic_checkpoint_naming": True, "total_limit": 2}
    config: Any = accelerate.utils.ProjectConfiguration(str(tmp_path), **project)
    other = Training(1.0, library=accelerate.Accelerator, project_config=config)
    for _ in range(2):
        other.accelerator.save_state()
    training = Training(2.0, project_config=ProjectConfiguration(str(tmp_path), **project))
    assert training.accelerator.save_state().name == "checkpoint_2"
    names = {one.name for one in (tmp_path / "checkpoints").iterdir()}
    assert names == {"checkpoint_1", "checkpoint_2"}
