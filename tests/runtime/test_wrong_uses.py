"""What a newcomer gets wrong is told: what a call takes, what it got, and what to do."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from runtime import Accelerator, FullyShardedDataParallelPlugin, ParallelismConfig
from runtime.config.enums import DistributedType
from runtime.state import PartialState
from runtime.utils import TorchTensorParallelConfig
from runtime.world.warn import warn_once

Use = Callable[[Accelerator], Any]


class Outputs(dict[str, Any]):
    """What models of transformers return."""


class Parsed:
    """The same, with attributes."""

    loss = torch.ones(())


def model() -> nn.Module:
    return nn.Linear(2, 1)


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD(model().parameters(), lr=0.1)


def dataset() -> Dataset[Any]:
    return TensorDataset(torch.ones(4, 2))


def loader() -> DataLoader[Any]:
    return DataLoader(dataset())


def grown(*shape: int) -> torch.Tensor:
    return torch.ones(shape, requires_grad=True) * 2


def within(make: Callable[[Accelerator], Any]) -> Use:
    """Enter the context that a method returns."""

    def use(accelerator: Accelerator) -> None:
        with make(accelerator):
            pass

    return use


def nested(accelerator: Accelerator) -> None:
    for _ in accelerator.epochs(2):
        for _ in accelerator.epochs(2):
            pass


def another(**arguments: Any) -> Use:
    return lambda _: Accelerator(**({"cpu": True} | arguments))


WRONG: dict[str, tuple[Use, type[Exception], str]] = {
    # The loss
    "a number as the loss": (
        lambda a: a.backward(1.5),  # type: ignore[arg-type]
        TypeError,
        "takes the loss as a tensor, got the float 1.5: pass the tensor itself, without item()",
    ),
    "no loss": (
        lambda a: a.backward(None),  # type: ignore[arg-type]
        TypeError,
        "got None: return the loss from the function that computes it",
    ),
    "outputs as the loss": (
        lambda a: a.backward(Outputs(loss=1)),  # type: ignore[arg-type]
        TypeError,
        "got an Outputs: pass the loss in it, as backward(outputs['loss'])",
    ),
    "parsed outputs as the loss": (
        lambda a: a.backward(Parsed()),  # type: ignore[arg-type]
        TypeError,
        "got a Parsed: pass the loss in it, as backward(outputs.loss)",
    ),
    "a tuple as the loss": (
        lambda a: a.backward((grown(), 1)),  # type: ignore[arg-type]
        TypeError,
        "got a tuple: pass the tensor in it that is the loss",
    ),
    "a loss of each sample": (
        lambda a: a.backward(grown(2)),
        RuntimeError,
        "got a tensor of the shape [2]: reduce it, as loss.mean() does",
    ),
    "a loss that was detached": (
        lambda a: a.backward(grown().detach()),
        RuntimeError,
        "got a tensor that does not require grad: compute it",
    ),
    # Prepare
    "placement for all": (
        lambda a: a.prepare(model(), device_placement=True),  # type: ignore[call-overload]
        TypeError,
        "takes device_placement as a list of bools, got the bool True",
    ),
    "placement for others": (
        lambda a: a.prepare(model(), device_placement=[True, True]),
        ValueError,
        "must be given for 1 objects, got 2",
    ),
    "an optimizer as a model": (
        lambda a: a.prepare_model(sgd()),  # type: ignore[type-var]
        TypeError,
        "prepare_model() takes a model, got an SGD",
    ),
    "a model as an optimizer": (
        lambda a: a.prepare_optimizer(model()),  # type: ignore[arg-type]
        TypeError,
        "prepare_optimizer() takes an optimizer, got a Linear",
    ),
    "a class of optimizers": (
        lambda a: a.prepare_optimizer(torch.optim.SGD),  # type: ignore[arg-type]
        TypeError,
        "got the class SGD: make an object of it",
    ),
    "a dataset as a loader": (
        lambda a: a.prepare_data_loader(dataset()),  # type: ignore[type-var]
        TypeError,
        "prepare_data_loader() takes a DataLoader, got a TensorDataset",
    ),
    "a list as a loader": (
        lambda a: a.prepare_data_loader([1, 2]),  # type: ignore[type-var]
        TypeError,
        "takes a DataLoader, got a list",
    ),
    "a model as a scheduler": (
        lambda a: a.prepare_scheduler(model()),
        TypeError,
        "prepare_scheduler() takes a scheduler, got a Linear",
    ),
    # Epochs
    "no number of epochs": (
        lambda a: a.epochs(None),  # type: ignore[arg-type]
        TypeError,
        "takes the number of epochs, a whole number, got None",
    ),
    "epochs of an argument parser": (
        lambda a: a.epochs("10"),  # type: ignore[arg-type]
        TypeError,
        "got the str '10': write epochs(int(...))",
    ),
    "half an epoch": (
        lambda a: a.epochs(2.5),  # type: ignore[arg-type]
        TypeError,
        "got the float 2.5",
    ),
    "a range of epochs": (
        lambda a: a.epochs(range(3)),  # type: ignore[arg-type]
        TypeError,
        "got a range: write epochs(3)",
    ),
    "fewer than no epochs": (lambda a: a.epochs(-1), ValueError, "must be at least 0, got -1"),
    "epochs in epochs": (nested, RuntimeError, "must not be nested"),
    # Checkpoints
    "a checkpoint nowhere": (
        lambda a: a.save_state(),
        ValueError,
        "save_state needs an output_dir, or ProjectConfiguration(automatic_checkpoint_naming=True)",
    ),
    "a number as a directory": (
        lambda a: a.save_state(3),  # type: ignore[arg-type]
        TypeError,
        "save_state() takes the path of a directory, got the int 3",
    ),
    "a file as a directory": (
        lambda a: a.save_state(__file__),
        ValueError,
        "must be a directory, but is a file",
    ),
    "a checkpoint from nowhere": (
        lambda a: a.load_state(),
        ValueError,
        "load_state needs the directory of a checkpoint, or ProjectConfiguration(",
    ),
    "a checkpoint that is not there": (
        lambda a: a.load_state("none-such"),
        ValueError,
        "Tried to find none-such but folder does not exist",
    ),
    "a checkpoint of a number": (
        lambda a: a.load_state(3),  # type: ignore[arg-type]
        TypeError,
        "load_state() takes the path of a directory, got the int 3",
    ),
    "no object to register": (
        lambda a: a.register_for_checkpointing(3),
        ValueError,
        "Item at index 0, `int`",
    ),
    "the weights of nothing": (
        lambda a: a.get_state_dict(None),  # type: ignore[arg-type]
        TypeError,
        "get_state_dict() takes a model, got None",
    ),
    "nothing to save": (
        lambda a: a.save_model(None, "x"),  # type: ignore[arg-type]
        TypeError,
        "save_model() takes a model, got None",
    ),
    # Gradients and collectives
    "a model to clip": (
        lambda a: a.clip_grad_norm_(model(), 1.0),
        TypeError,
        "takes parameters, got a Linear: pass its parameters, as model.parameters()",
    ),
    "nothing to clip": (
        lambda a: a.clip_grad_value_(None, 1.0),
        TypeError,
        "clip_grad_value_() takes parameters, got None",
    ),
    "an optimizer to accumulate": (
        lambda a: a.accumulate(sgd()),  # type: ignore[arg-type]
        TypeError,
        "accumulate() takes prepared models, got an SGD",
    ),
    "no model without synchronization": (
        within(lambda a: a.no_sync(None)),  # type: ignore[arg-type]
        TypeError,
        "no_sync() takes a prepared model, got None",
    ),
    "a model that is joined alone": (
        within(lambda a: a.join_uneven_inputs(model())),  # type: ignore[arg-type]
        TypeError,
        "takes a list of models, got a Linear: write a list, [model]",
    ),
    "a reduction that is none": (
        lambda a: a.reduce(torch.ones(1), "median"),  # type: ignore[arg-type]
        ValueError,
        "must be one of sum, mean, max, none, got 'median'",
    ),
    "a number to reduce": (lambda a: a.reduce(1.5), TypeError, "takes tensors in lists"),
    "a text to pad": (lambda a: a.pad_across_processes("x"), TypeError, "got str"),
    "fewer than no batches to skip": (
        lambda a: a.skip_first_batches(loader(), -1),
        ValueError,
        "takes at least 0 batches, got -1",
    ),
    "half a batch to skip": (
        lambda a: a.skip_first_batches(loader(), 1.5),  # type: ignore[arg-type]
        TypeError,
        "takes the number of batches, a whole number, got the float 1.5",
    ),
    "batches of nothing to skip": (
        lambda a: a.skip_first_batches(None, 1),
        TypeError,
        "skip_first_batches() takes a DataLoader, got None",
    ),
    # Trackers
    "a number as metrics": (
        lambda a: a.log(1.5),  # type: ignore[arg-type]
        TypeError,
        "log() takes a dict of metrics, got the float 1.5",
    ),
    "a tracker that does not run": (
        lambda a: a.get_tracker("tensorboard"),
        ValueError,
        "none is running; pass log_with to Accelerator, and call init_trackers()",
    ),
    # Settings
    "a precision as the handler": (
        within(lambda a: a.autocast("bf16")),  # type: ignore[arg-type]
        TypeError,
        "takes an AutocastKwargs, got the str 'bf16': Accelerator(mixed_precision='bf16')",
    ),
    "a device as the first argument": (
        another(device_placement="cuda"),
        TypeError,
        "takes device_placement as a bool, got the str 'cuda'",
    ),
    "steps in words": (
        another(gradient_accumulation_steps="2"),
        TypeError,
        "gradient_accumulation_steps takes the batches of a step, a whole number, got the str '2'",
    ),
    "no steps": (another(gradient_accumulation_steps=0), ValueError, "must be at least 1, got 0"),
    "handlers as a dict": (
        another(kwargs_handlers={"find_unused_parameters": True}),
        TypeError,
        "takes a list of handlers, got a dict: write [DistributedDataParallelKwargs(...)]",
    ),
    "a layout as a dict": (
        another(parallelism_config={"tp_size": 2}),
        TypeError,
        "takes parallelism_config as a ParallelismConfig, got a dict: write ParallelismConfig(**",
    ),
    "a size in words": (
        lambda _: ParallelismConfig(tp_size="2"),  # type: ignore[arg-type]
        TypeError,
        "takes tp_size, a whole number, got the str '2': write int(...)",
    ),
    "half a size": (
        lambda _: ParallelismConfig(tp_size=2.5),  # type: ignore[arg-type]
        TypeError,
        "takes tp_size, a whole number, got the float 2.5",
    ),
    "a plan as a list": (
        lambda _: TorchTensorParallelConfig(plan=["up"]),  # type: ignore[arg-type]
        TypeError,
        "takes plan as a dict, got a list",
    ),
    "the class of a plugin": (
        another(fsdp_plugin=FullyShardedDataParallelPlugin),
        TypeError,
        "got the class FullyShardedDataParallelPlugin: make an object of it",
    ),
    "a number as a wrap policy": (
        lambda _: FullyShardedDataParallelPlugin(auto_wrap_policy=3),
        TypeError,
        "auto_wrap_policy must be one of TRANSFORMER_BASED_WRAP, ",
    ),
    "another precision later": (
        another(mixed_precision="bf16"),
        ValueError,
        "mixed_precision='no'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_use_is_an_error_that_says_what_to_do(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use, kind, sentence = WRONG[case]
    monkeypatch.chdir(tmp_path)
    accelerator = Accelerator(cpu=True)
    with pytest.raises(kind) as error:
        use(accelerator)
    assert sentence in str(error.value)


def of_a_checkpoint(
    saved: list[Any], loaded: list[Any], folder: Path, accelerator: Accelerator
) -> None:
    """Load what was saved of some objects into others."""
    accelerator.prepare(*saved)
    accelerator.save_state(folder)
    accelerator.free_memory()
    accelerator.prepare(*loaded)
    accelerator.load_state(folder)


def test_a_checkpoint_that_lacks_an_object_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"which has model\S+, random_states_0\.pkl: prep"):
        of_a_checkpoint([model()], [model(), sgd()], tmp_path / "it", Accelerator(cpu=True))


def test_a_directory_that_is_no_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="which has no file: pass a directory that"):
        Accelerator(cpu=True).load_state(tmp_path)


def too_early(accelerator: Accelerator, folder: Path) -> None:
    of_a_checkpoint([model()], [], folder / "it", accelerator)


def logged_too_early(_: Accelerator, folder: Path) -> None:
    Accelerator(cpu=True, log_with="tensorboard", project_dir=folder).log({"loss": 1})


WARNED: dict[str, tuple[Callable[[Accelerator, Path], Any], str]] = {
    "a class": (lambda a, _: a.prepare(nn.Linear), "leaves the class Linear as it is: make an obj"),
    "a dataset": (lambda a, _: a.prepare(dataset()), "TensorDataset as it is: pass a DataLoader"),
    "a list": (lambda a, _: a.prepare([model()]), "takes each object as a separate argument"),
    "load_state before prepare": (too_early, "has not prepared: call load_state\\(\\) after"),
    "log before init_trackers": (logged_too_early, "log\\(\\) was called before init_trackers"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_has_no_effect_is_a_warning(case: str, tmp_path: Path) -> None:
    use, sentence = WARNED[case]
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match=sentence):
        use(Accelerator(cpu=True), tmp_path)


def trained(accelerator: Accelerator, data: DataLoader[Any], *objects: Any) -> None:
    """Train for an epoch on a loader."""
    linear, _ = accelerator.prepare(*objects)
    for _ in accelerator.epochs(1):
        for (inputs,) in data:
            accelerator.backward(linear(inputs).sum())


def pair() -> tuple[nn.Module, torch.optim.Optimizer]:
    linear = model()
    return linear, torch.optim.SGD(linear.parameters(), lr=0.1)


def test_a_loader_that_is_not_prepared_is_a_warning_in_a_world() -> None:
    """Each process would train on all of its data."""
    accelerator = Accelerator(cpu=True)
    objects = accelerator.prepare(*pair())
    state = PartialState()
    state.num_processes, state.distributed_type = 2, DistributedType.MULTI_CPU
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match="no data loader was prepared"):
        trained(accelerator, loader(), *objects)


def test_it_is_a_warning_where_a_job_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_DIR", str(tmp_path))
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match="no data loader was prepared"):
        trained(Accelerator(cpu=True), loader(), *pair())


@pytest.mark.parametrize(("prepares", "resumes"), [(True, True), (True, False), (False, False)])
def test_a_prepared_loader_will_do_and_any_without_checkpoints(
    prepares: bool, resumes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resumes:
        monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_DIR", str(tmp_path))
    accelerator = Accelerator(cpu=True)
    data = accelerator.prepare(loader()) if prepares else loader()
    warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(accelerator, data, *pair())


RIGHT: dict[str, Use] = {
    "a loss of one element": lambda a: a.backward(grown(1)),
    "gradients of each sample": lambda a: a.backward(grown(2), gradient=torch.ones(2)),
    "epochs of NumPy": lambda a: list(a.epochs(torch.tensor(2))),  # type: ignore[arg-type]
    "one parameter to clip": lambda a: a.clip_grad_norm_(nn.Parameter(torch.ones(1)), 1.0),
    "parameters to clip": lambda a: a.clip_grad_norm_(model().parameters(), 1.0),
    "no model to accumulate": within(lambda a: a.accumulate()),
    "no optimizer at a place": lambda a: a.prepare(model(), None),
    "a path as text": lambda a: a.save_state("it"),
    "a handler": within(lambda a: a.autocast(None)),
    "no placement": another(device_placement=False),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_use_is_none(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RIGHT[case](Accelerator(cpu=True))


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], "prepared: nothing)"),
        ([model()], "prepared: 1 model)"),
        ([*pair(), loader(), loader()], "prepared: 1 model, 1 optimizer, 2 data loaders)"),
    ],
    ids=["nothing", "a model", "a training"],
)
def test_an_accelerator_is_printed_with_what_it_has(objects: list[Any], said: str) -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    accelerator.prepare(*objects)
    printed = repr(accelerator)
    assert printed.startswith("Accelerator(rank 0 of 1, device=cpu, mixed_precision='no', ")
    assert "gradient_accumulation_steps=2" in printed
    assert printed.endswith(said)
    assert str(accelerator) == printed
