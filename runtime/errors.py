"""The errors of the runtime: one class for each thing that a person does about it."""

import difflib
from collections.abc import Iterable


def no_attribute(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """Make the error for a name that a module does not have; it suggests a similar name.

    >>> str(no_attribute("runtime", "Acelerator", ["Accelerator"]))
    "module 'runtime' has no attribute 'Acelerator'; did you mean 'Accelerator'?"
    """
    similar = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


class WorldError(RuntimeError):
    """The environment does not describe a world that can train; the message says what to change."""


class DistributedOperationException(Exception):
    """Processes have called a collective with tensors of different structures.

    The message says which process has which keys, dtypes and shapes.
    """


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; the older ones are as they were."""


class MissingProcesses(RuntimeError):
    """A collective has failed: the message says which processes did not come, and where they are.

    What to do is up to those processes: their logs say more.
    """
