"""Whether a function surely does nothing but compute a number.

What cannot be seen through counts as impure: the answer is only used to leave calls out.
"""

import dis
import functools
import inspect
import math
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

_BUILTINS = {abs, bool, divmod, float, int, len, max, min, pow, round, sum}
_EFFECTS = ("DELETE_", "IMPORT_", "RAISE_", "STORE_ATTR", "STORE_DEREF", "STORE_GLOBAL", "YIELD_")


def is_pure(function: Any) -> bool:
    """Whether all that a function can reach is numbers, `math`, and functions like itself.

    >>> is_pure(lambda step: min(step / 10, math.cos(step)))
    True
    >>> is_pure(lambda step: print(step))
    False
    """
    return _is_pure(function, ())


def _is_pure(thing: Any, within: tuple[CodeType, ...]) -> bool:
    if isinstance(thing, functools.partial):
        return all(_is_pure(one, within) for one in (thing.func, thing.args, thing.keywords))
    if isinstance(thing, FunctionType):
        return thing.__code__ in within or _computes_only(thing, within)
    if isinstance(thing, dict):  # of a partial, or of a function's defaults
        return all(_is_pure(one, within) for one in thing.values())
    if isinstance(thing, tuple):
        return all(_is_pure(one, within) for one in thing)
    if isinstance(thing, BuiltinFunctionType | type):
        return thing in _BUILTINS or getattr(math, thing.__name__, None) is thing
    return thing is math or thing is None or isinstance(thing, int | float | str)


def _computes_only(function: FunctionType, within: tuple[CodeType, ...]) -> bool:
    code = function.__code__
    if any(isinstance(constant, CodeType) for constant in code.co_consts):
        return False
    if any(step.opname.startswith(_EFFECTS) for step in dis.get_instructions(code)):
        return False
    seen = inspect.getclosurevars(function)
    reached = (*seen.nonlocals.values(), *seen.globals.values(), *seen.builtins.values())
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return _is_pure((*reached, *defaults), (*within, code))
