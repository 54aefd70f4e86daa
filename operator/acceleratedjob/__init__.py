"""The operator of AcceleratedJobs, its command line, and a client for Python.

Importing this package is cheap; the first use of a name imports the client.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acceleratedjob.client.client import Client, Job
    from acceleratedjob.client.state import JobState, LogLine

__all__ = ["Client", "Job", "JobState", "LogLine"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from acceleratedjob.client import client, state  # noqa: PLC0415  # slow to import

    return getattr(client if name in ("Client", "Job") else state, name)
