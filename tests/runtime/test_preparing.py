"""What would be trained by each process on its own is an error in a world, and a warning alone."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.config.enums import DistributedType
from runtime.state import PartialState


def sgd(*parameters: nn.Parameter) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def apart(accelerator: Accelerator) -> None:
    """An optimizer without its model."""
    model = nn.Linear(2, 1)
    accelerator.prepare(sgd(*model.parameters()))
    accelerator.backward(model(torch.ones(1, 2)).sum())


def inside(accelerator: Accelerator) -> None:
    accelerator.prepare([nn.Linear(2, 1), DataLoader(TensorDataset(torch.ones(1)))])


def in_a_dict(accelerator: Accelerator) -> None:
    accelerator.prepare({"model": nn.Linear(2, 1)})


WRONG: dict[str, tuple[Callable[[Accelerator], None], str]] = {
    "an optimizer without its model": (apart, r"2 of the 2 parameters of a prepared SGD"),
    "a list": (inside, "got a list with DataLoader, Linear"),
    "a dict": (in_a_dict, "got a dict with Linear"),
}


@pytest.mark.parametrize("case", WRONG)
def test_alone_it_is_a_warning(case: str) -> None:
    act, sentence = WRONG[case]
    with pytest.warns(UserWarning, match=sentence):
        act(Accelerator(cpu=True))


@pytest.mark.parametrize("case", WRONG)
def test_in_a_world_it_is_an_error(case: str) -> None:
    act, sentence = WRONG[case]
    accelerator = Accelerator(cpu=True)
    state = PartialState()
    state.num_processes, state.distributed_type = (
        2,
        DistributedType.MULTI_CPU,
    )  # nothing is sent before it is told
    with pytest.raises(ValueError, match=sentence):
        act(accelerator)


def model_later(accelerator: Accelerator, model: nn.Module) -> Any:
    optimizer = accelerator.prepare(sgd(*model.parameters()))
    return accelerator.prepare(model), optimizer


def model_before(accelerator: Accelerator, model: nn.Module) -> Any:
    return accelerator.prepare(model), accelerator.prepare(sgd(*model.parameters()))


def with_what_is_frozen(accelerator: Accelerator, model: nn.Module) -> Any:
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    frozen.grad = torch.ones(1)  # of when it was trained
    return accelerator.prepare(sgd(frozen, *model.parameters()), model)[::-1]


def model_of_another_accelerator(_: Accelerator, model: nn.Module) -> Any:
    return Accelerator(cpu=True).prepare(model)


def forgotten_model(accelerator: Accelerator, model: nn.Module) -> Any:
    prepared = accelerator.prepare(model)
    accelerator.free_memory()
    return prepared


def averaged_in_a_hook(_: Accelerator, model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda _: None)  # type: ignore[no-untyped-call]
    return model


def of_a_model_that_is_not_used_yet(accelerator: Accelerator, _: nn.Module) -> nn.Module:
    accelerator.prepare(sgd(*nn.Linear(2, 1).parameters()))
    model: nn.Module = accelerator.prepare(nn.Linear(2, 1))
    return model


def that_has_another_weight_now(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    accelerator.prepare(sgd(*model.parameters()), model)
    model.weight = nn.Parameter(torch.ones(1, 2))
    return model


LEGAL: dict[str, Callable[[Accelerator, nn.Module], nn.Module]] = {
    "a model that another Accelerator has prepared": model_of_another_accelerator,
    "a prepared model that free_memory has forgotten": forgotten_model,
    "parameters whose gradients a hook averages": averaged_in_a_hook,
    "a model that is prepared later, and not used before": of_a_model_that_is_not_used_yet,
    "a parameter that another one has replaced": that_has_another_weight_now,
}


@pytest.mark.parametrize("case", LEGAL)
def test_an_optimizer_is_right_of(case: str) -> None:
    accelerator = Accelerator(cpu=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LEGAL[case](accelerator, nn.Linear(2, 1))
        accelerator.prepare(sgd(*model.parameters()))
        accelerator.backward(model(torch.ones(1, 2)).sum())


def test_a_parameter_of_no_model_is_told_when_it_is_first_trained() -> None:
    accelerator, late = Accelerator(cpu=True), nn.Parameter(torch.ones(()))
    model = nn.Linear(2, 1)
    accelerator.prepare(sgd(late, *model.parameters()), model)
    loss = model(torch.ones(1, 2)).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accelerator.backward(loss, retain_graph=True)
    with pytest.warns(UserWarning, match=r"1 of the 3 parameters .* \[\(\)\]"):
        accelerator.backward(loss * late)


def test_alone_it_is_said_once_also_of_optimizers_that_are_made_at_each_step() -> None:
    accelerator = Accelerator(cpu=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            apart(accelerator)
            inside(accelerator)
    assert len(said) == 2


def test_who_catches_the_error_gets_it_again() -> None:
    accelerator = Accelerator(cpu=True)
    state = PartialState()
    state.num_processes, state.distributed_type = 2, DistributedType.MULTI_CPU
    model = nn.Linear(2, 1)
    accelerator.prepare(sgd(*model.parameters()))
    for _ in range(2):
        with pytest.raises(ValueError, match="2 of the 2 parameters of a prepared SGD"):
            accelerator.backward(model(torch.ones(1, 2)).sum())


@pytest.mark.parametrize("prepare", [model_later, model_before, with_what_is_frozen])
def test_an_optimizer_of_a_prepared_model_is_right(prepare: Any) -> None:
    accelerator = Accelerator(cpu=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, _ = prepare(accelerator, nn.Linear(2, 1))
        accelerator.prepare([1, {"a": torch.ones(1)}])
        accelerator.backward(model(torch.ones(1, 2)).sum())
