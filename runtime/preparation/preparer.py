"""Prepares models, data loaders, optimizers and schedulers one by one."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from runtime.collectives.nested import leaves
from runtime.config.arguments import described, must_be, passed_over
from runtime.config.enums import DynamoBackend
from runtime.config.handlers import AutocastKwargs, DistributedDataParallelKwargs
from runtime.config.plugins import DataLoaderConfiguration, first
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.loader import DataLoaderShard
from runtime.data.prepare import prepare_data_loader
from runtime.data.random_states import share_random_states
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.optim.scheduler import AcceleratedScheduler
from runtime.parallel.compile import compile_model
from runtime.parallel.containers import container_of
from runtime.parallel.float8 import convert
from runtime.parallel.unaveraged import Unaveraged, note_prepared
from runtime.parallel.wrap import prepare_model
from runtime.preparation.prepared import Prepared, added, is_prepared
from runtime.world.state import AcceleratorState
from runtime.world.warn import warn_once

if TYPE_CHECKING:
    from runtime.parallel.context.sequences import Sequences

_NO_LOADER = (
    "no data loader was prepared: unless the script divides the data itself, each process trains "
    "on all of it, and a job that is resumed repeats the epoch. Pass the loader to prepare()"
)
KINDS = (nn.Module, Optimizer, DataLoader, LRScheduler)  # the objects that prepare() prepares


@dataclass(frozen=True, slots=True)
class Options:
    """The attributes of an Accelerator that decide how objects are prepared.

    Attributes:
        device: the device that batches are moved to.
        device_placement: whether models and batches are moved to this process' device.
        rng_types: the random generators that are synchronized at the start of each epoch.
        step_scheduler_with_optimizer: whether schedulers step with their optimizers.
        dataloader_config: how data loaders are prepared.
        scaler: the gradient scaler, with fp16.
        autocast_handler: the arguments of torch.autocast.
        ddp_handler: the arguments of DistributedDataParallel.
    """

    device: torch.device
    device_placement: bool
    rng_types: Sequence[str]
    step_scheduler_with_optimizer: bool
    dataloader_config: DataLoaderConfiguration
    scaler: torch.amp.GradScaler | None = None
    autocast_handler: AutocastKwargs | None = None
    ddp_handler: DistributedDataParallelKwargs | None = None


class Preparer:
    """Prepares objects, and adds them to the `Prepared` ones of its Accelerator."""

    def __init__(
        self,
        state: AcceleratorState,
        prepared: Prepared,
        *,
        sequences: "Sequences | None" = None,
        allows_device_map: bool = False,
    ) -> None:
        """Begin with no objects.

        Args:
            state: the state of this process.
            prepared: where prepared objects are added.
            sequences: what divides sequences; None without context parallelism.
            allows_device_map: whether a model that `device_map` has placed on several devices may
                be trained by several processes.
        """
        self._state = state
        self._prepared = prepared
        self._sequences = sequences
        self._allows_device_map = allows_device_map
        self._unaveraged = Unaveraged()
        self._divided: list[nn.Module] = []  # those whose gradients were not compared yet
        self._warned: set[str] = set()
        self._is_data_checked = True

    def check_arguments(self, objects: Sequence[Any]) -> None:
        """Check that no list, tuple or dict among the arguments contains an object to prepare.

        A class, or a dataset, is never prepared: this is a warning.

        Raises:
            ValueError: an argument does, and there are several processes. With one process, this is
                a warning.
        """
        for group in objects:
            advice = passed_over(group, KINDS)
            if advice is not None:
                warn_once(f"prepare() leaves {described(group)} as it is: {advice}")
            if not isinstance(group, list | tuple | Mapping):
                continue
            found = {type(leaf).__name__ for leaf in leaves(group) if isinstance(leaf, KINDS)}
            if found:
                self._refuse_or_warn(
                    f"prepare() takes each object as a separate argument, got a "
                    f"{type(group).__name__} with {', '.join(sorted(found))}, which it does not "
                    "prepare: unpack it, as in prepare(*objects)"
                )

    def watch_data(self, *, resumes: bool) -> None:
        """Have the next `check_data` look at the data loaders.

        Args:
            resumes: whether automatic checkpoints are written.
        """
        self._is_data_checked = not (self._state.use_distributed or resumes)

    def check_data(self) -> None:
        """Warn, at the first backward of `epochs`, if no data loader was prepared."""
        if self._is_data_checked:
            return
        self._is_data_checked = True
        if not self._prepared.dataloaders:
            warn_once(_NO_LOADER)

    def check_averaged(self) -> None:
        """Check, after a backward, that the gradients of all prepared optimizers were averaged.

        Raises:
            ValueError: some were not, and there are several processes. With one process, this is a
                warning.
        """
        for sentence in list(self._unaveraged) if self._unaveraged else ():
            self._refuse_or_warn(sentence)
            self._unaveraged.clear()  # with one process, the warning is given once

    def check_equal(self) -> None:
        """Check, once for each divided model, that what is whole has equal gradients.

        To be called by all processes after a backward whose gradients are complete.

        Raises:
            ValueError: processes that compute together have different gradients.
        """
        if not self._divided:
            return
        from runtime.parallel.tensor.gradients import must_be_equal  # noqa: PLC0415  # imports DTensor, which takes a second

        for model in [one for one in self._divided if _has_gradients(one)]:
            self._divided.remove(model)
            must_be_equal(model, self._state.parallelism_config.tp_size)

    def _refuse_or_warn(self, sentence: str) -> None:
        """Raise an error; with one process, warn once for each message instead."""
        if self._state.use_distributed:
            raise ValueError(sentence)
        if sentence not in self._warned:
            self._warned.add(sentence)
            warnings.warn(sentence, stacklevel=4)  # at the line of the script

    def model(
        self,
        model: nn.Module,
        options: Options,
        device_placement: bool | None = None,
        evaluation_mode: bool = False,
        *,
        is_placed: bool = False,
    ) -> nn.Module:
        """Prepare a model; see `Accelerator.prepare_model`."""
        if is_prepared(model):
            return model
        if is_placed and self._state.use_distributed and not self._allows_device_map:
            sentence = (
                "You can't train a model that has been loaded with `device_map='auto'` in any "
                "distributed mode: load it without `device_map`."
            )
            raise ValueError(sentence)
        if self._sequences is not None:
            compiles = self._state.dynamo_plugin.backend != DynamoBackend.NO
            self._sequences.prepare(model, compiles=compiles)
        self._convert(model)
        if self._state.coordinate.span > 1:
            share_random_states(self._state.coordinate)
        prepared = prepare_model(
            model,
            state=self._state,
            device_placement=first(device_placement, options.device_placement) and not is_placed,
            evaluation_mode=evaluation_mode,
            autocast_handler=options.autocast_handler,
            ddp_handler=options.ddp_handler,
        )
        compiled = compile_model(prepared, self._state.dynamo_plugin)
        note_prepared(compiled, container_of(self._state).averaged(prepared))
        if self._state.is_tensor_parallel and any(one.requires_grad for one in model.parameters()):
            self._divided.append(compiled)
        return added(compiled, self._prepared.models)

    def data_loader(
        self,
        data_loader: DataLoader[Any],
        options: Options,
        device_placement: bool | None = None,
        slice_fn_for_dispatch: Any = None,
    ) -> DataLoaderShard | DataLoaderDispatcher:
        """Prepare a data loader; see `Accelerator.prepare_data_loader`."""
        if isinstance(data_loader, DataLoaderShard | DataLoaderDispatcher) and is_prepared(
            data_loader
        ):
            return data_loader
        config = options.dataloader_config
        prepared = prepare_data_loader(
            data_loader,
            options.device,
            split_batches=config.split_batches,
            put_on_device=first(device_placement, options.device_placement),
            rng_types=list(options.rng_types),
            dispatch_batches=config.dispatch_batches,
            even_batches=config.even_batches,
            slice_fn_for_dispatch=slice_fn_for_dispatch,
            use_seedable_sampler=config.use_seedable_sampler,
            data_seed=config.data_seed,
            non_blocking=config.non_blocking,
            use_stateful_dataloader=config.use_stateful_dataloader,
            shuffle=config.shuffle,
        )
        return added(prepared, self._prepared.dataloaders)

    def optimizer(
        self, optimizer: Optimizer, options: Options, device_placement: bool | None = None
    ) -> AcceleratedOptimizer:
        """Prepare an optimizer; see `Accelerator.prepare_optimizer`."""
        if isinstance(optimizer, AcceleratedOptimizer):
            return optimizer
        place = first(device_placement, options.device_placement)
        with self.following([optimizer]):  # inside `prepare` it has no parameters
            accelerated = AcceleratedOptimizer(optimizer, place, options.scaler)
        self._unaveraged.add(accelerated)
        return added(accelerated, self._prepared.optimizers)

    def scheduler(self, scheduler: Any, options: Options) -> AcceleratedScheduler:
        """Prepare a scheduler; see `Accelerator.prepare_scheduler`."""
        if isinstance(scheduler, AcceleratedScheduler):
            return scheduler
        known = self._prepared.optimizers
        own = [one for one in known if scheduler.optimizer in (one, one.optimizer)]
        accelerated = AcceleratedScheduler(
            scheduler,
            own or known,
            step_with_optimizer=options.step_scheduler_with_optimizer,
            split_batches=options.dataloader_config.split_batches,
        )
        return added(accelerated, self._prepared.schedulers)

    def following(self, objects: Sequence[Any]) -> contextlib.AbstractContextManager[None]:
        """Return a context in which models are divided; their optimizers then get new parameters.

        Args:
            objects: the script's objects. FSDP2 and tensor parallelism replace the parameters of
                their models, and the context replaces those of their optimizers.
        """
        if not self._state.divides_models:
            return contextlib.nullcontext()
        from runtime.parallel.fsdp.parameters import following  # noqa: PLC0415  # imports torch's FSDP, which takes a second

        optimizers = [one for one in objects if isinstance(one, Optimizer)]
        models = [one for one in objects if isinstance(one, nn.Module)]
        for model in models:
            self._convert(model)  # first, since parameters are found by their modules
        inner = [getattr(one, "optimizer", one) for one in optimizers]
        return following(inner, models, self._prepared.models)

    def _convert(self, model: nn.Module) -> None:
        """Convert a model to fp8, if that is the precision and it was not prepared before."""
        if self._state.ao_recipe is not None and not is_prepared(model):
            convert(model, self._state.ao_recipe, is_sharded=self._state.is_fsdp2)

    def clear(self) -> None:
        """Remove all prepared objects."""
        self._prepared.clear()
        self._unaveraged.clear()
        self._divided.clear()


def _has_gradients(model: nn.Module) -> bool:
    return any(one.grad is not None for one in model.parameters())


def has_device_map(model: nn.Module) -> bool:
    """Whether Hugging Face's `device_map` has placed parts of a model on several devices."""
    return any(len(getattr(one, "hf_device_map", None) or ()) > 1 for one in model.modules())


def placements(objects: Sequence[Any], given: list[bool] | None, usual: bool) -> list[bool]:
    """Return for each object whether it is moved to the device.

    Raises:
        TypeError: it is not a list.
        ValueError: the given list does not have one entry per object.
    """
    must_be(given or [], (list, tuple), "prepare()", "device_placement as a list of bools")
    places = given or [usual] * len(objects)
    if len(places) != len(objects):
        sentence = f"device_placement must be given for {len(objects)} objects, got {len(places)}"
        raise ValueError(sentence)
    return places
