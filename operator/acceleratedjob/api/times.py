"""Parses and formats times as the API writes them."""

from datetime import UTC, datetime


def parse_time(text: str) -> datetime:
    """Parse a time of the API; the result is aware, in UTC."""
    return datetime.fromisoformat(text)


def format_time(time: datetime) -> str:
    """Format a time as the API does: in UTC, with whole seconds.

    >>> from datetime import UTC
    >>> format_time(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))
    '2026-01-02T03:04:05Z'
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)
