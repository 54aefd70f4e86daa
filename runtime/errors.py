"""The errors of the runtime: one class for each way in which a person can react."""

import difflib
from collections.abc import Iterable


def no_attribute(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """Create the error for a name that a module does not have; it suggests a similar name.

    >>> str(no_attribute("runtime", "Acelerator", ["Accelerator"]))
    "module 'runtime' has no attribute 'Acelerator'; did you mean 'Accelerator'?"

    Args:
        module: the name of the module.
        name: the name that it does not have.
        known: the names that it has.
    """
    similar = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


class WorldError(RuntimeError):
    """The environment does not describe a valid world; the message says what to change."""


class DistributedOperationException(Exception):
    """Processes have called a collective with tensors of different structures.

    The message says which process has which keys, dtypes and shapes.
    """


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the checkpoints on storage are unchanged."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint does not match its manifest; the message says where. An older one may do."""


class ControlLost(RuntimeError):
    """All ranks were about to stop or save, and this rank could not learn what they do.

    It must not go on alone: the processes of the job end and start again.
    """


class MissingProcesses(RuntimeError):
    """A collective has failed, since processes are missing; the message names them.

    The message also says at which line of the script they are. Their logs show the cause.
    """
