"""Reads a plain scalar of YAML into a value of JSON, as kubectl does.

kubectl's decoder follows YAML 1.1 in part: `yes` and `on` are booleans, `010` is octal, but `1:30`
and dates are text. PyYAML differs in these, so its resolver is not used. The cluster tests compare
this module with kubectl.
"""

import re

Scalar = str | int | float | bool | None

_TRUE = {"y", "yes", "true", "on"}
_FALSE = {"n", "no", "false", "off"}
_NULL = {"", "~", "null"}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {
    f"{sign}.{word}": float(f"{sign}inf")
    for sign in ("", "+", "-")
    for word in ("inf", "Inf", "INF")
}
_SPECIAL |= dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan"))
_BASES = (  # the digits of a whole number, and their base
    (re.compile(r"([-+]?)0[xX]([0-9a-fA-F]+)"), 16),
    (re.compile(r"([-+]?)0[bB]([01]+)"), 2),
    (re.compile(r"([-+]?)0[oO]?([0-7]+)"), 8),
    (re.compile(r"([-+]?)(0|[1-9][0-9]*)"), 10),
)
_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)
_WHOLE = 1e21  # from here on, kubectl writes a float with an exponent
MAX_LENGTH = 400  # characters of a number; a longer one is text


def read(text: str) -> Scalar:
    """Return the value of a scalar without quotes.

    >>> read("no"), read("010"), read("1_000"), read("1.0"), read("1:30"), read("two")
    (False, 8, 1000, 1, '1:30', 'two')
    """
    if _is_word(text, _NULL):
        return None
    if _is_word(text, _TRUE) or _is_word(text, _FALSE):
        return text.lower() in _TRUE
    if text in _SPECIAL:
        return _SPECIAL[text]
    return _number(text)


def is_surprising(text: str, value: Scalar) -> bool:
    """Whether a person might take a plain scalar for another value than YAML does.

    >>> is_surprising("no", False), is_surprising("false", False), is_surprising("010", 8)
    (True, False, True)
    """
    if isinstance(value, bool):
        return text.lower() not in ("true", "false")
    return isinstance(value, int | float) and bool(re.fullmatch(r"[-+]?0[0-9oO]\d*|.*_.*", text))


def _is_word(text: str, words: set[str]) -> bool:
    """Whether a text is one of some words: in lower case, capitalized or in capitals."""
    lower = text.lower()
    return lower in words and text in (lower, lower.capitalize(), lower.upper())


def _number(text: str) -> Scalar:
    if len(text) > MAX_LENGTH or not re.match(r"[-+.0-9]", text):
        return text
    plain = text.replace("_", "")
    whole = _integer(plain)
    if whole is not None:
        return whole
    return _shortened(float(plain), text) if _FLOAT.fullmatch(plain) else text


def _integer(plain: str) -> int | None:
    """Return a whole number of 64 bits; None for everything else."""
    for digits, base in _BASES:
        found = digits.fullmatch(plain)
        if found:
            value = int(found[1] + found[2], base)
            return value if _SMALLEST <= value <= _LARGEST else None
    return None


def _shortened(value: float, text: str) -> Scalar:
    """Return a float as JSON has it: 1.0 is 1, and a number that is too large is text."""
    if value in (float("inf"), float("-inf")):
        return text
    return int(value) if value.is_integer() and abs(value) < _WHOLE else value
