"""Training scripts that use `accelerator.epochs`, one of each kind; a test may end a life anywhere.

A script notes what it has computed. If the life ends behind a note, nothing of the script runs any
more, as after a kill; the checkpoint that is being written is completed.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from runtime import Accelerator
from runtime.config.plugins import DataLoaderConfiguration, ProjectConfiguration
from runtime.errors import CheckpointError
from runtime.utils import set_seed
from tests.states import fresh

Event = tuple[Any, ...]
N, BATCH = 22, 4  # six batches an epoch; the last has two samples


class Killed(BaseException):
    """Ends a life; no script expects it."""


@dataclass
class Life:
    """One start of a script.

    Attributes:
        ends_at: the number of notes after which the life ends; None: never.
        notes: what was noted, in order.
        accelerators: the Accelerators of this life.
    """

    ends_at: int | None = None
    notes: list[Event] = field(default_factory=list)
    accelerators: list[Accelerator] = field(default_factory=list)

    def accelerator(self, **options: Any) -> Accelerator:
        """Begin a script."""
        set_seed(3)
        project = ProjectConfiguration(durable=False)  # no power fails in a test
        self.accelerators.append(Accelerator(cpu=True, project_config=project, **options))
        return self.accelerators[-1]

    def note(self, kind: str, *values: Any) -> None:
        """Note something; the life may end here."""
        self.notes.append((kind, *values))
        if len(self.notes) == self.ends_at:
            raise Killed

    def step(self, accelerator: Accelerator, loss: torch.Tensor, *samples: torch.Tensor) -> None:
        """Note a step: the loss, the samples, and a random number."""
        rows = [one.flatten().tolist() for one in samples]
        self.note("step", accelerator.completed_steps, loss.item(), rows, torch.rand(()).item())

    def end_of_write(self) -> None:
        """Wait until the checkpoint that is being written is complete, or has failed."""
        for accelerator in self.accelerators:
            futures = accelerator._checkpointer._writer._under_way
            if futures is not None:
                futures[1].exception()

    def end(self) -> None:
        """Complete what a real process would do behind the script."""
        for accelerator in self.accelerators:
            with contextlib.suppress(CheckpointError):  # the interpreter prints it at its exit
                accelerator._checkpointer._writer.wait()
            if (checkpoints := accelerator._loop._checkpoints) is not None:
                with contextlib.suppress(CheckpointError):
                    checkpoints._upload.wait()
            if (signals := accelerator._loop._shutdown._signals) is not None:
                signals.close()
        fresh()


Script = Callable[[Life], None]


def lived(script: Script, ends_at: int | None = None) -> list[Event]:
    """Run one life of a script; return its notes."""
    life = Life(ends_at)
    try:
        script(life)
    except Killed:
        pass
    finally:
        life.end()
    return life.notes


def steps(notes: list[Event]) -> list[int]:
    """Return the numbers of the noted steps."""
    return [one[1] for one in notes if one[0] == "step"]


# ---- Data and models


class Rows(Dataset[Any]):
    """A feature that is the index, and a target."""

    def __init__(self, n: int = N) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        return torch.full((1,), index / self.n), torch.full((1,), index % 3 / 3)


class Augmented(Rows):
    """The same with a random number of each generator in it."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + torch.rand(()) / 8, y


class Stream(IterableDataset[Any]):
    """The same, which can only be gone through."""

    def __iter__(self) -> Iterator[Any]:
        return (Rows()[index] for index in range(N))


class Known(Stream):
    """The same, which knows its place."""

    def __init__(self) -> None:
        self.at = self.begin = 0

    def __iter__(self) -> Iterator[Any]:
        begin, self.begin = self.begin, 0
        for index in range(begin, N):
            self.at = index + 1
            yield Rows()[index]

    def state_dict(self) -> dict[str, Any]:
        """The place."""
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin there."""
        self.begin = state["at"]


def net() -> Any:
    """A model with dropout and a buffer that changes in training."""
    return nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 1))


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer with a state."""
    return torch.optim.AdamW(model.parameters(), lr=0.05)


def mse(model: nn.Module, batch: Any) -> torch.Tensor:
    """The loss of a batch."""
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def shuffled(data: Any = None, **options: Any) -> Any:
    """A shuffled loader."""
    return DataLoader(data or Rows(), batch_size=BATCH, shuffle=True, **options)


