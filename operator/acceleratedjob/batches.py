"""Runs works side by side, and creations by a slow start: what fails in one place fails in all.

The slow start is that of Kubernetes' job controller: 1, 2, 4, ... side by side, and no more after a
batch in which one has failed. A quota that has no place left costs one request, not a thousand.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

Work = Callable[[], Awaitable[None]]


def doubling(count: int) -> Iterator[slice]:
    """Where each batch is.

    >>> [(batch.start, batch.stop) for batch in doubling(6)]
    [(0, 1), (1, 3), (3, 6)]
    """
    start, size = 0, 1
    while start < count:
        stop = min(start + size, count)
        yield slice(start, stop)
        start, size = stop, 2 * size


async def slow_start(works: Sequence[Work]) -> None:
    """Run works in growing batches until one fails.

    Raises:
        Exception: as `together`, of the batch in which one has failed.
    """
    for batch in doubling(len(works)):
        await together(works[batch])


async def together(works: Sequence[Work]) -> None:
    """Run works side by side to the end of each.

    Raises:
        Exception: the error of the only one that has failed.
        ExceptionGroup: the errors of several.
    """
    ended = await asyncio.gather(*(work() for work in works), return_exceptions=True)
    errors = [error for error in ended if isinstance(error, Exception)]
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, Exception):
            raise error
    if len(errors) > 1:
        raise ExceptionGroup(f"{len(errors)} of {len(works)} actions have failed", errors)
    if errors:
        raise errors[0]
