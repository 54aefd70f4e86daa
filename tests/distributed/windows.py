"""Programs of `programs.py` about accumulation: windows that end early, several models, streams."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

Library = Any


def points(n: int) -> TensorDataset:
    """A small regression."""
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(7))
    return TensorDataset(x, x.sin().sum(dim=1, keepdim=True))


class Stream(IterableDataset[Any]):
    """The same, one after the other; how many is not known before."""

    def __init__(self, n: int) -> None:
        self.points = points(n)

    def __iter__(self) -> Iterator[Any]:
        return (self.points[index] for index in range(len(self.points)))


def accelerator_of(
    library: Library, accumulate: int, *, even: bool = True, split: bool = False, **plugin: Any
) -> Any:
    home = importlib.import_module(f"{library.__name__}.utils")
    return library.Accelerator(
        dataloader_config=home.DataLoaderConfiguration(even_batches=even, split_batches=split),
        gradient_accumulation_plugin=home.GradientAccumulationPlugin(accumulate, **plugin),
    )


def window(
    library: Library,
    *,
    accumulate: int = 4,
    n: int,
    stream: bool = False,
    even: bool = True,
    clip: float | None = None,
    **plugin: Any,
) -> Any:
    """Two models and optimizers that are trained together, with batches of 2 on each rank."""
    torch.manual_seed(11)
    accelerator = accelerator_of(library, accumulate, even=even, **plugin)
    data: Dataset[Any] = Stream(n) if stream else points(n)
    models = [nn.Linear(6, 4), nn.Linear(4, 1)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in models]
    first, second, one, two, loader = accelerator.prepare(
        *models, *optimizers, DataLoader(data, batch_size=2)
    )
    seen = []
    for _ in range(2):
        for x, y in loader:
            with accelerator.accumulate(first, second):
                accelerator.backward(nn.functional.mse_loss(second(first(x).tanh()), y))
                if clip is not None and accelerator.sync_gradients:
                    parameters = [*first.parameters(), *second.parameters()]
                    seen.append(accelerator.clip_grad_norm_(parameters, clip).item())
                for optimizer in (one, two):
                    optimizer.step()
                    optimizer.zero_grad()
    weights = [p.tolist() for model in (first, second) for p in model.parameters()]
    return {"weights": weights, "norms": seen}


def joined(library: Library) -> Any:
    """Two models that are trained apart, on ranks with different numbers of batches."""
    torch.manual_seed(11)
    accelerator = accelerator_of(library, 1, even=False)
    models = [nn.Linear(6, 1), nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in models]
    loader = DataLoader(points(10), batch_size=2)
    first, second, one, two, loader = accelerator.prepare(*models, *optimizers, loader)
    steps = 0
    with accelerator.join_uneven_inputs([first, second]):
        for x, y in loader:
            for model, optimizer in ((first, one), (second, two)):
                optimizer.zero_grad()
                accelerator.backward(nn.functional.mse_loss(model(x), y))
                optimizer.step()
            steps += 1
    return {"steps": steps, "weights": [p.tolist() for m in models for p in m.parameters()]}


def apart(
    library: Library,
    *,
    n: int,
    accumulate: int = 4,
    clip: float | None = None,
    **plugin: Any,
) -> Any:
    """Two models with an optimizer and a backward each, as in a GAN; batches of 12 are split."""
    torch.manual_seed(11)
    accelerator = accelerator_of(library, accumulate, split=True, **plugin)
    made = [nn.Linear(6, 1), nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))]
    sgd = [torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9) for model in made]
    *pairs, loader = accelerator.prepare(*made, *sgd, DataLoader(points(n), batch_size=12))
    models, optimizers = pairs[:2], pairs[2:]
    for _ in range(2):
        for x, y in loader:
            with accelerator.accumulate(*models):
                for model, optimizer in zip(models, optimizers, strict=True):
                    accelerator.backward(nn.functional.mse_loss(model(x), y))
                    accelerator.backward(model(x).square().mean() / 8)
                    if clip is not None and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), clip)
                    optimizer.step()
                    optimizer.zero_grad()
    return {"weights": [p.tolist() for model in models for p in model.parameters()]}


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "windows: joined, two models": (joined, {}),
    "windows: whole": (window, {"n": 48, "accumulate": 2}),
    "windows: whole, of a stream": (window, {"n": 48, "accumulate": 2, "stream": True}),
    "windows: whole, reduced each batch": (
        window,
        {"n": 48, "accumulate": 2, "sync_each_batch": True},
    ),
    "windows: whole, clipped": (window, {"n": 48, "accumulate": 2, "clip": 0.5}),
    "windows: cut short": (window, {"n": 24}),
    "windows: cut short, of a stream": (window, {"n": 24, "stream": True}),
    "windows: cut short, reduced each batch": (window, {"n": 24, "sync_each_batch": True}),
    "windows: cut short, clipped": (window, {"n": 24, "clip": 0.5}),
    "windows: two backwards and steps, whole": (apart, {"n": 96}),
    "windows: two backwards and steps, cut short": (apart, {"n": 72}),
    "windows: two backwards and steps, cut short and clipped": (apart, {"n": 72, "clip": 0.5}),
    "windows: two backwards and steps, old rule": (apart, {"n": 72, "mean_of_last_window": False}),
    "windows: ranks with other numbers of batches": (window, {"n": 22, "even": False}),
}
