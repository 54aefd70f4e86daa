"""Models whose weights are saved under other names, share memory, or are no tensors."""

import importlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from runtime import Accelerator, FullyShardedDataParallelPlugin
from runtime.checkpoint.formats import load_weights, save
from runtime.checkpoint.matching import renamed
from runtime.config.plugins import ProjectConfiguration
from runtime.utils import load_checkpoint_in_model
from tests.states import fresh

LIBRARIES = ["accelerate", "runtime"]


def prepared(model: nn.Module, library: str = "runtime", **options: Any) -> tuple[Any, nn.Module]:
    fresh(library)
    accelerator = importlib.import_module(library).Accelerator(cpu=True, **options)
    return accelerator, accelerator.prepare(model)


class Shared(nn.Module):
    """Tensors in memory that others have, too."""

    def __init__(self, kind: str, *, shares: bool = True) -> None:
        super().__init__()
        own: Callable[[torch.Tensor], torch.Tensor]
        own = (lambda one: one) if shares else torch.clone
        x = torch.arange(12.0)
        self.layer = nn.Linear(3, 4)
        weight = self.layer.weight
        if kind == "one parameter":
            self.layer.register_parameter("bias", None)
            self.other = nn.Linear(3, 4)
            self.other.weight = weight if shares else nn.Parameter(weight.detach().clone())
        elif kind == "tied by .data":
            self.other = nn.Linear(3, 4)
            self.other.weight.data = own(weight.data)
        else:
            for index, one in enumerate(BUFFERS[kind](x, weight.data)):
                self.register_buffer(f"buffer_{index}", own(one))


BUFFERS: dict[str, Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]] = {
    "a slice": lambda x, _: [x.view(4, 3), x.view(4, 3)[1:3]],
    "a slice, named first": lambda x, _: [x.view(4, 3)[1:3], x.view(4, 3)],
    "slices that overlap": lambda x, _: [x[:6], x[4:]],
    "slices apart": lambda x, _: [x[:6], x[6:]],
    "the same slice twice": lambda x, _: [x[:6], x[:6], x[6:]],
    "a column": lambda x, _: [x.view(4, 3), x.view(4, 3)[:, 1]],
    "a transposed weight": lambda _, w: [w.t()],
    "the same transposed twice": lambda x, _: [x[:6].view(2, 3).t(), x[:6].view(2, 3).t()],
    "a flat weight": lambda _, w: [w.view(-1)],
    "other numbers": lambda _, w: [w.view(torch.int32), w.view(torch.int32)[2:]],
    "conjugates": lambda x, _: [one := torch.complex(x, x), one.conj()],
    "no values": lambda x, _: [x[:0], x[:0]],
}
KINDS = ["one parameter", "tied by .data", *BUFFERS]
CASES = [  # torch.save refuses one memory of several dtypes
    (kind, is_safe) for kind in KINDS for is_safe in (True, False) if is_safe or kind[:5] != "other"
]


def values(model: nn.Module) -> dict[str, list[Any]]:
    return {name: one.tolist() for name, one in model.state_dict().items()}


def changed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for one in model.state_dict().values():
            if one.numel():
                one.copy_(torch.zeros_like(one))
    return model


@pytest.mark.parametrize(("kind", "is_safe"), CASES)
@pytest.mark.parametrize("behind", [False, True])
def test_tensors_that_share_memory_are_saved_and_loaded(
    tmp_path: Path, kind: str, *, is_safe: bool, behind: bool
) -> None:
    """Also into a model whose tensors do not, as after a move to another device."""
    config = ProjectConfiguration(write_behind=behind)
    accelerator, model = prepared(Shared(kind), project_config=config)
    expected = values(model)
    accelerator.save_state(tmp_path, safe_serialization=is_safe)
    accelerator.wait_for_checkpoint()
    for shares in (True, False):
        accelerator, model = prepared(changed(Shared(kind, shares=shares)))
        accelerator.load_state(tmp_path)
        assert values(model) == expected, shares


@pytest.mark.parametrize(("kind", "is_safe"), CASES)
@pytest.mark.parametrize("limit", ["10GB", 30])
def test_a_model_whose_tensors_share_memory_is_saved_and_loaded(
    tmp_path: Path, kind: str, limit: Any, *, is_safe: bool
) -> None:
    model = Shared(kind)
    expected = values(model)
    Accelerator(cpu=True).save_model(model, tmp_path, limit, safe_serialization=is_safe)
    for shares in (True, False):
        other = changed(Shared(kind, shares=shares))
        load_checkpoint_in_model(other, tmp_path, strict=True)
        assert values(other) == expected, shares


