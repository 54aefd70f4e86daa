"""What an operator knows of an attempt is in the job's status: another one goes on from there."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Ref
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.actions import CreatePod, DeletePod
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress
from acceleratedjob.planner.state import Plan
from tests.operator.builders import CONTAINER, NOW, ended, job, pod, spec
from tests.operator.clockwork import Clock, Fated, Operator
from tests.operator.containers import Containers

REF = Ref(names.KIND, "research", "digits")
THREE = spec(replicas=3)
UP = tuple(pod(index) for index in range(3))
RUNNING = progress(THREE, Observed(pods=UP), NOW)
LONGER_THAN_COUNTERS_WAIT = 6.0  # seconds


def reread(status: Status) -> Status:
    """A status as the operator that starts next finds it."""
    return Status.from_manifest({"status": status.to_manifest()})


def seen(status: Status, *pods: Pod, **facts: object) -> Observed:
    return Observed(status=reread(status), pods=pods, **({"service_uid": "s"} | facts))  # type: ignore[arg-type]  # a table's row


def actions(made: Plan) -> list[object]:
    return [a for group in made.steps for a in group if isinstance(a, CreatePod | DeletePod)]


class Life(Containers):
    """A job, its pods and an operator that may be killed after any number of the loop's turns."""

    def __init__(self, kill_after: int, manifest: Manifest) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.processes, self.done = {}, set()
        self.clock.run_until_complete(self.store.create(manifest))
        self.operator = Operator(self.clock, Fated(self.store, REF))
        self.kill_after = kill_after

    def turn(self) -> None:
        """What has happened is heard, by an operator that is killed meanwhile and by the next."""
        self.operator.hear_all()
        self.clock.tick(self.kill_after)
        self.operator.kill()
        self.operator.start()
        self.operator.hear_all()
        self.clock.tick()
        self.clock.elapsed += LONGER_THAN_COUNTERS_WAIT
        self.clock.tick()

    def status(self) -> Status:
        return Status.from_manifest(self.store.objects(names.KIND)[0])

    def start_all(self) -> None:
        for each in self.pods():
            self.starts(each, ready=True)

    def close(self) -> None:
        self.operator.close()
        self.clock.close()


@pytest.fixture(params=range(0, 40, 3), ids=lambda turns: f"killed after {turns} turns")
def life(request: pytest.FixtureRequest) -> Iterator[Callable[[Manifest], Life]]:
    made: list[Life] = []

    def begin(manifest: Manifest) -> Life:
        made.append(Life(request.param, manifest))
        made[0].turn()
        made[0].start_all()
        made[0].turn()
        return made[0]

    yield begin
    for each in made:
        each.close()


def test_replicas_that_are_done_stay_done_when_their_pods_and_the_operator_are_gone(
    life: Callable[[Manifest], Life],
) -> None:
    world = life(job(replicas=3))
    for index in (1, 2):
        world.ends(world.pods()[index], 0)
    world.turn()
    for done in world.pods()[1:]:  # their idle nodes are scaled down
        world.removed(done)
    world.turn()
    status = world.status()
    assert (status.phase, status.ready_ratio, status.attempt) == ("Running", "3/3", 0)
    assert [each["metadata"]["name"] for each in world.pods()] == ["digits-0-0"]
    world.ends(world.pods()[0], 0)
    world.turn()
    assert (world.status().phase, world.status().attempt) == ("Succeeded", 0)


def test_a_replica_that_vanishes_beside_done_ones_begins_the_gang_anew(
    life: Callable[[Manifest], Life],
) -> None:
    """All had a pod, so none may join those that are left."""
    world = life(job(replicas=3, failurePolicy={"backoff": {"initialSeconds": 0}}))
    world.ends(world.pods()[2], 0)
    world.turn()
    world.removed(world.pods()[2])
    world.turn()
    world.removed(world.pods()[0])
    world.operator.kill()
    for _ in range(3):
        world.turn()
        world.the_kubelet_stops_what_is_deleted()
    assert world.status().attempt == 1
    assert [each["metadata"]["name"] for each in world.pods()] == [
        f"digits-1-{i}" for i in range(3)
    ]


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(
            seen(replace(RUNNING, completed_indexes="1-2"), UP[0]),
            ("Running", "3/3", 2, []),
            id="two are done and gone: nothing is made anew",
        ),
        pytest.param(
            seen(replace(RUNNING, completed_indexes="1-2"), ended(0)),
            ("Succeeded", "3/3", 3, []),
            id="the last one ends: all are done",
        ),
        pytest.param(
            seen(replace(RUNNING, completed_indexes="2"), *UP[:2], lost=(pod(2, disrupted="x"),)),
            ("Running", "3/3", 1, []),
            id="what happens to the pod of one that is done ends no attempt",
        ),
        pytest.param(
            seen(replace(RUNNING, replicas=1, completed_indexes="2"), UP[0]),
            ("Restarting", "0/3", 0, [DeletePod("digits-0-0", "u-digits-0-0", None)]),
            id="another one has vanished: a new attempt",
        ),
        pytest.param(
            seen(Status(completed_indexes="0", created=1), lost=()),
            ("Pending", "1/3", 1, [CreatePod(0, 1), CreatePod(0, 2)]),
            id="one was done before the others were made: they still are",
        ),
    ],
)
def test_which_replicas_are_done_is_in_the_status(
    observed: Observed, expected: tuple[str, str, int, list[object]]
) -> None:
    made = plan(THREE, observed, NOW)
    status = made.status
    told = (status.phase, status.ready_ratio, status.succeeded, actions(made))
    assert told == expected


