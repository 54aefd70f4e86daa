"""A job is deleted and applied again while its old pods still stop, or never do."""

from collections.abc import Iterator

import pytest

from acceleratedjob.api import names as api
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Ref
from acceleratedjob.local.cluster import LocalCluster
from tests.attempts import pod_of
from tests.operator.builders import job, spec
from tests.operator.clockwork import Clock, Fated, Operator

REF = Ref(api.KIND, "research", "digits")
GRACE, MARGIN = 30, 30  # seconds: the template's, and its kubelet's


class Again:
    """A job whose predecessor of the same name has left pods, which are being deleted or not."""

    def __init__(self, *indexes: int, owner: str = "predecessor") -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.old = [self.left_behind(index, owner) for index in indexes]
        self.clock.run_until_complete(self.store.create(job()))
        self.operator = Operator(self.clock, Fated(self.store, REF))
        self.pass_time(1)

    def left_behind(self, index: int, owner: str) -> Manifest:
        old = pod_of(spec(), attempt=0, index=index)
        old["metadata"]["ownerReferences"][0]["name"] = "digits" if owner else "another"
        old["metadata"]["ownerReferences"][0]["uid"] = owner or "another"
        old["spec"]["nodeName"] = "dead"
        made = self.clock.run_until_complete(self.store.create(old))
        uid = made["metadata"]["uid"]
        if owner:
            self.clock.run_until_complete(self.store.delete(Ref.of(old), uid=uid))
        return made

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.operator.hear_all()
            self.clock.tick()
            self.clock.elapsed += 1
        self.operator.hear_all()
        self.clock.tick()

    def status(self) -> Status:
        return Status.from_manifest(self.store.objects(api.KIND)[0])

    def names(self) -> list[str]:
        """The job's own pods."""
        left = {each["metadata"]["uid"] for each in self.old}
        found = (each["metadata"] for each in self.store.objects("Pod"))
        return sorted(each["name"] for each in found if each["uid"] not in left)

    def close(self) -> None:
        self.operator.close()
        self.clock.close()


@pytest.fixture
def again(request: pytest.FixtureRequest) -> Iterator[Again]:
    made = Again(*getattr(request, "param", (0,)))
    yield made
    made.close()


def test_pods_that_are_going_are_named_and_waited_for(again: Again) -> None:
    again.pass_time(6)
    (told,) = again.status().pending
    assert (told.reason, told.message) == (
        "Refused",
        (
            "Pod research/digits-0-0 of a deleted job with the same name is still terminating "
            "on node dead; this job waits until it is gone"
        ),
    )
    again.pass_time(20)
    assert again.names() == []
    (old,) = again.old
    again.store.remove(Ref.of(old), uid=old["metadata"]["uid"])
    again.pass_time(3)
    assert (again.names(), again.status().attempt) == (["digits-0-0", "digits-0-1"], 0)


@pytest.mark.parametrize("again", [(0,), (1,), (0, 1)], indirect=True, ids=str)
def test_pods_that_never_go_block_nobody(again: Again) -> None:
    """Their node is dead: when they must have stopped the job begins with names that are free."""
    again.pass_time(GRACE + MARGIN - 3)
    assert again.status().attempt == 0
    again.pass_time(6)
    status = again.status()
    assert (again.names(), status.attempt) == (["digits-1-0", "digits-1-1"], 1)
    assert (status.restarts, status.pending) == (0, ())
    again.pass_time(100)
    assert again.status().attempt == 1


def test_what_is_not_going_is_to_be_renamed_by_a_person() -> None:
    again = Again(1, owner="")
    again.pass_time(GRACE + MARGIN + 10)
    told, attempt = again.status().pending[0].message, again.status().attempt
    again.close()
    assert told == "Pod research/digits-0-1 exists and is not this job's; delete or rename it"
    assert attempt == 0
