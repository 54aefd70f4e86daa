"""What an Accelerator makes of a script's objects, and which of them it has made."""

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from runtime.collectives.nested import leaves
from runtime.config.handlers import AutocastKwargs, DistributedDataParallelKwargs
from runtime.config.plugins import first
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.loader import DataLoaderShard
from runtime.data.prepare import prepare_data_loader, skip_first_batches
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.optim.scheduler import AcceleratedScheduler
from runtime.options import Options
from runtime.parallel.compile import compile_model
from runtime.parallel.containers import container_of
from runtime.parallel.unaveraged import Unaveraged, note_prepared
from runtime.parallel.wrap import extract_model_from_parallel, prepare_model
from runtime.sharding import Sharding

Prepared = TypeVar("Prepared")
PREPARED = "_is_accelerate_prepared"  # Accelerate's mark on what was prepared


class Preparing(Sharding, Options):
    """Mixed into the Accelerator.

    Attributes:
        device_placement: whether models and batches go to this process' device.
        rng_types: random generators that all processes set alike at the start of each epoch.
        step_scheduler_with_optimizer: whether schedulers follow their optimizers.
    """

    autocast_handler: AutocastKwargs | None
    ddp_handler: DistributedDataParallelKwargs | None
    scaler: torch.amp.GradScaler | None
    device_placement: bool
    rng_types: list[str]
    step: int
    step_scheduler_with_optimizer: bool
    _bypasses_device_map: bool

    def _begin_preparing(self) -> None:
        """Nothing is prepared yet."""
        self._models: list[nn.Module] = []
        self._optimizers: list[AcceleratedOptimizer] = []
        self._schedulers: list[AcceleratedScheduler] = []
        self._dataloaders: list[DataLoaderShard | DataLoaderDispatcher] = []
        self._unaveraged = Unaveraged()
        self._warned: set[str] = set()

    def prepare(self, *args: Any, device_placement: list[bool] | None = None) -> Any:
        """Prepare models, optimizers, schedulers and data loaders; return them in the same order.

        Anything else comes back as it is; so does what was prepared before. In a world of several
        processes, what would be trained apart in each of them is an error; alone, a warning.

        Args:
            *args: the script's objects, each once; models before the first backward.
            device_placement: for each object, instead of the Accelerator's own.

        Raises:
            ValueError: as many places as objects are needed; or objects are inside a list.
        """
        for one in args:
            self._must_not_be_inside(one)
        places = device_placement or [self.device_placement] * len(args)
        if len(places) != len(args):
            sentence = f"device_placement must be given for {len(args)} objects, got {len(places)}"
            raise ValueError(sentence)
        with self._optimizers_following(args):
            prepared = [
                self._prepare_one(one, place) for one, place in zip(args, places, strict=True)
            ]
        # Schedulers last: they look for their optimizer among the prepared ones.
        prepared = [
            self.prepare_scheduler(one) if isinstance(one, LRScheduler) else one for one in prepared
        ]
        return prepared[0] if len(prepared) == 1 else tuple(prepared)

    def _must_not_be_inside(self, one: Any) -> None:
        """See that a list, a tuple or a dict has nothing that is to be prepared."""
        if not isinstance(one, list | tuple | Mapping):
            return
        kinds = (nn.Module, Optimizer, DataLoader, LRScheduler)
        found = {type(leaf).__name__ for leaf in leaves(one) if isinstance(leaf, kinds)}
        if found:
            self._refuse_or_warn(
                f"prepare() takes each object as an argument of its own, got a "
                f"{type(one).__name__} with {', '.join(sorted(found))}, which it leaves as they "
                "are: unpack it, as in prepare(*objects)"
            )

    def _check_optimizers(self) -> None:
        """See that optimizers train prepared models: the gradients of others are not averaged."""
        for sentence in list(self._unaveraged):
            self._refuse_or_warn(sentence)
            self._unaveraged.clear()  # alone it is said once

    def _refuse_or_warn(self, sentence: str) -> None:
        """Alone, each sentence is a warning once, also if optimizers are made at each step."""
        if self.use_distributed:
            raise ValueError(sentence)
        if sentence not in self._warned:
            self._warned.add(sentence)
            warnings.warn(sentence, stacklevel=4)

    def _prepare_one(self, one: Any, device_placement: bool) -> Any:
        if isinstance(one, DataLoader):
            return self.prepare_data_loader(one, device_placement)
        if isinstance(one, nn.Module):
            return self.prepare_model(one, device_placement)
        if isinstance(one, Optimizer):
            return self.prepare_optimizer(one, device_placement)
        return one

    def prepare_model(
        self,
        model: nn.Module,
        device_placement: bool | None = None,
        evaluation_mode: bool = False,
    ) -> nn.Module:
        """Place a model and average its gradients over all processes.

        Raises:
            ValueError: it was placed on several devices already, in a world of several processes.
        """
        if _is_prepared(model):
            return model
        is_placed = self.verify_device_map(model)
        if is_placed and self.use_distributed and not self._bypasses_device_map:
            sentence = (
                "You can't train a model that has been loaded with `device_map='auto'` in any "
                "distributed mode: load it without `device_map`."
            )
            raise ValueError(sentence)
        prepared = prepare_model(
            model,
            state=self.state,
            device_placement=first(device_placement, self.device_placement) and not is_placed,
            evaluation_mode=evaluation_mode,
            autocast_handler=self.autocast_handler,
            ddp_handler=self.ddp_handler,
        )
        compiled = compile_model(prepared, self.state.dynamo_plugin)
        note_prepared(compiled, container_of(self.state).averaged(prepared))
        return _marked(compiled, self._models)

    def prepare_data_loader(
        self,
        data_loader: DataLoader[Any],
        device_placement: bool | None = None,
        slice_fn_for_dispatch: Any = None,
    ) -> DataLoaderShard | DataLoaderDispatcher:
        """Make a data loader that gives this process its own batches."""
        if isinstance(data_loader, DataLoaderShard | DataLoaderDispatcher) and _is_prepared(
            data_loader
        ):
            return data_loader
        config = self.dataloader_config
        prepared = prepare_data_loader(
            data_loader,
            self.device,
            split_batches=self.split_batches,
            put_on_device=first(device_placement, self.device_placement),
            rng_types=list(self.rng_types),
            dispatch_batches=config.dispatch_batches,
            even_batches=self.even_batches,
            slice_fn_for_dispatch=slice_fn_for_dispatch,
            use_seedable_sampler=config.use_seedable_sampler,
            data_seed=config.data_seed,
            non_blocking=config.non_blocking,
            use_stateful_dataloader=config.use_stateful_dataloader,
            shuffle=config.shuffle,
        )
        return _marked(prepared, self._dataloaders)

    def prepare_optimizer(
        self, optimizer: Optimizer, device_placement: bool | None = None
    ) -> AcceleratedOptimizer:
        """Make an optimizer that steps when an accumulation ends.

        Raises:
            ValueError: models are sharded, and this one's model was not yet: sharding would replace
                its parameters. Pass both to `prepare`.
        """
        if isinstance(optimizer, AcceleratedOptimizer):
            return optimizer
        place = first(device_placement, self.device_placement)
        with self._optimizers_following((optimizer,)):  # within `prepare` it has no parameters
            accelerated = AcceleratedOptimizer(optimizer, place, self.scaler)
        self._unaveraged.add(accelerated)
        return _marked(accelerated, self._optimizers)

    def prepare_scheduler(self, scheduler: Any) -> AcceleratedScheduler:
        """Make a scheduler that follows its optimizer."""
        if isinstance(scheduler, AcceleratedScheduler):
            return scheduler
        own = [one for one in self._optimizers if scheduler.optimizer in (one, one.optimizer)]
        prepared = AcceleratedScheduler(
            scheduler,
            own or self._optimizers,
            step_with_optimizer=self.step_scheduler_with_optimizer,
            split_batches=self.split_batches,
        )
        return _marked(prepared, self._schedulers)

    def skip_first_batches(self, dataloader: Any, num_batches: int = 0) -> Any:
        """See `data.prepare.skip_first_batches`."""
        return skip_first_batches(dataloader, num_batches)

    def unwrap_model(
        self,
        model: nn.Module,
        keep_fp32_wrapper: bool = True,
        keep_torch_compile: bool = True,
    ) -> nn.Module:
        """The script's own model out of a prepared one."""
        return extract_model_from_parallel(model, keep_fp32_wrapper, keep_torch_compile)

    def free_memory(self, *objects: Any) -> list[None]:
        """Forget all prepared objects; returns as many Nones as objects were given."""
        for prepared in (self._models, self._optimizers, self._schedulers, self._dataloaders):
            prepared.clear()
        self._unaveraged.clear()
        self.step = 0
        return [None] * len(objects)

    def clear(self, *objects: Any) -> list[None]:
        """The same as `free_memory`."""
        return self.free_memory(*objects)


def _is_prepared(one: Any) -> bool:
    return bool(getattr(one, PREPARED, False))


def _marked(one: Prepared, kept: list[Any]) -> Prepared:
    """Remember that this was prepared."""
    setattr(one, PREPARED, True)
    kept.append(one)
    return one
