"""Runs writes concurrently, and creations by a slow start.

The slow start is that of Kubernetes' Job controller: batches of 1, 2, 4, ... concurrent requests,
and none after a batch in which one failed. An exhausted quota then costs one request, not a
thousand.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

Work = Callable[[], Awaitable[None]]


def doubling(count: int) -> Iterator[slice]:
    """Yield the range of each batch.

    >>> [(batch.start, batch.stop) for batch in doubling(6)]
    [(0, 1), (1, 3), (3, 6)]
    """
    start, size = 0, 1
    while start < count:
        stop = min(start + size, count)
        yield slice(start, stop)
        start, size = stop, 2 * size


async def slow_start(works: Sequence[Work]) -> None:
    """Run works in growing batches, until a batch fails.

    Raises:
        Exception: the errors of the batch that failed, as for `together`.
    """
    for batch in doubling(len(works)):
        await together(works[batch])


async def together(works: Sequence[Work]) -> None:
    """Run works concurrently, and wait for all of them, even if one fails.

    Raises:
        Exception: the error of the only work that failed.
        ExceptionGroup: the errors of several works.
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
