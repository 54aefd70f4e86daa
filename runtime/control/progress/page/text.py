"""Formats numbers for people."""

from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "—"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_PREFIXES: Final = ((1.0, 1, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))


def whole(value: int | None) -> str:
    """Format a count.

    >>> whole(1234567), whole(None)
    ('1,234,567', '—')
    """
    return UNKNOWN if value is None else f"{value:,}"


def number(value: float | None) -> str:
    """Format a number that was measured, with four digits.

    >>> [number(value) for value in (0.123456, 1234567.8, 21.0, 1e-9, float("nan"), None)]
    ['0.1235', '1,234,568', '21', '1e-09', 'nan', '—']
    """
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"  # noqa: PLR2004


def duration(seconds: float | None) -> str:
    """Format a duration of seconds to days.

    >>> [duration(value) for value in (12, 754.9, 3723, 200000, None)]
    ['0:12', '12:34', '1:02:03', '2d 7:33:20', '—']
    """
    if seconds is None:
        return UNKNOWN
    days, rest = divmod(int(seconds), _DAY)
    hours, rest = divmod(rest, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    if not (days or hours):
        return f"{minutes}:{rest:02}"
    return f"{days}d {hours}:{minutes:02}:{rest:02}" if days else f"{hours}:{minutes:02}:{rest:02}"


def short(seconds: float | None) -> str:
    """Format the duration of a step.

    >>> [short(value) for value in (2.5, 0.0123, 0.00004, 0, None)]
    ['2.5 s', '12.3 ms', '40 µs', '0 µs', '—']
    """
    if seconds is None:
        return UNKNOWN
    factor, unit = next((by, name) for least, by, name in _PREFIXES if seconds >= least)
    return f"{seconds * factor:,.3g} {unit}" if seconds < 1e3 else f"{seconds:,.0f} s"  # noqa: PLR2004


def of(part: int | None, whole_: int | None) -> str:
    """Format a count and the total, if it is known.

    >>> of(540, 1080), of(540, None)
    ('540 / 1,080', '540')
    """
    return whole(part) if whole_ is None else f"{whole(part)} / {whole(whole_)}"


def clock(time: datetime | None) -> str:
    """Format a time.

    >>> clock(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02 03:04:05 UTC'
    """
    return UNKNOWN if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
