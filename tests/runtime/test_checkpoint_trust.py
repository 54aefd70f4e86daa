"""No file of a checkpoint is believed: what is damaged or asks for code is refused, by name."""

import datetime as dt
import os
import pickle
import zipfile
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import checkpointing as theirs
from accelerate.state import PartialState as TheirState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator, checkpointing
from runtime.checkpoint import manifest
from runtime.config.plugins import ProjectConfiguration


class Kept:
    """A registered object that keeps what it is given."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


class Malicious:
    """What a pickle of it does when it is loaded: it leaves a directory behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def everything(folder: Path, **config: Any) -> Accelerator:
    """An Accelerator with one object of each kind."""
    accelerator = Accelerator(project_config=ProjectConfiguration(str(folder), **config))
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    loader = DataLoader(TensorDataset(torch.randn(4, 2)), batch_size=2, shuffle=True)
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)
    accelerator.register_for_checkpointing(Kept({"a": 1}))
    for (x,) in loader:
        accelerator.backward(model(x).sum())
        optimizer.step()
        optimizer.zero_grad()
    return accelerator


PICKLES = [
    "pytorch_model.bin",
    "optimizer.bin",
    "scheduler.bin",
    "dl_state_dict.bin",
    "random_states_0.pkl",
    "custom_checkpoint_0.pkl",
]


def test_these_are_all_the_pickles_that_there_are(tmp_path: Path) -> None:
    saved = everything(tmp_path).save_state(tmp_path / "it", safe_serialization=False)
    assert {one.name for one in saved.iterdir()} == {*PICKLES, "manifest.json"}


