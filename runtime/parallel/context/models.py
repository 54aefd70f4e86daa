"""Models of transformers: what they must be told if sequences are divided.

They count positions and shift labels by themselves, which would be wrong in a part of a sequence.
Their attention gets masks that were made for whole sequences; these are left out, because attention
without a mask is causal there.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

Positions = Callable[[], torch.Tensor | None]  # those of this process' part, while it is divided
Whole = Callable[[torch.Tensor], torch.Tensor]  # the part of this process -> the whole rows

# Names in transformers:
_LIBRARY = "transformers.modeling_utils"
_IMPLEMENTATION = "sdpa"  # attention by scaled_dot_product_attention
_FULL = "full_attention"  # of layers that attend to all positions
_SHIFTING = "ForCausalLMLoss"  # a loss that shifts labels by one position
_BY_LENGTH = {"dynamic", "longrope"}  # kinds of rotation that depend on the longest position
_OWN_POSITIONS = "create_position_ids_from_input_ids"  # of models that do not count from 0
_BY_POSITION = ("ForCausalLM", "ForMaskedLM", "ForTokenClassification")  # kinds of losses


def must_attend_fully(model: nn.Module) -> None:
    """Check that a model's attention can be computed over divided sequences.

    Args:
        model: a model, of transformers or not.

    Raises:
        ValueError: it is one of transformers, and some layers attend to a part of the positions
            only, or do not call `scaled_dot_product_attention`.
    """
    for part in _of_transformers(model):
        name, used = type(part).__name__, getattr(part.config, "_attn_implementation", None)
        if used not in (None, _IMPLEMENTATION):
            sentence = (
                "context parallelism needs attention by scaled_dot_product_attention, but "
                f"{name} uses {used!r}: load it with attn_implementation='{_IMPLEMENTATION}'"
            )
            raise ValueError(sentence)
        if narrow := _narrow_kinds(part.config):
            sentence = (
                f"context parallelism supports full attention only, but {name} has layers with "
                f"{', '.join(narrow)}, whose masks would be lost: train it without cp_size"
            )
            raise ValueError(sentence)
        if kinds := _BY_LENGTH.intersection(_rotations(part.config)):
            sentence = (
                f"context parallelism does not support {name} with {', '.join(kinds)} rotation of "
                "positions, which depends on the longest position of a process' part: use another "
                "rope_type"
            )
            raise ValueError(sentence)


def _text_of(config: Any) -> Any:
    """Return the configuration of the language model in a model of several kinds of input."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _rotations(config: Any) -> Iterator[str]:
    """Yield the kinds of rotation of positions in a model; they may differ between layers."""
    text = _text_of(config)
    found = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    for one in (found, *(inner for inner in found.values() if isinstance(inner, Mapping))):
        yield str(one.get("rope_type", one.get("type")))


def _narrow_kinds(config: Any) -> list[str]:
    """Return the kinds of attention in a model that see a part of the positions only."""
    text = _text_of(config)
    kinds = getattr(text, "layer_types", None)
    if kinds is None:  # older models have one window for all layers
        return ["sliding_attention"] if getattr(text, "sliding_window", None) else []
    return sorted(set(kinds) - {_FULL})


def watch(model: nn.Module, positions: Positions, whole: Whole) -> None:
    """Check the arguments of a model, and leave out its masks, while sequences are divided.

    Args:
        model: a model that `must_attend_fully` has accepted; one that is not of transformers stays
            as it is.
        positions: returns the positions of this process' part; None while nothing is divided.
        whole: returns whole rows, shape (rows, positions), from the part of this process.
    """
    parts = list(_of_transformers(model))
    for part in parts:
        part.register_forward_pre_hook(_looking(part, positions, whole), with_kwargs=True)
    for inner in model.modules() if parts else ():
        if getattr(inner, "is_causal", False):
            inner.register_forward_pre_hook(
                _without_mask(positions), with_kwargs=True, prepend=True
            )


