"""Save and restore the states of all default random generators of this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from runtime.collectives.objects import each_object
from runtime.config.availability import is_present
from runtime.data.rng import process_states, set_process_states
from runtime.world.coordinate import DataCoordinate
from runtime.world.state import PartialState
from runtime.world.warn import warn_once

_ACCELERATORS = ("cuda", "xpu", "npu", "mlu", "sdaa", "musa", "hpu", "neuron")


def random_states(step: int) -> dict[str, Any]:
    """Return the states of all default random generators of this process.

    Args:
        step: the number of batches in the current accumulation, which is saved as well.
    """
    states: dict[str, Any] = {"step": step} | process_states()
    for name in _ACCELERATORS:
        if is_present(name):
            module, is_shared = getattr(torch, name), PartialState().batch_span > 1
            states[f"torch_{name}_manual_seed"] = device_states(module, is_shared=is_shared)
    return states


def device_states(module: Any, *, is_shared: bool) -> list[torch.Tensor]:
    """Return the states of the generators of all devices of a kind.

    Args:
        module: the module of torch for the kind, such as `torch.cuda`.
        is_shared: whether processes with other devices will have these states, too: they get that
            of this process' device, whichever their own one is.
    """
    if is_shared:
        return [module.get_rng_state()] * module.device_count()
    states: list[torch.Tensor] = module.get_rng_state_all()
    return states


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Restore all default random generators at the end of the context."""
    states = random_states(0)
    try:
        yield
    finally:
        set_random_states(states)


def set_random_states(states: dict[str, Any]) -> None:
    """Set the default random generators to states that `random_states` has returned."""
    set_process_states(states)
    for name in _ACCELERATORS:
        if is_present(name) and f"torch_{name}_manual_seed" in states:
            getattr(torch, name).set_rng_state_all(states[f"torch_{name}_manual_seed"])


def share_random_states(own: DataCoordinate) -> None:
    """Give processes that train on the same batches the random states of the first of them.

    They must draw the same numbers, so that dropout is the same on all of them. All processes must
    call this.

    Args:
        own: the place of this process.
    """
    each = each_object(random_states(0))
    first, mine = own.one_of_each(each)[own.rank], each[own.process_index]
    if not torch.equal(first["torch_manual_seed"], mine["torch_manual_seed"]):
        warn_once(
            "processes that train on the same batches have different random states, and now get "
            "those of the first of them: seed with set_seed(seed, device_specific=True)"
        )
    set_random_states(first)
