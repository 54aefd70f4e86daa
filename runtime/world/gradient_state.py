"""The state of gradient accumulation, which data loaders, optimizers and schedulers share."""

import threading
import weakref
from typing import Any, Protocol

from runtime.config.plugins import GradientAccumulationPlugin
from runtime.world.shared import Shared
from runtime.world.steps import Steps
from runtime.world.window import Window

UNKNOWN_REMAINDER = -1


class Listener(Protocol):
    """What is told of the boundaries between batches: the loop of `Accelerator.epochs`.

    All methods are called by the main thread.
    """

    def enter(self, loader: Any) -> bool:
        """Note that a pass over an outermost loader begins; return whether it is to be read."""

    def boundary(self, loader: Any, batch: Any) -> None:
        """Note that the outermost loader is asked for the batch after the first or a later one.

        Args:
            loader: the loader.
            batch: the batch that it has given last.
        """

    def leave(self) -> None:
        """Note that the pass over the outermost loader has ended; must do no more than note it."""


class Copies(Protocol):
    """Copies of the state of the training that a device makes beside what it computes."""

    def hold(self) -> None:
        """Let all that the device is given from now on begin after the copies; does not wait."""

    def spoil(self, what: str) -> None:
        """Note that the state may have changed before `hold`.

        Args:
            what: what has happened, as the end of a sentence.
        """


