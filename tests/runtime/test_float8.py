"""fp8 by torchao: a CPU emulates it, next to Accelerate's, and a GPU computes it."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import accelerate.utils
import pytest
import torch
from torch import nn

import runtime
import runtime.utils
from runtime import Accelerator
from runtime.config.enums import FP8BackendType
from runtime.config.handlers import AORecipeKwargs
from runtime.parallel.float8 import convert
from runtime.parallel.modules import filter_linear_layers
from runtime.state import AcceleratorState
from runtime.world.warn import warn_once
from tests.devices import NEEDS_GPU
from tests.states import fresh

float8 = pytest.importorskip("torchao.float8", reason="torchao is not installed: no test of fp8")
Float8Linear = importlib.import_module("torchao.float8.float8_linear").Float8Linear
LIBRARIES = (runtime, accelerate)
STEPS = 4
NEEDS_FP8 = (
    *NEEDS_GPU,
    pytest.mark.skipif(
        not runtime.utils.check_cuda_fp8_capability(), reason="no GPU that computes in fp8"
    ),
)


def emulated(library: Any = runtime, **options: Any) -> Any:
    """A recipe that a CPU can follow."""
    filters = {name: options.pop(name) for name in ("module_filter_func",) if name in options}
    config = float8.Float8LinearConfig(emulate=True, **options)
    return library.utils.AORecipeKwargs(config=config, **filters)


def made(library: Any = runtime, recipe: Any = None, **options: Any) -> Any:
    """An Accelerator that computes in fp8."""
    handlers = [emulated(library) if recipe is None else recipe]
    return library.Accelerator(cpu=True, mixed_precision="fp8", kwargs_handlers=handlers, **options)


def net() -> nn.Sequential:
    """A model with one layer that is neither the first nor the last."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )


@pytest.fixture(autouse=True)
def fresh_warnings() -> None:
    """Let each test be warned of what another test was warned of."""
    warn_once.cache_clear()


class Training:
    """A model that an Accelerator has prepared with its optimizer."""

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)

    def losses(self, *steps: int) -> list[float]:
        """Train for some steps, each on data of its own."""
        return [self._loss(step) for step in steps]

    def _loss(self, step: int) -> float:
        x = torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
        x = x.to(self.accelerator.device)
        loss = (self.model(x) - x.sum(1, keepdim=True).sin()).square().mean()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        value: float = loss.item()
        return value

    def weights(self) -> dict[str, list[Any]]:
        """The weights, by the names of the script's own model."""
        found = self.accelerator.get_state_dict(self.model)
        return {name: one.tolist() for name, one in found.items()}


def converted(model: nn.Module) -> list[str]:
    """The names of the layers that compute in fp8."""
    return [name for name, one in model.named_modules() if isinstance(one, Float8Linear)]


def found(library: Any, recipe: Callable[[Any], Any]) -> Any:
    """The losses and the weights of a training."""
    training = Training(made(library, recipe(library)))
    return training.losses(*range(STEPS)), training.weights()


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(emulated, id="one scale for a tensor"),
        pytest.param(
            lambda library: emulated(library, pad_inner_dim=True), id="inner dimensions are padded"
        ),
        pytest.param(
            lambda library: emulated(library, module_filter_func=lambda *_: True), id="all layers"
        ),
    ],
)
def test_losses_and_weights_are_those_of_accelerate(recipe: Callable[[Any], Any]) -> None:
    ours, theirs = (found(library, recipe) for library in LIBRARIES)
    assert ours == theirs


def test_fp8_is_another_precision_than_bf16() -> None:
    losses = Training(made()).losses(*range(STEPS))
    fresh()
    plain = Training(Accelerator(cpu=True, mixed_precision="bf16")).losses(*range(STEPS))
    assert losses != plain
    assert losses == pytest.approx(plain, rel=0.1)


def test_a_recipe_for_fsdp_trains_each_weight_without_fsdp_too() -> None:
    """With Accelerate the optimizer has other parameters than the converted layers then."""
    usual = found(runtime, emulated)
    fresh()
    assert found(runtime, lambda _: emulated(enable_fsdp_float8_all_gather=True)) == usual


def test_an_evaluation_computes_what_accelerates_does() -> None:
    outputs = []
    for library in LIBRARIES:
        model = made(library).prepare(net().eval())
        with torch.no_grad():
            outputs.append(model(torch.ones(4, 16)))
    assert torch.equal(*outputs)
    assert outputs[0].dtype == torch.float32
    fresh()
    model = made().prepare_model(net().eval(), evaluation_mode=True)
    assert torch.equal(model(torch.ones(4, 16)), outputs[0])


class Own(nn.Linear):
    """A model that is a single layer."""


