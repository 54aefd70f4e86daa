"""Judges a training by what its ranks say: which rank hangs, which are slow, and which differ."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from runtime.control.beat import Beat
from runtime.control.messages import Collect, Compare, Compared, Digested, Judged, Look
from runtime.control.progress.snapshot import Verdict as Shown
from runtime.control.progress.snapshot import VerdictKind
from runtime.control.verdicts.hang import Order, Watch
from runtime.control.verdicts.life import Home, Life
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.search import Search
from runtime.control.verdicts.straggler import Slow, Stragglers
from runtime.control.verdicts.summary import Summary
from runtime.control.verdicts.verdict import Verdict

SECONDS = 1.0  # between two judgements


class Judge:
    """Judges one life; it reads no clock.

    Attributes:
        verdicts: the verdicts that hold now.
        hang: the hang that stands now, as the pods hear of it.
        news: the sentences of the verdicts that are new since they were taken.
    """

    def __init__(self, watch: Watch, homes: Mapping[int, Home]) -> None:
        """Begin with nothing heard.

        Args:
            watch: the life to judge, and how long a rank may stand.
            homes: rank -> where it runs.
        """
        self.verdicts: tuple[Shown, ...] = ()
        self.hang = Judged(None)
        self.news: list[str] = []
        self._life, self._homes = watch.life, dict(homes)
        self._watch = watch
        self._stragglers = Stragglers(life=watch.life)
        self._search = Search(size=len(homes))
        self._differ = self._search.found
        self._since: datetime | None = None  # when the ranks were found to differ
        self._beats: dict[int, Beat] = {}  # since the last judgement

    def next(self, life: Life) -> Watch:
        """Return what the judge of the next life begins with.

        Args:
            life: the next life.
        """
        return self._watch.begun(life)

    def hear(self, rank: int, beat: Beat) -> None:
        """Take a beat, for the next judgement."""
        self._beats[rank] = beat

    def lose(self, rank: int) -> None:
        """Note that the connection of a rank has ended."""
        self._watch = self._watch.lost(self._life, rank)
        self._stragglers = self._stragglers.lost(self._life, rank)

    def end(self, rank: int) -> None:
        """Note that the script of a rank has ended."""
        self._watch = self._watch.left(self._life, rank)

    def complete(self, seconds: float) -> None:
        """Note that a checkpoint is complete on storage.

        Args:
            seconds: the time from its beginning until it was complete.
        """
        self._watch = self._watch.completed(self._life, seconds)

    def take(self, rank: int, report: Report) -> None:
        """Take the report of a rank that was asked for."""
        self._watch = self._watch.told(self._life, rank, report)

    def settle(self, replica: int, node: str) -> None:
        """Note on which node a pod runs."""
        for rank, home in self._homes.items():
            if home.replica == replica:
                self._homes[rank] = Home(replica, node)

    def compare(self, rank: int, said: Digested | Compared) -> Compare | None:
        """Take what a rank says of its tensors; return a new question for all ranks."""
        before = self._search
        if isinstance(said, Digested):
            self._search = before.told(rank, said)
        else:
            self._search = before.answered(rank, said)
        return self._search.asked if self._search.asked != before.asked else None

    def judge(self, now: float, at: datetime) -> Collect | Look | None:
        """Judge by the beats since the last call; return what all are to be asked.

        Args:
            now: the time of a monotonic clock, in seconds.
            at: the same time, with its time zone.
        """
        beats, self._beats = self._beats, {}
        before = self._watch.verdict
        self._watch = self._watch.heard(self._life, beats, now)
        self._watch, order = self._watch.decided(self._homes)
        self._judge_speed(beats)
        self._judge_tensors(at)
        hang = self._watch.verdict
        if isinstance(order, Verdict):
            self.news.append(str(order))
            self.hang = Judged(Summary.of(order, at))
        elif before is not None and hang is None:
            self.news.append("the training goes on")
            self.hang = Judged(None)
        slow = (self._shown_slow(one) for one in self._stragglers.slow)
        self.verdicts = (*self._shown_hang(hang, at), *self._shown_divergence(), *slow)
        return self._question(order)

    @property
    def is_asking(self) -> bool:
        """Whether ranks or launchers were asked where the ranks are, and there is no verdict."""
        return self._watch.asked is not None and self._watch.verdict is None

    def _question(self, order: Order | Verdict | None) -> Collect | Look | None:
        if order is Order.COLLECT:
            return Collect()
        return Look(tuple(sorted(self._watch.silent))) if order is Order.LOOK else None

    def _judge_tensors(self, at: datetime) -> None:
        """Note whether ranks differ; what differed first stays, until other ranks do or none."""
        found, before = self._search.found, self._differ
        if found is not None and (before is None or before.ranks != found.ranks):
            self._since, self._differ = at, found
            self.news.append(str(found))
        elif found is None and before is not None:
            self._since, self._differ = None, None
            self.news.append("all ranks have the same tensors again")

    def _judge_speed(self, beats: Mapping[int, Beat]) -> None:
        known = {one.rank for one in self._stragglers.slow}
        self._stragglers = self._stragglers.heard(self._life, beats)
        new = (one for one in self._stragglers.slow if one.rank not in known)
        self.news += [one.told(self._homes.get(one.rank)) for one in new]

    def _shown_hang(self, verdict: Verdict | None, at: datetime) -> Iterable[Shown]:
        if verdict is not None:
            since = at - timedelta(seconds=verdict.seconds)
            known = next((one for one in self.verdicts if one.kind is VerdictKind.HANG), None)
            shown = Shown(kind=VerdictKind.HANG, text=str(verdict), rank=verdict.rank, since=since)
            yield known or _at_home(shown, verdict.home)

    def _shown_divergence(self) -> Iterable[Shown]:
        if self._differ is not None:
            ranks = self._differ.ranks if self._differ.has_majority else ()
            rank = ranks[0] if len(ranks) == 1 else None
            text = str(self._differ)
            shown = Shown(kind=VerdictKind.DIVERGENCE, text=text, rank=rank, since=self._since)
            yield _at_home(shown, None if rank is None else self._homes.get(rank))

    def _shown_slow(self, slow: Slow) -> Shown:
        home = self._homes.get(slow.rank)
        shown = Shown(kind=VerdictKind.STRAGGLER, text=slow.told(home), rank=slow.rank)
        return _at_home(shown, home)


def _at_home(shown: Shown, home: Home | None) -> Shown:
    """Return a verdict that says where its rank runs."""
    return shown if home is None else replace(shown, replica=home.replica, node=home.node or None)
