"""Loads an optimizer's state from a memory-mapped file.

Each tensor is copied once, by several threads. Values are copied into the optimizer's existing
tensors where these match, so memory never holds two states besides the file's pages.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard

import torch

from runtime.collectives.nested import map_tensors

_THREADS = min(os.cpu_count() or 1, 8)  # torch releases the GIL while it copies
_LAYOUT = {"state", "param_groups"}  # the keys of a torch optimizer's state dict


def load_optimizer_state(optimizer: Any, saved: dict[str, Any]) -> None:
    """Load a state dict whose tensors may be mapped to a file.

    Afterwards no tensor of the optimizer is mapped to the file.

    Args:
        optimizer: a prepared optimizer.
        saved: its state dict. If the keys are not those of torch's optimizers, all tensors are
            copied before the optimizer gets them.

    Raises:
        ValueError: the state is of an optimizer of another kind.
    """
    if set(saved) != _LAYOUT:
        optimizer.load_state_dict(map_tensors(torch.clone, saved))
        return
    before = {parameter: dict(state) for parameter, state in optimizer.state.items()}
    mapped: dict[int, torch.Tensor] = {}
    states = {index: _split(state, mapped) for index, state in saved["state"].items()}
    groups = map_tensors(torch.clone, saved["param_groups"])
    options = [set(group) for group in optimizer.param_groups]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    _must_have(options, optimizer.param_groups)
    _copy(optimizer.state, before, mapped)


def _must_have(options: list[set[str]], groups: list[dict[str, Any]]) -> None:
    """Check that loaded groups have the options that the optimizer had before.

    Raises:
        ValueError: one is missing, because the state is of an optimizer of another kind.
    """
    for names, group in zip(options, groups, strict=True):
        if missing := sorted(names - group.keys() - {"initial_lr"}):  # of a scheduler
            sentence = (
                f"the saved state must be of an optimizer of the same kind, but it has no "
                f"{', '.join(missing)}"
            )
            raise ValueError(sentence)


def _split(state: Any, mapped: dict[int, torch.Tensor]) -> Any:
    """Return a parameter's state; nested tensors are copied, others stay mapped to the file.

    Args:
        state: the saved state of one parameter.
        mapped: the tensors that stay mapped, by id; this function adds to it.
    """
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
    """Replace mapped tensors in an optimizer's state by copies; shared tensors stay shared.

    Args:
        states: parameter -> its state, which may have mapped tensors.
        before: parameter -> its state before loading, whose tensors are reused if they fit.
        mapped: the tensors that are mapped to the file, by id.
    """
    owned: dict[int, torch.Tensor] = {}
    for parameter, state in states.items():
        for name, one in state.items():
            if id(one) in mapped:
                old = before.get(parameter, {}).get(name)
                # Allocated in this thread, so that memory of replaced tensors is reused.
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
