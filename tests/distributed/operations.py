"""Programs of `programs.py` that send structures of all kinds: what each rank has afterwards."""

import importlib
import warnings
from collections import OrderedDict, UserDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, TensorDataset

Library = Any
DTYPES = (
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32),
    *(torch.uint8, torch.bool, torch.complex64),
)


class Pair(NamedTuple):
    """A structure of a script's own."""

    first: Any
    second: Any


class Encoding(UserDict[str, Any]):
    """As tokenizers give them."""


class Named(dict[str, Any]):
    """A dict of a script's own kind."""


def numbers(rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Others on each rank, and small enough for every dtype."""
    size = torch.Size(shape).numel()
    return (torch.arange(size) % 5 + rank).reshape(shape).to(dtype)


def structure(rank: int) -> Any:
    """Everything that may be nested, and tensors of all kinds in it."""
    floats = numbers(rank, (2, 3), torch.float32)
    return Named(
        dtypes=OrderedDict((str(dtype), numbers(rank, (2, 2), dtype)) for dtype in DTYPES),
        pair=Pair(floats, [floats[:, ::2], (floats.t(), floats[0, 0])]),
        encoding=Encoding(ids=numbers(rank, (2, 4), torch.int64), empty=floats[:, :0]),
        nothing=floats[:0],
        trained=floats.clone().requires_grad_(),
        nested=({"a": [floats.bool()]}, []),
    )


def summable(rank: int, *, real: bool = True) -> Any:
    """What can be summed: all but truth, and what gloo sums."""
    floats = numbers(rank, (2, 3), torch.float32)
    whole = {} if real else {"ints": numbers(rank, (3,), torch.int64)}
    return Named(
        pair=Pair(floats, [floats[:, ::2], (floats.t(), floats[0, 0])]),
        halves=[numbers(rank, (2,), torch.bfloat16), numbers(rank, (2,), torch.float64)],
        encoding=Encoding(a=floats * 2, empty=floats[:, :0]),
        **whole,
    )


def described(data: Any) -> Any:
    """Types, dtypes, shapes and numbers, as JSON can say them."""
    if isinstance(data, torch.Tensor):
        real = torch.view_as_real(data) if data.is_complex() else data
        return [str(data.dtype), list(data.shape), real.tolist()]
    name = type(data).__name__
    if isinstance(data, dict | UserDict):
        return [name, {key: described(value) for key, value in data.items()}]
    if isinstance(data, list | tuple):
        return [name, [described(one) for one in data]]
    return data


def utils(library: Library) -> Any:
    return importlib.import_module(f"{library.__name__}.utils")


def gathered(library: Library) -> Any:
    """All ranks' structures, leaf by leaf."""
    accelerator = library.Accelerator()
    return described(accelerator.gather(structure(accelerator.process_index)))


def alone(library: Library) -> Any:
    """The same for one tensor of each dtype, which is sent by itself."""
    accelerator = library.Accelerator()
    rank = accelerator.process_index
    return [described(accelerator.gather(numbers(rank, (2, 2), dtype))) for dtype in DTYPES]


def reduced(library: Library) -> Any:
    """Sums and means."""
    accelerator = library.Accelerator()
    rank = accelerator.process_index
    sums = accelerator.reduce(summable(rank, real=False), "sum")
    return [described(sums), described(accelerator.reduce(summable(rank), "mean"))]


def sent(library: Library) -> Any:
    """What each rank has of one rank's structure, by the last one."""
    accelerator = library.Accelerator()
    data = summable(accelerator.process_index, real=False)
    data["pair"] = data["pair"].first  # torch sends only what lies together
    last = accelerator.num_processes - 1
    return described(utils(library).broadcast(data, from_process=last))


def padded(library: Library) -> Any:
    """Tensors that are longer on later ranks."""
    accelerator = library.Accelerator()
    rank = accelerator.process_index
    data = {
        "rows": numbers(rank, (1 + rank, 2), torch.float32),
        "pair": Pair(numbers(rank, (2 * rank,), torch.int32), numbers(rank, (), torch.int64)),
    }
    kinds: list[dict[str, Any]] = [{}, {"pad_first": True, "pad_index": 1}, {"dim": -1}, {"dim": 1}]
    return [described(accelerator.pad_across_processes(data, **kind)) for kind in kinds]


def padded_truth(library: Library) -> Any:
    """Booleans that are longer on later ranks."""
    accelerator = library.Accelerator()
    data = numbers(accelerator.process_index, (1 + accelerator.process_index,), torch.bool)
    return described(accelerator.pad_across_processes(data))


def objects(library: Library) -> Any:
    """Objects of any kind; and what is no tensor where tensors must be."""
    accelerator = library.Accelerator()
    rank, home = accelerator.process_index, utils(library)
    found = [home.gather_object([{"rank": rank}, "x"] * (rank + 1))]
    found += [home.broadcast_object_list([rank, {"rank": rank}], from_process=1)]
    for operation in (accelerator.gather, accelerator.reduce, accelerator.pad_across_processes):
        try:
            operation({"a": "text"})
        except TypeError:
            found.append("TypeError")
    return found


def diverged(library: Library) -> Any:
    """What is said in debug mode of a rank that was seeded otherwise, and of torch in step."""
    accelerator = library.Accelerator(rng_types=["generator", "torch"])
    accelerator.state._partial.debug = True
    importlib.import_module("runtime.world.warn").warn_once.cache_clear()
    torch.manual_seed(7 if accelerator.process_index == 1 else 3)
    loader = accelerator.prepare(DataLoader(TensorDataset(torch.arange(8)), shuffle=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            list(loader)
    accelerator.state._partial.debug = False
    return [str(one.message) for one in caught]


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "operations: gather": (gathered, {}),
    "operations: gather one tensor": (alone, {}),
    "operations: reduce": (reduced, {}),
    "operations: broadcast": (sent, {}),
    "operations: pad_across_processes": (padded, {}),
    "operations: pad what is true or false": (padded_truth, {}),
    "operations: ranks seeded otherwise": (diverged, {}),
    "operations: objects": (objects, {}),
}
