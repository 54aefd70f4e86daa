"""What a tracker is: the small interface between a script's metrics and where they go."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from runtime.world.state import PartialState

Method = TypeVar("Method", bound=Callable[..., Any])


def on_main_process(function: Method) -> Method:
    """Run a tracker's method on the main process only, if the tracker is for that process only."""

    @functools.wraps(function)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "main_process_only", False) and not PartialState().is_main_process:
            return None
        return function(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]  # the same signature


class GeneralTracker:
    """What a tracker has to have: the class' own attributes, and what it does.

    Attributes:
        name: by which scripts ask for it.
        requires_logging_directory: whether it writes to files.
        tracker: the object of its own package; a property.
        main_process_only: whether the other processes have nothing to do with it.
    """

    main_process_only: bool = True
    name: ClassVar[str]
    requires_logging_directory: ClassVar[bool]

    def __init__(self, _blank: bool = False) -> None:
        """Check that the class is complete.

        Raises:
            NotImplementedError: an attribute is missing.
        """
        needed = ("name", "requires_logging_directory", "tracker")
        missing = [f"`{name}`" for name in needed if name not in dir(self)]
        if missing and not _blank:
            sentence = (
                "The implementation for this tracker class is missing the following required "
                f"attributes. Please define them in the class definition: {', '.join(missing)}"
            )
            raise NotImplementedError(sentence)

    def start(self) -> None:
        """Begin a run."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Keep a run's hyperparameters."""

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Keep metrics of a step."""

    def finish(self) -> None:
        """End the run."""
