"""What the client returns: the state of a job, and the lines of its log."""

from dataclasses import dataclass
from typing import Any

from acceleratedjob.api.names import ConditionType, Phase, View
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.training import STORAGE, Goodput, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """The state of a job when it was read; None where something is not known.

    Attributes:
        name: the name of the job.
        namespace: its namespace.
        phase: a summary: Pending, Starting, Running, Restarting, Resizing, Suspended, Succeeded or
            Failed; Pending if the operator has not seen the job yet.
        message: why it is so, in a sentence; empty if there is nothing to say.
        replicas: the number of pods that are requested.
        ready: the number of pods that are ready.
        attempt: the number of earlier attempts.
        restarts: the number of restarts that counted towards `maxRestarts`.
        restarts_in_place: how many times the processes were started again in their pods.
        step: the number of completed optimizer steps.
        total_steps: the number of optimizer steps of the training.
        percent: how much of the steps is done, 0 to 100.
        eta_seconds: the estimated time to the end.
        loss: the last known loss.
        samples_per_second: the recent rate of the samples of all ranks.
        goodput: the productive part of the time, 0 to 1.
        checkpoint_step: the step of the newest checkpoint on storage.
        verdicts: what is wrong with the training now, such as `Straggling: rank 3 is slow`.
        failures: the last failures, the newest first.
    """

    name: str
    namespace: str
    phase: str = Phase.PENDING
    message: str = ""
    replicas: int = 1
    ready: int = 0
    attempt: int = 0
    restarts: int = 0
    restarts_in_place: int = 0
    step: int | None = None
    total_steps: int | None = None
    percent: int | None = None
    eta_seconds: int | None = None
    loss: str | None = None
    samples_per_second: float | None = None
    goodput: float | None = None
    checkpoint_step: int | None = None
    verdicts: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @classmethod
    def from_manifest(cls, job: View) -> "JobState":
        """Return the state of an AcceleratedJob."""
        status, metadata = Status.from_manifest(job), job["metadata"]
        progress, goodput = status.progress or Progress(), status.goodput or Goodput()
        saved = status.checkpoint
        on_storage = saved is not None and saved.tier == STORAGE
        return cls(
            name=metadata["name"],
            namespace=metadata["namespace"],
            phase=str(status.phase or Phase.PENDING),
            message=_message(status),
            replicas=int(job["spec"].get("replicas", 1)),
            ready=status.ready or 0,
            attempt=status.attempt,
            restarts=status.restarts,
            restarts_in_place=status.restarts_in_place,
            step=progress.step,
            total_steps=progress.total_steps,
            percent=progress.percent,
            eta_seconds=progress.eta_seconds,
            loss=progress.loss,
            samples_per_second=progress.samples_per_second,
            goodput=goodput.ratio,
            checkpoint_step=saved.step if saved is not None and on_storage else None,
            verdicts=tuple(_verdicts(status)),
            failures=status.failures,
        )

    @property
    def succeeded(self) -> bool:
        """Whether the training is complete."""
        return self.phase == Phase.SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the job has failed for good; restarts are over."""
        return self.phase == Phase.FAILED

    @property
    def finished(self) -> bool:
        """Whether the job has succeeded or failed."""
        return self.succeeded or self.failed


_WRONG = (ConditionType.HANGING, ConditionType.STRAGGLING, ConditionType.DIVERGED)


def _verdicts(status: Status) -> list[str]:
    found = (status.condition(one) for one in _WRONG if status.holds(one))
    return [f"{one.type}: {one.message}" for one in found if one is not None]


def _message(status: Status) -> str:
    """Return the sentence that explains a phase: of the end, or of the first pods that wait."""
    for type_ in (ConditionType.FAILED, ConditionType.COMPLETE, ConditionType.SUSPENDED):
        found = status.condition(type_)
        if found is not None and status.holds(type_):
            return found.message
    return next((one.message or one.reason for one in status.pending), "")


def failure_text(state: JobState) -> str:
    """Return the message of the error for a job that has failed."""
    first = next((one for one in state.failures if one.life is None), None)
    traceback = "" if first is None or first.traceback is None else f"\n{first.traceback}"
    return f"{state.name} has failed: {state.message}{traceback}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of the output of a training.

    Attributes:
        attempt: the number of the attempt that wrote it.
        replica: the index of the replica that wrote it.
        rank: the rank that wrote it; None if the replica has several, whose lines are mixed.
        text: the line, without its end.
    """

    attempt: int
    replica: int
    rank: int | None
    text: str

    def __str__(self) -> str:
        """Return the line with its rank, as `acceleratedjob logs` prints it."""
        who = f"replica {self.replica}" if self.rank is None else f"rank {self.rank}"
        return f"{who} | {self.text}"


def processes(job: View) -> int:
    """Return the number of processes of a replica of a job, at least 1."""
    status: Any = job.get("status") or {}
    return int(status.get("processesPerReplica") or 1)