@pytest.mark.parametrize("kind", ["one parameter", "tied by .data", "a slice", "a flat weight"])
@pytest.mark.parametrize(("saves", "loads"), [LIBRARIES, LIBRARIES[::-1]])
def test_each_loads_what_the_other_has_left_out(
    tmp_path: Path, kind: str, saves: str, loads: str
) -> None:
    accelerator, model = prepared(Shared(kind), saves)
    expected = values(model)
    accelerator.save_state(str(tmp_path))
    accelerator, model = prepared(changed(Shared(kind)), loads)
    accelerator.load_state(str(tmp_path))
    assert values(model) == expected


FORGED = [
    pytest.param({"shape": [5], "stride": [1]}, id="more values"),
    pytest.param({"shape": [2], "stride": [4]}, id="a stride beyond the end"),
    pytest.param({"shape": [2], "stride": [1], "offset": 12}, id="an offset beyond the end"),
    pytest.param({"shape": [1], "stride": [1], "offset": 2}, id="an offset within a value"),
    pytest.param({"shape": [1], "stride": [1], "offset": -4}, id="a negative offset"),
    pytest.param({"shape": [2**62, 4], "stride": [0, 1]}, id="more values than memory, again"),
    pytest.param({"shape": [2], "stride": [-1], "offset": 4}, id="a negative stride"),
    pytest.param({"shape": [2], "stride": []}, id="a stride is missing"),
    pytest.param({"shape": [2.0], "stride": [1]}, id="a size that is no integer"),
    pytest.param({"shape": [1], "stride": [2**70]}, id="a stride beyond all memory"),
    pytest.param({"shape": [1], "stride": [1], "dtype": "Tensor"}, id="no dtype"),
    pytest.param({"shape": [1], "stride": [1], "of": "y"}, id="of nothing"),
    pytest.param({"more": 1}, id="unknown fields"),
    pytest.param([], id="no mapping"),
]


@pytest.mark.parametrize("view", FORGED)
def test_a_forged_view_is_refused(tmp_path: Path, view: Any) -> None:
    """No memory is read that the file's tensors do not have."""
    whole = {"of": "x", "dtype": "float32", "offset": 0}
    text = json.dumps({"v": whole | view if isinstance(view, dict) else view})
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.arange(4.0)}, path, metadata={"shared_tensors": text})
    with pytest.raises(ValueError, match="shared_tensors must be views of the file's tensors"):
        load_weights(path, "cpu")


class Wrapper(nn.Module):
    """As those that keep an average, or attack what they wrap: a child is called `module`."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.module(x)


@pytest.mark.parametrize("is_safe", [True, False])
def test_a_child_that_is_called_module_is_no_wrapper(tmp_path: Path, *, is_safe: bool) -> None:
    accelerator, model = prepared(Wrapper())
    expected = values(model)
    accelerator.save_state(tmp_path, safe_serialization=is_safe)
    changed(model)
    accelerator.load_state(tmp_path)
    assert values(model) == expected


@pytest.mark.parametrize(
    ("saved", "own", "found"),
    [
        (["module.a"], ["a"], ["a"]),
        (["module.a"], ["module.a"], ["module.a"]),
        (["module.module.a"], ["module.a"], ["module.a"]),
        (["_orig_mod.a", "_orig_mod.b.c"], ["a", "b.c"], ["a", "b.c"]),
        (["_orig_mod.module.a"], ["a"], ["a"]),
        (["module._orig_mod.a"], ["a"], ["a"]),
        (["_orig_mod.module.a"], ["module.a"], ["module.a"]),
        (["b._orig_mod.c", "a"], ["b.c", "a"], ["b.c", "a"]),
        (["b.c", "a"], ["b._orig_mod.c", "a"], ["b._orig_mod.c", "a"]),
        (["module.a", "module.more"], ["a", "b"], ["a", "more"]),
        (["module.a", "b"], ["a", "b"], ["module.a", "b"]),
        (["x.y"], ["z"], ["x.y"]),
        ([], ["a"], []),
    ],
)
def test_names_are_the_models_own(saved: list[str], own: list[str], found: list[str]) -> None:
    assert list(renamed(dict.fromkeys(saved), own)) == found


WAYS = ["plain", "by the script", "by the plugin", "a layer"]


def compiled(way: str, library: str) -> tuple[Any, nn.Module]:
    """A model that is compiled, and its script's own."""
    torch.manual_seed(1)
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    if way == "a layer":
        model[0] = torch.compile(model[0], backend="eager")
    given: Any = torch.compile(model, backend="eager") if way == "by the script" else model
    options = {"dynamo_backend": "eager"} if way == "by the plugin" else {}
    return prepared(given, library, **options)[0], model


