"""The base class of experiment trackers."""

import functools
import json
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from runtime.world.state import PartialState

Method = TypeVar("Method", bound=Callable[..., Any])


def on_main_process(function: Method) -> Method:
    """Decorate a tracker's method to run only on the main process if `main_process_only` is set."""

    @functools.wraps(function)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "main_process_only", False) and not PartialState().is_main_process:
            return None
        return function(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]  # the same signature


class GeneralTracker:
    """The base class of experiment trackers.

    A subclass defines the attributes `name`, `requires_logging_directory` and `tracker`.

    Attributes:
        name: the name by which a script selects the tracker.
        requires_logging_directory: whether the tracker writes files and needs a directory.
        tracker: the underlying object of the tracker's package; a property.
        main_process_only: whether the tracker runs only on the main process.
    """

    main_process_only: bool = True
    name: ClassVar[str]
    requires_logging_directory: ClassVar[bool]

    def __init__(self, _blank: bool = False) -> None:
        """Check that the class defines all required attributes.

        Args:
            _blank: whether to skip the check, for a tracker that does nothing.

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
        """Start a run."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Log the hyperparameters of the run.

        Args:
            values: the hyperparameters by name.
        """

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Log metrics.

        Args:
            values: the metrics by name.
            step: the number of the step; None if the tracker counts steps itself.
            **kwargs: further arguments for the tracker's package.
        """

    def finish(self) -> None:
        """End the run."""


def tags_of(text: str) -> Any:
    """Return the tags in a JSON text.

    Raises:
        ValueError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        sentence = f"tags must be a JSON object of strings, got {text!r}: {error}"
        raise ValueError(sentence) from error