def test_the_next_attempt_begins_with_none_done() -> None:
    at = seen(replace(RUNNING, completed_indexes="1-2"), ended(0, 1))
    status = plan(THREE, at, NOW).status
    assert (status.attempt, status.completed_indexes, status.created) == (1, None, 0)


def test_a_status_of_an_older_operator_is_gone_on_from() -> None:
    """It has no hash, no clocks and no indices of replicas."""
    old = replace(RUNNING, spec_hash=None, created=0, completed_indexes=None, waits=())
    made = plan(THREE, seen(old, *UP), NOW)
    assert (made.status.attempt, actions(made)) == (0, [])
    assert made.status.spec_hash == THREE.fingerprint
    gone = plan(THREE, seen(old, *UP[:2]), NOW)
    assert gone.status.phase == "Restarting"


# What an attempt was made from.


def other(**fields: object) -> JobSpec:
    return spec({"image": "train:2"}, replicas=3, **fields)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(other(), id="its template"),
        pytest.param(spec(replicas=3, processesPerReplica=2), id="processes in each replica"),
        pytest.param(spec(replicas=3, runtime={"seed": 1}), id="what the runtime is told"),
        pytest.param(spec(replicas=3, network={"port": 1234}), id="a port"),
        pytest.param(spec(replicas=3, scheduling={"gang": "volcano"}), id="who schedules it"),
        pytest.param(spec(replicas=3, sharedMemory={"sizeLimit": "1Gi"}), id="its /dev/shm"),
    ],
)
@pytest.mark.parametrize(
    "pods", [UP, tuple(ended(i) for i in range(3))], ids=["they run", "they are done"]
)
def test_what_pods_were_not_made_from_is_the_next_attempts(
    changed: JobSpec, pods: tuple[Pod, ...]
) -> None:
    """It was suspended, changed and resumed before the operator looked."""
    made = plan(changed, seen(RUNNING, *pods), NOW)
    status = made.status
    assert (status.phase, status.attempt, status.restarts) == ("Restarting", 1, 0)
    assert actions(made) == [DeletePod(each.name, each.uid, None) for each in pods]
    assert (status.world_size, status.spec_hash) == (
        Attempt.full(changed).world_size,
        changed.fingerprint,
    )
    after = plan(changed, seen(status), NOW)
    assert actions(after) == [CreatePod(1, index) for index in range(3)]


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(THREE, id="nothing"),
        pytest.param(spec(replicas=3, failurePolicy={"maxRestarts": 9}), id="the failure policy"),
        pytest.param(spec(replicas=3, ttlSecondsAfterFinished=9), id="when it is deleted"),
        pytest.param(spec(replicas=3, network={"port": 29500}), id="a default that is written out"),
        pytest.param(spec(replicas=3, processesPerReplica=1), id="what auto has found"),
        pytest.param(spec(replicas=3, elastic={"maxReplicas": 9}), id="between which sizes it is"),
    ],
)
def test_what_pods_do_not_depend_on_leaves_them_alone(same: JobSpec) -> None:
    made = plan(same, seen(RUNNING, *UP), NOW)
    assert (made.status.attempt, actions(made)) == (0, [])


def amounts(cpu: object, memory: object = "1Gi", **pod: object) -> JobSpec:
    """A job whose container and /dev/shm have such amounts."""
    resources = {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu}}
    trainer = CONTAINER | {"resources": resources, "env": [{"name": "CPU", "value": "1000m"}]}
    return spec(
        template={"spec": {"containers": [trainer]} | pod}, sharedMemory={"sizeLimit": memory}
    )


