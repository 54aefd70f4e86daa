"""A world whose ranks send structures that differ; each rank prints what it has found."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runtime import Accelerator
from runtime.errors import DistributedOperationException
from runtime.local_sgd import LocalSGD
from runtime.utils import broadcast

Act = Callable[[Accelerator, bool], Any]  # the bool: this rank is the one that differs


def keys(is_odd: bool) -> dict[str, torch.Tensor]:
    pair = {"a": torch.zeros(1), "b": torch.ones(1)}
    return dict(reversed(pair.items())) if is_odd else pair


def local_sgd(accelerator: Accelerator, is_odd: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=is_odd))
    with LocalSGD(accelerator, model, local_sgd_steps=1) as local:
        local.step()


DIFFERENT: dict[str, tuple[Act, str, str]] = {  # what is done; what the others and rank 1 have
    "gather: a shape": (
        lambda a, odd: a.gather(torch.ones(2 + odd)),
        "the tensor: float32 (2,)",
        "the tensor: float32 (3,)",
    ),
    "gather: shapes of as many bytes": (
        lambda a, odd: a.gather([torch.ones(2 + odd), torch.ones(3 - odd)]),
        "[0]: float32 (2,); [1]: float32 (3,)",
        "[0]: float32 (3,); [1]: float32 (2,)",
    ),
    "gather: a dtype": (
        lambda a, odd: a.gather((torch.ones(2, dtype=torch.int32 if odd else torch.float32),)),
        "[0]: float32 (2,)",
        "[0]: int32 (2,)",
    ),
    "gather: the order of keys": (
        lambda a, odd: a.gather(keys(odd)),
        "['a']: float32 (1,); ['b']: float32 (1,)",
        "['b']: float32 (1,); ['a']: float32 (1,)",
    ),
    "gather_for_metrics: a tensor more": (
        lambda a, odd: a.gather_for_metrics({"x": [torch.ones(1)] * (1 + odd)}),
        "1 tensor; ",
        "2 tensors; ['x'][1]: float32 (1,)",
    ),
    "reduce: a shape": (
        lambda a, odd: a.reduce(torch.ones(2 + odd)),
        "the tensor: float32 (2,)",
        "the tensor: float32 (3,)",
    ),
    "reduce: shapes of as many items": (
        lambda a, odd: a.reduce({"x": [torch.ones(2 + odd), torch.ones(3 - odd)]}, "mean"),
        "['x'][0]: float32 (2,)",
        "['x'][0]: float32 (3,)",
    ),
    "reduce: in bfloat16, largest": (
        lambda a, odd: a.reduce([torch.ones(2 + odd, dtype=torch.bfloat16)], "max"),
        "[0]: bfloat16 (2,)",
        "[0]: bfloat16 (3,)",
    ),
    "reduce: another reduction": (
        lambda a, odd: a.reduce(torch.ones(2), "mean" if odd else "sum"),
        "reduce (sum)",
        "reduce (mean)",
    ),
    "pad_across_processes: a dimension more": (
        lambda a, odd: a.pad_across_processes([torch.ones([1] * (1 + odd))]),
        "[0]: 1 dimensions",
        "[0]: 2 dimensions",
    ),
    "LocalSGD: a parameter more": (
        local_sgd,
        "1 tensor; ",
        "2 tensors; [1]: float32 (1,)",
    ),
    "broadcast: a shape": (
        lambda _, odd: broadcast([torch.ones(2 + odd)]),
        "[0]: float32 (2,)",
        "[0]: float32 (3,)",
    ),
}


class Key:
    """Its repr() is another one in each process."""


def alike(accelerator: Accelerator) -> list[Any]:
    """Structures that are the same, and that no message could be made of as they are."""
    rank = float(accelerator.process_index)
    turned = torch.complex(torch.tensor([rank]), torch.tensor([1.0])).conj()
    minus = torch.tensor([1.0j]).conj().imag  # a lazy negative
    gathered = accelerator.gather([turned, minus])
    keys = {Key(): torch.tensor(rank), frozenset({"some", "other", "names"}): torch.tensor(rank)}
    (first, second) = accelerator.gather(keys).values()
    row = torch.full((1, 2), rank).expand(3, 2)
    (spread,) = broadcast([row], from_process=1)
    return [
        torch.view_as_real(gathered[0].resolve_conj()).tolist(),
        gathered[1].tolist(),
        torch.view_as_real(accelerator.gather(turned)).tolist(),
        spread.tolist(),
        row.tolist(),
        [first.tolist(), second.tolist()],
    ]


def main() -> None:
    accelerator = Accelerator()
    found: dict[str, Any] = {}
    if accelerator.process_index == 1:  # a batch more than others: it counts one collective more
        accelerator.backward(torch.ones(1, requires_grad=True).sum())
    for name, (act, _, _) in DIFFERENT.items():
        try:
            act(accelerator, accelerator.process_index == 1)
            found[name] = None
        except DistributedOperationException as error:
            found[name] = str(error)
        accelerator.wait_for_everyone()
    found["alike"] = alike(accelerator)
    accelerator.wait_for_everyone()
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()
    accelerator.state.destroy_process_group()


if __name__ == "__main__":
    main()
    os._exit(0)
