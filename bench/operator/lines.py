"""What is measured of the operator and of others, at which sizes, and what is asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.case import Size
from bench.operator import measures
from bench.operator.measures import Measure
from bench.operator.training import TRAINING_OPERATOR
from bench.operator.ways import INDEXED_JOB, OPERATOR, RAW, WITH_SERVICE, Way

WAYS = {way.name: way for way in (OPERATOR, INDEXED_JOB, WITH_SERVICE, TRAINING_OPERATOR, RAW)}
_CONTROLLERS = (OPERATOR, INDEXED_JOB, TRAINING_OPERATOR)
_BUT_KUBEFLOW = (OPERATOR, INDEXED_JOB, WITH_SERVICE, RAW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line."""

    name: str
    theme: str
    measure: Measure
    size: Size
    quick: Size  # of a quick run
    rounds: int = 1  # at most
    ways: Sequence[Way] = tuple(WAYS.values())

    def without(self, way: Way) -> "Line":
        """The line, not measured of one way."""
        return replace(self, ways=[one for one in self.ways if one is not way])


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is asked of the operator on a line.

    Raises:
        ValueError: there is both a peer and an upper limit, or a line does not measure the peer.
    """

    name: str
    what: str
    line: str
    fact: str  # of FACTS
    limit: float
    peer: str | None = None  # then at least `limit` times as much as it, else at most `limit`

    def __post_init__(self) -> None:
        """Check that it can be judged."""
        line = next((line for line in LINES if line.name == self.line), None)
        if line is None or (self.peer and self.peer not in {way.name for way in line.ways}):
            raise ValueError(f"{self.name}: a line must measure what is compared, got {self.line}")


FACTS = {  # name -> its title, and its unit, of bench.quantity
    "rate": ("pods/s", ""),
    "seconds": ("time", "s"),
    "pods": ("pods", ""),
    "services": ("Services", ""),
    "events": ("events", ""),
    "first": ("to the first pod", "s"),
    "together": ("all at once", "s"),
    "doubling": ("by a slow start", "s"),
    "times": ("slow start / all at once", ""),
    "restart": ("to the last new pod", "s"),
    "decision": ("to the decision", "s"),
    "writes": ("writes", ""),
    "all": ("writes of all", ""),
    "bytes": ("bytes", "B"),
    "cpu": ("CPU", "s"),
    "memory": ("memory", "B"),
    "delay": ("queue delay, p99", "s"),
}
THEMES = {  # name -> its title, and what its tables show
    "burst": (
        "Bursts",
        (
            "Jobs created all at once, `jobs x pods`: from the first request until all pods "
            "exist. Writes and bytes are a job's, up to when its pods run; CPU-seconds are the "
            "controller's in the same time, and memory is the most that it has had. The queue "
            "delay is from the event that asks for a pass to the pass, of those that tell it."
        ),
    ),
    "lifetime": (
        "Writes of a job",
        (
            "What the API server is asked to write from a job's creation until it has succeeded, a "
            "job: pods, Services and events created, and all writes in all."
        ),
    ),
    "first": (
        "First pod",
        (
            "A job on an idle cluster: from the request that creates it until a watch tells of its "
            "first pod."
        ),
    ),
    "creation": (
        "Slow start",
        (
            "The POSTs of a job's pods alone, from the first request to the last answer: all at "
            "once, and 1, 2, 4, ... side by side, as the operator and Kubernetes' job controller "
            "create them, so that a quota without a place left costs one request. Both take turns "
            "on one control plane, with the pods of the turns before on it."
        ),
    ),
    "restart": (
        "Restart",
        (
            "From the request that reports a pod's death until the last pod of the next attempt "
            "exists. The others must be deleted before; the backoff is 0."
        ),
    ),
    "decision": (
        "Decision",
        (
            "Among many jobs that run: from the request that reports a pod's death until the job's "
            "status, which is written before its pods are deleted, says that it restarts."
        ),
    ),
    "idle": (
        "Idle",
        (
            "Jobs that have succeeded: the operator's CPU-seconds a minute, its memory, and all "
            "writes that the API server has taken meanwhile, whoever's, but for Leases and nodes."
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
)
_AS_FAST = "Pods a second, next to "
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
        what="The operator's memory, at most",
        line="burst-1000x8",
        fact="memory",
        limit=400e6,
    ),
    Goal(name="first", what="First pod of a job", line="first-pod", fact="first", limit=0.1),
    Goal(
        name="decision",
        what="From a pod's death to the decision",
        line="decision",
        fact="decision",
        limit=1,
    ),
    Goal(name="idle", what="Writes while all is idle", line="idle", fact="writes", limit=0),
)
