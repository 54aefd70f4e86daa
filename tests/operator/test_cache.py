"""The cache: facts come twice, late and out of order, and what went unseen must be missed."""

from collections.abc import Sequence
from typing import Any

import pytest

from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.api.sections import MAX_REPLICAS
from acceleratedjob.cluster import Change, Changed, Gone, Listed
from acceleratedjob.controller.cache import Cache
from acceleratedjob.manifests import network
from tests.attempts import pod_of
from tests.operator.builders import UID, job, spec


def pod(
    index: int = 0, attempt: int = 0, *, at: int = 1, uid: str = "", phase: str = "Pending"
) -> Manifest:
    """The manifest of a pod, at a resource version."""
    made: dict[str, Any] = pod_of(spec(), attempt=attempt, index=index)
    made["metadata"] |= {"uid": uid or f"u{index}", "resourceVersion": f"{at}"}
    return made | {"status": {"phase": phase}}


def service(*, uid: str = "s", at: int = 1) -> Manifest:
    """The manifest of the job's Service."""
    made: dict[str, Any] = network.service(spec())
    made["metadata"] |= {"uid": uid, "resourceVersion": f"{at}"}
    return made


CREATED = {"metadata": pod(0, at=5)["metadata"], "kind": "Pod"}  # what a creation answers


def cache_after(kind: str, changes: Sequence[Change]) -> Cache:
    """A cache that knows the job, and has taken changes in order."""
    cache = Cache()
    cache.keep_job(job())
    for change in changes:
        cache.take(kind, change)
    return cache


@pytest.mark.parametrize(
    ("changes", "present", "lost"),
    [
        pytest.param([Listed((pod(0), pod(1)))], {"u0", "u1"}, set(), id="a list is taken whole"),
        pytest.param([Changed(pod(0)), Changed(pod(0))], {"u0"}, set(), id="an echo adds nothing"),
        pytest.param([Changed(pod(0)), Gone(pod(0, at=2))], set(), {"u0"}, id="one goes"),
        pytest.param(
            [Changed(pod(0)), Gone(pod(0, at=2)), Changed(pod(0))],
            set(),
            {"u0"},
            id="a late echo brings no pod back",
        ),
        pytest.param(
            [Changed(pod(0)), Changed(pod(0, at=5, uid="new")), Gone(pod(0, at=4))],
            {"new"},
            {"u0"},
            id="the end of a pod is not the end of the next of its name",
        ),
        pytest.param(
            [Listed((pod(0), pod(1)), version=1), Listed((pod(1),), version=2)],
            {"u1"},
            {"u0"},
            id="what a second list lacks has gone unseen",
        ),
        pytest.param(
            [Changed(pod(0, at=5)), Listed((), version=4)],
            {"u0"},
            set(),
            id="a list takes no pod away that is newer than the list",
        ),
        pytest.param(
            [Changed(CREATED), Listed((), version=4)],
            {"u0"},
            set(),
            id="nor one that only the answer to its creation has told of",
        ),
        pytest.param(
            [Changed(pod(0, at=5)), Listed((), version=5)],
            set(),
            {"u0"},
            id="a list as new as the pod does",
        ),
        pytest.param(
            [Changed(pod(1, at=9)), Listed((pod(0, at=3),), version=5)],
            {"u1"},
            set(),
            id="a list that comes late brings no pod back that may be gone by now",
        ),
        pytest.param(
            [Listed((pod(0),), version=5, more=True), Listed((pod(1),), version=5)],
            {"u0", "u1"},
            set(),
            id="the pages of a list are one list",
        ),
        pytest.param(
            [Changed(pod(0)), Changed(pod(1)), Listed((pod(0),), version=5, more=True)],
            {"u0", "u1"},
            set(),
            id="half a list takes nothing away",
        ),
        pytest.param(
            [Listed((pod(0),), version=5, more=True), Listed((pod(1),), version=9)],
            {"u1"},
            set(),
            id="of a list that was given up nothing is left",
        ),
        pytest.param(
            [Changed(pod(0)), Gone(pod(0, at=2) | {"status": {"conditions": [{}]}})],
            set(),
            {"u0"},
            id="one goes that cannot be read any more",
        ),
    ],
)
def test_the_pods_that_are_there_and_those_that_are_lost(
    changes: Sequence[Change], present: set[str], lost: set[str]
) -> None:
    cache = cache_after("Pod", changes)
    assert {pod.uid for pod in cache.pods(UID)} == present
    assert {pod.uid for pod in cache.lost(UID)} == lost