@pytest.mark.parametrize(
    ("model", "options", "names"),
    [
        pytest.param(net, {}, ["2"], id="neither the first nor the last"),
        pytest.param(
            net, {"module_filter_func": lambda *_: True}, ["0", "2", "4"], id="all that are chosen"
        ),
        pytest.param(
            lambda: nn.Sequential(*(nn.Linear(size, size) for size in (16, 16, 24, 16, 16))),
            {},
            ["1", "3"],
            id="only those whose sizes are multiples of 16",
        ),
    ],
)
def test_which_layers_are_converted(
    model: Callable[[], nn.Module], options: dict[str, Any], names: list[str]
) -> None:
    for library in LIBRARIES:
        assert converted(made(library, emulated(library, **options)).prepare(model())) == names


@pytest.mark.parametrize(
    ("model", "options"),
    [
        pytest.param(lambda: nn.Sequential(nn.Linear(16, 16)), {}, id="one layer"),
        pytest.param(lambda: nn.Conv1d(16, 16, 1), {}, id="no linear layer"),
        pytest.param(
            lambda: Own(16, 16), {"module_filter_func": lambda *_: True}, id="it is a layer itself"
        ),
    ],
)
def test_a_model_without_a_layer_to_convert_is_warned_of(
    model: Callable[[], nn.Module], options: dict[str, Any]
) -> None:
    accelerator = made(recipe=emulated(**options))
    with pytest.warns(UserWarning, match="converts no layer of .*, which computes in bf16"):
        prepared = accelerator.prepare(model())
    assert converted(prepared) == []


