"""Kubernetes quantities such as 500m, 1.5, 8Gi.

`kubernetes.utils.parse_quantity` does the same, but importing it loads the whole client (0.8 s),
which `acceleratedjob render` and `acceleratedjob run` do not need.
"""

import re
from decimal import Decimal

from acceleratedjob.errors import shown

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
MAX_LENGTH = 64  # characters
# No part can match in two ways, so matching takes linear time. The exponent has at most two digits,
# because a number of 10^6 digits takes seconds; Kubernetes limits a quantity to 2^63-1.
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]{1,2})|([numkMGTPE]|[KMGTPE]i)?)"
)


def parse(text: str | float) -> Decimal:
    """Parse a quantity.

    >>> parse("500m"), parse("8Gi"), parse(2), parse("1e3")
    (Decimal('0.500'), Decimal('8589934592'), Decimal('2'), Decimal('1E+3'))

    Raises:
        ValueError: `text` is not a quantity.
    """
    given = text if isinstance(text, str) else shown(text)
    if len(given) > MAX_LENGTH:
        raise ValueError(f"a quantity has at most {MAX_LENGTH} characters, got {shown(text)}")
    found = _QUANTITY.fullmatch(given)
    if not found:
        raise ValueError(f"a quantity looks like 500m, 2 or 8Gi, got {shown(text)}")
    number, exponent, suffix = found.groups()
    return Decimal(number + (exponent or "")) * _SUFFIXES[suffix or ""]