def _of_transformers(model: nn.Module) -> Iterator[Any]:
    """Yield the models of transformers that a model is, or has; none if nobody has imported it."""
    library: Any = sys.modules.get(_LIBRARY)
    if library is not None:
        yield from (part for part in model.modules() if isinstance(part, library.PreTrainedModel))


def _looking(part: Any, positions: Positions, whole: Whole) -> Callable[..., None]:
    signature = inspect.signature(part.forward)
    name = type(part).__name__  # FSDP2 gives it another one
    counts = "position_ids" in signature.parameters and not any(
        hasattr(inner, _OWN_POSITIONS) for inner in part.modules()
    )

    def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        own = positions()
        if own is not None:
            given = {**signature.bind_partial(*args, **kwargs).arguments, **kwargs}
            _check_kind(name, module.loss_type, counts=counts)
            _check_unused(given)
            _check_positions(given, own)
            _check_labels(given, module)
            _check_mask(given.get("attention_mask"), whole)

    return look


def _without_mask(positions: Positions) -> Callable[..., Any]:
    def leave_out(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if positions() is None or kwargs.get("attention_mask") is None:
            return None
        return args, kwargs | {"attention_mask": None}

    return leave_out


def _check_kind(name: str, loss: str | None, *, counts: bool) -> None:
    if not counts:
        sentence = (
            f"context parallelism does not support {name}: it counts positions by itself, or not "
            "from 0, which would be wrong in a part of a sequence"
        )
        raise ValueError(sentence)
    if loss is not None and loss not in _BY_POSITION:
        sentence = (
            f"context parallelism does not support {name}: its result is not one for each "
            "position, so that it cannot be computed from a part of the sequences"
        )
        raise ValueError(sentence)


def _check_positions(given: Mapping[str, Any], own: torch.Tensor) -> None:
    found = given.get("position_ids")
    if found is None:
        sentence = (
            "in maybe_context_parallel() a model needs position_ids, because it would count the "
            "positions of its part from 0: pass torch.arange(length).expand(batch, -1), as one of "
            "the buffers"
        )
        raise ValueError(sentence)
    if found.shape[-1] != len(own) or not bool((found == own.to(found.device)).all()):
        sentence = (
            "in maybe_context_parallel() position_ids must be those of this process' part of one "
            "sequence that begins at 0: pass them as one of the buffers. Several sequences in one "
            "row, or padding at the left, are not supported"
        )
        raise ValueError(sentence)


def _check_labels(given: Mapping[str, Any], part: Any) -> None:
    if given.get("labels") is None or given.get("shift_labels") is not None:
        return
    if getattr(part.loss_function, "__name__", "") == _SHIFTING:
        sentence = (
            "in maybe_context_parallel() a causal model needs shift_labels beside labels, because "
            "it would shift the labels of its part only: pass those of the next positions, "
            "torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:].contiguous(), as one of "
            "the buffers"
        )
        raise ValueError(sentence)


def _check_unused(given: Mapping[str, Any]) -> None:
    """Check that the model is not asked for what is about whole sequences."""
    kept = given.get("logits_to_keep")
    names = {
        "past_key_values": given.get("past_key_values") is not None,
        "logits_to_keep": kept is not None and not (isinstance(kept, int) and kept == 0),
    }
    for name, is_given in names.items():
        if is_given:
            sentence = (
                f"in maybe_context_parallel() a model cannot have {name}, which is about whole "
                "sequences: leave it out, or call the model outside of the context"
            )
            raise ValueError(sentence)


def _check_mask(mask: Any, whole: Whole) -> None:
    if mask is None:
        return
    rows = whole(mask) if mask.dim() == 2 else None  # noqa: PLR2004  # batch, positions
    if rows is None or not bool((rows[:, 1:] <= rows[:, :-1]).all()):
        sentence = (
            "in maybe_context_parallel() an attention_mask may only have a row for each sequence, "
            "which says that it is padded at its end, since attention is causal and masks are not "
            "used: leave the mask out, or pad at the right"
        )
        raise ValueError(sentence)
