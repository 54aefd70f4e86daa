"""How a job's pods are kept together: by which scheduler or queue, and in which part of a cluster.

Each gang has its own words on a pod; two have a PodGroup as well. What the template says of the
scheduler stands: a cluster may have its own name for one.
"""

from dataclasses import dataclass
from typing import Any

from acceleratedjob import api
from acceleratedjob.api import Manifest
from acceleratedjob.sections import GANG_COSCHEDULING, GANG_KUEUE, GANG_VOLCANO
from acceleratedjob.services import owner_reference, recorded
from acceleratedjob.spec import JobSpec
from acceleratedjob.template import REQUIRED_TERMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """A scheduler that starts a gang whole."""

    name: str  # spec.schedulerName of its pods, as it is usually installed
    api_version: str  # of its PodGroup
    project: str  # what is to be installed


SCHEDULERS = {
    GANG_VOLCANO: Scheduler(
        name="volcano",
        api_version="scheduling.volcano.sh/v1beta1",
        project="Volcano (https://volcano.sh)",
    ),
    GANG_COSCHEDULING: Scheduler(
        name="scheduler-plugins-scheduler",
        api_version="scheduling.x-k8s.io/v1alpha1",
        project="scheduler-plugins (https://scheduler-plugins.sigs.k8s.io)",
    ),
}


def pod_group(spec: JobSpec) -> Manifest | None:
    """The PodGroup of a job; None if its gang has none.

    It is one for all attempts. An elastic job starts with as few as are of use; those beyond them
    that find no node are then left out.
    """
    scheduling = spec.scheduling
    scheduler = SCHEDULERS.get(scheduling.gang)
    if scheduler is None:
        return None
    wishes: Manifest = {"minMember": spec.elastic.min_replicas if spec.elastic else spec.replicas}
    if scheduling.gang == GANG_VOLCANO:
        given = {"queue": scheduling.queue, "priorityClassName": scheduling.priority_class_name}
        wishes |= {name: value for name, value in given.items() if value is not None}
    made = {
        "apiVersion": scheduler.api_version,
        "kind": "PodGroup",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": api.job_labels(spec.name) | api.APP_LABELS,
            "ownerReferences": [owner_reference(spec)],
        },
        "spec": wishes,
    }
    return recorded(made)


def is_same_group(found: api.View, wanted: api.View) -> bool:
    """Whether a PodGroup says what is wanted, and was made to say no more than that.

    What it says more may be a default of its scheduler's, or what the job said before.
    """
    record = api.annotations(found).get(api.MADE_AS_ANNOTATION)
    is_made_so = record in (None, api.annotations(wanted)[api.MADE_AS_ANNOTATION])
    says_it = dict(found["spec"]).items() >= dict(wanted["spec"]).items()
    return is_made_so and says_it


def join(spec: JobSpec, pod: Manifest, *, attempt: int) -> None:
    """Make a pod a member of its job's gang, in its place."""
    scheduling, metadata = spec.scheduling, pod["metadata"]
    scheduler = SCHEDULERS.get(scheduling.gang)
    if scheduler is not None:
        pod["spec"].setdefault("schedulerName", scheduler.name)
    if scheduling.gang == GANG_VOLCANO:
        metadata["annotations"]["scheduling.k8s.io/group-name"] = spec.name
    if scheduling.gang == GANG_COSCHEDULING:
        metadata["labels"]["scheduling.x-k8s.io/pod-group"] = spec.name
    if scheduling.gang == GANG_KUEUE:
        _queue(spec, metadata, attempt)
    if scheduling.priority_class_name is not None:
        pod["spec"]["priorityClassName"] = scheduling.priority_class_name
    if scheduling.exclusive_topology_key is not None:
        _exclude(pod["spec"], scheduling.exclusive_topology_key, spec.uid, attempt)


def _queue(spec: JobSpec, metadata: Manifest, attempt: int) -> None:
    """Kueue's words for a group of plain pods; it gates them itself until it admits them all.

    A group is one attempt's: Kueue waits for no replacement of a pod that fails, and gives the
    quota back when the attempt's pods are gone. Where it places by topology, neighbours are near.
    """
    metadata["labels"] |= {
        "kueue.x-k8s.io/queue-name": spec.scheduling.queue,
        "kueue.x-k8s.io/pod-group-name": f"{spec.name}-{attempt}",
    }
    metadata["annotations"] |= {
        "kueue.x-k8s.io/pod-group-total-count": str(spec.size),
        "kueue.x-k8s.io/retriable-in-group": "false",
        "kueue.x-k8s.io/pod-group-pod-index-label": api.REPLICA_INDEX_LABEL,
    }


def _exclude(pod_spec: Manifest, key: str, uid: str, attempt: int) -> None:
    """All pods of an attempt in one part of the cluster, and no pod of another job in it.

    The attempt before may have left pods on dead nodes, which would bind the next one to that part.
    """
    ours = {"matchLabels": {api.JOB_UID_LABEL: uid, api.ATTEMPT_LABEL: str(attempt)}}
    others = [
        {"key": api.JOB_UID_LABEL, "operator": "Exists"},
        {"key": api.JOB_UID_LABEL, "operator": "NotIn", "values": [uid]},
    ]
    affinity = pod_spec["affinity"] = pod_spec.get("affinity") or {}
    _require(affinity, "podAffinity", {"labelSelector": ours, "topologyKey": key})
    selector = {"matchExpressions": others}
    anywhere: Manifest = {"namespaceSelector": {}}
    term = anywhere | {"labelSelector": selector, "topologyKey": key}
    _require(affinity, "podAntiAffinity", term)


def _require(affinity: Manifest, kind: str, term: Manifest) -> None:
    terms: dict[str, Any] = affinity.get(kind) or {}
    affinity[kind] = terms | {REQUIRED_TERMS: [*(terms.get(REQUIRED_TERMS) or []), term]}
