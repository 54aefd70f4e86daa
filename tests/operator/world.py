"""All that may happen to one job, its pods and its operator: the rules of test_machine.py.

The operator is the real one (controller, cache, queue, plan) over a store in memory. The machine
decides what its pods' containers do, when it hears of it, which of its writes fail and how, and
when it is killed.
"""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import parse_time
from acceleratedjob.cluster import Changed, Gone, Ref
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import FATES, KINDS, Clock, Fated, Operator
from tests.operator.containers import Containers
from tests.operator.telling import STALLS_AFTER, Telling

REF = Ref(names.KIND, "research", "digits")
MIN, MAX = 1, 4  # replicas
WHICH = st.integers(0, 7)  # of the pods there are, counted round
STOPPED = 143

SPECS = st.fixed_dictionaries(
    {
        "replicas": st.integers(MIN, MAX),
        "cleanPodPolicy": st.sampled_from(["Running", "All", "None"]),
        "failurePolicy": st.fixed_dictionaries(
            {
                "maxRestarts": st.sampled_from([3, 10, 1, 0]),
                "backoff": st.sampled_from(
                    [{"initialSeconds": 0}, {"initialSeconds": 10, "maxSeconds": 60}]
                ),
            }
        ),
    },
    optional={
        "elastic": st.just({"minReplicas": MIN, "maxReplicas": MAX}),
        "suspend": st.sampled_from([False, False, True]),
        "activeDeadlineSeconds": st.sampled_from([600, 3600, 20]),
        "startupDeadlineSeconds": st.sampled_from([600, 3600, 20]),
        "network": st.just({"isolate": True}),
        "stallDeadlineSeconds": st.just(STALLS_AFTER),
    },
)

CHANGES = st.fixed_dictionaries(
    {"suspend": st.sampled_from([False, False, True])}, optional={"replicas": WHICH}
)


