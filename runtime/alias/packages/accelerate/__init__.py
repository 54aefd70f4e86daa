"""The package `accelerate` in processes in which this library takes its place.

Its names and submodules are those of `runtime`; each is imported when it is first used.
"""

import sys
from typing import Any

import runtime
from runtime.alias.modules import Aliases
from runtime.errors import no_attribute

__version__ = "1.15.0"  # of the Accelerate whose names these are; as in the METADATA beside it

sys.meta_path.insert(0, Aliases(__name__, runtime.__name__))


def __getattr__(name: str) -> Any:
    """Return the name of `runtime`."""
    try:
        return getattr(runtime, name)
    except AttributeError:
        raise no_attribute(__name__, name, dir(runtime)) from None


def __dir__() -> list[str]:
    return dir(runtime)
