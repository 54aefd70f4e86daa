"""What happens to a job that needs a right of the operator, and what comes of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.checkpoint import claim_name
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import collection
from acceleratedjob.manifests.podgroup import SCHEDULERS
from tests.cluster.charts import Right
from tests.cluster.jobs import fake_job
from tests.cluster.members import SECONDS, Member
from tests.cluster.operators import end_pod, list_objects
from tests.contract.manifests import CLAIM, TEMPLATE

GANGS = {scheduler.api_version.split("/")[0]: gang for gang, scheduler in SCHEDULERS.items()}
KINDS = {
    "acceleratedjobs": names.KIND,
    "acceleratedjobs/status": names.KIND,
    "acceleratedjobs/finalizers": names.KIND,
    "pods": "Pod",
    "services": "Service",
    "networkpolicies": "NetworkPolicy",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "events": "Event",
}
FOREIGN: dict[str, Any] = {  # the specs of another's objects
    "Pod": {"containers": [{"name": "x", "image": "x"}]},
    "Service": {"clusterIP": "None"},
    "NetworkPolicy": {"podSelector": {}},
    "PersistentVolumeClaim": CLAIM["spec"],
}
REFUSED = {"spec": {"containers": [{"name": "trainer", "image": "x", "volumeMount": []}]}}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a story is told: a job that needs a right, and its operator."""

    link: Connection
    operator: Member
    right: Right
    namespace: str
    job: str = "job"

    @property
    def kind(self) -> str:
        """What the right is about."""
        group, resource, _ = self.right
        return KINDS.get(resource, f"PodGroup.{group}")

    async def request(self, method: str, kind: str, name: str, body: Any = None) -> None:
        """Send a request about an object."""
        path = collection(kind, self.namespace) + (f"/{name}" if method != "POST" else "")
        form = "merge-patch+json" if method == "PATCH" else "json"
        await self.link.request(method, path, body, content_type=f"application/{form}")

    async def make(self, kind: str, name: str, spec: Any) -> None:
        """Create an object."""
        version = collection(kind, None).rpartition("/")[0].split("/", maxsplit=2)[2]
        about = {"apiVersion": version, "kind": kind.partition(".")[0], "metadata": {"name": name}}
        await self.request("POST", kind, name, about | {"spec": spec})

    async def create(self, **fields: Any) -> None:
        """Create the job, with what it needs the right for."""
        spec = fake_job(self.namespace, replicas=1)["spec"]
        spec["template"]["spec"]["schedulerName"] = "default-scheduler"  # a gang's too
        if self.kind == "NetworkPolicy":
            spec["network"] = {"isolate": True}
        if self.kind == "PersistentVolumeClaim":
            spec["checkpoint"] = TEMPLATE
        if self.right[0] in GANGS:
            spec["scheduling"] = {"gang": GANGS[self.right[0]]}
        await self.make(names.KIND, self.job, spec | fields)

    async def objects(self) -> list[Any]:
        """Those of the right's kind that are the job's, or itself."""
        found = await list_objects(self.link, self.kind, self.namespace)
        return [each for each in found if each["metadata"]["name"].startswith(self.job)]

    async def status(self) -> dict[str, Any]:
        """The job's, empty as long as it has none."""
        jobs = await list_objects(self.link, names.KIND, self.namespace)
        return next((j.get("status", {}) for j in jobs if j["metadata"]["name"] == self.job), {})

    async def until(self, goal: "Goal") -> None:
        """Wait until something is so."""
        try:
            async with asyncio.timeout(SECONDS):
                while not await goal(self):  # noqa: ASYNC110  # another's state
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            sentence = f"{self.right} in {self.namespace}: {goal.__name__} did not come"
            raise AssertionError(sentence) from error

    async def tell(self, story: "Story", *goals: "Goal") -> None:
        """Let something happen, and wait for what comes of it."""
        await story(self)
        for goal in goals:
            await self.until(goal)


Story = Callable[[Place], Awaitable[None]]
Goal = Callable[[Place], Awaitable[bool]]


async def runs(at: Place) -> bool:
    return (await at.status()).get("phase") == "Running"


