"""Register trackers, and select those that a script requests and that are available."""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

from runtime.config.enums import LoggerType, text
from runtime.trackers.base import GeneralTracker
from runtime.trackers.mlflow import MLflowTracker
from runtime.trackers.tensorboard import TensorBoardTracker
from runtime.trackers.wandb import WandBTracker

LOGGER_TYPE_TO_CLASS: dict[str, Callable[..., GeneralTracker]] = {
    tracker.name: tracker for tracker in (TensorBoardTracker, WandBTracker, MLflowTracker)
}


def get_available_trackers() -> list[LoggerType]:
    """Return the trackers whose package is installed."""
    return [
        LoggerType(name)
        for name in LOGGER_TYPE_TO_CLASS
        if name in LoggerType and importlib.util.find_spec(name) is not None
    ]


def register_tracker_class(tracker_class: type[GeneralTracker]) -> None:
    """Register a script's own tracker class by its name.

    Args:
        tracker_class: a subclass of GeneralTracker; it replaces a class of the same name, with a
            warning.

    Raises:
        ValueError: the class is not a subclass of GeneralTracker, or `name` or
            `requires_logging_directory` is missing.
    """
    made: Any = tracker_class
    if not isinstance(made, type) or not issubclass(made, GeneralTracker):
        sentence = (
            f"`tracker_class` must be a subclass of `GeneralTracker`, but got {tracker_class}."
        )
        raise ValueError(sentence)  # noqa: TRY004  # accelerate's
    for needed in ("name", "requires_logging_directory"):
        if getattr(tracker_class, needed, None) in (None, ""):
            sentence = f"The tracker class to register must define a `{needed}` class attribute."
            raise ValueError(sentence)
    if tracker_class.name in LOGGER_TYPE_TO_CLASS:
        sentence = (
            f"A tracker with the name '{tracker_class.name}' is already registered and will be "
            f"overwritten by {tracker_class}."
        )
        warnings.warn(sentence, stacklevel=2)
    LOGGER_TYPE_TO_CLASS[tracker_class.name] = tracker_class


def filter_trackers(log_with: Any, logging_dir: Any = None) -> list[Any]:
    """Return the requested trackers whose package is installed, each once.

    Args:
        log_with: a name, a LoggerType or a tracker, or a list of these; `all` requests all
            trackers whose package is installed.
        logging_dir: the directory for trackers that write files.

    Raises:
        ValueError: a name is unknown, or a tracker requires a directory and there is none.
    """
    wanted = [] if log_with is None else log_with
    wanted = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    own = [one for one in wanted if isinstance(one, GeneralTracker)]
    names = list(dict.fromkeys(text(one) for one in wanted if one not in own))
    if LoggerType.ALL.value in names:
        return [*own, *get_available_trackers()]
    return own + [_known(name) for name in names if _can_be_had(name, logging_dir)]


def _known(name: str) -> LoggerType | str:
    return LoggerType(name) if name in LoggerType else name


def _can_be_had(name: str, logging_dir: Any) -> bool:
    if name not in LOGGER_TYPE_TO_CLASS and name not in LoggerType:
        known = [*LOGGER_TYPE_TO_CLASS, LoggerType.ALL.value]
        sentence = (
            f"Unsupported logging capability: {name}. Choose between {known}, or pass a "
            "GeneralTracker of your own"
        )
        raise ValueError(sentence)
    if name not in LOGGER_TYPE_TO_CLASS or (
        name in LoggerType and LoggerType(name) not in get_available_trackers()
    ):
        return False
    made: Any = LOGGER_TYPE_TO_CLASS[name]
    if made.requires_logging_directory and logging_dir is None:
        sentence = f"Logging with `{name}` requires a `logging_dir` to be passed in."
        raise ValueError(sentence)
    return True