@pytest.mark.parametrize(
    ("versions", "seen"),
    [
        pytest.param([1, 2], 2, id="news is taken"),
        pytest.param([2, 1], 2, id="what comes late hides nothing newer"),
        pytest.param([1, 3, 2, 3], 3, id="nor between two of the same"),
    ],
)
def test_of_two_states_of_a_pod_the_newer_is_known(versions: list[int], seen: int) -> None:
    """Events and the answers to our own writes come in any order."""
    states = [pod(0, at=at) | {"spec": {"nodeName": f"n{at}"}} for at in versions]
    (known,) = cache_after("Pod", [Changed(state) for state in states]).pods(UID)
    assert known.node == f"n{seen}"


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        pytest.param([Changed(service())], {UID: "s"}, id="it is made"),
        pytest.param([Changed(service()), Gone(service())], {}, id="it goes"),
        pytest.param([Changed(service()), Listed((), version=1)], {}, id="it has gone unseen"),
        pytest.param(
            [Changed(service(at=5)), Listed((), version=4)], {UID: "s"}, id="newer than a list"
        ),
        pytest.param(
            [Changed(service(uid="new", at=5)), Listed((service(),), version=4)],
            {UID: "new"},
            id="newer than the one in a list",
        ),
        pytest.param(
            [Changed(service(uid="new")), Gone(service())], {UID: "new"}, id="an older one goes"
        ),
    ],
)
def test_the_service_that_is_there(changes: Sequence[Change], known: dict[str, str]) -> None:
    assert cache_after("Service", changes).single("Service", UID) == known.get(UID)


@pytest.mark.parametrize("known_first", [True, False], ids=["the job", "what claims it"])
@pytest.mark.parametrize("kind", ["Pod", "Service"])
def test_what_claims_a_job_of_another_namespace_is_not_its(kind: str, known_first: bool) -> None:
    """Uids are no secret: whoever may create pods somewhere can name any owner."""
    there = pod(at=9, phase="Failed", uid="theirs") if kind == "Pod" else service(uid="theirs")
    there["metadata"]["namespace"] = "elsewhere"
    here = pod(uid="ours") if kind == "Pod" else service(uid="ours")
    cache = Cache()
    if known_first:
        cache.keep_job(job())
    for change in (Changed(there), Changed(here), Changed(there)):
        cache.take(kind, change)
    cache.keep_job(job())
    for _ in range(2):
        if kind == "Pod":
            assert [one.uid for one in cache.pods(UID)] == ["ours"]
        else:
            assert cache.single(kind, UID) == "ours"
        cache.take(kind, Gone(there))
    assert cache.lost(UID) == ()


def test_an_older_job_does_not_replace_a_newer() -> None:
    cache = Cache()
    for version in (2, 1):
        manifest = job(replicas=version)
        manifest["metadata"]["resourceVersion"] = f"{version}"
        cache.keep_job(manifest)
    assert cache.jobs[UID]["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("attempt", "index", "kept"),
    [
        pytest.param(1, 0, False, id="an attempt that is history"),
        pytest.param(2, 0, True, id="the attempt"),
        pytest.param(3, 0, True, id="the next, which another operator may have begun"),
        pytest.param(4, 0, False, id="one that cannot be: somebody else has named it"),
        pytest.param(2, MAX_REPLICAS - 1, True, id="the last replica that a job may have"),
        pytest.param(2, MAX_REPLICAS, False, id="a replica that no job may have"),
    ],
)
def test_of_lost_pods_those_are_remembered_that_may_matter(
    attempt: int, index: int, kept: bool
) -> None:
    seen = pod(index, attempt)
    cache = cache_after("Pod", [Changed(seen), Gone(seen)])
    cache.forget_lost(UID, attempt=2)
    assert bool(cache.lost(UID)) == kept


def test_a_pod_that_cannot_be_read_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    odd = pod(0, at=2) | {"status": {"conditions": [{"status": "True"}]}}
    cache = cache_after("Pod", [Listed((odd, pod(1))), Changed(odd), Gone(odd)])
    assert ([one.index for one in cache.pods(UID)], cache.lost(UID)) == ([1], ())
    assert "ignoring unreadable pod research/digits-0-0" in caplog.text


def test_a_job_that_is_gone_leaves_nothing() -> None:
    cache = cache_after("Pod", [Changed(pod(0)), Gone(pod(0, at=2)), Changed(pod(1))])
    cache.forget(UID)
    cache.take("Pod", Gone(pod(1, at=3)))
    assert (dict(cache.jobs), cache._pods, cache.lost(UID)) == ({}, {}, ())


