"""The numbers of automatic checkpoints."""

import os
from pathlib import Path

from runtime.checkpoint.stores.store import Store


class Numbers:
    """Gives each new checkpoint of a store its number; only the main process asks for one.

    A number is the step, or the next one if that is lower than the number of a checkpoint that is
    there already: a number is used once, and a higher one was written later.
    """

    def __init__(self, store: Store) -> None:
        """Take a store, in which only the caller writes checkpoints."""
        self._store = store
        self.next = 0

    def take(self, step: int) -> tuple[int, Path]:
        """Return the number of a new checkpoint, and the directory to write it to."""
        number = max(step, self.next)
        while os.path.lexists(folder := self._store.stage(number)):  # not an automatic checkpoint
            number += 1
        self.next = number + 1
        return number, folder
