"""Anything may happen to a job at any moment, in any order: what must always hold does.

The operator is the real one (reconciler, cache, queue, plan) over a store in memory. The machine
decides what its pods' containers do, when it hears of it, which of its writes fail and how, and
when it is killed. At the end of each run the world is quiet, and the job must come to its end.
"""

from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from acceleratedjob import api
from acceleratedjob.api import Manifest
from acceleratedjob.cluster import Ref
from acceleratedjob.deciding import decide
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.observe import Observed, parse_time, read_pod
from acceleratedjob.reconciler import WATCHED
from acceleratedjob.status import Failure, Status
from tests.operator.builders import job
from tests.operator.clockwork import FATES, KINDS, Clock, Fated, Operator
from tests.operator.containers import Containers

REF = Ref(api.KIND, "research", "digits")
MIN, MAX = 1, 4  # replicas
WHICH = st.integers(0, 7)  # of the pods there are, counted round
TAKEN_AWAY = {"PodDeleted", "EvictionByEvictionAPI"}
STOPPED = 143
LONG = 3600.0

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
    },
)

CHANGES = st.fixed_dictionaries(
    {"suspend": st.sampled_from([False, False, True])}, optional={"replicas": WHICH}
)


def counts(failure: Failure) -> bool:
    """Whether a restart after a failure is counted, by the documentation."""
    return failure.reason not in TAKEN_AWAY and failure.exit_code != STOPPED


class Life(Containers, RuleBasedStateMachine):
    """The life of one job."""

    @initialize(spec=SPECS)
    def begin(self, spec: Manifest) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.clock.run_until_complete(self.store.create(job(**spec)))
        self.processes = {}
        self.done = set()
        self.told: list[Manifest] = [{}]  # every status in the order of writing
        self.fated = Fated(self.store, REF)
        self.operator = Operator(self.clock, self.fated)
        self.listener = self.clock.create_task(self._listen())

    async def _listen(self) -> None:
        async for change in self.store.watch(api.KIND):
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
        spec = self.store.objects(api.KIND)[0]["spec"]
        if "elastic" not in spec or not MIN <= changes.get("replicas", MIN) <= MAX:
            changes.pop("replicas", None)
        self.store.change(REF, lambda found: found["spec"].update(changes))

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

    @rule(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=4))
    def writes_will_fail(self, fates: list[str]) -> None:
        self.fated.fates.extend(fates)

    @rule(ticks=st.integers(0, 30))
    def the_operator_is_killed(self, ticks: int) -> None:
        self.clock.tick(ticks)
        self.operator.kill()
        self.operator.start()

    @rule(hours=st.sampled_from([0, -1, 1]))
    def the_operators_clock_is_set(self, hours: int) -> None:
        """Back, ahead, or right."""
        self.clock.wrong = timedelta(hours=hours)

    # What must always hold.

    @invariant()
    def one_attempt_at_a_time(self) -> None:
        """No pod may start, or run, while code of another attempt runs."""
        may_start = {
            api.parse_pod_name(pod["metadata"]["name"])[0]  # type: ignore[index]  # all are ours
            for pod in self.pods()
            if not pod["metadata"].get("deletionTimestamp")
            and "terminated"
            not in pod["status"].get("containerStatuses", [{"state": {}}])[0]["state"]
        }
        running = {attempt for attempt, _ in self.processes.values()}
        assert len(running) <= 1
        assert len(may_start | running) <= 1 or not running

    @invariant()
    def every_status_follows_from_the_one_before(self) -> None:
        self.clock.tick(2)
        for before, after in zip(self.told, self.told[1:], strict=False):
            if before != after:
                self.follows(Status.from_manifest({"status": before}), after)
        del self.told[:-1]

    def follows(self, old: Status, told: Manifest) -> None:
        new = Status.from_manifest({"status": told})
        assert not old.finished, "what is over is over"
        assert new.attempt - old.attempt in (0, 1)
        failed = new.failures[:1] != old.failures[:1]
        counted = failed and new.attempt > old.attempt and counts(new.failures[0])
        assert new.restarts - old.restarts == counted
        assert new.resizes - old.resizes in (0, new.attempt - old.attempt)
        if new.size is not None:
            assert new.replicas <= new.size
        if new.phase == api.Phase.SUCCEEDED:
            wanted = {(new.attempt, index) for index in range(new.size or 0)}
            assert wanted <= self.done

    def status(self) -> Status:
        return Status.from_manifest(self.store.objects(api.KIND)[0])

    # The end.

    def teardown(self) -> None:
        try:
            self.all_comes_to_its_end()
            self.nothing_is_left_to_do()
        finally:
            self.listener.cancel()
            self.operator.close()
            self.clock.close()

    def all_comes_to_its_end(self) -> None:
        """All is well from here, and the job is over in its time."""
        self.fated.fates.clear()
        self.clock.wrong = timedelta()
        if self.store.objects(api.KIND)[0]["spec"].get("suspend"):  # else there is no news
            self.store.change(REF, lambda found: found["spec"].update(suspend=False))
        for _ in range(40):
            if self.status().finished:
                break
            self.a_round()
        for _ in range(3):
            self.all_is_heard()
            self.the_kubelet_does_what_it_was_asked_to()

    def a_round(self) -> None:
        """Pods start, and when all are up their work is done."""
        self.all_is_heard()
        self.the_kubelet_does_what_it_was_asked_to()
        self.all_become_ready()
        self.all_is_heard()
        for pod in self.pods() if self.status().ready_time else ():
            self.ends(pod, 0)
        self.every_status_follows_from_the_one_before()
        self.one_attempt_at_a_time()
        self.time_passes(31.0)

    def nothing_is_left_to_do(self) -> None:
        (found,) = self.store.objects(api.KIND)
        status = self.status()
        assert status.finished
        pods = tuple(pod for pod in map(read_pod, self.pods()) if pod is not None)
        uids = {kind: [o["metadata"]["uid"] for o in self.store.objects(kind)] for kind in WATCHED}
        seen = Observed(
            status=status,
            pods=pods,
            service_uid=next(iter(uids["Service"]), None),
            policy_uid=next(iter(uids["NetworkPolicy"]), None),
        )
        _, made = decide(found, seen, self.clock.now())
        assert (made.steps, made.status) == ((), status)
        running = {pod.attempt for pod in pods if pod.ending is None}
        assert running <= {status.attempt}
        assert not running or found["spec"]["cleanPodPolicy"] == "None"


Life.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestLife = Life.TestCase
