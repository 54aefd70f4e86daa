"""Programs in which rank 0 reads for all; see `programs` for how they run."""

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

BATCH = 4


class Elements(IterableDataset[Any]):
    """0 to n-1 as something; raises an error instead of one of them."""

    def __init__(self, n: int, form: str = "number", bad: int = -1) -> None:
        self.n, self.form, self.bad = n, form, bad

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.n):
            if i == self.bad:
                sentence = f"element {i} cannot be read"
                raise LookupError(sentence)
            yield FORMS[self.form](i)


# The form of an element, from its number; what is not a tensor is collated by `as_it_is`.
FORMS: dict[str, Any] = {
    "number": lambda i: i,
    "nested": lambda i: {
        "x": torch.tensor([i, -i]),
        "y": (torch.tensor(i), [torch.tensor(2.0 * i)]),
    },
    "named": lambda i: {"x": torch.tensor(i), "name": f"s{i}", "none": None},
    "any size": lambda i: torch.full((1 + i // BATCH, 2), i),
    "batch": lambda i: torch.full((1 + i % 3,), i),
    "half": lambda i: torch.tensor([i, 0.5], dtype=torch.bfloat16),
}
UNEVEN = {"any size", "batch"}  # ranks have tensors of different sizes, which are not gathered


def as_it_is(elements: list[Any]) -> dict[str, list[Any]]:
    """A batch of anything."""
    return {name: [one[name] for one in elements] for name in elements[0]}


def loader(form: str, n: int, accelerator: Any, **options: Any) -> Any:
    """A prepared loader whose elements have a form."""
    plain: DataLoader[Any] = DataLoader(
        Elements(n, form, options.pop("bad", -1)),
        batch_size=None if form == "batch" else options.pop("batch", BATCH),
        collate_fn=as_it_is if form == "named" else None,
        **options,
    )
    return accelerator.prepare(plain)


def dispatched(
    library: Any, *, form: str = "number", n: int = 22, split: bool = False, **options: Any
) -> Any:
    """What this rank is given, and what metrics count."""
    accelerator = made(library, split)
    found = []
    reader = loader(form, n, accelerator, **options)
    for _ in range(2):
        batches, counted = [], []
        for batch in reader:
            batches.append(batch)
            if form not in UNEVEN:
                counted.append(accelerator.gather_for_metrics(batch))
        found.append({"own": batches, "counted": counted, "remainder": reader.remainder})
    return found


def made(library: Any, split: bool) -> Any:
    home = importlib.import_module(f"{library.__name__}.utils")
    config = home.DataLoaderConfiguration(split_batches=split)
    return library.Accelerator(dataloader_config=config)


def failing(library: Any, *, bad: int) -> Any:
    """Rank 0's dataset fails: all hear of it, and can go on together."""
    accelerator = made(library, split=False)
    reader = loader("number", 22, accelerator, bad=bad)
    batches: list[Any] = []
    try:
        for batch in reader:
            batches.append(batch.tolist())  # noqa: PERF401  # what came before the error counts
    except (LookupError, RuntimeError) as error:
        batches.append(f"{type(error).__name__}: {error}".splitlines()[0])
    together = accelerator.gather(torch.tensor([accelerator.process_index]))
    return {"batches": batches, "together": together}


def every_other(
    data: Any, part: Any, process_index: int | None = None, num_processes: int | None = None
) -> Any:
    """A slice_fn of the script's: rank i of n has the samples i, i+n, ..."""
    return data[process_index::num_processes], part.stop - part.start


def by_own_rule(library: Any) -> Any:
    """A batch is divided by the script's slice_fn."""
    accelerator = made(library, split=True)
    plain: DataLoader[Any] = DataLoader(Elements(24), batch_size=12)
    reader = accelerator.prepare_data_loader(plain, slice_fn_for_dispatch=every_other)
    return list(reader)


def left_and_resumed(library: Any) -> Any:
    """Left after the second step, gone through; then begun again behind the first step."""
    accelerator = made(library, split=False)
    reader = loader("number", 40, accelerator)
    states = []
    for _ in reader:
        states.append(reader.state_dict())
        if len(states) == 2:
            break
    whole = [batch.tolist() for batch in reader]
    reader.load_state_dict(states[0])
    return {"whole": whole, "rest": [batch.tolist() for batch in reader]}


DISPATCHED: dict[str, Any] = {
    "dispatched: nested": (dispatched, {"form": "nested"}),
    "dispatched: named": (dispatched, {"form": "named"}),
    "dispatched: any size": (dispatched, {"form": "any size", "batch": 1}),
    "dispatched: elements are batches": (dispatched, {"form": "batch"}),
    "dispatched: half": (dispatched, {"form": "half"}),
    "dispatched: split": (dispatched, {"form": "nested", "batch": 12, "split": True}),
    "dispatched: split, drop_last": (
        dispatched,
        {"batch": 12, "split": True, "drop_last": True},
    ),
    "dispatched: none": (dispatched, {"n": 0}),
    "dispatched: one": (dispatched, {"n": 1}),
    "dispatched: fails at once": (failing, {"bad": 0}),
    "dispatched: fails later": (failing, {"bad": 19}),
    "dispatched: by own rule": (by_own_rule, {}),
    "dispatched: left and resumed": (left_and_resumed, {}),
}
