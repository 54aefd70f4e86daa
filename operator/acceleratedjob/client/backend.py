"""The protocol of the two places where a client runs jobs: a cluster, and this machine."""

from collections.abc import Callable, Iterator
from typing import Protocol

from acceleratedjob.api.names import Manifest, View
from acceleratedjob.client.state import LogLine


class Backend(Protocol):
    """Jobs of one namespace. All methods block; each may raise `errors.ClusterError`."""

    @property
    def namespace(self) -> str:
        """The namespace of the jobs."""
        ...

    @property
    def needs_image(self) -> bool:
        """Whether jobs need an image."""
        ...

    def create(self, job: Manifest, config_map: Manifest) -> Manifest:
        """Create a job, and the ConfigMap that it owns; either both exist afterwards, or none.

        Raises:
            AlreadyExists: a job has the name.
            InvalidSpec: the job cannot run there.
            Refused: the API server does not accept one of them.
        """
        ...

    def read(self, name: str) -> Manifest:
        """Return a job.

        Raises:
            NotFound: there is none of the name.
        """
        ...

    def list(self) -> list[Manifest]:
        """Return all jobs, by their names."""
        ...

    def until(self, name: str, holds: Callable[[View], bool], timeout: float | None) -> Manifest:
        """Wait until something holds for a job, and return the job.

        Args:
            name: the name of the job.
            holds: whether it holds.
            timeout: how many seconds to wait; None for as long as it takes.

        Raises:
            NotFound: there is none of the name, or it was deleted.
            TimeoutError: it did not hold in time.
        """
        ...

    def suspend(self, name: str, suspend: bool) -> None:
        """Set `spec.suspend` of a job.

        Raises:
            NotFound: there is none of the name.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete a job, with its pods and its ConfigMap.

        Raises:
            NotFound: there is none of the name.
        """
        ...

    def logs(self, name: str, *, replica: int | None, follow: bool) -> Iterator[LogLine]:
        """Yield the lines of the current attempt, and of later ones if followed.

        Args:
            name: the name of the job.
            replica: the index of a replica; None for all.
            follow: whether to yield new lines until the job has finished.

        Raises:
            NotFound: there is no job of the name.
        """
        ...

    def close(self) -> None:
        """Release what is held; jobs on this machine end, and have ended afterwards."""
        ...

    def leave(self) -> None:
        """Do as `close`, without waiting for jobs to end."""
        ...