SCRATCH = {"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}]}


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        pytest.param(amounts("1000m"), amounts("1"), True, id="cores and their thousandths"),
        pytest.param(amounts("1"), amounts(1), True, id="a number and its text"),
        pytest.param(amounts("1", "1Gi"), amounts("1", "1024Mi"), True, id="another unit"),
        pytest.param(amounts("1e3"), amounts("1k"), True, id="an exponent"),
        pytest.param(
            amounts(1, **SCRATCH),
            amounts(1, volumes=[{"name": "scratch", "emptyDir": {"sizeLimit": "1024Mi"}}]),
            True,
            id="a volume's size",
        ),
        pytest.param(amounts(1), amounts(1, nodeName=None), True, id="null for what is not there"),
        pytest.param(amounts("1"), amounts("1001m"), False, id="a little more"),
        pytest.param(amounts("1", "1G"), amounts("1", "1Gi"), False, id="decimal and binary"),
        pytest.param(amounts(1), amounts(1, **SCRATCH), False, id="a volume"),
    ],
)
def test_one_amount_written_otherwise_is_the_same_spec(
    before: JobSpec, after: JobSpec, is_same: bool
) -> None:
    assert (before.fingerprint == after.fingerprint) == is_same


def test_the_hash_of_a_spec_is_the_same_in_each_version() -> None:
    """Jobs have it in their status: by another formula alone, an upgrade would restart them all."""
    resources = {"limits": {"nvidia.com/gpu": 4, "memory": "64Gi"}, "requests": {"cpu": "500m"}}
    made = spec(
        {"resources": resources, "env": [{"name": "A", "value": "b"}]},
        sharedMemory={"sizeLimit": "8Gi"},
        runtime={"mixedPrecision": "bf16"},
    )
    assert made.fingerprint == "f1d03bc25f476533"


def test_a_text_that_looks_like_an_amount_is_none() -> None:
    made = [
        spec({"env": [{"name": "CPU", "value": value}]}).fingerprint for value in ("1", "1000m")
    ]
    assert made[0] != made[1]


GPUS = {"resources": {"limits": {"nvidia.com/gpu": 4}}}


@pytest.mark.parametrize(
    ("before", "after", "attempt"),
    [
        pytest.param("auto", 4, 0, id="what auto has found"),
        pytest.param(4, "auto", 0, id="auto, which finds as many"),
        pytest.param(2, "auto", 1, id="auto, which finds more"),
        pytest.param("auto", 2, 1, id="fewer than auto has found"),
    ],
)
def test_a_number_of_processes_is_compared_with_what_auto_finds(
    before: object, after: object, attempt: int
) -> None:
    status = progress(spec(GPUS, processesPerReplica=before), Observed(pods=(pod(0), pod(1))), NOW)
    wanted = spec(GPUS, processesPerReplica=after)
    made = plan(wanted, seen(status, pod(0), pod(1)), NOW).status
    assert (made.attempt, made.processes_per_replica) == (
        attempt,
        wanted.processes,
    )


def test_an_operator_that_counts_other_devices_lets_an_attempt_be() -> None:
    """Its pods have their ranks; the next attempt has as many processes as are counted then."""
    now = spec(GPUS)
    assert now.fingerprint != spec(GPUS, processesPerReplica=4).fingerprint  # auto is recorded
    without = spec()  # what an operator found that knew no such device
    before = replace(
        progress(without, Observed(pods=(pod(0), pod(1))), NOW), spec_hash=now.fingerprint
    )
    made = plan(now, seen(before, pod(0), pod(1)), NOW)
    status = made.status
    assert (status.attempt, status.world_size, status.processes_per_replica) == (0, 2, 1)
    assert actions(made) == []
    again = plan(now, seen(status, pod(0), ended(1, 1)), NOW).status
    assert (again.attempt, again.world_size, again.processes_per_replica) == (1, 8, 4)


def test_a_job_that_was_done_before_it_was_suspended_has_succeeded() -> None:
    """Nobody looked meanwhile; the work is not done again when it is resumed."""
    done = tuple(ended(i) for i in range(3))
    made = plan(replace(THREE, suspend=True), seen(RUNNING, *done), NOW)
    assert (made.status.phase, made.status.attempt) == ("Succeeded", 0)
    some = plan(replace(THREE, suspend=True), seen(RUNNING, *done[:2], pod(2)), NOW)
    assert (some.status.phase, some.status.attempt) == ("Suspended", 1)
    another = plan(replace(other(), suspend=True), seen(RUNNING, *done), NOW)
    assert (another.status.phase, another.status.attempt) == ("Suspended", 1)


