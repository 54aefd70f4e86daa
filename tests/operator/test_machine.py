"""Anything may happen to a job at any moment, in any order: what must always hold does.

What may happen is in world.py. At the end of each run the world is quiet, and the job must come to
its end.
"""

from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis.stateful import invariant

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest, Reason
from acceleratedjob.api.status import MAX_LIVES, Failure, Status
from acceleratedjob.api.training import Progress
from acceleratedjob.cluster import WATCHED
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import read_pod
from acceleratedjob.planner.planner import decide
from tests.operator.telling import STALLS_AFTER
from tests.operator.world import REF, STOPPED, World

TAKEN_AWAY = {"PodDeleted", "EvictionByEvictionAPI"}


def counts(failure: Failure) -> bool:
    """Whether a restart after a failure is counted, by the documentation."""
    return failure.reason not in TAKEN_AWAY and (
        failure.exit_code != STOPPED or failure.step is None
    )


class Life(World):
    """The life of one job."""

    # What must always hold.

    @invariant()
    def one_attempt_at_a_time(self) -> None:
        """No pod may start, or run, while code of another attempt runs."""
        may_start = {
            names.parse_pod_name(pod["metadata"]["name"])[0]  # type: ignore[index]  # all are ours
            for pod in self.pods()
            if not pod["metadata"].get("deletionTimestamp")
            and "terminated"
            not in pod["status"].get("containerStatuses", [{"state": {}}])[0]["state"]
        }
        running = {attempt for attempt, _ in self.processes.values()}
        assert len(running) <= 1
        assert len(may_start | running) <= 1 or not running

    @invariant()
    def no_pod_joins_a_gang_that_was_whole(self) -> None:
        self.clock.tick(2)
        for attempt, size in self.sizes.items():
            whole: set[int] = set()
            for index in (index for number, index, _ in self.made if number == attempt):
                assert len(whole) < size
                whole.add(index)

    @invariant()
    def all_pods_of_an_attempt_are_made_from_one_spec(self) -> None:
        made_from: dict[int, object] = {}
        for pod in self.pods():
            attempt, _ = names.parse_pod_name(pod["metadata"]["name"]) or (0, 0)
            env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
            seed = env.get("ACCELERATE_SEED")
            assert made_from.setdefault(attempt, seed) == seed

    @invariant()
    def every_status_follows_from_the_one_before(self) -> None:
        self.clock.tick(2)
        for before, after in zip(self.told, self.told[1:], strict=False):
            if before != after:
                self.follows(Status.from_manifest({"status": before}), after)
        del self.told[:-1]

    def follows(self, old: Status, told: Manifest) -> None:
        new = Status.from_manifest({"status": told})
        if old.finished:  # what is over is over: later generations are observed, and change nothing
            assert new == replace(old, observed_generation=new.observed_generation)
            return
        assert new.attempt - old.attempt in (0, 1)
        failed = new.ends[:1] != old.ends[:1]
        counted = failed and new.attempt > old.attempt and counts(new.ends[0])
        assert new.restarts - old.restarts == counted
        assert new.resizes - old.resizes in (0, new.attempt - old.attempt)
        if new.size is not None:
            self.sizes[new.attempt] = new.size
            self.counted |= {new.attempt} if new.created == new.size else set()
            assert new.replicas <= new.size
        assert {(new.attempt, index) for index in new.completed} <= self.done
        self.follows_from_what_was_told(old, new)
        if new.phase == names.Phase.SUCCEEDED:
            wanted = {(new.attempt, index) for index in range(new.size or 0)}
            assert wanted <= self.done

    def follows_from_what_was_told(self, old: Status, new: Status) -> None:
        """Within a life no step falls, and nothing is said that its training did not reach."""
        before, after = old.progress or Progress(step=0), new.progress or Progress(step=0)
        assert before.attempt <= after.attempt <= new.attempt
        lives = [(one.attempt, one.life) for one in (before, after)]
        assert lives[0] < lives[1] or (before.step or 0) <= (after.step or 0)
        self.follows_in_place(old, new)
        assert (after.step or 0) <= max(self.reached.get(after.attempt, 0), 1)  # 1: of a stop
        if new.checkpoint is not None:
            saved = max([1, *(one.saved for one in self.trainings.values())])  # 1: of a stop
            assert new.checkpoint.step <= saved
            assert old.checkpoint is None or old.checkpoint.step <= new.checkpoint.step
        if new.ends[:1] != old.ends[:1] and new.ends[0].reason == Reason.STALLED:
            self.was_judged_rightly(new.ends[0])

    def follows_in_place(self, old: Status, new: Status) -> None:
        """Each life is counted once, and what has ended it is known."""
        begun = new.restarts_in_place - old.restarts_in_place
        most = self.trainings[old.attempt].life if old.attempt in self.trainings else 0
        assert 0 <= begun <= max(0, most - old.life)
        assert new.life == (old.life + begun if new.attempt == old.attempt else 0)
        newest = [
            one.life
            for one in new.failures
            if (one.attempt, one.life is None) == (old.attempt, False)
        ]
        ended = range(old.life + begun)
        assert newest == list(reversed(ended))[: len(newest)]
        assert len(newest) >= min(begun, MAX_LIVES)

    def was_judged_rightly(self, failure: Failure) -> None:
        """By the newest life of its own attempt, and not before the deadline."""
        text = failure.message.removeprefix("has stalled: ")
        if not text.startswith("hang of "):
            return  # it was silent
        attempt, life, _ = map(int, text.removeprefix("hang of ").split("/"))
        assert attempt == failure.attempt
        assert life >= self.heard_life[attempt]
        lasted = self.clock.elapsed - self.first_told[text]
        assert lasted >= STALLS_AFTER or self.was_wrong

    def status(self) -> Status:
        return Status.from_manifest(self.store.objects(names.KIND)[0])

    # The end.

    def teardown(self) -> None:
        try:
            self.all_comes_to_its_end()
            self.nothing_is_left_to_do()
        finally:
            for listener in self.listeners:
                listener.cancel()
            self.operator.close()
            self.clock.close()

    def all_comes_to_its_end(self) -> None:
        """All is well from here, and the job is over in its time."""
        self.fated.fates.clear()
        self.clock.wrong = timedelta()
        if self.store.objects(names.KIND)[0]["spec"].get("suspend"):  # else there is no news
            self.store.change(REF, lambda found: found["spec"].update(suspend=False))
        for _ in range(40):
            if self.status().finished:
                break
            self.a_round()
        for _ in range(3):
            self.all_is_heard()
            self.the_kubelet_does_what_it_was_asked_to()
            self.time_passes(61.0)  # what has failed is tried again within a minute

    def a_round(self) -> None:
        """Pods start, and when all are up their work is done."""
        self.all_is_heard()
        self.the_kubelet_does_what_it_was_asked_to()
        self.all_become_ready()
        self.all_is_heard()
        for pod in self.pods() if self.status().ready_time else ():
            self.ends(pod, 0)
        self.every_status_follows_from_the_one_before()
        self.no_pod_joins_a_gang_that_was_whole()
        self.one_attempt_at_a_time()
        self.time_passes(31.0)

    def nothing_is_left_to_do(self) -> None:
        (found,) = self.store.objects(names.KIND)
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