@pytest.mark.parametrize("is_safe", [True, False])
@pytest.mark.parametrize("saves", LIBRARIES)
@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_models_checkpoint_is_a_models(
    tmp_path: Path, way: str, saves: str, *, is_safe: bool
) -> None:
    """However it was compiled when it was saved, and whichever library did."""
    accelerator, model = compiled(way, saves)
    expected = list(values(model).values())
    accelerator.save_state(str(tmp_path), safe_serialization=is_safe)
    for loads in WAYS:
        accelerator, model = compiled(loads, "runtime")
        changed(model)
        accelerator.load_state(tmp_path)
        assert list(values(model).values()) == expected, loads


@pytest.mark.parametrize("way", ["plain", "a layer"])
def test_a_sharded_model_with_a_compiled_layer_loads_a_whole_file(tmp_path: Path, way: str) -> None:
    accelerator, model = compiled(way, "runtime")
    expected = list(values(model).values())
    accelerator.save_state(tmp_path)
    fresh("runtime")
    torch.manual_seed(2)
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    other[0] = torch.compile(other[0], backend="eager")  # type: ignore[assignment]  # a module
    accelerator = Accelerator(cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin())
    accelerator.prepare(other)
    accelerator.load_state(tmp_path)
    assert list(values(other).values()) == expected


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_a_models_file_loads_into_a_wrapped_one(tmp_path: Path, wrap: Any) -> None:
    model = nn.Linear(2, 2)
    Accelerator(cpu=True).save_model(model, tmp_path)
    other = changed(nn.Linear(2, 2))
    load_checkpoint_in_model(wrap(other), tmp_path, strict=True)
    assert values(other) == values(model)


class Extra(nn.Module):
    """A layer, and a state that may be anything, as fp8's recipes."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.extra = extra

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


EXTRA: dict[str, Any] = {
    "a tensor": torch.tensor([1, 2], dtype=torch.uint8),
    "no values": torch.empty(0, dtype=torch.uint8),
    "a dict": {"scale": 2.0, "history": torch.ones(2)},
    "a number": 3,
    "None": None,
    "bytes in memory": io.BytesIO(b"x"),
}


@pytest.mark.parametrize("kind", EXTRA)
@pytest.mark.parametrize("is_safe", [True, False])
@pytest.mark.filterwarnings("ignore:safetensors stores only tensors")
def test_an_extra_state_comes_back(tmp_path: Path, kind: str, *, is_safe: bool) -> None:
    """Where it is no tensor the weights are saved as torch does, which Accelerate reads, too."""
    accelerator, model = prepared(Extra(EXTRA[kind]))
    expected = values_of(model)
    accelerator.save_state(tmp_path / "state", safe_serialization=is_safe)
    accelerator.save_model(model, tmp_path / "model", safe_serialization=is_safe)
    accelerator, model = prepared(changed_extra())
    accelerator.load_state(tmp_path / "state")
    assert values_of(model) == expected
    model = changed_extra()
    load_checkpoint_in_model(model, tmp_path / "model", dtype=torch.float32, strict=True)
    assert values_of(model) == expected


def changed_extra() -> nn.Module:
    model = Extra("none was loaded")
    nn.init.zeros_(model.layer.weight)
    return model


def values_of(model: Any) -> list[Any]:
    extra = model.extra.getvalue() if isinstance(model.extra, io.BytesIO) else model.extra
    return [model.layer.weight.tolist(), repr(extra)]


def test_what_safetensors_cannot_have_is_an_error_that_names_it(tmp_path: Path) -> None:
    Accelerator(cpu=True)
    with pytest.raises(TypeError, match=r"these are not tensors: \['b'\]"):
        save({"a": torch.ones(1), "b": "text"}, tmp_path / "x", safe_serialization=True)
    assert list(tmp_path.iterdir()) == []


def test_of_tensors_that_share_memory_one_is_in_the_file(tmp_path: Path) -> None:
    accelerator, _ = prepared(Shared("a slice"))
    accelerator.save_state(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert names == {"layer.weight", "layer.bias", "buffer_0"}


def test_classes_that_a_script_trusts_come_out_of_a_models_file(tmp_path: Path) -> None:
    """As the error says of a file that has such: load_kwargs hold for weights, too."""
    accelerator, model = prepared(Extra(Path))
    accelerator.save_state(tmp_path, safe_serialization=False)
    with pytest.raises(pickle.UnpicklingError, match=r"load_kwargs=\{\"weights_only\": False\}"):
        accelerator.load_state(tmp_path)
    accelerator, other = prepared(changed_extra())
    accelerator.load_state(tmp_path, load_kwargs={"weights_only": False})
    assert values_of(other) == values_of(model)