@pytest.mark.parametrize("form", ["zip", "old"])
@pytest.mark.parametrize("name", PICKLES)
def test_nothing_is_executed_that_a_file_asks_for(tmp_path: Path, name: str, form: str) -> None:
    """Also where the manifest, which can be forged as well, agrees with it."""
    accelerator = everything(tmp_path)
    saved = accelerator.save_state(tmp_path / "it", safe_serialization=False)
    trace = tmp_path / "executed"
    torch.save(
        {"state": Malicious(trace)}, saved / name, _use_new_zipfile_serialization=form == "zip"
    )
    (saved / "manifest.json").unlink()
    with pytest.raises(pickle.UnpicklingError, match=rf"{name} must .* contains posix\.mkdir"):
        accelerator.load_state(saved)
    assert not trace.exists()
    torch.load(saved / name, weights_only=False)
    assert trace.exists()  # it would have been


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_pickle_in_the_place_of_another_file_is_none(tmp_path: Path, name: str) -> None:
    accelerator = everything(tmp_path)
    saved = accelerator.save_state(tmp_path / "it")
    trace = tmp_path / "executed"
    torch.save(Malicious(trace), saved / name)
    with pytest.raises(ValueError, match=name):
        accelerator.load_state(saved)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"files": []}', "damaged"),
        ('{"files": {"optimizer.bin": 3}}', "damaged"),
        ('{"files": {"optimizer.bin": {"bytes": 3}}}', "damaged"),
        ('{"files": {"optimizer.bin": {"bytes": -3, "crc32": [1]}}}', "damaged"),
        ('{"files": {"optimizer.bin": {"bytes": "3", "crc32": [1]}}}', "damaged"),
        ('{"files": {"../secret": {"bytes": 0, "crc32": []}}}', "not a path inside"),
        ('{"files": {"/dev/zero": {"bytes": 0, "crc32": []}}}', "not a path inside"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_a_manifest_that_is_none_is_an_error_that_names_it(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "manifest.json").write_text(text)
    found = manifest.damage(tmp_path)
    assert found is not None
    assert problem in found
    assert str(tmp_path / "manifest.json") in found


HARMLESS: dict[str, Any] = {
    "numbers": {"a": 1, "b": 2.5, "c": 1j, "d": True, "e": None},
    "texts": ["x", b"y", bytearray(b"z")],
    "containers": ({1, 2}, frozenset("c"), OrderedDict(a=1), Counter("aab")),
    "ranges": (range(3), slice(1, 2)),
    "tensors": {"x": torch.arange(3), "size": torch.Size([2]), "dtype": torch.bfloat16},
    "arrays": [np.arange(3), np.ones((2, 2), np.float32), np.array([True])],
    "numbers of numpy": [np.float32(1.5), np.float64(0.1), np.int64(3), np.bool_(True)],
    "times": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.timedelta(1)],
    "paths": Path("a/b"),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_custom_states_that_accelerate_loads_load_here(tmp_path: Path, kind: str) -> None:
    torch.save(HARMLESS[kind], tmp_path / "custom_checkpoint_0.pkl")
    TheirState()
    own, other = Kept(), Kept()
    checkpointing.load_custom_state(own, tmp_path)
    theirs.load_custom_state(other, str(tmp_path))
    assert repr(own.state) == repr(other.state) == repr(HARMLESS[kind])


def test_what_torch_cannot_load_without_code_is_named(tmp_path: Path) -> None:
    torch.save(deque([1]), tmp_path / "custom_checkpoint_0.pkl")
    with pytest.raises(pickle.UnpicklingError, match=r"contains collections\.deque: creating"):
        checkpointing.load_custom_state(Kept(), tmp_path)
    own = Kept()
    checkpointing.load_custom_state(own, tmp_path, load_kwargs={"weights_only": False})
    assert own.state == deque([1])


def test_an_object_of_a_scripts_own_loads_if_the_script_says_so(tmp_path: Path) -> None:
    accelerator = everything(tmp_path)
    accelerator.register_for_checkpointing(Kept(Kept(3)))
    saved = accelerator.save_state(tmp_path / "it")
    with pytest.raises(pickle.UnpicklingError, match=r"custom_checkpoint_1.pkl must .*\.Kept: cre"):
        accelerator.load_state(saved)
    accelerator.load_state(saved, load_kwargs={"weights_only": False})
    with torch.serialization.safe_globals([Kept]):
        accelerator.load_state(saved)


@pytest.mark.parametrize("at", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("how", ["truncated", "zeroed", "one bit", "gone"])
def test_a_torn_file_is_passed_over(tmp_path: Path, how: str, at: float) -> None:
    """Whichever file it is: the newest checkpoint that is whole is taken."""
    accelerator = everything(tmp_path, automatic_checkpoint_naming=True)
    first, second = (accelerator.save_state() for _ in range(2))
    for path in second.iterdir():
        whole = path.read_bytes()
        tear(path, how, at)
        assert manifest.damage(second) is not None, path.name
        accelerator.load_state()
        path.write_bytes(whole)
    assert manifest.damage(second) is None
    assert manifest.damage(first) is None


@pytest.mark.parametrize(
    ("named", "verify", "is_found"),
    [
        pytest.param(False, None, True, id="the newest: there is another to fall back on"),
        pytest.param(False, False, False, id="the newest, not to be verified"),
        pytest.param(True, None, False, id="named: only names and sizes are compared"),
        pytest.param(True, True, True, id="named, to be verified"),
    ],
)
def test_every_byte_is_read_where_there_is_a_choice_or_it_is_asked_for(
    tmp_path: Path, *, named: bool, verify: bool | None, is_found: bool
) -> None:
    accelerator = everything(tmp_path, automatic_checkpoint_naming=True)
    kept = accelerator._custom_objects[0]
    saved = []
    for number in range(2):
        kept.state = {"a": number}
        saved.append(accelerator.save_state())
    tear(saved[1] / "dl_state_dict.bin", "one bit", 0.6)
    if named and is_found:
        with pytest.raises(ValueError, match=r"dl_state_dict\.bin has changed since it"):
            accelerator.load_state(saved[1], verify=verify)
    else:
        accelerator.load_state(saved[1] if named else None, verify=verify)
        assert kept.state == {"a": 0 if is_found else 1}


def test_a_save_within_an_accumulation_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = accelerator.prepare(nn.Linear(2, 2))
    said = []
    for number in range(2):
        with accelerator.accumulate(model):
            inputs = torch.ones(1, 2, device=accelerator.device)
            accelerator.backward(model(inputs).sum())
        caplog.clear()
        accelerator.save_state(tmp_path / str(number))
        said.append("gradients are not saved" in caplog.text)
    assert said == [True, False]


def tear(path: Path, how: str, at: float) -> None:
    content = path.read_bytes()
    n = int(len(content) * at)
    if how == "truncated":
        path.write_bytes(content[:n])
    elif how == "zeroed":
        rest = bytes(len(content) - n)
        path.write_bytes(content[:n] + (rest if content[n:] != rest else b"\1" + rest[1:]))
    elif how == "one bit":
        path.write_bytes(content[:n] + bytes([content[n] ^ 1]) + content[n + 1 :])
    else:
        path.unlink()


def test_the_files_are_the_zip_files_that_torch_writes(tmp_path: Path) -> None:
    saved = everything(tmp_path).save_state(tmp_path / "it")
    for path in [*saved.glob("*.bin"), *saved.glob("*.pkl")]:
        assert zipfile.ZipFile(path).testzip() is None
