"""The client: trains functions and scripts on a cluster or on this machine, by the same calls."""

import os
import secrets
import string
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from acceleratedjob.api.names import View
from acceleratedjob.api.schema import integer
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import utc_now
from acceleratedjob.client.backend import Backend
from acceleratedjob.client.code import Arguments, Source, config_map, read_code
from acceleratedjob.client.local import LocalBackend
from acceleratedjob.client.state import JobState, LogLine, failure_text
from acceleratedjob.client.training import SUFFIX_LENGTH, Training, job_manifest, job_name
from acceleratedjob.errors import InvalidSpec, JobFailed, LosesTraining
from acceleratedjob.observe.stops import is_at_rest, loss_of_a_stop

_LETTERS = string.ascii_lowercase + string.digits


class Client:
    """Trains functions and scripts, and follows, stops and deletes their jobs.

    `Client()` uses a cluster as kubectl does, with the permissions of the user; `Client.local()`
    runs the same jobs on this machine. All calls block, and may raise the errors of
    `acceleratedjob.errors`; those about the cluster are `ClusterError`. A client can be used as a
    context manager, which closes it.
    """

    def __init__(
        self,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
        image: str | None = None,
        backend: Backend | None = None,
    ) -> None:
        """Connect to a cluster.

        Args:
            namespace: the namespace of the jobs; by default that of the context, or of the pod that
                this runs in.
            context: the context of the kubeconfig; by default the current one.
            kubeconfig: the path of the kubeconfig; by default the one that kubectl would use.
            image: the image of jobs that name none.
            backend: where jobs run; by default on that cluster.

        Raises:
            ModuleNotFoundError: the extra `operator` is not installed.
            Unreachable: the kubeconfig cannot be used.
        """
        self._image = image
        self._backend = backend or _connected(kubeconfig, context, namespace)
        self._end = weakref.finalize(self, self._backend.leave)

    @classmethod
    def local(cls, workdir: str | os.PathLike[str] = ".") -> Self:
        """Return a client that runs jobs on this machine, with their pods as processes.

        A job ends with the program that has started it. Images, resources, Secrets and other
        volumes are ignored, as by `acceleratedjob run`.

        Args:
            workdir: the working directory of the processes. The checkpoints of a job are kept in
                the folder `NAME-checkpoint` in it.
        """
        return cls(backend=LocalBackend(Path(workdir)))

    @property
    def namespace(self) -> str:
        """The namespace of the jobs."""
        return self._backend.namespace

    def train(
        self,
        source: Source,
        *,
        args: Arguments | None = None,
        folder: str | os.PathLike[str] | None = None,
        replicas: int = 1,
        gpus: int = 0,
        processes: int | None = None,
        image: str | None = None,
        packages: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        checkpoint: str | Mapping[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
        pod: Mapping[str, Any] | None = None,
        container: Mapping[str, Any] | None = None,
        name: str | None = None,
        wait: bool = False,
    ) -> "Job":
        """Create a job that trains a function or a script, and return it.

        Every process of the job calls the function. It is sent as its source, without the module
        around it: what it uses must be its arguments, or be imported or defined inside it.

        Args:
            source: a function, or the path of a script.
            args: the keyword arguments of the function, of values that JSON has; or the
                command-line arguments of the script.
            folder: a folder to ship with the script, which becomes the working directory. Hidden
                files are left out.
            replicas: the number of pods.
            gpus: the number of GPUs of a pod.
            processes: the number of processes of a pod; by default one for each GPU, at least one.
            image: the image of the pods, with torch and this library; by default that of the
                client.
            packages: packages that pip installs when a pod starts, such as `einops==0.8.1`.
            env: environment variables. `PIP_INDEX_URL` and the like apply to the packages.
            checkpoint: where checkpoints are kept: the URL of an object store, such as
                `s3://bucket/runs`; the size of a volume to create, such as `20Gi`; or the fields of
                `spec.checkpoint`.
            resources: limits of the container, such as `{"cpu": 8, "memory": "32Gi"}`.
            spec: other fields of the spec of the job, such as `{"failurePolicy": {...}}`.
            pod: other fields of the spec of the pods, such as `nodeSelector` or `volumes`.
            container: other fields of the training container, such as `volumeMounts`.
            name: the name of the job; by default that of the function or script, with a random end.
            wait: whether to wait until the job has finished.

        Raises:
            NotShippable: the function needs more than its source, or the code is too large.
            InvalidSpec: an argument is invalid.
            AlreadyExists: a job has the name.
            JobFailed: `wait` is set, and the job has failed.
        """
        code = read_code(source, args, folder)
        suffix = "".join(secrets.choice(_LETTERS) for _ in range(SUFFIX_LENGTH))
        training = Training(
            name=name or job_name(_title(source), suffix),
            namespace=self.namespace,
            image=self._image_of(image),
            replicas=replicas,
            gpus=gpus,
            processes=processes,
            packages=packages,
            env=env or {},
            checkpoint=checkpoint,
            resources=resources or {},
            spec=spec or {},
            pod=pod or {},
            container=container or {},
        )
        shipped = config_map(
            code, training.packages, job=training.name, name=f"{training.name}-code-{suffix}"
        )
        manifest = job_manifest(training, code, config_map=shipped["metadata"]["name"])
        self._backend.create(manifest, shipped)
        job = Job(training.name, self)
        if wait:
            job.wait()
        return job

    def job(self, name: str) -> "Job":
        """Return the handle of a job that exists.

        Raises:
            NotFound: there is no job of the name.
        """
        self._backend.read(name)
        return Job(name, self)

    def get(self, name: str) -> JobState:
        """Return the state of a job.

        Raises:
            NotFound: there is no job of the name.
        """
        return JobState.from_manifest(self._backend.read(name))

    def list(self) -> list[JobState]:
        """Return the states of all jobs of the namespace; on this machine, of this client."""
        return [JobState.from_manifest(job) for job in self._backend.list()]

    def wait(self, name: str, *, timeout: float | None = None, check: bool = True) -> JobState:
        """Wait until a job has finished, and return its state.

        Args:
            name: the name of the job.
            timeout: how many seconds to wait; None for as long as it takes.
            check: whether to raise an error if the job has failed.

        Raises:
            JobFailed: the job has failed.
            NotFound: there is no job of the name, or it was deleted.
            TimeoutError: the job has not finished in time. It keeps running.
        """
        state = self._until(name, _has_finished, timeout, "finished")
        if check and state.failed:
            raise JobFailed(failure_text(state), name=name)
        return state

    def logs(
        self, name: str, *, replica: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        """Yield the lines of a job: those of the current attempt.

        Args:
            name: the name of the job.
            replica: the index of a replica; None for all.
            follow: whether to yield new lines, of later attempts, too, until the job has finished.

        Raises:
            InvalidSpec: the job has no such replica.
            NotFound: there is no job of the name.
        """
        if replica is not None:
            _check_replica(replica, self._backend.read(name))
        return self._backend.logs(name, replica=replica, follow=follow)

    def stop(self, name: str, *, timeout: float | None = None, force: bool = False) -> JobState:
        """Suspend a job, wait until its pods have ended, and return its state.

        Scripts over `accelerator.epochs` save a checkpoint before. `resume` lets the job go on. A
        job that has finished or is stopped stays so.

        Args:
            name: the name of the job.
            timeout: how many seconds to wait; None for as long as it takes.
            force: whether to stop a job that loses its training.

        Raises:
            LosesTraining: the job has begun, and keeps no checkpoints.
            NotFound: there is no job of the name.
            TimeoutError: the pods have not ended in time. The job stays suspended.
        """
        job = self._backend.read(name)
        if not _has_finished(job) and not job["spec"].get("suspend"):
            loss = None if force else loss_of_a_stop(job, utc_now())
            if loss is not None:
                raise LosesTraining(f"{loss}; to stop it nevertheless, use force=True")
            self._backend.suspend(name, True)
        return self._until(name, _is_stopped, timeout, "stopped")

    def resume(self, name: str) -> None:
        """Let a stopped job go on from its newest checkpoint.

        Raises:
            NotFound: there is no job of the name.
        """
        job = self._backend.read(name)
        if not _has_finished(job) and job["spec"].get("suspend"):
            self._backend.suspend(name, False)

    def delete(self, name: str) -> None:
        """Delete a job, its pods and its code. Checkpoints are kept.

        Raises:
            NotFound: there is no job of the name.
        """
        self._backend.delete(name)

    def close(self) -> None:
        """Close the connection. Jobs on a cluster go on; those on this machine end."""
        if self._end.detach() is not None:
            self._backend.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()

    def _until(self, name: str, holds: Any, timeout: float | None, what: str) -> JobState:
        try:
            return JobState.from_manifest(self._backend.until(name, holds, timeout))
        except TimeoutError:
            state = self.get(name)
            raise TimeoutError(
                f"{name} has not {what} within {timeout:g} s: it is {state.phase}, in attempt "
                f"{state.attempt}{f', {state.message}' if state.message else ''}"
            ) from None

    def _image_of(self, given: str | None) -> str | None:
        """Return the image of a job.

        Raises:
            InvalidSpec: a job on a cluster has none.
        """
        image = given or self._image
        if image is None and self._backend.needs_image:
            sentence = "is required on a cluster: name an image with torch and this library"
            raise InvalidSpec("image", f"{sentence}, here or in Client(image=...)")
        return image


@dataclass(frozen=True, slots=True)
class Job:
    """The handle of a job.

    Attributes:
        name: the name of the job.
        client: the client that knows it.
    """

    name: str
    client: Client = field(repr=False)

    def get(self) -> JobState:
        """Return its state now; see `Client.get`."""
        return self.client.get(self.name)

    def wait(self, *, timeout: float | None = None, check: bool = True) -> JobState:
        """Wait until it has finished, and return its state; see `Client.wait`."""
        return self.client.wait(self.name, timeout=timeout, check=check)

    def logs(self, *, replica: int | None = None, follow: bool = False) -> Iterator[LogLine]:
        """Yield its lines; see `Client.logs`."""
        return self.client.logs(self.name, replica=replica, follow=follow)

    def stop(self, *, timeout: float | None = None, force: bool = False) -> JobState:
        """Suspend it, and wait until its pods have ended; see `Client.stop`."""
        return self.client.stop(self.name, timeout=timeout, force=force)

    def resume(self) -> None:
        """Let it go on; see `Client.resume`."""
        self.client.resume(self.name)

    def delete(self) -> None:
        """Delete it; see `Client.delete`."""
        self.client.delete(self.name)


def _title(source: Source) -> str:
    return Path(source).stem if isinstance(source, str | os.PathLike) else source.__name__


def _check_replica(replica: int, job: View) -> None:
    size = job["spec"].get("replicas") or 1
    integer(minimum=0, maximum=size - 1)(replica, "replica")


def _has_finished(job: View) -> bool:
    return Status.from_manifest(job).finished


def _is_stopped(job: View) -> bool:
    """Whether a job has stopped; before it is suspended, it may be at rest by an earlier stop."""
    return _has_finished(job) or (bool(job["spec"].get("suspend")) and is_at_rest(job))


def _connected(kubeconfig: str | None, context: str | None, namespace: str | None) -> Backend:
    """Return the backend of a cluster.

    Raises:
        ModuleNotFoundError: the extra `operator` is not installed.
    """
    try:
        from acceleratedjob.client.cluster import ClusterBackend  # noqa: PLC0415  # an extra
        from acceleratedjob.kube.kubeconfig import usual_namespace  # noqa: PLC0415  # with it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Client() needs the extra `operator`, without which {error.name} is not installed: "
            "pip install 'acceleratedjob[operator]'; Client.local() does not need it",
            name=error.name,
        ) from error
    kubeconfig = kubeconfig or os.environ.get("KUBECONFIG")
    return ClusterBackend(kubeconfig, context, namespace or usual_namespace(kubeconfig, context))