def test_a_job_that_is_suspended_and_resumed_at_once_runs_from_what_is_wanted(
    life: Callable[[Manifest], Life],
) -> None:
    world = life(job())
    template = {"spec": {"containers": [CONTAINER | {"image": "train:2"}]}}
    wanted = {"suspend": True, "template": template, "processesPerReplica": 2}
    world.store.change(REF, lambda found: found["spec"].update(wanted))
    world.store.change(REF, lambda found: found["spec"].update(suspend=False))
    for _ in range(3):
        world.turn()
        world.the_kubelet_stops_what_is_deleted()
    (found,) = world.store.objects(names.KIND)
    status = world.status()
    assert (status.attempt, status.restarts, status.world_size) == (1, 0, 4)
    assert status.observed_generation == found["metadata"]["generation"]
    containers = [each["spec"]["containers"][0] for each in world.pods()]
    assert [each["image"] for each in containers] == ["train:2"] * 2
    told = {e["value"] for c in containers for e in c["env"] if e["name"] == "PET_NPROC_PER_NODE"}
    assert told == {"2"}


# Since when each replica waits.


def stuck(index: int, reason: str = "ErrImagePull") -> Pod:
    return pod(index, ready=False, waiting=Waiting(reason=reason, message="no"))


def at(second: int, status: Status, *waiting: Pod) -> Status:
    """The next status, with these pods waiting and all others up."""
    up = [each for each in UP if each.index not in {one.index for one in waiting}]
    return plan(THREE, seen(status, *waiting, *up), NOW + timedelta(seconds=second)).status


def test_replicas_whose_images_are_slow_one_after_another_do_not_add_up() -> None:
    """Each takes 40 s; there is always one that waits."""
    status = at(0, RUNNING, stuck(0))
    status = at(39, status, stuck(0), stuck(1, "ImagePullBackOff"))
    status = at(41, status, stuck(1))
    status = at(78, status, stuck(1), stuck(2))
    status = at(80, status, stuck(2, "ImagePullBackOff"))
    status = at(117, status, stuck(2))
    assert (status.phase, status.attempt) == ("Starting", 0)
    assert at(118, status).phase == "Running"


def test_one_that_has_waited_for_too_long_ends_the_attempt_whatever_the_others_do() -> None:
    status = at(0, RUNNING, stuck(0), stuck(1))
    status = at(30, status, stuck(0, "ImagePullBackOff"), stuck(2))
    assert at(59, status, stuck(0), stuck(2)).phase == "Starting"
    failed = at(60, status, stuck(0), stuck(2))
    assert (failed.phase, [one.replica for one in failed.failures]) == ("Failed", [0])


def test_each_reason_has_its_own_time() -> None:
    status = at(0, RUNNING, stuck(0, "CreateContainerConfigError"))
    status = at(59, status, stuck(0, "ErrImagePull"))
    assert at(61, status, stuck(0, "ErrImagePull")).phase == "Starting"


def test_the_two_words_for_an_image_that_cannot_be_pulled_are_one_reason() -> None:
    status = at(0, RUNNING, stuck(0, "ErrImagePull"), stuck(1, "ImagePullBackOff"))
    assert [(one.count, one.since) for one in status.pending] == [(2, "2026-01-01T12:00:00Z")]
    assert [one.replicas for one in status.waits] == ["0-1"]
    since = at(30, status, stuck(1, "ErrImagePull"), stuck(2)).pending[0].since
    assert since == "2026-01-01T12:00:00Z"
    since = at(40, at(30, status, stuck(2)), stuck(2)).pending[0].since
    assert since == "2026-01-01T12:00:30Z"


def test_an_elastic_job_shrinks_when_one_replica_has_found_no_node_for_its_whole_patience() -> None:
    job = spec(replicas=3, elastic={"maxReplicas": 3})
    homeless = Waiting(reason="Unschedulable", message="no")
    lost = [pod(i, node=None, ready=False, waiting=homeless) for i in range(3)]
    status = plan(job, seen(RUNNING, lost[0], *UP[1:]), NOW).status
    late = NOW + timedelta(seconds=59)
    status = plan(job, seen(status, lost[0], lost[1], UP[2]), late).status
    found = plan(job, seen(status, UP[0], lost[1], UP[2]), NOW + timedelta(seconds=61)).status
    assert (found.size, found.resizes) == (3, 0)
    shrunk = plan(job, seen(found, UP[0], lost[1], UP[2]), NOW + timedelta(seconds=119)).status
    assert (shrunk.size, shrunk.resizes) == (2, 1)
