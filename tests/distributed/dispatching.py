"""Programs in which rank 0 reads for all; see `programs` for how they run."""

import importlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    get_worker_info,
)

from tests.samplers import OwnKind

BATCH = 4
RESUMED_N = 47  # of which no world's last step is whole, nor even


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


class Seeking(Elements):
    """Begins anywhere."""

    def __iter__(self) -> Iterator[Any]:
        return self.iter_from(0)

    def iter_from(self, start: int) -> Iterator[Any]:
        return iter(range(start, self.n))


class Stateful(Elements):
    """Knows where it is, and goes on there; at its end it is at its beginning again."""

    at = 0

    def __iter__(self) -> Iterator[Any]:
        while self.at < self.n:
            self.at += 1
            yield self.at - 1
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class AmongWorkers(Elements):
    """Each worker reads every other element."""

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        return iter(range(self.n) if info is None else range(info.id, self.n, info.num_workers))


class Listed(Dataset[int]):
    """0 to n-1, by index."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


class Drawing(Listed):
    """Draws a random number for each."""

    def __getitem__(self, index: int) -> int:
        torch.rand(())
        return index


def _backwards(n: int) -> list[int]:
    return [*range(n)][::-1]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(9)


# What is resumed: a dataset of n elements, how a loader is told its order, and what else it takes.
RESUMED: dict[str, Any] = {
    "in order": (Listed, lambda _: {}, {}),
    "drawing": (Drawing, lambda _: {}, {}),
    "shuffled": (Listed, lambda _: {"shuffle": True}, {}),
    "own generator": (Listed, lambda _: {"shuffle": True, "generator": seeded()}, {}),
    "own sampler": (Listed, lambda d: {"sampler": RandomSampler(d, generator=seeded())}, {}),
    "seedable": (Listed, lambda _: {"shuffle": True}, {"use_seedable_sampler": True}),
    "keyed": (Listed, lambda _: {"shuffle": True}, {"shuffle": "keyed", "data_seed": 3}),
    "any sampler": (Listed, lambda d: {"sampler": _backwards(len(d))}, {}),
    "any batch sampler": (Listed, OwnKind, {}),
    "stream": (Elements, lambda _: {}, {}),
    "stream that begins anywhere": (Seeking, lambda _: {}, {}),
    "stream with a state": (Stateful, lambda _: {}, {}),
    "stream, workers": (Elements, lambda _: {"num_workers": 2}, {}),
    "stream among workers": (AmongWorkers, lambda _: {"num_workers": 2}, {}),
}
RESUMED_IN = (2, 3)  # worlds
ENDS = list(product((False, True), (False, True)))  # split_batches, drop_last


def _reader(library: Any, kind: str, split: bool, drop_last: bool) -> Any:
    home = importlib.import_module(f"{library.__name__}.data_loader")
    torch.manual_seed(5)
    dataset, ordered, options = RESUMED[kind]
    data, batch = dataset(RESUMED_N), 12 if split else BATCH
    if ordered is OwnKind:
        own: dict[str, Any] = {"batch_sampler": OwnKind(_backwards(len(data)), batch, drop_last)}
    else:
        own = {"batch_size": batch, "drop_last": drop_last} | ordered(data)
    plain: DataLoader[Any] = DataLoader(data, **own)
    common = {"split_batches": split, "put_on_device": True, "dispatch_batches": True}
    return home.prepare_data_loader(plain, torch.device("cpu"), **common, **options)


def resumed(library: Any, *, kind: str) -> Any:
    """Two epochs; then each of their steps but the last is where another loader begins.

    Of each kind of end: the second epoch, and whether all others have given what they should.
    """
    made(library, split=False)
    home = importlib.import_module(f"{library.__name__}.data_loader")
    dataset, *_ = RESUMED[kind]
    found = []
    for split, drop_last in ENDS:
        one = _reader(library, kind, split, drop_last)
        epochs = [
            [(b.tolist(), one.state_dict(), torch.get_rng_state()) for b in one] for _ in range(3)
        ]
        agree = []
        for epoch, at in product(range(2), range(len(epochs[0]) - 1)):
            if "workers" in kind and (split or epoch or at != len(epochs[0]) - 2):
                continue  # each of them forks
            again = _reader(library, kind, split, drop_last)
            again.load_state_dict(epochs[epoch][at][1])
            torch.set_rng_state(epochs[epoch][at][2])
            wanted = [batch for batch, *_ in epochs[epoch][at + 1 :] + epochs[epoch + 1]]
            agree.append([batch.tolist() for _ in range(2) for batch in again] == wanted)
            if not epoch and dataset not in (Stateful, AmongWorkers):
                again = home.skip_first_batches(_reader(library, kind, split, drop_last), at + 1)
                agree.append([b.tolist() for b in again] == wanted[: len(epochs[0]) - at - 1])
        found.append({"epoch": [batch for batch, *_ in epochs[1]], "agree": agree})
    return found


def drawn_again(library: Any) -> Any:
    """How many random numbers a pass draws that goes on behind the first step."""
    made(library, split=False)
    one = _reader(library, "drawing", split=False, drop_last=False)
    states = [one.state_dict() for _ in one]
    one.load_state_dict(states[0])
    torch.manual_seed(8)
    list(one)
    after, numbers = torch.rand(()), torch.rand(RESUMED_N, generator=torch.manual_seed(8))
    return numbers.tolist().index(after.item())


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
    "dispatched: drawn again": (drawn_again, {}),
    **{f"dispatched: resumed, {kind}": (resumed, {"kind": kind}) for kind in RESUMED},
}
