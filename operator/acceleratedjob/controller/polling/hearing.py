"""Whom to ask, and what was answered: the last answer of each job, and since when it says so."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Told
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.progress import Progress, VerdictKind

SILENT_POLLS = 3  # a job is silent if so many polls in a row were not answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a job answers.

    Attributes:
        pod: the uid of the pod of replica 0.
        attempt: the attempt that the pod belongs to.
        address: the IP address of the pod.
        port: the port.
    """

    pod: str
    attempt: int
    address: str
    port: int


def target(spec: JobSpec, status: Status, pods: Iterable[Pod]) -> Target | None:
    """Return where a job answers; None if replica 0 of its attempt does not run.

    Args:
        spec: the spec of the job.
        status: the status of the job.
        pods: the pods of the job.
    """
    if status.finished or status.size is None:
        return None
    for pod in pods:
        is_main = (pod.attempt, pod.index) == (status.attempt, 0)
        if is_main and pod.running and pod.delete_by is None and pod.address:
            port = spec.network.progress_port
            return Target(pod=pod.uid, attempt=pod.attempt, address=pod.address, port=port)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was heard from one target; times are monotonic.

    Attributes:
        progress: the last answer.
        answered_at: when the last answer came.
        at: when the last poll ended.
        hangs_since: when an answer first said that this life hangs at this step.
        silent_since: when the first poll after the last answer was not answered.
        misses: the number of polls since the last answer.
        begins: whether the last answer was the first one of a later life.
    """

    progress: Progress | None = None
    answered_at: float = 0.0
    at: float = 0.0
    hangs_since: float | None = None
    silent_since: float | None = None
    misses: int = 0
    begins: bool = False

    def answered(self, progress: Progress, now: float) -> "Heard":
        """Return what is known after an answer."""
        hangs = progress.verdict(VerdictKind.HANG) is not None
        same = self.hangs_since if _is_same_place(self.progress, progress) else None
        since = (now if same is None else same) if hangs else None
        life = 0 if self.progress is None else self.progress.life
        return Heard(
            progress=progress,
            answered_at=now,
            at=now,
            hangs_since=since,
            begins=progress.life > life,
        )

    def missed(self, now: float) -> "Heard":
        """Return what is known after a poll without an answer."""
        since = now if self.silent_since is None else self.silent_since
        return replace(self, at=now, silent_since=since, misses=self.misses + 1)

    @property
    def is_silent(self) -> bool:
        """Whether several polls in a row were not answered."""
        return self.misses >= SILENT_POLLS

    def told(self) -> Told:
        """Return the facts for the planner."""
        return Told(
            progress=self.progress,
            hangs_for=_between(self.hangs_since, self.answered_at),
            silent_for=_between(self.silent_since if self.is_silent else None, self.at),
        )


def _is_same_place(old: Progress | None, new: Progress) -> bool:
    return old is not None and (old.life, old.step) == (new.life, new.step)


def _between(since: float | None, at: float) -> timedelta:
    return timedelta() if since is None else timedelta(seconds=at - since)


class Hearing:
    """The targets of all jobs of a controller, and what was heard from them."""

    def __init__(self) -> None:
        self._targets: dict[str, Target] = {}
        self._heard: dict[str, Heard] = {}
        self._answered_before: set[str] = set()  # to another operator

    def __len__(self) -> int:
        """Return the number of jobs that can be asked."""
        return len(self._targets)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the uids of the jobs that can be asked."""
        return iter(self._targets)

    def target(self, job: str) -> Target | None:
        """Return where a job answers; None if it cannot be asked."""
        return self._targets.get(job)

    def aim(self, job: str, target: Target | None, *, has_answered: bool = False) -> None:
        """Say where a job answers from now on; what another target has told is dropped.

        Args:
            job: the job.
            target: where it answers; None if it cannot be asked.
            has_answered: whether its attempt has ever answered, by its status.
        """
        if target == self._targets.get(job):
            return
        self.forget(job)
        if target is not None:
            self._targets[job] = target
            self._answered_before |= {job} if has_answered else set()

    def forget(self, job: str) -> None:
        """Drop a job that is gone."""
        self._targets.pop(job, None)
        self._heard.pop(job, None)
        self._answered_before.discard(job)

    def hear(self, job: str, target: Target, progress: Progress, now: float) -> bool:
        """Take an answer; return False if it is late, or of another attempt or an older life.

        One of another job says nothing about this one, not even that it is silent: two pods in the
        network of the same node have the same address, and the second one finds the port taken.
        """
        if target != self._targets.get(job) or progress.uid not in (None, job):
            return False
        before = self._heard.get(job, Heard())
        life = 0 if before.progress is None else before.progress.life
        if progress.attempt != target.attempt or progress.life < life:
            self.miss(job, target, now)
            return False
        self._heard[job] = before.answered(progress, now)
        return True

    def miss(self, job: str, target: Target, now: float) -> None:
        """Take that a poll was not answered."""
        if target == self._targets.get(job):
            self._heard[job] = self._heard.get(job, Heard()).missed(now)

    def last(self, job: str) -> Progress | None:
        """Return the last answer of the target of a job; None if there is none."""
        return self._heard.get(job, Heard()).progress

    def told(self, job: str, attempt: int) -> Told:
        """Return what an attempt has told; silence does not count if all jobs are silent now."""
        target = self._targets.get(job)
        if target is None or target.attempt != attempt:
            return Told()
        told = self._heard.get(job, Heard()).told()
        if told.silent_for and self._is_cut_off():
            return replace(told, silent_for=timedelta())
        return told

    def age(self, job: str, now: float) -> timedelta:
        """Return the time since the last answer of a job; zero if there is none."""
        heard = self._heard.get(job)
        return _between(None if heard is None or heard.progress is None else heard.answered_at, now)

    def is_of_note(self, job: str) -> bool:
        """Whether a job is silent, or tells a verdict or another life."""
        heard = self._heard.get(job, Heard())
        has_verdicts = heard.progress is not None and bool(heard.progress.verdicts)
        return heard.is_silent or heard.begins or has_verdicts

    def _is_cut_off(self) -> bool:
        """Whether several jobs have answered before, and none of them does now.

        Then the network of the operator is to blame, and no job.
        """
        known = [
            one
            for job, one in self._heard.items()
            if one.progress is not None or job in self._answered_before
        ]
        return len(known) > 1 and all(one.misses for one in known)