def test_a_pod_of_nobodys_concerns_no_job() -> None:
    stray = pod(0)
    del stray["metadata"]["ownerReferences"]
    assert Cache().take("Pod", Changed(stray)) == set()


def test_of_a_jobs_metadata_only_what_is_read_is_kept() -> None:
    cache = Cache()
    stored = job()
    stored["metadata"] |= {"resourceVersion": "7", "managedFields": [{}], "annotations": {"a": "b"}}
    cache.keep_job(stored)
    (kept,) = cache.jobs.values()
    assert kept["metadata"] == job()["metadata"] | {"resourceVersion": "7"}
    assert kept["spec"] == stored["spec"]


def test_a_change_of_what_is_not_read_asks_for_no_look() -> None:
    cache = cache_after("Pod", [Changed(pod(0, at=1))])
    assert cache.take("Pod", Changed(pod(0, at=2))) == set()
    started = pod(0, at=3) | {"spec": {"nodeName": "n0"}}
    assert cache.take("Pod", Changed(started)) == {UID}
    assert cache.take("Pod", Changed(pod(0, at=2))) == set()


@pytest.mark.parametrize("event_first", [True, False])
def test_what_a_creation_answers_hides_nothing_of_the_event_of_the_same_version(
    event_first: bool,
) -> None:
    event = pod(0)
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    event["status"]["conditions"] = [gated]
    answer = {"metadata": event["metadata"], "kind": "Pod"}
    order = [event, answer] if event_first else [answer, event]
    cache = cache_after("Pod", [Changed(one) for one in order])
    (seen,) = cache.pods(UID)
    assert seen.waiting is not None


def known_jobs(*changes: Change) -> set[str]:
    cache = Cache()
    for change in changes:
        cache.take(KIND, change)
    return set(cache.jobs)


def a_job(uid: str, *, at: int = 1) -> Manifest:
    made = job()
    made["metadata"] |= {"uid": uid, "resourceVersion": f"{at}"}
    return made


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        pytest.param(
            [Changed(a_job("a")), Changed(a_job("b")), Listed((a_job("b"),), version=5)],
            {"b"},
            id="one that a list does not have was deleted in a gap of the watch",
        ),
        pytest.param(
            [Changed(a_job("a", at=6)), Listed((), version=5)],
            {"a"},
            id="one that is newer than the list was created after it",
        ),
        pytest.param(
            [Changed(a_job("a")), Gone(a_job("a", at=6)), Listed((a_job("a"),), version=5)],
            set(),
            id="one that was deleted after a list is not brought back by it",
        ),
        pytest.param(
            [Listed((a_job("a"),), version=5, more=True), Listed((a_job("b"),), version=5)],
            {"a", "b"},
            id="all pages count",
        ),
    ],
)
def test_the_jobs_that_there_are(changes: Sequence[Change], known: set[str]) -> None:
    assert known_jobs(*changes) == known


def test_a_list_says_which_jobs_are_concerned_also_by_their_end() -> None:
    cache = Cache()
    cache.take(KIND, Changed(a_job("a")))
    assert cache.take(KIND, Listed((a_job("b"),), version=5)) == {"a", "b"}


def test_what_a_write_has_removed_is_gone_before_the_watch_tells() -> None:
    cache = cache_after("Pod", [Changed(pod(0)), Changed(pod(1))])
    namespace = job()["metadata"]["namespace"]
    assert cache.remove("Pod", (namespace, UID), "u0")
    assert [one.uid for one in cache.pods(UID)] == ["u1"]
    assert not cache.remove("Pod", (namespace, UID), "u0"), "it is known to be gone"


@pytest.mark.parametrize("late", [5, 9], ids=["of the same version", "of another version"])
def test_two_lists_whose_pages_come_in_turns_are_each_whole(late: int) -> None:
    """At a takeover all is listed beside the watch, which may list again at the same time."""
    cache = cache_after("Pod", [])
    pages = [
        (Listed((pod(0),), version=5, more=True), "watch"),
        (Listed((pod(0),), version=late, more=True), "takeover"),
        (Listed((pod(1),), version=5), "watch"),
        (Listed((pod(1),), version=late), "takeover"),
    ]
    for page, source in pages:
        cache.take("Pod", page, source)
    assert ({one.uid for one in cache.pods(UID)}, cache.lost(UID)) == ({"u0", "u1"}, ())