def held_out(n: int = 9, **options: Any) -> Any:
    """A loader for evaluation."""
    return DataLoader(Rows(n), batch_size=BATCH, **options)


def evaluate(life: Life, model: nn.Module, loader: Any) -> None:
    """Note the losses of an evaluation."""
    model.eval()
    with torch.no_grad():
        life.note("evaluation", *[mse(model, batch).item() for batch in loader])
    model.train()


def weights(life: Life, *models: nn.Module) -> None:
    """Note all weights."""
    flat = [one.flatten().tolist() for model in models for one in model.state_dict().values()]
    life.note("weights", flat, torch.rand(()).item())


# ---- Scripts


def plain(life: Life, loader: Any = None, **options: Any) -> None:
    """Train, step the scheduler for each batch, evaluate."""
    accelerator = life.accelerator(**options)
    model = net()
    optimizer = adam(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    model, optimizer, scheduler, loader, other = accelerator.prepare(
        model, optimizer, scheduler, shuffled() if loader is None else loader, held_out()
    )
    for _ in accelerator.epochs(3):
        for batch in loader:
            loss = mse(model, batch)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            life.step(accelerator, loss, batch[0])
        evaluate(life, model, other)
    weights(life, model)


def by_loader(make: Callable[[], Any], **options: Any) -> Script:
    """The same with another loader, or another Accelerator."""
    return lambda life: plain(life, make(), **options)


def accumulated(life: Life) -> None:
    """The library accumulates over three batches; two epochs of six batches."""
    accelerator = life.accelerator(gradient_accumulation_steps=3)
    model = net()
    optimizer = adam(model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    model, optimizer, scheduler, loader = accelerator.prepare(
        model, optimizer, scheduler, shuffled(Rows(30))
    )
    for _ in accelerator.epochs(2):
        for batch in loader:
            with accelerator.accumulate(model):
                loss = mse(model, batch)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            life.note("batch", loss.item())
            if accelerator.sync_gradients:
                life.step(accelerator, loss, batch[0])
    weights(life, model)


def accumulated_by_hand(life: Life) -> None:
    """The script itself steps after each third batch, and counts on in a resumed pass."""
    accelerator = life.accelerator()
    model = net()
    optimizer = adam(model)
    model, optimizer, loader = accelerator.prepare(model, optimizer, shuffled(Rows(30)))
    for _ in accelerator.epochs(2):
        for i, batch in enumerate(loader, loader.first_batch):
            loss = mse(model, batch) / 3
            accelerator.backward(loss)
            if i % 3 == 0:
                optimizer.step()
                optimizer.zero_grad()
                life.step(accelerator, loss, batch[0])
        life.note("epoch")
    weights(life, model)


def unseen_steps(life: Life) -> None:
    """The optimizer's own step is called, as in a CUDA graph, and the step is told."""
    accelerator = life.accelerator()
    model = net()
    own = adam(model)
    model, _, loader, other = accelerator.prepare(model, own, shuffled(), held_out())
    for _ in accelerator.epochs(2):
        for batch in loader:
            loss = mse(model, batch)
            accelerator.backward(loss)
            own.step()
            accelerator.step_done()
            own.zero_grad(set_to_none=False)
            life.step(accelerator, loss, batch[0])
        evaluate(life, model, other)
    weights(life, model)


def gan(life: Life) -> None:
    """Two optimizers, each with a model; the generator's backward fills the other's gradients."""
    accelerator = life.accelerator()
    made, judge = net(), net()
    first, second = adam(made), adam(judge)
    made, judge, first, second, loader = accelerator.prepare(made, judge, first, second, shuffled())
    for _ in accelerator.epochs(2):
        for x, y in loader:
            second.zero_grad()
            truth = (judge(x) - 1).square().mean() + judge(made(y).detach()).square().mean()
            accelerator.backward(truth)
            second.step()
            first.zero_grad()
            lie = (judge(made(y)) - 1).square().mean()
            accelerator.backward(lie)
            first.step()
            life.step(accelerator, lie, x)
    weights(life, made, judge)


def two_rhythms(life: Life) -> None:
    """A second optimizer accumulates over two batches."""
    accelerator = life.accelerator()
    body, head = nn.Linear(1, 3), nn.Linear(3, 1)
    first, second = adam(body), adam(head)
    body, head, first, second, loader = accelerator.prepare(
        body, head, first, second, shuffled(Rows(32))
    )
    for _ in accelerator.epochs(2):
        for i, (x, y) in enumerate(loader, loader.first_batch):
            loss = nn.functional.mse_loss(head(body(x)), y)
            accelerator.backward(loss)
            first.step()
            first.zero_grad()
            if i % 2:
                second.step()
                second.zero_grad()
            life.step(accelerator, loss, x)
    weights(life, body, head)


def scaled(life: Life) -> None:
    """A gradient scaler; one step of each epoch overflows and is skipped."""
    accelerator = life.accelerator()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    model, loader = net(), shuffled()
    model, optimizer, loader = accelerator.prepare(model, adam(model), loader)
    for _ in accelerator.epochs(2):
        for i, batch in enumerate(loader, loader.first_batch):
            loss = mse(model, batch)
            accelerator.backward(loss * (torch.inf if i == 2 else 1))
            optimizer.step()
            optimizer.zero_grad()
            life.note("scale", accelerator.scaler.get_scale())
            life.step(accelerator, loss, batch[0])
    weights(life, model)


def one_pass(
    life: Life,
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    batches: Any,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Train on all batches."""
    for batch in batches:
        optimizer.zero_grad()
        loss = mse(model, batch)
        accelerator.backward(loss)
        optimizer.step()
        after()
        life.step(accelerator, loss, batch[0])


def two_passes(life: Life) -> None:
    """An epoch trains on one loader, evaluates, and trains on another one."""
    accelerator = life.accelerator()
    model, optimizer, a, b, other = accelerator.prepare(
        *_trained(), shuffled(), shuffled(Rows(10)), held_out(shuffle=True)
    )
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, a)
        evaluate(life, model, other)
        one_pass(life, accelerator, model, optimizer, b)
    weights(life, model)


def _trained() -> tuple[Any, torch.optim.Optimizer]:
    model = net()
    return model, adam(model)


def evaluated_before(life: Life) -> None:
    """An epoch begins with an evaluation of random order, and steps its scheduler once."""
    accelerator = life.accelerator()
    model, optimizer = _trained()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
    model, optimizer, scheduler, loader, other = accelerator.prepare(
        model, optimizer, scheduler, shuffled(), held_out(shuffle=True)
    )
    for _ in accelerator.epochs(3):
        evaluate(life, model, other)
        one_pass(life, accelerator, model, optimizer, loader)
        scheduler.step()
    weights(life, model)


def scheduled_before(life: Life) -> None:
    """An epoch begins with what changes states: the scheduler, weights, random numbers."""
    accelerator = life.accelerator()
    model, optimizer = _trained()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
    model, optimizer, scheduler, loader = accelerator.prepare(
        model, optimizer, scheduler, shuffled()
    )
    for epoch in accelerator.epochs(3):
        if epoch:
            scheduler.step()
        with torch.no_grad():
            model[0].weight.mul_(1 + torch.rand(()))
        one_pass(life, accelerator, model, optimizer, loader)
    weights(life, model)


def evaluated_on_training_data(life: Life) -> None:
    """An epoch begins with an evaluation on the training loader."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    for _ in accelerator.epochs(2):
        evaluate(life, model, loader)
        one_pass(life, accelerator, model, optimizer, loader)
    weights(life, model)


def evaluated_within(life: Life) -> None:
    """An evaluation after each second batch, of which only two batches are used."""
    accelerator = life.accelerator()
    model, optimizer, loader, other = accelerator.prepare(
        *_trained(), shuffled(), held_out(shuffle=True)
    )
    for _ in accelerator.epochs(2):
        for batch in loader:
            one_pass(life, accelerator, model, optimizer, [batch])
            if accelerator.completed_steps % 2 == 0:
                evaluate(life, model, _first_two(other))
    weights(life, model)


def _first_two(loader: Any) -> Iterator[Any]:
    for i, batch in enumerate(loader):
        yield batch
        if i == 1:
            break


def both(one: Any, two: Any) -> Any:
    """A batch of two others."""
    return [one[0] + two[0][: len(one[0])], one[1]]


def zipped(life: Life) -> None:
    """Two loaders of different lengths at once."""
    accelerator = life.accelerator()
    model, optimizer, b, a = accelerator.prepare(*_trained(), shuffled(Rows(40)), shuffled())
    for _ in accelerator.epochs(2):
        for one, two in zip(a, b, strict=False):
            one_pass(life, accelerator, model, optimizer, [both(one, two)])
    weights(life, model)


def carried(life: Life) -> None:
    """An iterator that lives over the epochs, and begins again when it is exhausted."""
    accelerator = life.accelerator()
    model, optimizer, b, a = accelerator.prepare(*_trained(), shuffled(Rows(32)), shuffled())
    endless = _endless(b)
    for _ in accelerator.epochs(3):
        for one in a:
            two = next(endless)
            one_pass(life, accelerator, model, optimizer, [both(one, two)])
    weights(life, model)


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def by_hand(life: Life) -> None:
    """An epoch is four calls of next on an endless iterator."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    endless = _endless(loader)
    for epoch in accelerator.epochs(4):
        while accelerator.completed_steps < 4 * (epoch + 1):
            one_pass(life, accelerator, model, optimizer, [next(endless)])
        life.note("epoch", epoch)
    weights(life, model)


def listed(life: Life) -> None:
    """All batches are read before the first step."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    for _ in accelerator.epochs(3):
        one_pass(life, accelerator, model, optimizer, list(loader))
    weights(life, model)


def broken(life: Life) -> None:
    """A pass ends by a condition; the loader is left, also for a look at its first batch."""
    accelerator = life.accelerator()
    model, optimizer, loader, other = accelerator.prepare(
        *_trained(), shuffled(), held_out(shuffle=True)
    )
    for epoch in accelerator.epochs(3):
        life.note("look", next(iter(other))[0].tolist())
        for batch in loader:
            one_pass(life, accelerator, model, optimizer, [batch])
            if accelerator.completed_steps == 4 * (epoch + 1):
                break
        evaluate(life, model, _first_two(other))
    weights(life, model)


def pair(index: int) -> Any:
    """A batch of the same row twice."""
    x, y = Rows()[index]
    return [x.repeat(2, 1), y.repeat(2, 1)]


def without_loader(life: Life) -> None:
    """Data that no loader gives."""
    accelerator = life.accelerator()
    model, optimizer = accelerator.prepare(*_trained())
    for _ in accelerator.epochs(3):
        one_pass(life, accelerator, model, optimizer, [pair(i) for i in range(5)])
    weights(life, model)


def loose_steps(life: Life) -> None:
    """Steps outside of loaders before and after a pass."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    for _ in accelerator.epochs(3):
        one_pass(life, accelerator, model, optimizer, [pair(5)])
        one_pass(life, accelerator, model, optimizer, loader)
        one_pass(life, accelerator, model, optimizer, [pair(5)])
    weights(life, model)


def skipping(life: Life) -> None:
    """The first two batches of each epoch are skipped."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    for _ in accelerator.epochs(3):
        rest = accelerator.skip_first_batches(loader, 2)
        one_pass(life, accelerator, model, optimizer, rest)
    weights(life, model)


def prefetched(life: Life) -> None:
    """The script holds two batches that it has not trained on yet."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled(Rows(30)))
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, _ahead(loader, 2))
    weights(life, model)


def _ahead(loader: Any, depth: int) -> Iterator[Any]:
    held: list[Any] = []
    for batch in loader:
        held.append(batch)
        if len(held) > depth:
            yield held.pop(0)
    yield from held


def left_out(life: Life) -> None:
    """The first batch of each epoch is left out."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    for _ in accelerator.epochs(2):
        for i, batch in enumerate(loader, loader.first_batch):
            if i == 0:
                continue
            one_pass(life, accelerator, model, optimizer, [batch])
    weights(life, model)


class Average:
    """Averages weights; registered."""

    def __init__(self) -> None:
        self.value = torch.zeros(())
        self.count = 0

    def update(self, model: nn.Module) -> float:
        """Add the weights of a model."""
        with torch.no_grad():
            total = torch.stack([one.sum() for one in model.parameters()]).sum()
            self.value.lerp_(total, 0.1)
        self.count += 1
        return self.value.item()

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {"value": self.value, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it over."""
        self.value.copy_(state["value"])
        self.count = state["count"]


def registered(life: Life) -> None:
    """An object of the script's own."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    average = Average()
    accelerator.register_for_checkpointing(average)
    for _ in accelerator.epochs(2):
        average.count += 100
        for batch in loader:
            one_pass(life, accelerator, model, optimizer, [batch])
            life.note("average", average.update(model), average.count)
    weights(life, model)


def phases(life: Life) -> None:
    """Two calls of epochs; the code between them uses and changes the weights."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, loader)
    life.note("teacher", *[one.sum().item() for one in model.state_dict().values()])
    with torch.no_grad():
        model[3].weight.normal_()
    other, second = accelerator.prepare(*_trained())
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, other, second, loader)
        evaluate(life, model, loader)
    weights(life, model, other)


def grown(life: Life) -> None:
    """A second model is prepared when the first epoch begins."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*_trained(), shuffled())
    other: Any = None
    second: Any = None
    for _ in accelerator.epochs(2):
        if other is None:
            other, second = accelerator.prepare(*_trained())
        for batch in loader:
            one_pass(life, accelerator, model, optimizer, [batch])
            one_pass(life, accelerator, other, second, [batch])
    weights(life, model, other)


def random_in_samples(life: Life) -> None:
    """Samples draw random numbers where they are read."""
    plain(life, shuffled(Augmented()))


def tensors() -> Any:
    """A loader that reads whole batches."""
    rows = [Rows()[i] for i in range(N)]
    data = TensorDataset(*[torch.stack([row[i] for row in rows]) for i in range(2)])
    return shuffled(data)


def sampled() -> Any:
    """A loader without a batch size, whose sampler gives batches."""
    sampler = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(Rows()), BATCH, False)
    data = Batches()
    return DataLoader(data, sampler=sampler, batch_size=None)


class Batches(Rows):
    """The rows of a list of indices."""

    def __getitem__(self, index: Any) -> Any:
        rows = [super(Batches, self).__getitem__(i) for i in index]
        return tuple(torch.stack([row[i] for row in rows]) for i in range(2))


DISPATCHED = {"dataloader_config": DataLoaderConfiguration(dispatch_batches=True)}
LASTING = {"num_workers": 2, "persistent_workers": True}
EACH_STEP: dict[str, tuple[Script, int]] = {  # the most steps that a kill may cost
    "shuffle, dropout and a scheduler": (plain, 2),
    "whole batches of tensors": (by_loader(tensors), 2),
    "its own generator": (
        by_loader(lambda: shuffled(generator=torch.Generator().manual_seed(7))),
        2,
    ),
    "batch_size None": (by_loader(sampled), 2),
    "a dispatcher": (by_loader(shuffled, **DISPATCHED), 2),
    "an order by the seed": (
        by_loader(shuffled, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True)),
        2,
    ),
    "a stream": (by_loader(lambda: DataLoader(Stream(), batch_size=BATCH)), 2),
    "a stream with a state": (by_loader(lambda: DataLoader(Known(), batch_size=BATCH)), 2),
    "a dispatched stream": (
        by_loader(lambda: DataLoader(Known(), batch_size=BATCH), **DISPATCHED),
        2,
    ),
    "accumulation by the library": (accumulated, 2),
    "accumulation by the script": (accumulated_by_hand, 2),
    "steps that the library does not see": (unseen_steps, 2),
    "a GAN": (gan, 2),
    "two optimizers that step at different batches": (two_rhythms, 3),
    "a gradient scaler with skipped steps": (scaled, 2),
    "two training passes in an epoch": (two_passes, 2),
    "evaluation before training": (evaluated_before, 2),
    "states that change before training": (scheduled_before, 2),
    "evaluation on the training loader": (evaluated_on_training_data, 2),
    "evaluation within training": (evaluated_within, 2),
    "zip": (zipped, 2),
    "an iterator that lives over epochs": (carried, 2),
    "next by hand": (by_hand, 2),
    "a list of a loader": (listed, 6),
    "a pass that is left": (broken, 2),
    "steps without a loader": (without_loader, 5),
    "steps outside of loaders": (loose_steps, 8),
    "skip_first_batches": (skipping, 2),
    "a prefetcher": (prefetched, 4),
    "a first batch that is left out": (left_out, 2),
    "a registered object": (registered, 2),
    "two calls of epochs": (phases, 2),
    "objects prepared within an epoch": (grown, 2),
    "random numbers drawn in samples": (random_in_samples, 2),
}
WITH_WORKERS: dict[str, tuple[Script, int]] = {
    "workers": (by_loader(lambda: shuffled(num_workers=2)), 2),
    "persistent workers": (by_loader(lambda: shuffled(**LASTING)), 2),
    "a stream and workers": (
        by_loader(lambda: DataLoader(Known(), batch_size=BATCH, num_workers=2)),
        2,
    ),
}
