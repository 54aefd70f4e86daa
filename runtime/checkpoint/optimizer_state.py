"""Loads an optimizer's state from a memory-mapped file.

Each tensor is copied once, straight into the optimizer's existing tensor where that matches, so
that no memory, also of a GPU, holds two states besides the file's pages.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeGuard

import torch
from torch.optim import Optimizer

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
    mapped: dict[int, torch.Tensor] = {}
    states = {index: _split(state, mapped) for index, state in saved["state"].items()}
    groups = map_tensors(torch.clone, saved["param_groups"])
    options = [set(group) for group in optimizer.param_groups]
    copies = _Copies(mapped, {one: dict(state) for one, state in optimizer.state.items()})
    if _reads_no_values(optimizer):
        copies.put_existing(optimizer.param_groups, states, groups)
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    _must_have(options, optimizer.param_groups)
    copies.complete(optimizer.state)


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


def _reads_no_values(optimizer: Any) -> bool:
    """Whether `load_state_dict` is torch's own, which keeps tensors, or converts them."""
    inner = getattr(optimizer, "optimizer", optimizer)
    hooks = "_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks"
    is_own = getattr(type(inner), "load_state_dict", None) is Optimizer.load_state_dict
    return is_own and not any(getattr(inner, name, None) for name in hooks)


@dataclass
class _Copies:
    """The copies of mapped tensors to those of an optimizer.

    Attributes:
        mapped: the tensors that are mapped to the file, by id.
        before: parameter -> the optimizer's state before loading, whose tensors are reused.
        put: the tensors of the optimizer that stand for mapped ones, by the ids of these.
        taken: the ids of these tensors of the optimizer.
        places: (parameter, name) -> the id of the mapped tensor that an existing one stands for.
    """

    mapped: dict[int, torch.Tensor]
    before: dict[torch.Tensor, dict[str, Any]]
    put: dict[int, torch.Tensor] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    places: dict[tuple[torch.Tensor, str], int] = field(default_factory=dict)

    def put_existing(
        self, own: list[dict[str, Any]], states: dict[Any, Any], groups: list[dict[str, Any]]
    ) -> None:
        """Replace mapped tensors in states to load by the optimizer's own, which get the values.

        Args:
            own: the parameter groups of the optimizer.
            states: the states to load: index -> state; this function changes them.
            groups: the parameter groups to load.
        """
        indices, parameters = (
            chain.from_iterable(group["params"] for group in each) for each in (groups, own)
        )
        for index, parameter in zip(indices, parameters, strict=False):  # torch checks the numbers
            state = states.get(index)
            if not isinstance(state, dict):
                continue
            for name, one in state.items():
                if id(one) in self.mapped and self._stand_in(parameter, name, one) is not None:
                    self.places[parameter, name] = id(one)
                    state[name] = self.put[id(one)]

    def _stand_in(
        self, parameter: torch.Tensor, name: str, one: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the optimizer's own tensor that stands for a mapped one; None if none can.

        Mapped tensors that are one stay one, and each tensor stands for one only.
        """
        if id(one) not in self.put:
            old = self.before.get(parameter, {}).get(name)
            if not _fits(old, one) or id(old) in self.taken:
                return None
            self.taken.add(id(old))
            self.put[id(one)] = old
        return self.put[id(one)]

    def complete(self, states: dict[Any, dict[str, Any]]) -> None:
        """Copy the values, and replace the mapped tensors that are left; shared ones stay shared.

        Args:
            states: parameter -> its state, which the optimizer has loaded.
        """
        pairs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by the targets' ids
        for parameter, state in states.items():
            for name, one in state.items():
                known = self.places.get((parameter, name))
                if known is not None:  # torch has kept it, or converted it
                    pairs[id(one)] = one, self.mapped[known]
                elif id(one) in self.mapped:
                    made = self._stand_in(parameter, name, one)
                    if made is None or made.device != one.device:
                        # Allocated in this thread, so that memory of replaced tensors is reused.
                        made = self.put[id(one)] = torch.empty_like(one)
                    state[name], pairs[id(made)] = made, (made, one)
        _copy(list(pairs.values()))


def _copy(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Copy tensors to others: on the CPU in threads, on an accelerator in the current stream."""
    on_cpu = [pair for pair in pairs if pair[0].device.type == "cpu"]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda pair: pair[0].copy_(pair[1]), on_cpu))
    for target, source in pairs:
        if target.device.type != "cpu":
            target.copy_(source)


def _fits(old: Any, new: torch.Tensor) -> TypeGuard[torch.Tensor]:
    """Whether an optimizer's tensor can take the values of a saved one."""
    return (
        type(old) is torch.Tensor
        and not old.requires_grad
        and (old.dtype, old.shape, old.stride()) == (new.dtype, new.shape, new.stride())
    )