async def failed(at: Place) -> bool:
    return (await at.status()).get("phase") == "Failed"


async def has_a_status(at: Place) -> bool:
    return bool(await at.status())


async def is_ready(at: Place) -> bool:
    page = at.operator.page("/readyz")[1]
    return bool(page) and collection(at.kind, at.namespace) not in page


async def is_there(at: Place) -> bool:
    return bool(await at.objects())


async def is_gone(at: Place) -> bool:
    return not await at.objects()


async def tells_of_another(at: Place) -> bool:
    return "is not this job's" in json.dumps(await at.status())


async def has_an_event(at: Place) -> bool:
    events = await list_objects(at.link, "Event", at.namespace)
    return any(each["involvedObject"]["name"] == at.job for each in events)


async def is_refused(at: Place) -> bool:
    group, resource, verb = at.right
    log = at.operator.log
    told = log.read_text() if log.exists() else ""  # a process that starts has written none yet
    if resource.endswith(
        "/finalizers"
    ):  # of which an admission plug-in tells, of the pod's creation
        return "refers to a resource you can't set finalizers on" in told
    what = f'cannot {verb} resource "{resource}" in API group "{group}"'
    return f'{what} in the namespace "{at.namespace}"' in told


async def is_answered(at: Place) -> bool:
    return await is_ready(at) or await is_refused(at)


async def created(at: Place) -> None:
    await at.create()


async def created_later(at: Place) -> None:
    await at.until(is_answered)
    await at.create()


async def invalid(at: Place) -> None:
    await at.create(template=REFUSED)
    await at.until(failed)


async def beside_another(at: Place) -> None:
    others = {"Pod": f"{at.job}-0-0", "PersistentVolumeClaim": claim_name(at.job)}
    name = others.get(at.kind, at.job)
    await at.make(at.kind, name, FOREIGN.get(at.kind, {}))
    await at.create()


async def suspended(at: Place) -> None:
    await at.create()
    await at.until(runs)
    await at.request("PATCH", names.KIND, at.job, {"spec": {"suspend": True}})


async def finished(at: Place) -> None:
    await at.create(ttlSecondsAfterFinished=0)
    await at.until(runs)
    await end_pod(at.link, at.namespace, f"{at.job}-0-0", 0)


async def deprived(at: Place) -> None:
    await at.create()
    await at.until(runs)
    await at.request("DELETE", at.kind, at.job)


# What the page says is broken -> what happens to a job, and what does not come then.
STORIES: dict[str, tuple[Story, *tuple[Goal, ...]]] = {
    "the operator finds no jobs and never becomes ready": (created, runs, is_ready),
    "the operator sees no changes of jobs and never becomes ready": (created_later, runs, is_ready),
    "no job starts, and the operator never becomes ready": (created, runs, is_ready),
    "no job gets a status, so none starts": (created, has_a_status, runs),
    "no job starts": (created, runs),
    "no job with `network.isolate` starts": (created, runs),
    "no job with a `volumeClaimTemplate` starts": (created, is_there),
    "no job with this gang scheduler starts": (created, runs),
    "the operator does not see that pods run": (created, runs),
    "`ttlSecondsAfterFinished` has no effect": (finished, is_gone),
    "a suspended job keeps its pods": (suspended, is_gone),
    "`kubectl describe` shows no decisions of the operator": (suspended, has_an_event),
    "a job with an invalid spec keeps its Service": (invalid, is_gone),
    "a job with an invalid spec keeps its NetworkPolicy": (invalid, is_gone),
    "a job with an invalid spec keeps its PodGroup": (invalid, is_gone),
    "a deleted Service is not re-created": (deprived, is_there),
    "a deleted NetworkPolicy is not re-created": (deprived, is_there),
    "a foreign pod of the same name is not reported": (beside_another, tells_of_another),
    "a foreign Service of the same name is not reported": (beside_another, tells_of_another),
    "a foreign claim of the same name is not reported": (beside_another, tells_of_another),
    "a foreign NetworkPolicy of the same name is not reported": (beside_another, tells_of_another),
    "a foreign PodGroup of the same name is not reported": (beside_another, tells_of_another),
}
