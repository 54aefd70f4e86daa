"""Jobs and pods for tests: a table row is one line."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from acceleratedjob.api.names import API_VERSION, KIND, Manifest, pod_name
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import format_time
from acceleratedjob.observe.endings import Ending
from acceleratedjob.observe.pod import Pod

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
UID = "00000000-0000-0000-0000-000000000001"
CONTAINER: Manifest = {"name": "trainer", "image": "train:1", "command": ["python", "train.py"]}


def ago(seconds: float) -> datetime:
    """So many seconds before NOW."""
    return NOW - timedelta(seconds=seconds)


def job(container: Manifest | None = None, /, **spec: Any) -> Manifest:
    """An AcceleratedJob `digits` of two replicas, with fields of its spec as given."""
    template = {"spec": {"containers": [CONTAINER | (container or {})]}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "digits", "namespace": "research", "uid": UID, "generation": 1},
        "spec": copy.deepcopy({"replicas": 2, "template": template} | spec),
    }


def spec(container: Manifest | None = None, /, **fields: Any) -> JobSpec:
    """The same, read."""
    return JobSpec.from_manifest(job(container, **fields))


def pod(index: int, attempt: int = 0, **facts: Any) -> Pod:
    """A pod of the job that runs on node n0, with facts as given."""
    name = pod_name("digits", attempt, index)
    up: dict[str, Any] = {"node": "n0", "ready": True, "running": facts.get("ready", True)}
    return Pod(name=name, uid=f"u-{name}", attempt=attempt, index=index, **(up | facts))


def ended(
    index: int, exit_code: int | None = 0, attempt: int = 0, seconds_ago: float = 0, **facts: Any
) -> Pod:
    """A pod whose training container has ended."""
    reason = facts.pop("reason", "Completed" if exit_code == 0 else "Error")
    ending = Ending(exit_code=exit_code, reason=reason, message="", time=ago(seconds_ago))
    over = {"ready": False, "stopped": True, "over": True, "ending": ending}
    return pod(index, attempt, **(over | facts))


def deleting(index: int, attempt: int = 0, seconds: float = 30, **facts: Any) -> Pod:
    """A pod that someone deletes: asked for now, over in so many seconds."""
    by = NOW + timedelta(seconds=seconds)
    return pod(index, attempt, delete_by=by, deleted_at=NOW, **facts)


def stored(status: Status | None, **fields: Any) -> Manifest:
    """A job of four replicas as the API server has it."""
    made = job(**({"replicas": 4} | fields))
    made["metadata"]["creationTimestamp"] = format_time(ago(4000))
    return made | ({"status": status.to_manifest()} if status else {})
