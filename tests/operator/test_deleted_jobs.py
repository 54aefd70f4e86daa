"""A job that is deleted at any moment of a pass: it is forgotten, and nothing is made for it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import WATCHED, Gone, Ref
from acceleratedjob.controller.controller import Controller
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import Clock, Fated, Operator

REF = Ref(names.KIND, "research", "digits")


class Deleting(Fated):
    """A cluster in which a write comes just before the job's deletion, which is heard first."""

    controller: Controller
    moment: str = ""
    after: tuple[str, ...] = ()

    async def write_status(self, ref: Ref, status: Manifest, **options: Any) -> Any:
        done = await super().write_status(ref, status, **options)
        return await self._then_delete("status", done)

    async def create(self, manifest: Manifest) -> Any:
        return await self._then_delete(manifest["kind"], await super().create(manifest))

    async def create_pod(self, pod: Any) -> Any:
        return await self._then_delete("Pod", await super().create_pod(pod))

    async def _then_delete(self, moment: str, done: Any) -> Any:
        if moment == self.moment:
            self.moment = ""
            self.fates.extend(self.after)
            (found,) = self.store.objects(names.KIND)
            await self.store.delete(REF, uid=found["metadata"]["uid"])
            found["metadata"]["resourceVersion"] = str(self.store.version)
            self.controller.take(names.KIND, Gone(found))
        return done


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.run_until_complete(asyncio.sleep(0))
    made.close()


def operator_of(clock: Clock, moment: str, fates: tuple[str, ...] = ()) -> Operator:
    """One that has heard of a job, which is deleted at a moment of the first pass.

    Args:
        clock: of the operator.
        moment: the kind that is written then.
        fates: of the writes that come after.
    """
    store = LocalCluster(now=clock.now)
    cluster = Deleting(store, REF)
    made = Operator(clock, cluster)
    cluster.controller, cluster.moment, cluster.after = made.controller, moment, fates
    clock.run_until_complete(store.create(job(replicas=4)))
    made.hear(names.KIND)
    clock.tick()
    return made


@pytest.mark.parametrize(
    ("moment", "fates", "pods"),
    [
        pytest.param("status", (), 0, id="while its status is written"),
        pytest.param("Service", (), 4, id="while its Service is created"),
        pytest.param("Pod", (), 4, id="while its pods are created"),
        pytest.param("Pod", ("refused",) * 9, 1, id="and the others are refused"),
        pytest.param("Pod", ("never done",) * 9, 1, id="and the others fail"),
    ],
)
def test_a_job_that_is_deleted_in_a_pass_is_forgotten(
    clock: Clock, moment: str, fates: tuple[str, ...], pods: int
) -> None:
    operator = operator_of(clock, moment, fates)
    controller, store = operator.controller, operator.cluster.store
    assert controller.cache._pods == {}
    assert store.objects(names.KIND) == []
    assert len(store.objects("Pod")) == pods  # what came after is the garbage collector's
    for pod in store.objects("Pod"):
        store.remove(Ref.of(pod), uid=pod["metadata"]["uid"])
    for service in store.objects("Service"):
        store.remove(Ref.of(service), uid=service["metadata"]["uid"])
    for kind in WATCHED:
        operator.hear(kind)
    clock.elapsed += 60
    clock.tick()
    cache = controller.cache
    kept = (dict(cache.jobs), cache._pods, dict(cache._singles["Service"]), dict(cache._lost))
    assert kept == ({}, {}, {}, {})
    one = controller._reconciler
    tables = (one._since._seen, one._specs._known, one._unwritten)
    errors = (controller._backoff._errors, one._refusals._told)
    assert (*tables, *errors) == ({}, {}, {}, {}, {})
    assert (len(controller.queue), controller.queue._timers) == (0, {})
    operator.close()


def test_jobs_that_were_deleted_in_a_gap_of_the_watch_are_forgotten(clock: Clock) -> None:
    operator = operator_of(clock, "")
    store, controller = operator.cluster.store, operator.controller
    assert len(controller.cache.jobs) == 1
    (found,) = store.objects(names.KIND)
    clock.run_until_complete(store.delete(REF, uid=found["metadata"]["uid"]))
    operator.miss(names.KIND)
    assert controller.cache.jobs == {}
    assert controller._reconciler._specs._known == {}
    operator.close()


def test_a_pod_that_is_gone_by_its_deletions_answer_is_not_deleted_again(clock: Clock) -> None:
    """The watch may have told of its end before, or may be far behind."""
    operator = operator_of(clock, "")
    store, controller = operator.cluster.store, operator.controller
    operator.hear_all()
    for pod in store.objects("Pod"):
        store.remove(Ref.of(pod), uid=pod["metadata"]["uid"])
    store.change(REF, lambda found: found["spec"].update(suspend=True))
    operator.hear(names.KIND)  # and of no pod
    clock.tick(200)
    (uid,) = controller.cache.jobs
    assert controller.cache.pods(uid) == ()
    operator.close()
