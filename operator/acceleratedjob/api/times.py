"""Parses and formats times as the API writes them."""

import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def parse_time(text: str) -> datetime:
    """Parse a time of the API; the result is aware, in UTC."""
    return datetime.fromisoformat(text)


def format_time(time: datetime) -> str:
    """Format a time as the API does: in UTC, with whole seconds.

    >>> from datetime import UTC
    >>> format_time(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))
    '2026-01-02T03:04:05Z'
    >>> format_time(datetime(1, 1, 1, tzinfo=UTC))  # strftime would not pad the year
    '0001-01-01T00:00:00Z'
    """
    return f"{time.replace(microsecond=0, tzinfo=None).isoformat()}Z"


def later(time: datetime, seconds: float) -> datetime:
    """Return a time some seconds later, or the last time there is: what a pod tells is not bounded.

    >>> later(datetime(2026, 1, 2), 3), later(datetime(2026, 1, 2), 1e300).year
    (datetime.datetime(2026, 1, 2, 0, 0, 3), 9999)
    """
    last = datetime.max.replace(tzinfo=time.tzinfo)
    return last if seconds >= (last - time).total_seconds() else time + timedelta(seconds=seconds)


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def is_time(text: str) -> bool:
    """Whether a text is a time in the format of `format_time`.

    >>> is_time("2026-01-02T03:04:05Z"), is_time("2026-02-31T03:04:05Z"), is_time("now")
    (True, False, False)
    """
    if not _FORM.fullmatch(text):
        return False
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


def age(seconds: float) -> str:
    """Format a duration in its two largest units.

    >>> [age(n) for n in (0, 59.9, 60, 3700, 90061)]
    ['0s', '59s', '1m', '1h1m', '1d1h']
    """
    left, parts = max(0, int(seconds)), []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        parts.append((number, unit))
    first = next((i for i, (number, _) in enumerate(parts) if number), 0)
    return "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number) or "0s"
