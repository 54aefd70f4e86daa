"""Attention over whole sequences, of which each process has a part.

Each process gathers the keys and values of the others, and attends to them with its own queries.
The gathered ones are kept until backward, unless the layer is recomputed there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import distributed
from torch.distributed import ProcessGroup
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from runtime.parallel.context.parts import PIECES, in_order, pieces_of

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")  # in this order
_POSITIONS = -2  # the dimension of the positions in queries, keys and values
_WITHIN = {  # functions that attend without a call that can be seen
    functional.multi_head_attention_forward: "torch.nn.MultiheadAttention",
    torch._native_multi_head_attention: "torch.nn.MultiheadAttention",  # noqa: SLF001  # torch has no public name for it
    torch._transformer_encoder_layer_fwd: "torch.nn.TransformerEncoderLayer",  # noqa: SLF001
}


class PartialAttention(TorchFunctionMode):
    """A mode in which `scaled_dot_product_attention` attends to the sequences of all processes.

    Attributes:
        calls: how often it was called in this mode.
    """

    def __init__(self, group: ProcessGroup, positions: int) -> None:
        """Begin without calls.

        Args:
            group: the processes that share the sequences.
            positions: the number of positions of this process' part, which is even.
        """
        super().__init__()
        self._group, self._positions = group, positions
        self.calls = 0

    @property
    def is_on(self) -> bool:
        """Whether it is on in this thread; torch turns modes off in backward."""
        return self in _get_current_function_mode_stack()  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch; attention is computed over whole sequences.

        Raises:
            NotImplementedError: attention is computed in a way that this mode does not see.
        """
        if func is functional.scaled_dot_product_attention:
            self.calls += 1
            call = {**dict(zip(_ARGUMENTS, args, strict=False)), **(kwargs or {})}
            _check(call, self._positions)
            return attend(self._group, **call)
        if func in _WITHIN:
            sentence = (
                f"context parallelism does not support {_WITHIN[func]}: each process would attend "
                "to its own part of the sequences only. Let the model call "
                "torch.nn.functional.scaled_dot_product_attention"
            )
            raise NotImplementedError(sentence)
        return func(*args, **(kwargs or {}))


def attend(
    group: ProcessGroup,
    *,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    is_causal: bool = False,
    **options: Any,
) -> torch.Tensor:
    """Return the attention of this process' queries to the keys of all processes.

    Arguments and result are those of `scaled_dot_product_attention`.

    Args:
        group: the processes that share the sequences.
        query: shape (..., positions of this process, size of a head).
        key: the same shape; with `enable_gqa` it may have fewer heads.
        value: as the key, with heads of any size.
        is_causal: whether a position attends only to those up to itself.
        **options: further arguments, but no mask.
    """
    options.pop("attn_mask", None)
    keys, values = (whole_of(one, group, _POSITIONS) for one in (key, value))
    if not is_causal:
        return functional.scaled_dot_product_attention(query, keys, values, **options)
    found, size = [], query.shape[_POSITIONS] // PIECES
    numbers = pieces_of(group.rank(), group.size())
    for number, own in zip(numbers, query.chunk(PIECES, _POSITIONS), strict=True):
        seen = size * (number + 1)
        mask = causal_lower_right(size, seen)
        found.append(
            functional.scaled_dot_product_attention(
                own,
                keys.narrow(_POSITIONS, 0, seen),
                values.narrow(_POSITIONS, 0, seen),
                attn_mask=mask,
                **options,
            )
        )
    return torch.cat(found, _POSITIONS)


def _check(call: Mapping[str, Any], positions: int) -> None:
    """Check the arguments of a call of attention.

    Raises:
        NotImplementedError: there is a mask.
        ValueError: the queries or the keys are not those of this process' part.
    """
    if call.get("attn_mask") is not None:
        sentence = (
            "context parallelism has no attention with a mask: call scaled_dot_product_attention "
            "without attn_mask, and with is_causal=True where positions attend to those before them"
        )
        raise NotImplementedError(sentence)
    queries, keys = (call[name].shape[_POSITIONS] for name in ("query", "key"))
    if (queries, keys) != (positions, positions):
        sentence = (
            f"in maybe_context_parallel() this process has {positions} positions of each sequence, "
            f"but attention got {queries} queries and {keys} keys: the input of the model must be "
            "one of the buffers, and all attention that of the sequences to themselves. Call "
            "encoders of anything else before the context"
        )
        raise ValueError(sentence)


def whole_of(part: torch.Tensor, group: ProcessGroup, dimension: int) -> torch.Tensor:
    """Return a tensor of whole sequences, in the order of their positions.

    Args:
        part: the part of this process; all processes of the group must call this.
        group: the processes that share the sequences.
        dimension: the dimension of the positions, which is not the first one.
    """
    parts: torch.Tensor = _Gather.apply(part, group)
    return in_order(parts.chunk(group.size()), dimension)


class _Gather(torch.autograd.Function):
    """Concatenates the parts of all processes; a part gets the sum of its gradients on all."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
        ctx.group = group
        parts = part.new_empty(group.size() * len(part), *part.shape[1:])
        distributed.all_gather_into_tensor(parts, part.contiguous(), group=group)
        return parts

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        own = gradient.new_empty(len(gradient) // ctx.group.size(), *gradient.shape[1:])
        distributed.reduce_scatter_tensor(own, gradient.contiguous(), group=ctx.group)
        return own, None
