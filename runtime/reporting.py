"""What an Accelerator tells the outside: metrics to trackers, traces to files."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from runtime.checkpoint.names import PROFILE_PATTERN_NAME
from runtime.config.handlers import ProfileKwargs
from runtime.trackers.base import GeneralTracker
from runtime.trackers.choose import LOGGER_TYPE_TO_CLASS
from runtime.world.roles import StateView


class Reporting(StateView):
    """Mixed into the Accelerator.

    Attributes:
        log_with: the trackers that were asked for and can be had.
        trackers: those that are running.
    """

    log_with: list[Any]
    trackers: list[GeneralTracker]
    logging_dir: Any
    profile_handler: ProfileKwargs | None
    wait_for_checkpoint: Callable[[], None]

    def init_trackers(
        self,
        project_name: str,
        config: dict[str, Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Start a run with each tracker.

        Args:
            project_name: of the run.
            config: its hyperparameters.
            init_kwargs: by a tracker's name, arguments for it alone.
        """
        for one in self.log_with:
            made = one if isinstance(one, GeneralTracker) else None
            if made is None:
                options = (init_kwargs or {}).get(str(one), {})
                kind: Any = LOGGER_TYPE_TO_CLASS[str(one)]
                where = [self.logging_dir] if kind.requires_logging_directory else []
                made = kind(project_name, *where, **options)
            self.trackers.append(made)
        for tracker in self._own_trackers():
            tracker.start()
            if config is not None:
                tracker.store_init_configuration(config)

    def _own_trackers(self) -> list[GeneralTracker]:
        """Those that this process has something to do with."""
        is_main = self.is_main_process
        return [one for one in self.trackers if is_main or not one.main_process_only]

    def get_tracker(self, name: str, unwrap: bool = False) -> Any:
        """A running tracker.

        Args:
            name: of it.
            unwrap: give its own package's object.

        Raises:
            ValueError: there is none of that name; on the main process only, elsewhere a tracker
                that does nothing comes back.
        """
        for tracker in self._own_trackers():
            if tracker.name == name:
                return tracker.tracker if unwrap else tracker  # type: ignore[attr-defined]  # each has it
        if not self.is_main_process:
            return GeneralTracker(_blank=True)
        known = ", ".join(tracker.name for tracker in self.trackers)
        sentence = f"{name} is not an available tracker stored inside the `Accelerator`: {known}"
        raise ValueError(sentence)

    def log(
        self,
        values: dict[str, Any],
        step: int | None = None,
        log_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Give metrics to all trackers.

        Args:
            values: by name.
            step: of the run.
            log_kwargs: by a tracker's name, arguments for it alone.
        """
        for tracker in self._own_trackers():
            tracker.log(values, step=step, **(log_kwargs or {}).get(tracker.name, {}))

    def end_training(self) -> None:
        """Wait for the last checkpoint, end all trackers' runs, and leave the world."""
        try:
            self.wait_for_checkpoint()
        finally:
            for tracker in self._own_trackers():
                tracker.finish()
            self.state.destroy_process_group()

    @contextlib.contextmanager
    def profile(
        self, profile_handler: ProfileKwargs | None = None
    ) -> Iterator[torch.profiler.profile]:
        """Watch what is done within; each rank's trace goes to a file, if a directory is named.

        Args:
            profile_handler: instead of the one that the Accelerator was given.
        """
        handler = profile_handler or self.profile_handler or ProfileKwargs()
        with handler.build() as profiler:
            yield profiler
        if handler.output_trace_dir is None:
            return
        folder = Path(handler.output_trace_dir)
        folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(
            str(folder / PROFILE_PATTERN_NAME.format(suffix=self.process_index))
        )
        self.wait_for_everyone()
