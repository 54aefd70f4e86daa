"""Start trackers, pass metrics to them, and end their runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.trackers.base import GeneralTracker
from runtime.trackers.choose import LOGGER_TYPE_TO_CLASS

Options = Mapping[str, dict[str, Any]]  # tracker name -> arguments for that tracker only


class Trackers:
    """Starts trackers, and passes metrics to them.

    Attributes:
        running: the trackers that were started, on all processes; those that have nothing to do on
            this process receive nothing.
    """

    def __init__(self, *, is_main: bool) -> None:
        """Create an object without running trackers.

        Args:
            is_main: whether this is the main process; most trackers run only there.
        """
        self.running: list[GeneralTracker] = []
        self._is_main = is_main

    def start(
        self,
        wanted: Sequence[Any],
        project_name: str,
        logging_dir: Any,
        config: dict[str, Any] | None,
        options: Options,
    ) -> None:
        """Start a run with each tracker.

        Args:
            wanted: trackers, and names of registered trackers.
            project_name: the name of the run.
            logging_dir: the directory of the trackers that write files.
            config: the hyperparameters of the run.
            options: further arguments for each tracker, by its name.
        """
        self.running.extend(
            one
            if isinstance(one, GeneralTracker)
            else _made(str(one), project_name, logging_dir, options.get(str(one), {}))
            for one in wanted
        )
        for tracker in self._own():
            tracker.start()
            if config is not None:
                tracker.store_init_configuration(config)

    def get(self, name: str, *, unwrap: bool) -> Any:
        """Return a running tracker; see `Accelerator.get_tracker`."""
        for tracker in self._own():
            if tracker.name == name:
                return tracker.tracker if unwrap else tracker  # type: ignore[attr-defined]  # each has it
        if not self._is_main:
            return GeneralTracker(_blank=True)
        known = ", ".join(tracker.name for tracker in self.running)
        known = known or "none is running; pass log_with to Accelerator, and call init_trackers()"
        sentence = f"{name} is not an available tracker stored inside the `Accelerator`: {known}"
        raise ValueError(sentence)

    def log(self, values: dict[str, Any], step: int | None, options: Options) -> None:
        """Pass metrics of a step to all trackers.

        Args:
            values: the metrics by name.
            step: the number of the step.
            options: further arguments for each tracker's `log`, by the tracker's name.
        """
        for tracker in self._own():
            tracker.log(values, step=step, **options.get(tracker.name, {}))

    def finish(self) -> None:
        """End all runs."""
        for tracker in self._own():
            tracker.finish()

    def _own(self) -> list[GeneralTracker]:
        """Return the trackers that have something to do on this process."""
        return [one for one in self.running if self._is_main or not one.main_process_only]


def _made(
    name: str, project_name: str, logging_dir: Any, options: dict[str, Any]
) -> GeneralTracker:
    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    where = [logging_dir] if kind.requires_logging_directory else []
    tracker: GeneralTracker = kind(project_name, *where, **options)
    return tracker
