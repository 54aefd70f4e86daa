"""The errors of the runtime: one class for each thing that a person does about it."""


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
