"""The cases of the operator's benchmark, their sizes, and their goals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.case import Size
from bench.operator import measures, polling
from bench.operator.measures import Measure
from bench.operator.training import TRAINING_OPERATOR
from bench.operator.ways import INDEXED_JOB, OPERATOR, RAW, WITH_SERVICE, Way

WAYS = {way.name: way for way in (OPERATOR, INDEXED_JOB, WITH_SERVICE, TRAINING_OPERATOR, RAW)}
_CONTROLLERS = (OPERATOR, INDEXED_JOB, TRAINING_OPERATOR)
_BUT_KUBEFLOW = (OPERATOR, INDEXED_JOB, WITH_SERVICE, RAW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A case of the benchmark: a measurement at one size.

    Attributes:
        name: the name of the case.
        theme: the group of cases that it belongs to.
        measure: the measurement.
        size: the size of a full run.
        quick: the size of a quick run.
        rounds: the maximum number of rounds.
        ways: the ways that are measured.
    """

    name: str
    theme: str
    measure: Measure
    size: Size
    quick: Size
    rounds: int = 1
    ways: Sequence[Way] = tuple(WAYS.values())

    def without(self, way: Way) -> "Line":
        """Return the case without one of its ways."""
        return replace(self, ways=[one for one in self.ways if one is not way])


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A goal of the operator.

    Attributes:
        name: the name of the goal.
        what: a title for the page.
        line: the name of the case.
        fact: the measured quantity, a key of FACTS.
        limit: with a peer, the minimum ratio to the peer; without, the maximum value.
        peer: the name of the way to compare with; None for none.

    Raises:
        ValueError: the case does not exist, or does not measure the peer.
    """

    name: str
    what: str
    line: str
    fact: str
    limit: float
    peer: str | None = None

    def __post_init__(self) -> None:
        """Check that the case measures what the goal compares."""
        line = next((line for line in LINES if line.name == self.line), None)
        if line is None or (self.peer and self.peer not in {way.name for way in line.ways}):
            raise ValueError(f"{self.name}: a line must measure what is compared, got {self.line}")


FACTS = {  # name -> title and unit, a unit of bench.quantity
    "rate": ("pods/s", ""),
    "seconds": ("time", "s"),
    "pods": ("pods", ""),
    "services": ("Services", ""),
    "events": ("events", ""),
    "first": ("time to the first pod", "s"),
    "together": ("all at once", "s"),
    "doubling": ("with slow start", "s"),
    "times": ("slow start / all at once", ""),
    "restart": ("time to the last new pod", "s"),
    "decision": ("time to the decision", "s"),
    "writes": ("writes", ""),
    "all": ("all writes", ""),
    "bytes": ("bytes", "B"),
    "cpu": ("CPU", "s"),
    "memory": ("memory", "B"),
    "delay": ("queue delay, p99", "s"),
    "polls": ("requests", ""),
    "age": ("age of a status", "s"),
    "oldest": ("age of the oldest", "s"),
}
THEMES = {  # name -> title, and an explanation of the tables
    "burst": (
        "Bursts",
        (
            "All jobs are created at once (`jobs x pods`). The time is from the first request "
            "until all pods exist. Writes and bytes are per job, until its pods run. CPU is the "
            "CPU time of the controller in the same period, and memory is its peak. The queue "
            "delay is the time from an event to the reconcile that it requests, if the controller"
            " reports it."
        ),
    ),
    "lifetime": (
        "Writes of a job",
        (
            "The writes to the API server per job, from its creation until it has succeeded: the "
            "created pods, Services and events, and the totals."
        ),
    ),
    "first": (
        "First pod",
        (
            "One job on an idle cluster: the time from the request that creates it until a watch "
            "reports its first pod."
        ),
    ),
    "creation": (
        "Slow start",
        (
            "The POST requests for the pods of a job, from the first request to the last response: "
            "either all at once, or with a slow start of 1, 2, 4, ... concurrent requests. The "
            "operator and the Kubernetes job controller use a slow start, so that an exhausted "
            "quota costs one request. Both take turns on one control plane, which keeps the pods "
            "of earlier turns."
        ),
    ),
    "restart": (
        "Restart",
        (
            "The time from the request that reports the failure of a pod until the last pod of the "
            "next attempt exists. In between, the other pods are deleted. The backoff is 0."
        ),
    ),
    "decision": (
        "Decision",
        (
            "With many running jobs: the time from the request that reports the failure of a pod "
            "until the status of its job shows the restart. The status is written before the pods "
            "are deleted."
        ),
    ),
    "idle": (
        "Idle",
        (
            "With jobs that have succeeded: the CPU time of the operator per minute, its memory, "
            "and all writes to the API server by any client, except those to Leases and nodes."
        ),
    ),
    "training": (
        "Training",
        (
            "With jobs that train, of one pod each, for a minute: the requests for the progress, "
            "the writes of their status, the CPU time of the operator, and its memory. The age "
            "of a status is the time since the moment that it tells of, for the median job, and "
            "for the oldest of ten looks at all jobs."
        ),
    ),
}


def _burst(jobs: int, pods: int, *, rounds: int, ways: Sequence[Way]) -> Line:
    return Line(
        name=f"burst-{jobs}x{pods}",
        theme="burst",
        measure=measures.burst,
        size={"jobs": jobs, "pods": pods},
        quick={"jobs": max(1, jobs // 32), "pods": pods // 4},
        rounds=rounds,
        ways=ways,
    )


def _creation(pods: int) -> Line:
    return Line(
        name=f"creation-{pods}",
        theme="creation",
        measure=measures.creation,
        size={"jobs": 6, "pods": pods},
        quick={"jobs": 1, "pods": pods // 4},
        ways=(RAW,),
    )


def _restart(pods: int) -> Line:
    size = {"pods": pods}
    quick = {"pods": max(2, pods // 16)}
    return Line(
        name=f"restart-{pods}",
        theme="restart",
        measure=measures.restart,
        size=size,
        quick=quick,
        ways=(OPERATOR,),
    )


def _training(jobs: int) -> Line:
    return Line(
        name=f"training-{jobs}",
        theme="training",
        measure=polling.trains,
        size={"jobs": jobs, "pods": 1, "seconds": 60},
        quick={"jobs": max(2, jobs // 50), "pods": 1, "seconds": 10},
        ways=(OPERATOR,),
    )


LINES = (
    _burst(1, 512, rounds=9, ways=tuple(WAYS.values())),
    _burst(64, 8, rounds=9, ways=tuple(WAYS.values())),
    _burst(200, 8, rounds=9, ways=_BUT_KUBEFLOW),
    _burst(1000, 8, rounds=1, ways=_BUT_KUBEFLOW),
    Line(
        name="lifetime",
        theme="lifetime",
        measure=measures.lifetime,
        size={"jobs": 8, "pods": 8},
        quick={"jobs": 2, "pods": 8},
        ways=_CONTROLLERS,
    ),
    Line(
        name="first-pod",
        theme="first",
        measure=measures.first_pod,
        size={"jobs": 20, "pods": 1},
        quick={"jobs": 3, "pods": 1},
        ways=(*_CONTROLLERS, RAW),
    ),
    _creation(8),
    _creation(64),
    _creation(512),
    _restart(8),
    _restart(64),
    _restart(512),
    Line(
        name="decision",
        theme="decision",
        measure=measures.decision,
        size={"jobs": 1000, "pods": 8},
        quick={"jobs": 10, "pods": 2},
        ways=(OPERATOR,),
    ),
    Line(
        name="idle",
        theme="idle",
        measure=measures.idle,
        size={"jobs": 1000, "pods": 1, "seconds": 30},
        quick={"jobs": 10, "pods": 1, "seconds": 2},
        ways=(OPERATOR,),
    ),
    _training(20),
    _training(200),
    _training(1000),
)
_AS_FAST = "Pods per second, compared with "
GOALS = (
    *(
        Goal(
            name=f"{line}-{'kubeflow' if peer is TRAINING_OPERATOR else 'indexed'}",
            what=f"{_AS_FAST}{peer.title}",
            line=line,
            fact="rate",
            limit=limit,
            peer=peer.name,
        )
        for line, peer, limit in (
            ("burst-1x512", INDEXED_JOB, 1.5),
            ("burst-64x8", INDEXED_JOB, 1.3),
            ("burst-200x8", INDEXED_JOB, 1.3),
            ("burst-1x512", TRAINING_OPERATOR, 15),
            ("burst-64x8", TRAINING_OPERATOR, 15),
        )
    ),
    Goal(name="writes", what="Writes of a job of 8 pods", line="lifetime", fact="writes", limit=13),
    Goal(
        name="memory",
        what="Peak memory of the operator",
        line="burst-1000x8",
        fact="memory",
        limit=400e6,
    ),
    Goal(
        name="first",
        what="Time to the first pod of a job",
        line="first-pod",
        fact="first",
        limit=0.1,
    ),
    Goal(
        name="decision",
        what="Time from the failure of a pod to the decision",
        line="decision",
        fact="decision",
        limit=1,
    ),
    Goal(name="idle", what="Writes while idle", line="idle", fact="writes", limit=0),
    Goal(
        name="fresh",
        what="Age of the oldest status of 20 jobs that train",
        line="training-20",
        fact="oldest",
        limit=10,
    ),
    Goal(
        name="told",
        what="Writes a minute for 1,000 jobs that train",
        line="training-1000",
        fact="writes",
        limit=600,
    ),
)
