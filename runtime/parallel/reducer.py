"""The gradient buckets of DistributedDataParallel (DDP); only this file uses its private API.

DDP lays out its buckets twice: when it is created, and again before the forward after the first
synchronized backward (with `static_graph`, the second one), in the order in which rank 0's
gradients arrived in it. `lay_out` brings a new DDP to the second layout at once.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

# What `lay_out` calls, and the parameters of the methods that are called with arguments.
_OF_REPLICA = {
    "_build_params_for_reducer": (),
    "_build_debug_param_to_name_mapping": ("parameters",),
    "_ddp_init_helper": (
        "parameters",
        "expect_sparse_gradient",
        "param_to_name_mapping",
        "static_graph",
    ),
}
_ATTRIBUTES = ("_has_rebuilt_buckets", "_comm_hooks", "_get_ddp_logging_data")
_OF_REDUCER = ("_push_all_rebuilt_params", "_rebuild_buckets", "_set_static_graph")


def replica_of(model: nn.Module) -> DistributedDataParallel | None:
    """Return the DDP of a prepared model, compiled or not; None if it is not replicated."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, DistributedDataParallel) else None


def missing(replica: DistributedDataParallel) -> list[str]:
    """Return the names of what `lay_out` needs and this version of torch does not have."""
    found = [name for name, known in _OF_REPLICA.items() if _accepts(replica, name) != known]
    reducer = getattr(replica, "reducer", None)
    found += [f"reducer.{name}" for name in _OF_REDUCER if not hasattr(reducer, name)]
    return found + [name for name in _ATTRIBUTES if not hasattr(replica, name)]


def _accepts(replica: DistributedDataParallel, name: str) -> tuple[str, ...] | None:
    method = getattr(replica, name, None)
    return None if method is None else tuple(inspect.signature(method).parameters)


def lays_out_again(replica: DistributedDataParallel) -> bool:
    """Whether the layout depends on the order of gradients at all."""
    uses_python = getattr(replica, "_use_python_reducer", False)
    return not uses_python and (replica.static_graph or not replica.find_unused_parameters)


def has_laid_out_again(replica: DistributedDataParallel) -> bool:
    """Whether the second layout is in use."""
    return bool(replica._has_rebuilt_buckets)  # noqa: SLF001


def begun_iterations(replica: DistributedDataParallel) -> int:
    """Return the number of synchronized forwards so far, which is at least 1 and exact up to 10."""
    return int(_logged(replica).get("iteration", 0)) + 1


def parameters_of(replica: DistributedDataParallel) -> list[nn.Parameter]:
    """Return the parameters whose gradients are in buckets, in their order in the model."""
    own: Any = replica
    return list(own._build_params_for_reducer()[0])  # noqa: SLF001


def _logged(replica: Any) -> dict[str, Any]:
    logged: dict[str, Any] = replica._get_ddp_logging_data()  # noqa: SLF001
    return logged


def obstacle(replica: DistributedDataParallel) -> str | None:
    """Return why the buckets cannot be laid out by an order; None if they can."""
    if absent := missing(replica):
        return f"this version of torch does not have {', '.join(absent)} as expected"
    if getattr(replica, "mixed_precision", None) is not None:
        return "DistributedDataParallel has a mixed precision of its own"
    if any(hasattr(one, "_in_backward_optimizers") for one in replica.parameters()):
        return "an optimizer steps within the backward"
    hook = _logged(replica).get("comm_hook")
    if hook and not replica._comm_hooks:  # noqa: SLF001
        return f"the built-in communication hook {hook} would be lost"
    return None


def lay_out(replica: DistributedDataParallel, order: Sequence[int]) -> None:
    """Lay out the buckets as if gradients had arrived in an order. All processes must call this.

    The reducer is created anew, as DDP does when it is unpickled, with its parameters in that
    order. Parameters, gradients and random generators stay as they are.

    Args:
        replica: a DDP without `obstacle`, between two iterations.
        order: a permutation of the indices of `parameters_of`, the same on all processes.
    """
    own: Any = replica
    parameters, sparse = own._build_params_for_reducer()  # noqa: SLF001
    ordered = [parameters[index] for index in order]
    names = own._build_debug_param_to_name_mapping(ordered)  # noqa: SLF001
    own.reducer = own.logger = None  # frees the buckets, and removes the hooks of the parameters
    own._ddp_init_helper(ordered, [sparse[i] for i in order], names, own.static_graph)  # noqa: SLF001
    _restore_settings(own)
    own.reducer._push_all_rebuilt_params()  # noqa: SLF001
    own._has_rebuilt_buckets = own.reducer._rebuild_buckets()  # noqa: SLF001


def _restore_settings(own: Any) -> None:
    """Set what was set after the reducer had been created."""
    if own.static_graph:
        own.reducer._set_static_graph()  # noqa: SLF001
        own.logger._set_static_graph()  # noqa: SLF001
        own._static_graph_delay_allreduce_enqueued = False  # noqa: SLF001
    if getattr(own, "require_manual_backward_finalization", False):
        own.require_manual_backward_finalization = True
    hooks, own._comm_hooks = own._comm_hooks, []  # noqa: SLF001
    for hook, state in hooks:
        own.register_comm_hook(state, hook)
