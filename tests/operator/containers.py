"""What containers and their kubelet do, when a test says so."""

import contextlib

from acceleratedjob.api import names
from acceleratedjob.api.names import STOPPED_EXIT_CODE, Manifest
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Ref
from acceleratedjob.errors import NotFound
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.clockwork import Clock

ADDRESS = "10.0.0.1"  # of every pod; nothing connects to it


class Containers:
    """The pods of one job in a store, and which of them run code."""

    clock: Clock
    store: LocalCluster
    processes: dict[str, tuple[int, int]]  # by the pod's uid: attempt, index
    done: set[tuple[int, int]]  # attempt, index of those that ended with 0, by themselves

    def pods(self) -> list[Manifest]:
        return list(self.store.objects("Pod"))

    def pick(self, which: int, *, running: bool | None = None) -> Manifest | None:
        pods = [
            each
            for each in self.pods()
            if running is None or (each["metadata"]["uid"] in self.processes) == running
        ]
        return pods[which % len(pods)] if pods else None

    def report(self, pod: Manifest, state: Manifest, **conditions: str) -> None:
        def alter(stored: Manifest) -> None:
            stored["spec"]["nodeName"] = "n0"
            stored["status"]["podIP"] = "192.0.2.1"
            stored["status"]["containerStatuses"] = [{"name": "trainer", "state": state}]
            stored["status"]["podIP"] = ADDRESS
            known = {each["type"]: each for each in stored["status"].get("conditions", ())}
            known |= {kind: {"type": kind, "status": status} for kind, status in conditions.items()}
            stored["status"]["conditions"] = list(known.values())

        self.store.change(Ref.of(pod), alter)

    def starts(self, pod: Manifest, *, ready: bool) -> None:
        ended = pod["status"].get("containerStatuses", [{"state": {}}])[0]["state"]
        if pod["metadata"].get("deletionTimestamp") or "terminated" in ended:
            return
        attempt, index = names.parse_pod_name(pod["metadata"]["name"]) or (0, 0)
        self.processes[pod["metadata"]["uid"]] = (attempt, index)
        self.report(pod, {"running": {}}, Ready=str(ready))

    def ends(self, pod: Manifest, code: int) -> None:
        place = self.processes.pop(pod["metadata"]["uid"], None)
        if place is None:
            return
        if code == 0 and not self.was_asked_to_stop(pod):
            self.done.add(place)
        ended = {"exitCode": code, "finishedAt": format_time(self.clock.now())}
        if code == STOPPED_EXIT_CODE:
            ended["message"] = '{"stopped": {"step": 1}}'
        self.report(pod, {"terminated": ended}, Ready="False")

    def was_asked_to_stop(self, pod: Manifest) -> bool:
        """Whether its deletion was asked for; an eviction deletes as well."""
        return "deletionTimestamp" in pod["metadata"]

    def removed(self, pod: Manifest) -> None:
        self.processes.pop(pod["metadata"]["uid"], None)
        self.store.remove(Ref.of(pod), uid=pod["metadata"]["uid"])

    def the_kubelet_stops_what_is_deleted(self) -> None:
        for pod in self.pods():
            if pod["metadata"].get("deletionTimestamp"):
                self.removed(pod)

    def delete(self, pod: Manifest, grace: int | None) -> None:
        ref, uid = Ref.of(pod), pod["metadata"]["uid"]
        with contextlib.suppress(NotFound):  # the operator, under way, was first
            self.clock.run_until_complete(self.store.delete(ref, uid=uid, grace_seconds=grace))
        if grace == 0:
            self.removed(pod)

    def evict(self, pod: Manifest) -> None:
        def mark(stored: Manifest) -> None:
            target = {"type": "DisruptionTarget", "status": "True"}
            target["reason"] = "EvictionByEvictionAPI"
            stored["status"]["conditions"] = [*stored["status"].get("conditions", ()), target]

        self.store.change(Ref.of(pod), mark)
        self.delete(pod, None)
