"""Logging with several processes: which processes log, and in which order.

Handlers and formats are not configured here: the script does this.
"""

import functools
import logging
import os
from collections.abc import MutableMapping
from typing import Any

from runtime.config.parsing import naming
from runtime.config.settings import Settings, env_name
from runtime.world.state import PartialState


class MultiProcessAdapter(logging.LoggerAdapter[logging.Logger]):
    """A logger that prefixes messages with the rank, and by default logs on the main process only.

    Each logging method takes two more arguments. `main_process_only` (default True): whether only
    the main process logs. `in_order` (default False): whether all processes log one after the
    other, by rank; all processes must make the call.
    """

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Prefix a message with the rank.

        Args:
            msg: the message.
            kwargs: the arguments of the logging method.

        Returns:
            The new message and arguments.
        """
        msg, kwargs = super().process(msg, kwargs)
        kwargs.setdefault("stacklevel", 2)  # reports the line of the caller
        return f"[RANK {PartialState().process_index}] {msg}", kwargs

    def log(self, level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log a message on the processes that `main_process_only` and `in_order` select.

        Args:
            level: the level of the message.
            msg: the message, a format string.
            *args: the arguments of the format string.
            **kwargs: `main_process_only`, `in_order`, and the arguments of `logging.Logger.log`.

        Raises:
            RuntimeError: the rank is unknown, because no Accelerator or PartialState was created.
        """
        if not PartialState.is_made():
            sentence = (
                "You must initialize the accelerate state by calling either `PartialState()` or "
                "`Accelerator()` before using the logging utility."
            )
            raise RuntimeError(sentence)
        main_process_only = kwargs.pop("main_process_only", True)
        in_order = kwargs.pop("in_order", False)
        if not self.isEnabledFor(level):
            return
        state = PartialState()
        msg, options = self.process(msg, kwargs)
        if not in_order:
            if state.is_main_process or not main_process_only:
                self.logger.log(level, msg, *args, **options)
            return
        for rank in range(state.num_processes):
            if rank == state.process_index:
                self.logger.log(level, msg, *args, **options)
            state.wait_for_everyone()

    @functools.cached_property
    def _said(self) -> set[str]:
        return set()

    def warning_once(self, *args: Any, **kwargs: Any) -> None:
        """Log a warning, unless the same arguments were logged before."""
        words = repr((args, kwargs))
        if words not in self._said:
            self._said.add(words)
            self.warning(*args, **kwargs)


def get_logger(name: str, log_level: str | None = None) -> MultiProcessAdapter:
    """Return a logger that takes the other processes into account.

    Args:
        name: the name of the logger, as for `logging.getLogger`.
        log_level: the level of this logger and of the root logger. By default the value of
            ACCELERATE_LOG_LEVEL; if that is not set, levels are unchanged.

    Raises:
        ValueError: the level is unknown.
    """
    logger = logging.getLogger(name)
    level = log_level or Settings.from_env(os.environ).log_level
    if level is not None:
        with naming(None if log_level else env_name("log_level")):
            level = _known(level)
        logger.setLevel(level)
        logging.root.setLevel(level)
    return MultiProcessAdapter(logger, {})


def _known(level: str) -> str:
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        sentence = f"Unknown level: {level!r}. It must be one of {', '.join(known)}, in any case"
        raise ValueError(sentence)
    return level.upper()
