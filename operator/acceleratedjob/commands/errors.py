"""The errors of the commands: one class for each exit code that no error of a cluster has."""


class Misuse(ValueError):
    """The arguments contradict each other or the job, or their effect must be asked for."""


class NotDone(Exception):
    """What was waited for has not happened in time."""
