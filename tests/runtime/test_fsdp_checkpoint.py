import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from runtime import Accelerator, FullyShardedDataParallelPlugin
from runtime.checkpoint import sharded_reader
from runtime.state import AcceleratorState
from runtime.utils import merge_fsdp_weights


class Calls:
    """A pickle that does something when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def trained(optimizer: Callable[..., Any], **plugin: Any) -> tuple[Accelerator, nn.Module]:
    """A model after a step."""
    accelerator = Accelerator(fsdp_plugin=FullyShardedDataParallelPlugin(**plugin), cpu=True)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
    model, steps = accelerator.prepare(model, optimizer(model.parameters(), lr=0.1))
    model(torch.ones(2, 3)).sum().backward()
    steps.step()
    steps.zero_grad()
    return accelerator, model


@pytest.mark.parametrize("kind", ["SHARDED_STATE_DICT", "FULL_STATE_DICT"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_a_world_of_one_keeps_what_a_larger_one_would(
    tmp_path: Path, optimizer: Callable[..., Any], kind: str
) -> None:
    accelerator, model = trained(optimizer, state_dict_type=kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = accelerator._optimizers[0].state_dict()
    folder = accelerator.save_state(tmp_path / "checkpoint")
    accelerator, model = fresh(optimizer, kind)
    accelerator.load_state(folder)
    assert {name: value.tolist() for name, value in model.state_dict().items()} == {
        name: value.tolist() for name, value in before.items()
    }
    loaded = str(accelerator._optimizers[0].state_dict())
    assert loaded.replace("[0.9, 0.999]", "(0.9, 0.999)") == str(state)  # torch's list of betas


def fresh(optimizer: Callable[..., Any], kind: str) -> tuple[Accelerator, nn.Module]:
    AcceleratorState._reset_state(reset_partial_state=True)
    return trained(optimizer, state_dict_type=kind)


def test_the_manifest_says_every_file_of_a_sharded_checkpoint(tmp_path: Path) -> None:
    accelerator, _ = trained(torch.optim.Adam)
    folder = accelerator.save_state(tmp_path / "checkpoint")
    listed = set(json.loads((folder / "manifest.json").read_text())["files"])
    assert listed >= {
        f"{name}/{file}"
        for name in ("pytorch_model_fsdp_0", "optimizer_0")
        for file in (".metadata", "__0_0.distcp")
    }


def written(folder: Path, state: dict[str, Any]) -> None:
    with sharded_reader.said_alone():
        save(state, storage_writer=FileSystemWriter(folder))


def test_what_a_sharded_checkpoint_says_of_itself_is_not_executed(tmp_path: Path) -> None:
    written(tmp_path / "c", {"x": torch.ones(2)})
    (tmp_path / "c/.metadata").write_bytes(pickle.dumps(Calls(tmp_path / "was executed")))
    with pytest.raises(ValueError, match=r"must not refer to posix\.mkdir"):
        sharded_reader.read(tmp_path / "c", {"x": torch.zeros(2)})
    assert not (tmp_path / "was executed").exists()


def test_an_object_in_a_sharded_checkpoint_is_not_executed(tmp_path: Path) -> None:
    written(tmp_path / "c", {"x": torch.ones(2), "y": Calls(tmp_path / "was executed")})
    with pytest.raises(ValueError, match=r"unsupported GLOBAL posix\.mkdir"):
        sharded_reader.read(tmp_path / "c", {"x": torch.zeros(2), "y": None})
    assert not (tmp_path / "was executed").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("", r"couldn't find .* contains: \['optimizer_0', 'pytorch_model", id="above"),
        pytest.param("nothing", "couldn't find a valid metadata file", id="nowhere"),
        pytest.param("optimizer_0", "must contain a model", id="an optimizer"),
    ],
)
def test_only_a_models_directory_is_merged(tmp_path: Path, name: str, sentence: str) -> None:
    accelerator, _ = trained(torch.optim.Adam)
    accelerator.save_state(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        merge_fsdp_weights(str(tmp_path / name), str(tmp_path / "merged"))