class World(Containers, Telling, RuleBasedStateMachine):
    """What happens, and a note of what can be seen of it from outside."""

    @initialize(spec=SPECS)
    def begin(self, spec: Manifest) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.clock.run_until_complete(self.store.create(job(**spec)))
        self.processes = {}
        self.done = set()
        self.told: list[Manifest] = [{}]  # every status in the order of writing
        self.sizes: dict[int, int] = {}  # of each attempt
        self.counted: set[int] = set()  # attempts that a status has told to be whole
        self.fated = Fated(self.store, REF)
        self.nothing_is_told()
        self.was_wrong = False  # the operator's clock, at any time
        self.operator = Operator(self.clock, self.fated, self.ask)
        self.made: list[tuple[int, int, str]] = []  # attempt, index and uid of each pod, in order
        watches = (self._note_statuses(), self._note_pods())
        self.listeners = [self.clock.create_task(watch) for watch in watches]

    async def _note_pods(self) -> None:
        changes = self.store.watch("Pod")
        await anext(changes)  # the list of none
        async for change in changes:
            assert isinstance(change, Changed | Gone)
            metadata = change.object["metadata"]
            attempt, index = names.parse_pod_name(metadata["name"]) or (0, 0)
            pod = (attempt, index, metadata["uid"])
            if isinstance(change, Changed):
                self.made += [pod] if pod not in self.made else []
            elif index == self.sizes.get(attempt, 0) - 1 and attempt not in self.counted:
                # The last vouches for the others until they are counted: now nothing does.
                self.made = [each for each in self.made if each[0] != attempt]

    async def _note_statuses(self) -> None:
        async for change in self.store.watch(names.KIND):
            found = getattr(change, "objects", ()) or (getattr(change, "object", None),)
            self.told += [each.get("status") or {} for each in found if each]

    # What the cluster does to pods.

    @rule(which=WHICH, ready=st.booleans())
    def a_container_starts(self, which: int, ready: bool) -> None:
        pod = self.pick(which)
        if pod is not None:
            self.starts(pod, ready=ready)

    @rule()
    def all_become_ready(self) -> None:
        for pod in self.pods():
            self.starts(pod, ready=True)

    @rule(which=WHICH, code=st.sampled_from([1, 1, 137, 0, STOPPED]))
    def a_container_ends(self, which: int, code: int) -> None:
        pod = self.pick(which, running=True)
        if pod is not None:
            self.ends(pod, code)

    @rule(which=WHICH, grace=st.sampled_from([None, 0, 5]))
    def a_pod_is_deleted_by_hand(self, which: int, grace: int | None) -> None:
        pod = self.pick(which)
        if pod is not None:
            self.delete(pod, grace)

    @rule(which=WHICH)
    def a_pod_is_evicted(self, which: int) -> None:
        pod = self.pick(which, running=True)
        if pod is not None:
            self.evict(pod)

    @rule(which=WHICH)
    def a_pod_goes_with_its_node(self, which: int) -> None:
        pod = self.pick(which, running=True)
        if pod is not None:
            self.removed(pod)

    @rule(which=WHICH)
    def an_ended_pod_is_removed(self, which: int) -> None:
        """As when its idle node is scaled down."""
        pod = self.pick(which, running=False)
        if pod is not None and pod["status"].get("containerStatuses"):
            self.removed(pod)

    @rule(which=WHICH, reason=st.sampled_from(["ImagePullBackOff", "InvalidImageName"]))
    def a_container_cannot_be_made(self, which: int, reason: str) -> None:
        pod = self.pick(which, running=False)
        if pod is not None and "containerStatuses" not in pod["status"]:
            self.report(pod, {"waiting": {"reason": reason}})

    @rule(which=WHICH)
    def no_node_is_found(self, which: int) -> None:
        pod = self.pick(which, running=False)
        if pod is None or "nodeName" in pod["spec"]:
            return
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        self.store.change(Ref.of(pod), lambda each: each["status"].update(conditions=[scheduled]))

    @rule()
    def the_kubelet_does_what_it_was_asked_to(self) -> None:
        for pod in self.pods():
            if pod["metadata"].get("deletionTimestamp"):
                self.removed(pod)

    @rule(seconds=st.sampled_from([0.5, 5.0, 11.0, 36.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.elapsed += seconds
        for pod in self.pods():
            by = pod["metadata"].get("deletionTimestamp")
            if by and parse_time(by) <= self.clock.now():
                self.processes.pop(pod["metadata"]["uid"], None)  # ended, whoever hears of it
        self.clock.tick()

    # What its author does.

    @rule(changes=CHANGES)
    def the_spec_changes(self, changes: dict[str, Any]) -> None:
        spec = self.store.objects(names.KIND)[0]["spec"]
        if "elastic" not in spec or not MIN <= changes.get("replicas", MIN) <= MAX:
            changes.pop("replicas", None)
        self.store.change(REF, lambda found: found["spec"].update(changes))

    @rule(seed=st.integers(0, 3))
    def the_job_is_suspended_changed_and_resumed(self, seed: int) -> None:
        """So fast that no operator need see it suspended."""
        suspended = self.store.objects(names.KIND)[0]["spec"].get("suspend", False)
        change = {"suspend": True, "runtime": {"seed": seed}}
        self.store.change(REF, lambda found: found["spec"].update(change))
        self.store.change(REF, lambda found: found["spec"].update(suspend=suspended))

    # What happens to the operator.

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 5), ticks=st.integers(0, 30))
    def news_comes(self, kind: str, count: int, ticks: int) -> None:
        self.operator.hear(kind, count)
        self.clock.tick(ticks)

    @rule()
    def all_is_heard(self) -> None:
        self.operator.hear_all()
        self.clock.tick()

    @rule()
    def all_goes_well(self) -> None:
        """For a while: old pods go, new ones are made, and become ready."""
        for _ in range(2):
            self.all_is_heard()
            self.the_kubelet_does_what_it_was_asked_to()
        self.all_is_heard()
        self.all_become_ready()
        self.all_is_heard()

    @rule(kind=st.sampled_from(KINDS))
    def a_watch_has_a_gap(self, kind: str) -> None:
        self.operator.miss(kind)

    @rule(kind=st.sampled_from(KINDS), ticks=st.integers(0, 30), heard=st.booleans())
    def a_list_is_read_and_comes_late(self, kind: str, ticks: int, heard: bool) -> None:
        listed = self.store.snapshot(kind)
        self.clock.tick(ticks)
        if heard:
            self.operator.hear(kind)
        self.operator.controller.take(kind, listed)

    @rule(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=4))
    def writes_will_fail(self, fates: list[str]) -> None:
        self.fated.fates.extend(fates)

    @rule(answers=st.lists(st.sampled_from([202, 202, 503]), max_size=4))
    def coordinators_will_answer(self, answers: list[int]) -> None:
        self.operator.answers.extend(answers)

    @rule(ticks=st.integers(0, 30))
    def the_operator_is_killed(self, ticks: int) -> None:
        self.clock.tick(ticks)
        self.operator.kill()
        self.operator.start()

    @rule(hours=st.sampled_from([0, -1, 1]))
    def the_operators_clock_is_set(self, hours: int) -> None:
        """Back, ahead, or right."""
        self.clock.wrong = timedelta(hours=hours)
        self.was_wrong |= hours != 0
