"""Formats numbers for people."""

import math
from typing import Any

from bench.case import Size

_STEPS = {  # unit -> factors and names, the largest first
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "": ((1.0, ""),),
}
UNITS = tuple(_STEPS)
LARGE = 10**5


def quantity(value: float, unit: str) -> str:
    """Format a value with its unit, in three digits.

    >>> quantity(0.000123, "s"), quantity(4.6e9, "B"), quantity(3760, ""), quantity(1.2, "s")
    ('123 µs', '4.6 GB', '3760', '1.2 s')
    """
    if math.isnan(value):
        return "—"
    steps = _STEPS[unit]
    factor, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{digits(value / factor)} {name}".strip()


def digits(value: float) -> str:
    """Format a number in three digits, or as a whole number if it is larger.

    >>> digits(1234.5), digits(999.6), digits(12.345), digits(0.5)
    ('1234', '1000', '12.3', '0.5')
    """
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"  # noqa: PLR2004  # four digits


def size_text(size: Size) -> str:
    """Format a size.

    >>> size_text({"samples": 10**7, "world": 512}), size_text({})
    ('samples 1e7, world 512', '')
    """
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in size.items())


def _number(value: Any) -> str:
    if isinstance(value, int) and value >= LARGE:
        return f"{value:.0e}".replace("e+0", "e")
    return str(value)