class Doubled(nn.Linear):
    """A layer that does more than a linear one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def with_hook(layer: nn.Linear) -> nn.Module:
    layer.register_forward_hook(lambda _, __, output: 2 * output)
    return layer


def with_own_forward(layer: nn.Linear) -> nn.Module:
    usual = layer.forward
    vars(layer)["forward"] = lambda x: 2 * usual(x)  # as some libraries assign it
    return layer


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda _: Doubled(32, 32), id="its class has a forward"),
        pytest.param(with_own_forward, id="it has a forward"),
        pytest.param(with_hook, id="it has a hook"),
        pytest.param(nn.utils.parametrizations.weight_norm, id="its weight is no parameter"),
    ],
)
def test_a_layer_that_does_more_than_a_linear_one_stays_and_is_warned_of(
    changed: Callable[[Any], nn.Module],
) -> None:
    model = nn.Sequential(*net(), nn.Linear(1, 1))
    model[2] = layer = changed(model[2])
    accelerator = made(recipe=emulated(module_filter_func=lambda *_: True))
    with pytest.warns(UserWarning, match="leaves 1 linear layers as they are, such as '2'"):
        prepared = accelerator.prepare(model)
    assert model[2] is layer
    assert converted(prepared) == ["0", "4", "5"]


def test_the_scripts_own_model_has_its_parameters_and_their_names() -> None:
    model = net()
    before = dict(model.named_parameters())
    accelerator = made()
    prepared = accelerator.prepare(model)
    layer = model[2]
    assert accelerator.prepare(prepared) is prepared
    assert accelerator.unwrap_model(prepared, keep_fp32_wrapper=False) is model
    assert "forward" not in vars(model)
    assert model[2] is layer
    after = dict(model.named_parameters())
    assert all(after[name] is one for name, one in before.items())
    assert list(model.state_dict()) == list(net().state_dict())


def test_a_layer_that_the_script_has_converted_stays() -> None:
    model = net()
    config = float8.Float8LinearConfig(emulate=True)
    model[2] = layer = Float8Linear.from_float(model[2], config=config)
    made().prepare(model)
    assert model[2] is layer


@pytest.mark.filterwarnings("ignore")  # torch's own, of what its compiler imports and asks
def test_a_compiled_model_computes_the_same() -> None:
    data = torch.ones(4, 16)
    plain = made().prepare(net())(data)
    fresh()
    compiled = made(dynamo_backend="eager").prepare(net())
    assert runtime.utils.is_compiled_module(compiled)
    assert torch.equal(compiled(data), plain)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = Training(made())
    first, second = whole.losses(0, 1), whole.losses(2, 3)
    fresh()
    begun = Training(made())
    assert begun.losses(0, 1) == first
    begun.accelerator.save_state(tmp_path)
    fresh()
    resumed = Training(made())
    resumed.accelerator.load_state(tmp_path)
    assert resumed.losses(2, 3) == second
    assert resumed.weights() == whole.weights()


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda one: str(one.__name__))
def test_a_checkpoint_is_loaded_without_fp8(library: Any, tmp_path: Path) -> None:
    saved = Training(made())
    saved.losses(0)
    saved.accelerator.save_state(tmp_path)
    weights = saved.weights()
    fresh()
    loaded = Training(library.Accelerator(cpu=True, mixed_precision="bf16"))
    loaded.accelerator.load_state(tmp_path)
    assert loaded.weights() == weights
    assert converted(loaded.model) == []


@pytest.mark.parametrize(
    ("options", "env"),
    [
        pytest.param({}, {}, id="the default"),
        pytest.param({"pad_inner_dim": False}, {}, id="an argument"),
        pytest.param({}, {"PAD_INNER_DIM": "false"}, id="a variable"),
        pytest.param(
            {"enable_fsdp_float8_all_gather": True},
            {"ENABLE_FSDP_FLOAT8_ALL_GATHER": "false"},
            id="an argument and a variable",
        ),
        pytest.param(
            {"config": float8.Float8LinearConfig(emulate=True)},
            {"PAD_INNER_DIM": "true"},
            id="a configuration",
        ),
    ],
)
def test_a_recipe_is_that_of_accelerate(
    options: dict[str, Any], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(f"ACCELERATE_FP8_{name}", value)
    ours, theirs = (vars(library.utils.AORecipeKwargs(**options)) for library in LIBRARIES)
    assert ours == theirs


def test_a_recipe_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="config as torchao's Float8LinearConfig, got a dict"):
        AORecipeKwargs(config={"emulate": True})


def test_the_backend_is_torchao() -> None:
    for library in LIBRARIES:
        accelerator = made(library)
        assert accelerator.fp8_backend.value == FP8BackendType.AO.value
        assert accelerator.fp8_enabled
        assert accelerator.ao_recipe_handler.config.emulate
    assert runtime.utils.is_fp8_available()
    fresh()
    assert Accelerator(cpu=True).fp8_backend == FP8BackendType.NO


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            {"mixed_precision": "fp8"},
            "requires a CUDA GPU of compute capability 8.9 or above, and this process computes on "
            "cpu: use bf16",
            id="no GPU",
        ),
        pytest.param(
            {"mixed_precision": "fp8", "kwargs_handlers": [AORecipeKwargs()]},
            r"pass AORecipeKwargs\(config=Float8LinearConfig\(emulate=True\)\)",
            id="a recipe that does not emulate",
        ),
        pytest.param(
            {"mixed_precision": "bf16", "kwargs_handlers": [emulated()]},
            "requires setting `mixed_precision='fp8'`",
            id="a recipe for another precision",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_and_leaves_no_state(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Accelerator(cpu=True, **options)
    assert not AcceleratorState.is_made()


def test_a_second_accelerator_has_the_same_recipe() -> None:
    first = made(recipe=emulated())
    assert made(recipe=emulated()).ao_recipe_handler is first.ao_recipe_handler
    assert Accelerator().ao_recipe_handler is first.ao_recipe_handler
    with pytest.raises(ValueError, match="pass the same AORecipeKwargs, or none"):
        made(recipe=emulated(pad_inner_dim=True))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param(AORecipeKwargs, ImportError, id="a recipe"),
        pytest.param(
            lambda: Accelerator(cpu=True, mixed_precision="fp8"), ValueError, id="the precision"
        ),
    ],
)
def test_without_torchao_an_error_says_how_to_install_it(
    call: Callable[[], Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)  # what Python takes for not installed
    assert not runtime.utils.is_fp8_available()
    with pytest.raises(error, match=r"requires torchao.* pip install 'acceleratedjob\[fp8\]'"):
        call()


@pytest.mark.parametrize("name", ["FP8RecipeKwargs", "TERecipeKwargs", "MSAMPRecipeKwargs"])
def test_the_recipes_of_other_libraries_are_refused(name: str) -> None:
    with pytest.raises(NotImplementedError, match="with mixed_precision='fp8' and AORecipeKwargs"):
        getattr(runtime.utils, name)()


def test_weights_that_fsdp_would_gather_in_fp8_are_warned_of() -> None:
    made()  # warnings come from the first process
    recipe = emulated(enable_fsdp_float8_all_gather=True)
    with pytest.warns(UserWarning, match="FSDP2 gathers weights in bf16 here"):
        convert(net(), recipe, is_sharded=True)


def test_the_usual_filter_is_the_public_one() -> None:
    model = net()
    chosen = [
        name
        for name, one in model.named_modules()
        if isinstance(one, nn.Linear) and filter_linear_layers(one, name, ["0", "4"])
    ]
    assert chosen == converted(made().prepare(model))


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_FP8)])
def test_a_gpu_trains_in_fp8(device: str, tmp_path: Path) -> None:
    training = Training(Accelerator(mixed_precision="fp8"))
    assert training.accelerator.device.type == device
    assert converted(training.model) == ["2"]
    losses = training.losses(*[0] * 50)
    assert losses[-1] < losses[0] / 2
    training.accelerator.save_state(tmp_path)
    following = training.losses(1, 2)
    training.accelerator.load_state(tmp_path)
    assert training.losses(1, 2) == pytest.approx(following, rel=1e-3)
