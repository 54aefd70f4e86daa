"""The digests that a rank has said something of, to answer questions about them."""

import threading
from collections.abc import Mapping
from itertools import islice

from runtime.control.frames import printable
from runtime.control.messages import MAX_TEXT, Compare, Compared, Digested
from runtime.control.verdicts.divergence import combined

_KEPT = 4  # tables, and the one that was asked for last


class Tables:
    """The last tables of digests; they may be kept by one thread and asked for by another."""

    def __init__(self) -> None:
        """Begin without a table."""
        self._lock = threading.Lock()
        self._by_step: dict[int, Mapping[str, int]] = {}
        self._asked = -1  # the step that was asked for last

    def keep(self, step: int, digests: Mapping[str, int]) -> Digested:
        """Keep a table; return what is said of it.

        Args:
            step: the number of completed optimizer steps.
            digests: the name of a tensor -> its digest.
        """
        with self._lock:
            self._by_step[step] = digests
            old = [one for one in list(self._by_step)[:-_KEPT] if one != self._asked]
            for one in old:
                del self._by_step[one]
        return Digested(step=step, tensors=len(digests), digest=_hex(combined(digests)))

    def compared(self, asked: Compare) -> Compared:
        """Return the answer to a question."""
        with self._lock:
            self._asked = asked.step
            table = self._by_step.get(asked.step)
        if table is None:
            return Compared(step=asked.step, count=asked.count, digest="")
        first = dict(islice(table.items(), asked.count))
        name, last = next(reversed(first.items()), ("", 0))
        is_there = 0 < asked.count <= len(table)
        return Compared(
            step=asked.step,
            count=asked.count,
            digest=_hex(combined(first)),
            name=printable(name)[-MAX_TEXT:] if is_there else "",
            last=_hex(last) if is_there else "",
        )


def _hex(digest: int) -> str:
    return f"{digest % 2**64:016x}"
