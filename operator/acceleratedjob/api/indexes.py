"""Sets of replica indices as text, in the format of batch/v1's completedIndexes: `0,3-5,9`."""

from collections.abc import Iterable

from acceleratedjob.api.schema import text

_RANGE = r"\d{1,9}(-\d{1,9})?"
# Anyone who may write statuses can write a range; a range of a billion must not become a set.
MAX_INDEX = 10_000
indexes = text(rf"({_RANGE}(,{_RANGE})*)?", "replica indices such as 0,3-5")


def format_indexes(numbers: Iterable[int]) -> str:
    """Format a set of indices.

    >>> format_indexes({9, 0, 3, 4, 5}), format_indexes(())
    ('0,3-5,9', '')
    """
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def parse_indexes(written: str) -> frozenset[int]:
    """Parse the output of `format_indexes`.

    >>> sorted(parse_indexes("0,3-5,9")), parse_indexes("")
    ([0, 3, 4, 5, 9], frozenset())
    """
    numbers: set[int] = set()
    for part in filter(None, written.split(",")):
        low, _, high = part.partition("-")
        numbers.update(range(int(low), min(int(high or low), MAX_INDEX) + 1))
    return frozenset(numbers)
