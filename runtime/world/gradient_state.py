"""Where the training loop is: in which data loader, and whether gradients are synchronised."""

import weakref
from typing import Any

from runtime.config.plugins import GradientAccumulationPlugin
from runtime.world.shared import Shared
from runtime.world.window import Window

UNKNOWN_REMAINDER = -1  # a remainder that is not known, or not yet


class GradientState(Shared):
    """What loaders, optimizers and schedulers tell each other.

    Attributes:
        sync_gradients: whether this batch ends an accumulation: gradients are reduced, the
            optimizer steps.
        plugin_kwargs: what of the accumulation differs from its defaults.
        window: the current accumulation, and how its gradients are scaled if the end of a data
            loader has cut it short.
    """

    sync_gradients: bool
    plugin_kwargs: dict[str, Any]
    window: Window
    _references: list[weakref.ref[Any]]  # of the loaders that are iterated, outermost first

    def __init__(
        self, gradient_accumulation_plugin: GradientAccumulationPlugin | None = None
    ) -> None:
        """Make the state, the first time; the plugin changes it at any time."""
        super().__init__()
        if not self.initialized:
            self.sync_gradients = True
            self.plugin_kwargs = {}
            self.window = Window()
            self.is_xla_gradients_synced = False
            self._references = []
        if gradient_accumulation_plugin is not None:
            self.plugin_kwargs = gradient_accumulation_plugin.to_kwargs()

    @property
    def num_steps(self) -> int:
        """Batches that an accumulation has."""
        return int(self.plugin_kwargs.get("num_steps", 1))

    @property
    def adjust_scheduler(self) -> bool:
        """Whether schedulers count batches that are accumulated.

        False unless a script says otherwise in `plugin_kwargs`: so it comes out in Accelerate 1.15,
        which keeps only what differs from the plugin's default, True, and takes False for missing.
        """
        return bool(self.plugin_kwargs.get("adjust_scheduler", False))

    @property
    def sync_with_dataloader(self) -> bool:
        """Whether the end of a data loader ends an accumulation."""
        return bool(self.plugin_kwargs.get("sync_with_dataloader", True))

    @property
    def sync_each_batch(self) -> bool:
        """Whether gradients are reduced at each batch."""
        return bool(self.plugin_kwargs.get("sync_each_batch", False))

    @property
    def mean_of_last_window(self) -> bool:
        """Whether an accumulation that was cut short gives the mean of the batches that it has."""
        return bool(self.plugin_kwargs.get("mean_of_last_window", True))

    @property
    def dataloader_references(self) -> list[Any]:
        """None, then the loaders that are iterated, outermost first."""
        found = (reference() for reference in self._references)
        return [None, *(loader for loader in found if loader is not None)]

    @property
    def active_dataloader(self) -> Any:
        """The innermost data loader that is being iterated; None outside of all."""
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
        """Whether the active data loader has given its last batch."""
        loader = self.active_dataloader
        return loader is not None and bool(loader.end_of_dataloader)

    @property
    def remainder(self) -> int:
        """Real samples in the active loader's last global batch; 0: it is whole, -1: unknown."""
        loader = self.active_dataloader
        return UNKNOWN_REMAINDER if loader is None else int(loader.remainder)

    def __repr__(self) -> str:
        return (
            f"Sync Gradients: {self.sync_gradients}\n"
            f"At end of current dataloader: {self.end_of_dataloader}\n"
            f"Extra samples added: {self.remainder}\n"
            f"Gradient accumulation plugin: {self.plugin_kwargs}\n"
        )

    def _add_dataloader(self, dataloader: Any) -> None:
        self._references.append(weakref.ref(dataloader))

    def _remove_dataloader(self, dataloader: Any) -> None:
        """The loader is left; that may be after the state was forgotten."""
        if self.initialized:
            self._references = [one for one in self._references if one() is not dataloader]
            if not self.in_dataloader:
                self.window.scale = 1.0

    def _set_sync_gradients(self, sync_gradients: bool) -> None:
        self.sync_gradients = sync_gradients
