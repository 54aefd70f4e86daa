"""Decides how the modules of a model are divided among the processes of tensor parallelism."""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel

_STYLES: dict[str, Callable[[], ParallelStyle]] = {  # the names of transformers
    "colwise": ColwiseParallel,
    "rowwise": RowwiseParallel,
    "colwise_gather_output": lambda: ColwiseParallel(output_layouts=Replicate()),
    "embedding_rowwise": lambda: RowwiseParallel(input_layouts=Replicate()),
}
_HEADS = ("num_attention_heads", "num_key_value_heads")  # of the configurations of transformers


def styles_of(
    model: nn.Module, given: Mapping[str, Any] | None, size: int
) -> dict[str, ParallelStyle]:
    """Return the name of each module that is divided -> how.

    Modules of the model's own plan whose parameters belong to others, too, stay whole: dividing
    them would end that.

    Args:
        model: the model, on any device.
        given: the script's plan; None: the model's own.
        size: the number of processes.

    Raises:
        ValueError: there is no plan, it names no module, or a module cannot be divided.
        NotImplementedError: the model's own plan has a style that is not supported.
    """
    plan = given if given is not None else getattr(model, "_tp_plan", None)
    if not plan:
        sentence = (
            f"tp_size={size} needs a plan for {type(model).__name__}, which has no `_tp_plan`: "
            "pass ParallelismConfig(tp_handler=TorchTensorParallelConfig(plan={'layers.*.up': "
            "ColwiseParallel(), ...})), or divide it by torch's parallelize_module before prepare()"
        )
        raise ValueError(sentence)
    shared = set(_shared(model))
    found: dict[str, ParallelStyle] = {}
    for pattern, style in plan.items():
        names = [name for name, _ in model.named_modules() if matches(name, pattern)]
        if given is not None:
            _check(model, pattern, names, shared)
        found |= {name: _style(pattern, style) for name in names if name not in shared}
    if given is None:
        _check_heads(model, size)
    return found


def matches(name: str, pattern: str) -> bool:
    """Whether the name of a module fits a pattern, in which `*` stands for one part of the name.

    >>> matches("layers.3.up", "layers.*.up"), matches("layers.3.block.up", "layers.*.up")
    (True, False)
    """
    parts, patterns = name.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def must_divide(model: nn.Module, size: int) -> None:
    """Check that all processes have parts of one size.

    Args:
        model: the model, divided.
        size: the number of processes.

    Raises:
        ValueError: a dimension that is divided is no multiple of the number of processes.
    """
    for name, parameter in model.named_parameters():
        for placement in parameter.placements if isinstance(parameter, DTensor) else ():
            if isinstance(placement, Shard) and parameter.shape[placement.dim] % size:
                sentence = (
                    f"dimension {placement.dim} of {name}, {tuple(parameter.shape)}, must be a "
                    f"multiple of tp_size={size}: leave its module out of the plan, or change "
                    "tp_size"
                )
                raise ValueError(sentence)


def _shared(model: nn.Module) -> Iterator[str]:
    """Yield the names of the modules that have a parameter which another module has, too."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    for names in owners.values():
        yield from names if len(names) > 1 else ()


def _check(model: nn.Module, pattern: str, names: list[str], shared: set[str]) -> None:
    """Check a pattern of the script's plan."""
    if not names:
        known = ", ".join(
            name for name, module in model.named_modules() if not [*module.children()]
        )
        sentence = f"the plan of tensor parallelism names {pattern!r}, but the modules are {known}"
        raise ValueError(sentence)
    if tied := shared.intersection(names):
        sentence = (
            f"the plan of tensor parallelism divides {min(tied)!r}, whose parameters another "
            "module has, too: they would no longer be the same. Leave it out of the plan"
        )
        raise ValueError(sentence)


def _style(pattern: str, style: Any) -> ParallelStyle:
    if isinstance(style, ParallelStyle):
        return style
    if style not in _STYLES:
        sentence = (
            f"the plan of tensor parallelism divides {pattern!r} by {style!r}, but the styles are "
            f"{', '.join(_STYLES)}, and torch's ParallelStyles"
        )
        raise NotImplementedError(sentence)
    return _STYLES[style]()


def _check_heads(model: nn.Module, size: int) -> None:
    config = getattr(model, "config", None)
    for name in _HEADS:
        heads = getattr(config, name, None)
        if isinstance(heads, int) and heads % size:
            sentence = f"{name} of the model must be a multiple of tp_size={size}, got {heads}"
            raise ValueError(sentence)
