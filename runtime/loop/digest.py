"""A 64-bit digest of a tensor, computed on its device: equal tensors have equal digests.

The bytes are read as 64-bit integers. Each is mixed with its own upper bits, multiplied by an odd
weight that depends on its position, and added with wrap-around; rows of such sums are combined in
the same way. A change of one element always changes its term, because an odd factor is invertible,
and elements that are exchanged meet other weights. XOR would miss the latter, and equal pairs.
It detects faults of hardware and software; it is no protection from somebody who wants to deceive.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from runtime.parallel.reducer import replica_of

ROW = 1 << 16  # words that are summed at once: what a core's cache holds
_ROWS = 1 << 8  # rows at once on an accelerator
_OF_DDP = "module."  # the prefix that DistributedDataParallel adds to names
_BROADCASTS = ("forward_sync_buffers", "broadcast_buffers")  # names in newer and older torch
_SHIFT = 29  # bits
_WORD = 8  # bytes


def digest(tensor: Tensor) -> Tensor:
    """Return the digest of a tensor as an int64 on its device, without waiting for the device.

    Args:
        tensor: any dense tensor; its shape and dtype count, its strides do not.
    """
    words, tail = _words(tensor)
    full = len(words) // ROW * ROW
    rows = words[:full].view(-1, ROW)
    at_once = 1 if tensor.device.type == "cpu" else _ROWS
    sums = [_weighted(rows[at : at + at_once]) for at in range(0, len(rows), at_once)]
    whole = torch.cat([*sums, _weighted(words[None, full:]), tail.to(torch.int64)])
    return _weighted(whole[None])[0] + _salt(f"{tensor.dtype} {tuple(tensor.shape)}")


def _words(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bytes of a tensor: as int64 as far as they go, and the rest."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().view(-1)
    if flat.storage_offset() * flat.element_size() % _WORD:
        flat = flat.clone()  # int64 must be aligned
    octets = flat.view(torch.uint8)
    whole = len(octets) // _WORD * _WORD
    return octets[:whole].view(torch.int64), octets[whole:]


def _weighted(rows: Tensor) -> Tensor:
    """Return the weighted sum of each row of words."""
    weights = torch.arange(1, 2 * rows.shape[1] + 1, 2, device=rows.device)
    mixed = torch.bitwise_right_shift(rows, _SHIFT)
    return mixed.add_(rows).mul_(weights).sum(1)


def _salt(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def digests(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the digests of tensors; waits once for each device.

    Args:
        tensors: name -> tensor.
    """
    lazy = {name: digest(tensor) for name, tensor in tensors.items()}
    by_device: dict[torch.device, list[str]] = {}
    for name, one in lazy.items():
        by_device.setdefault(one.device, []).append(name)
    read = {
        name: value
        for names in by_device.values()
        for name, value in zip(
            names, torch.stack([lazy[name] for name in names]).tolist(), strict=True
        )
    }
    return {name: read[name] for name in tensors}


def of_training(
    models: Sequence[nn.Module] = (),
    optimizers: Sequence[Optimizer] = (),
    generators: Mapping[str, torch.Generator] | None = None,
) -> dict[str, Tensor]:
    """Return the tensors that ranks of a replicated model must have alike, by name.

    Buffers do not count if DistributedDataParallel replaces them by those of rank 0 before each
    forward, or if they are statistics of the rank's own batches.

    Args:
        models: their parameters and buffers count.
        optimizers: their states count.
        generators: name -> a random generator that all ranks advance alike.
    """
    found: dict[str, Tensor] = {}
    own: set[int] = set()  # parameters that each rank trains by itself
    for number, prepared in enumerate(models):
        model = replica_of(prepared) or prepared  # a compiled one does not look like a replica
        ignored = _ignored(model)
        for name, tensor in chain(model.named_parameters(), _buffers(model)):
            if name.removeprefix(_OF_DDP) in ignored:
                own.add(id(tensor))
            else:
                found[f"model {number}: {_plain(name)}"] = tensor
    names = {id(tensor): name for name, tensor in found.items()}
    for number, optimizer in enumerate(optimizers):
        found |= dict(_states(f"optimizer {number}", optimizer, names, own))
    for name, generator in (generators or {}).items():
        found[f"generator {name}"] = generator.get_state()
    return found


def _ignored(model: nn.Module) -> Collection[str]:
    """Return the names of parameters whose gradients DistributedDataParallel does not average."""
    return getattr(model, "parameters_to_ignore", ()) if _is_ddp(model) else ()


def _buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that must be alike."""
    if _is_ddp(model) and any(getattr(model, one, False) for one in _BROADCASTS):
        return
    for prefix, module in model.named_modules():
        if not isinstance(module, _NormBase) or isinstance(module, nn.SyncBatchNorm):
            yield from module.named_buffers(prefix, recurse=False)


def _is_ddp(model: nn.Module) -> TypeGuard[DistributedDataParallel]:
    return isinstance(model, DistributedDataParallel)


def _plain(name: str) -> str:
    """Return the name that a script knows, without those of containers."""
    return name.removeprefix(_OF_DDP).replace("_orig_mod.", "")


def _states(
    prefix: str, optimizer: Optimizer, names: Mapping[int, str], own: Collection[int]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors and numbers of an optimizer's state, with the names of its parameters."""
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for index, parameter in enumerate(parameters):
        if id(parameter) in own:
            continue
        name = names.get(id(parameter), f"parameter {index}")
        for key, value in optimizer.state.get(parameter, {}).items():
            if (tensor := _tensor(value)) is not None:
                yield f"{prefix}: {name}: {key}", tensor


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value) if isinstance(value, int | float) else None
