"""Follows a training in a cluster, and disturbs it once."""

import time
from dataclasses import replace

from bench.goodput import processes
from bench.goodput.cluster import tenants
from bench.goodput.cluster.faults import STEP, Disturbance, Target
from bench.goodput.cluster.job import Job
from bench.goodput.cluster.verdict import needs_a_person
from bench.goodput.ledger import Entry, Kind, Reader
from bench.goodput.outages import Exit, Hit, Story
from bench.goodput.schedule import Strike

TICK = 0.02  # seconds between two looks at the ledger


class Watch:
    """Follows a training: reads its ledger, notes the ends of its processes, disturbs it once."""

    def __init__(self, job: Job, disturbance: Disturbance | None) -> None:
        """Args: job: the training; disturbance: the fault; None for none."""
        self._job, self._disturbance = job, disturbance
        self._began = time.monotonic()
        self._ranks = job.spot.task.workload.work.ranks
        self._reader = Reader(job.spot.folder / "ledger")
        self._register, self._ends = tenants.Register(), processes.Ends()
        self._steps: dict[int, int] = {}  # rank -> its latest step
        self.entries: list[Entry] = []
        self.exits: list[Exit] = []
        self.hits: list[Hit] = []

    def tick(self) -> None:
        """Wait a little, and note what has happened."""
        self.exits += self._ends.wait(TICK)
        new = self._reader.new()
        is_born = any(one.kind is Kind.BORN for one in new)
        living = tenants.of_run(self._job.spot.run) if is_born else []
        for one in new:
            entry = replace(one, pid=self._register.pid(one, living))
            self.entries.append(entry)
            if entry.pid > 0:
                self._ends.watch(entry.pid)
            if entry.kind is Kind.STEP:
                self._steps[entry.rank] = entry.step
        if self._is_due:
            self._disturb()

    @property
    def _is_due(self) -> bool:
        if self._disturbance is None or self.hits:
            return False
        return len(self._steps) == self._ranks and min(self._steps.values()) >= STEP

    def _disturb(self) -> None:
        """Let the fault come, if what it hits is there."""
        assert self._disturbance is not None  # noqa: S101  # for mypy
        one, spot = self._disturbance, self._job.spot
        known = {entry.pid for entry in self.entries}
        found = tenants.victims(one, tenants.of_run(spot.run), known, self._job.system.variable)
        if found is None:
            return
        number = next(entry.rank for entry in self.entries if entry.pid == found.rank)
        self.hits.append(Hit(time.monotonic(), Strike(0.0, one.kind, number), found.rank))
        if one.target is Target.POD:
            self._job.delete_pod(one.pod)
        else:
            processes.send(spot.run, [found.target], one.sends)

    @property
    def is_done(self) -> bool:
        """Whether all ranks have said that the training is done."""
        done = {one.rank for one in self.entries if one.kind is Kind.DONE}
        return len(done) == self._ranks

    def is_stuck(self, now: float) -> bool:
        """Whether the training needs a person, at a time by the monotonic clock."""
        return needs_a_person(Story(self.entries, self.hits, []), began=self._began, now=now)

    def close(self) -> Story:
        """Return the story."""
        self._ends.close()
        return Story(self.entries, self.hits, self.exits)
