"""An optimizer's state out of a file that is mapped into memory, copied once, by several threads.

What the optimizer has already is written to where tensors are of the same kind: there are never
two states in memory, beside the file's pages.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard

import torch

from runtime.collectives.nested import map_tensors

_THREADS = min(os.cpu_count() or 1, 8)  # torch copies without the interpreter's lock
_LAYOUT = {"state", "param_groups"}  # of torch's optimizers


def load_optimizer(optimizer: Any, saved: dict[str, Any]) -> None:
    """Load a state whose tensors may lie in a file; afterwards none does.

    Args:
        optimizer: a prepared one.
        saved: its state; another layout than torch's is copied first.
    """
    if set(saved) != _LAYOUT:
        optimizer.load_state_dict(map_tensors(torch.clone, saved))
        return
    before = {parameter: dict(state) for parameter, state in optimizer.state.items()}
    mapped: dict[int, torch.Tensor] = {}
    states = {index: _split(state, mapped) for index, state in saved["state"].items()}
    groups = map_tensors(torch.clone, saved["param_groups"])
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    _copy(optimizer.state, before, mapped)


def _split(state: Any, mapped: dict[int, torch.Tensor]) -> Any:
    """A parameter's state; its own tensors stay in the file, those deeper inside are copied."""
    if not isinstance(state, Mapping):
        return map_tensors(torch.clone, state)
    mapped.update({id(one): one for one in state.values() if _is_on_cpu(one)})
    return {
        name: one if _is_on_cpu(one) else map_tensors(torch.clone, one)
        for name, one in state.items()
    }


def _is_on_cpu(one: Any) -> bool:
    return isinstance(one, torch.Tensor) and one.device.type == "cpu"


def _copy(
    states: dict[Any, dict[str, Any]],
    before: dict[Any, dict[str, Any]],
    mapped: dict[int, torch.Tensor],
) -> None:
    """Copy what an optimizer has taken as it was; a tensor that two share stays one."""
    owned: dict[int, torch.Tensor] = {}
    for parameter, state in states.items():
        for name, one in state.items():
            if id(one) in mapped:
                old = before.get(parameter, {}).get(name)
                # Made in this thread: what the old one leaves is used again.
                owned.setdefault(id(one), old if _fits(old, one) else torch.empty_like(one))
                state[name] = owned[id(one)]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda pair: pair[1].copy_(mapped[pair[0]]), owned.items()))


def _fits(old: Any, new: torch.Tensor) -> TypeGuard[torch.Tensor]:
    return (
        type(old) is torch.Tensor
        and not old.requires_grad
        and (old.device, old.dtype, old.shape) == (new.device, new.dtype, new.shape)
        and old.stride() == new.stride()
    )
