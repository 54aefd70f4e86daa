"""What the coordinator knows of a training: its progress, and the verdicts on it."""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from runtime.control.agreement.messages import Bye
from runtime.control.beat import Beat
from runtime.control.identity import Identity
from runtime.control.judge import SECONDS, Judge
from runtime.control.messages import (
    Alive,
    Checkpointed,
    Compare,
    Compared,
    Digested,
    Fell,
    Judged,
    Look,
    Message,
    Plan,
    Seen,
    Whereabouts,
)
from runtime.control.progress.respond import Page, pages
from runtime.control.progress.snapshot import (
    CheckpointProgress,
    LifeFailure,
    Snapshot,
    Tier,
    Totals,
)
from runtime.control.progress.tracker import Tracker
from runtime.control.verdicts.hang import Watch
from runtime.control.verdicts.life import Life
from runtime.control.verdicts.track import Limits

log = logging.getLogger(__name__)
_LOOKS = 10  # judgements in the least time after which a world may be said to hang
_ASKING_SECONDS = 0.1  # between two judgements while ranks are asked where they are


class Observer:
    """Follows one life of a job, and says what all ranks and launchers are to hear.

    Attributes:
        pages: the pages that show the progress, by their paths.
        judge_at: when to judge next, by the monotonic clock.
    """

    def __init__(self, identity: Identity, *, limits: Limits | None) -> None:
        """Begin with nothing heard.

        Args:
            identity: which ranks there are.
            limits: how long a rank may stand.
        """
        now = time.monotonic()
        self._tracker = Tracker(
            attempt=identity.attempt,
            ranks=identity.size,
            now=now,
            name=identity.name,
            uid=identity.uid,
        )
        self._identity = identity
        self._nodes: dict[int, str] = {}  # by the replica
        self._life = 0
        limits = limits or Limits()
        self._judge = self._judge_of(Watch(life=Life(identity.attempt, 0), limits=limits))
        # A hang that is to be found soon is looked for more often.
        self._seconds = min(SECONDS, limits.floor / _LOOKS)
        self.judge_at = now + self._seconds
        self.pages: dict[str, Page] = dict(pages(self.snapshot))

    def begin(self, life: int, failure: Fell | None, now: float) -> None:
        """Begin to follow another life.

        What was heard in the one before does not count in it; only how long steps take is known.

        Args:
            life: its number.
            failure: what has ended the one before.
            now: the monotonic time.
        """
        if failure is not None:
            self._tracker.fail(_shown(self._life, failure, self._identity, datetime.now(UTC)))
        self._life = life
        self._judge = self._judge_of(self._judge.next(Life(self._identity.attempt, life)))
        self._tracker.begin(life, now)

    def _judge_of(self, watch: Watch) -> Judge:
        judge = Judge(watch, self._identity.homes)
        for replica, node in self._nodes.items():
            judge.settle(replica, node)
        return judge

    @property
    def has_stepped(self) -> bool:
        """Whether a step was completed in this life."""
        return self._tracker.has_stepped

    @property
    def hang(self) -> Judged:
        """Which rank the others wait for now, if any."""
        return self._judge.hang

    @property
    def is_complete(self) -> bool:
        """Whether rank 0 has ended its last epoch."""
        return self._tracker.is_complete

    def snapshot(self) -> Snapshot:
        """Return what is known now."""
        return self._tracker.snapshot(time.monotonic(), datetime.now(UTC))

    def attend(self, replica: int, node: str) -> None:
        """Note on which node the launcher of a pod runs."""
        self._nodes[replica] = node
        self._judge.settle(replica, node)

    def see(self, seen: Seen) -> None:
        """Take what a launcher has seen of a rank."""
        self._judge.take(seen.rank, seen.report)

    def lose(self, rank: int) -> None:
        """Note that the connection of a rank has ended."""
        self._judge.lose(rank)

    def hear(self, rank: int, message: Message, now: float) -> Compare | None:
        """Take what a rank says; return a question for all ranks.

        Args:
            rank: the rank.
            message: what it says.
            now: the monotonic time.
        """
        if isinstance(message, Beat):
            self._tracker.hear(rank, message, now, life=self._life)
            self._judge.hear(rank, message)
        elif isinstance(message, Whereabouts):
            self._judge.take(rank, message.report)
        elif isinstance(message, Digested | Compared):
            return self._judge.compare(rank, message)
        elif isinstance(message, Bye):
            self._judge.end(rank)
        elif rank == 0:
            self._hear_of_all(message)
        return None

    def _hear_of_all(self, message: Message) -> None:
        """Take what rank 0 says for all ranks."""
        if isinstance(message, Plan):
            self._tracker.plan(
                Totals(
                    epochs=message.epochs,
                    steps_per_epoch=message.steps_per_epoch,
                    first_step=message.first_step,
                )
            )
        elif isinstance(message, Checkpointed):
            if message.tier is Tier.STORAGE:
                self._judge.complete(message.seconds)
            self._tracker.saved(
                CheckpointProgress(
                    step=message.step,
                    tier=message.tier,
                    time=datetime.now(UTC),
                    seconds=message.seconds,
                )
            )

    def judge(self, now: float) -> Iterator[Message]:
        """Judge the training, and yield what all are to hear; `Look` is for launchers only."""
        before = self._judge.hang
        yield self._judge.judge(now, datetime.now(UTC)) or Alive()
        seconds = min(self._seconds, _ASKING_SECONDS) if self._judge.is_asking else self._seconds
        self.judge_at = now + seconds
        if self._judge.hang != before:
            yield self._judge.hang
        self._tracker.judge(self._judge.verdicts, now)
        for sentence in self._judge.news:
            log.warning("runtime: %s", sentence)
        self._judge.news.clear()


def _shown(life: int, failure: Fell, identity: Identity, at: datetime) -> LifeFailure:
    return LifeFailure(
        life=life,
        rank=failure.rank,
        replica=failure.rank // identity.processes,
        exit_code=failure.status if failure.status >= 0 else None,
        signal=-failure.status if failure.status < 0 else None,
        exception=failure.exception,
        message=failure.message,
        step=failure.at_step,
        time=at,
    )


def for_launcher(message: Message, ranks: range) -> Message | None:
    """Return what the launcher of a pod hears; None: nothing.

    Args:
        message: what all are to hear.
        ranks: the ranks of the pod.
    """
    if isinstance(message, Look):
        chosen = tuple(rank for rank in message.ranks if rank in ranks)
        return Look(chosen) if chosen else None
    return message if isinstance(message, Alive | Judged) else Alive()
