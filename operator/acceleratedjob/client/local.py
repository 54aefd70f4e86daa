"""Runs the jobs of a client on this machine, each by a process of `client.host`."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from acceleratedjob.api.checkpoint import claim_name
from acceleratedjob.api.names import Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.client import host
from acceleratedjob.client.state import LogLine, processes
from acceleratedjob.errors import AlreadyExists, ClusterError, NotFound
from acceleratedjob.local.dealing import Gpus, check_gpus
from acceleratedjob.local.process import check_runnable

NAMESPACE = "default"
MAX_LINES = 100_000  # that are kept of a job; the oldest are dropped
MAX_ERROR = 2000  # characters of an error
END_SECONDS = 10  # beside the grace period of the pods, before a host is killed


class LocalJob:
    """A job, the process that runs it, and what was heard of it."""

    def __init__(self, job: Manifest, config_map: Manifest, workdir: Path) -> None:
        """Start a job."""
        self._news = threading.Condition()
        self._job = job
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._count = 0  # of all lines, with those that were dropped
        self._ended, self._said = False, ""  # what its process has complained of
        self._grace = JobSpec.from_manifest(job).grace_seconds
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed by `_listen`
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-m", host.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C interrupts the caller, not the job
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        checkpoints = workdir / claim_name(job["metadata"]["name"])
        self._send(
            {
                "objects": [config_map, job],
                "workdir": str(workdir),
                "checkpoints": str(checkpoints),
            }
        )

    @property
    def manifest(self) -> Manifest:
        """The job, as it was last heard of."""
        with self._news:
            return self._job

    def until(self, holds: Callable[[View], bool], timeout: float | None) -> Manifest:
        """See `Backend.until`."""
        with self._news:
            found = self._news.wait_for(lambda: holds(self._job) or self._ended, timeout)
            if holds(self._job):
                return self._job
        if not found:
            raise TimeoutError
        raise self._gone()

    def logs(self, replica: int | None, *, follow: bool) -> Iterator[LogLine]:
        """See `Backend.logs`."""
        seen = 0
        with self._news:
            first = self._lines[-1].attempt if self._lines else 0
        while True:
            with self._news:
                if follow:
                    self._news.wait_for(lambda: self._count > seen or self._ended)  # noqa: B023  # called at once
                new = [*self._lines][max(0, len(self._lines) - (self._count - seen)) :]
                seen, is_last = self._count, self._ended or not follow
            yield from (
                line for line in new if line.attempt >= first and replica in (None, line.replica)
            )
            if is_last:
                return

    def suspend(self, suspend: bool) -> None:
        """Set `spec.suspend`, and return when it is set, or when the job has ended."""
        self._send({"suspend": suspend})
        with self._news:
            self._news.wait_for(
                lambda: bool(self._job["spec"].get("suspend")) == suspend or self._ended
            )

    def end(self) -> None:
        """Ask all processes to end, and wait for them."""
        self.leave()
        try:
            self._process.wait(self._grace + END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()

    def leave(self) -> None:
        """Ask all processes to end, without waiting."""
        with contextlib.suppress(OSError, ValueError):  # it has ended
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _send(self, message: Any) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(f"{json.dumps(message)}\n")
                self._process.stdin.flush()
        except (OSError, ValueError):  # it has ended, as `_listen` hears
            self._process.poll()

    def _listen(self) -> None:
        """Note what the host writes, until it ends."""
        with contextlib.closing(self._process.stdout) as output:  # type: ignore[type-var]
            for text in output or ():
                if not text.endswith("\n"):  # it was killed while it wrote
                    break
                with self._news:
                    self._take(json.loads(text))
                    self._news.notify_all()
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()
        self._errors.close()
        with self._news:
            self._ended, self._said = True, said[-MAX_ERROR:]
            self._news.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        if host.JOB in message:
            self._job = message[host.JOB]
            return
        attempt, replica, text = message[host.LINE]
        rank = replica if processes(self._job) == 1 else None
        self._lines.append(LogLine(attempt=attempt, replica=replica, rank=rank, text=text))
        self._count += 1

    def _gone(self) -> ClusterError:
        name = self._job["metadata"]["name"]
        if self._process.poll() == 0:
            return NotFound(f"the job {name} was deleted")
        return ClusterError(f"the process that runs {name} has ended by an error:\n{self._said}")


class LocalBackend:
    """The jobs that a client runs on this machine."""

    def __init__(self, workdir: Path) -> None:
        """Create a backend without jobs.

        Args:
            workdir: the working directory of the processes, in which checkpoints are kept, too.
        """
        self._workdir = workdir.absolute()
        self._jobs: dict[str, LocalJob] = {}
        self._is_closed = False

    @property
    def namespace(self) -> str:
        """See `Backend.namespace`."""
        return NAMESPACE

    @property
    def needs_image(self) -> bool:
        """See `Backend.needs_image`."""
        return False

    def create(self, job: Manifest, config_map: Manifest) -> Manifest:
        """See `Backend.create`."""
        if self._is_closed:
            raise RuntimeError("the client must be open, but it was closed")
        name = job["metadata"]["name"]
        if name in self._jobs:
            raise AlreadyExists(f"this client has a job {name}: delete it, or choose another name")
        spec = JobSpec.from_manifest(job)
        check_runnable(spec)
        check_gpus(spec, Gpus.of_this_machine(), "gpus=0")
        shipped = config_map | {"metadata": config_map["metadata"] | {"namespace": NAMESPACE}}
        started = LocalJob(job, shipped, self._workdir)
        try:
            made = started.until(lambda one: "uid" in one["metadata"], None)
        except BaseException:
            started.end()
            raise
        self._jobs[name] = started
        return made

    def read(self, name: str) -> Manifest:
        """See `Backend.read`."""
        return self._job(name).manifest

    def list(self) -> list[Manifest]:
        """See `Backend.list`."""
        return [job.manifest for _, job in sorted(self._jobs.items())]

    def until(self, name: str, holds: Callable[[View], bool], timeout: float | None) -> Manifest:
        """See `Backend.until`."""
        return self._job(name).until(holds, timeout)

    def suspend(self, name: str, suspend: bool) -> None:
        """See `Backend.suspend`."""
        self._job(name).suspend(suspend)

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        job = self._job(name)
        job.end()
        del self._jobs[name]

    def logs(self, name: str, *, replica: int | None, follow: bool) -> Iterator[LogLine]:
        """See `Backend.logs`."""
        return self._job(name).logs(replica, follow=follow)

    def close(self) -> None:
        """See `Backend.close`."""
        self.leave()
        for job in self._jobs.values():
            job.end()

    def leave(self) -> None:
        """See `Backend.leave`."""
        self._is_closed = True
        for job in self._jobs.values():
            job.leave()

    def _job(self, name: str) -> LocalJob:
        try:
            return self._jobs[name]
        except KeyError:
            known = ", ".join(sorted(self._jobs)) or "none"
            raise NotFound(f"this client has no job {name}; it has: {known}") from None
