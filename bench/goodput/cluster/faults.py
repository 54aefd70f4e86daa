"""The faults: each hits one of two pods once, when both ranks have done the same step."""

import enum
from dataclasses import dataclass
from signal import Signals

from bench.goodput.schedule import Fault

STEP = 275  # the completed steps of all ranks when a fault comes; no multiple of `systems.EVERY`
LIMIT = 60.0  # seconds in which no rank has written anything: a training needs a person
LONGEST = 300.0  # seconds after a fault, or the start, without a step of any rank


class Target(enum.Enum):
    """What a fault hits."""

    RANK = "the process of a rank"
    CONTAINER = "the first process of a container"
    POD = "a pod, by its deletion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """A fault of a training in a cluster.

    Attributes:
        name: its name.
        title: its title on the page.
        target: what it hits.
        pod: the index of the pod that it hits.
        sends: the signal that the target gets; a pod that is deleted gets those of the kubelet.
        kind: the kind of fault of the benchmark without a cluster that is most like it.
    """

    name: str
    title: str
    target: Target
    pod: int
    sends: Signals = Signals.SIGKILL
    kind: Fault = Fault.KILL


DISTURBANCES = (
    Disturbance(
        name="kill-1",
        title="`kill -9` of the rank in pod 1",
        target=Target.RANK,
        pod=1,
    ),
    Disturbance(
        name="delete-1",
        title="`kubectl delete pod` of pod 1",
        target=Target.POD,
        pod=1,
        kind=Fault.PREEMPT,
    ),
    Disturbance(
        name="kill-0",
        title="`kill -9` of the rank in pod 0",
        target=Target.RANK,
        pod=0,
        kind=Fault.KILL_FIRST,
    ),
    Disturbance(
        name="container-1",
        title="`kill -9` of PID 1 of the container of pod 1",
        target=Target.CONTAINER,
        pod=1,
    ),
    Disturbance(
        name="hang-1",
        title="SIGSTOP of the rank in pod 1",
        target=Target.RANK,
        pod=1,
        sends=Signals.SIGSTOP,
        kind=Fault.HANG,
    ),
)
NONE = "none"  # the name of a run without a fault
BY_NAME = {one.name: one for one in DISTURBANCES}