class GradientState(Shared):
    """The state of gradient accumulation that data loaders, optimizers and schedulers share.

    Attributes:
        sync_gradients: whether this batch ends an accumulation: gradients are reduced, and
            optimizers step.
        plugin_kwargs: the fields of the GradientAccumulationPlugin that differ from its defaults.
        window: the current accumulation, and how its gradients are scaled if the end of a data
            loader has cut it short.
        steps: the number of optimizer steps.
        listener: what is told of the boundaries between batches; None if there is none.
        copies: the copies that the next step of an optimizer must not change; None if there are
            none.
        apart: objects within which ranks differ in their steps or weights, such as LocalSGD
            between two averages; no checkpoint can be taken while there is one.
        were_apart: whether there has been such an object: the states of optimizers may differ ever
            since.
    """

    sync_gradients: bool
    plugin_kwargs: dict[str, Any]
    window: Window
    steps: Steps
    listener: Listener | None
    copies: Copies | None
    apart: set[object]
    were_apart: bool
    _main: int | None  # the ident of the main thread
    _references: list[weakref.ref[Any]]  # the loaders that are being iterated, outermost first
    _outermost: weakref.ref[Any] | None  # the loader whose batches the main thread trains on

    def __init__(
        self, gradient_accumulation_plugin: GradientAccumulationPlugin | None = None
    ) -> None:
        """Create the state if there is none; a plugin replaces the settings of an existing state.

        Args:
            gradient_accumulation_plugin: how gradients are accumulated.
        """
        super().__init__()
        if not self.initialized:
            self.sync_gradients = True
            self.plugin_kwargs = {}
            self.window = Window()
            self.steps = Steps()
            self.listener = None
            self.copies = None
            self._main = threading.main_thread().ident
            self.apart = set()
            self.were_apart = False
            self.is_xla_gradients_synced = False
            self._references = []
            self._outermost = None
        if gradient_accumulation_plugin is not None:
            self.plugin_kwargs = gradient_accumulation_plugin.to_kwargs()

    def hold_copies(self) -> None:
        """Let what the device is given from now on begin after the copies of the state."""
        copies, self.copies = self.copies, None
        if copies is not None:
            copies.hold()

    def part(self, mark: object) -> None:
        """Note that ranks differ in their steps or weights until `apart` has no mark any more."""
        self.apart.add(mark)
        self.were_apart = True

    @property
    def num_steps(self) -> int:
        """The number of batches for each optimizer step."""
        return int(self.plugin_kwargs.get("num_steps", 1))

    @property
    def adjust_scheduler(self) -> bool:
        """Whether schedulers also count the batches that do not end an accumulation.

        False unless a script sets it in `plugin_kwargs`, as in Accelerate 1.15: `plugin_kwargs` has
        only the fields that differ from the plugin's defaults. The plugin's default is True, but a
        missing key is read as False.
        """
        return bool(self.plugin_kwargs.get("adjust_scheduler", False))

    @property
    def sync_with_dataloader(self) -> bool:
        """Whether the end of a data loader ends an accumulation."""
        return bool(self.plugin_kwargs.get("sync_with_dataloader", True))

    @property
    def sync_each_batch(self) -> bool:
        """Whether gradients are reduced after each batch."""
        return bool(self.plugin_kwargs.get("sync_each_batch", False))

    @property
    def mean_of_last_window(self) -> bool:
        """Whether a shorter last accumulation gives the mean over the batches that it has."""
        return bool(self.plugin_kwargs.get("mean_of_last_window", True))

    @property
    def dataloader_references(self) -> list[Any]:
        """None, followed by the data loaders that are being iterated, outermost first."""
        found = (reference() for reference in self._references)
        return [None, *(loader for loader in found if loader is not None)]

    @property
    def active_dataloader(self) -> Any:
        """The innermost data loader that is being iterated; None if there is none."""
        for reference in reversed(self._references):
            loader = reference()
            if loader is not None:
                return loader
        return None

    @property
    def in_dataloader(self) -> bool:
        """Whether a prepared data loader is being iterated."""
        return self.active_dataloader is not None

    @property
    def end_of_dataloader(self) -> bool:
        """Whether the active data loader has returned its last batch."""
        loader = self.active_dataloader
        return loader is not None and bool(loader.end_of_dataloader)

    @property
    def remainder(self) -> int:
        """The samples in the active loader's last global batch: 0 if it is full, -1 if unknown.

        Samples that were added to fill the batch are not counted.
        """
        loader = self.active_dataloader
        return UNKNOWN_REMAINDER if loader is None else int(loader.remainder)

    def __repr__(self) -> str:
        return (
            f"Sync Gradients: {self.sync_gradients}\n"
            f"At end of current dataloader: {self.end_of_dataloader}\n"
            f"Extra samples added: {self.remainder}\n"
            f"Gradient accumulation plugin: {self.plugin_kwargs}\n"
        )

    def enter(self, loader: Any) -> bool:
        """Note that a pass over a loader begins; return whether the pass is to be read.

        Args:
            loader: the loader, which is not yet among the loaders that are iterated.
        """
        if self._has_outermost():
            self.steps.asked[id(loader)] = weakref.ref(loader)
            return True
        if threading.get_ident() != self._main:
            return True
        is_read = self.listener is None or self.listener.enter(loader)
        self.steps.boundary()
        if is_read:
            self._outermost = weakref.ref(loader)
        return is_read

    def boundary(self, loader: Any, batch: Any) -> None:
        """Note that a loader that is iterated is asked for another batch.

        Args:
            loader: the loader.
            batch: the batch that it has given last.
        """
        if self._outermost is None:  # it began in another epoch of the loop
            if not loader.end_of_dataloader:
                self.enter(loader)
        elif self._outermost() is not loader:
            self.steps.asked[id(loader)] = weakref.ref(loader)
        elif threading.get_ident() == self._main:
            if self.listener is not None:
                self.listener.boundary(loader, batch)
            self.steps.boundary()

    def _has_outermost(self) -> bool:
        """Whether a pass over an outermost loader is under way; it may have failed to begin."""
        found = None if self._outermost is None else self._outermost()
        return found is not None and any(one is found for one in self.dataloader_references)

    def begin_epoch(self) -> None:
        """Let the next loader that is asked for a batch be the outermost one."""
        self._outermost = None
        self.steps.asked.clear()

    @property
    def in_pass(self) -> bool:
        """Whether an outermost loader is being iterated."""
        return self._outermost is not None

    @property
    def holds_inner_batch(self) -> bool:
        """Whether an inner loader has given a batch for a step that has not been made yet."""
        active = self.dataloader_references
        found = (reference() for reference in self.steps.asked.values())
        return any(one is not None and any(one is other for other in active) for one in found)

    def _add_dataloader(self, dataloader: Any) -> None:
        self._references.append(weakref.ref(dataloader))

    def _remove_dataloader(self, dataloader: Any) -> None:
        """Remove a loader whose iteration has ended; the state may have been reset before."""
        if self.initialized:
            self._references = [one for one in self._references if one() is not dataloader]
            if self._outermost is not None and self._outermost() in (dataloader, None):
                self._outermost = None
                if self.listener is not None:
                    self.listener.leave()
            if not self.in_dataloader:
                self.window.scale = 1.0

    def _set_sync_gradients(self, sync_gradients: bool) -> None:
        self.sync_gradients = sync_gradients
