"""Logging in a world of several processes: who says what, and in which order.

Nothing is configured here: handlers and formats are the script's.
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
    """A logger that names the rank, and speaks on the main process only if not told otherwise.

    Each call takes two more arguments: `main_process_only` (default True), and `in_order` (default
    False), with which all processes speak one after the other, and must all call.
    """

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the rank in front."""
        msg, kwargs = super().process(msg, kwargs)
        kwargs.setdefault("stacklevel", 2)  # the caller's line, not this one's
        return f"[RANK {PartialState().process_index}] {msg}", kwargs

    def log(self, level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log, if it is for this process to do.

        Raises:
            RuntimeError: there is no state yet that tells which process this is.
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
        """Warn, unless these very words were said before; arguments of any kind are compared."""
        words = repr((args, kwargs))
        if words not in self._said:
            self._said.add(words)
            self.warning(*args, **kwargs)


def get_logger(name: str, log_level: str | None = None) -> MultiProcessAdapter:
    """A logger that knows of the other processes.

    Args:
        name: as for logging.getLogger.
        log_level: of it and of the root; default: ACCELERATE_LOG_LEVEL, else as they are.

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
