"""`spec.scheduling`: gang scheduling, queues, and exclusive placement.

Each gang scheduler has its own labels and annotations for pods, and two have a PodGroup. A
`schedulerName` in the template is kept, because a scheduler may be installed under another name.
"""

from dataclasses import dataclass
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.sections import GANG_COSCHEDULING, GANG_KUEUE, GANG_VOLCANO, WITH_POD_GROUP
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.template import REQUIRED_TERMS
from acceleratedjob.manifests.network import object_metadata, recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """A gang scheduler with a PodGroup resource.

    Attributes:
        name: the `schedulerName` of its pods in a default installation.
        api_version: the API version of its PodGroup.
        project: the project to install, for error messages.
    """

    name: str
    api_version: str
    project: str


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
assert tuple(SCHEDULERS) == WITH_POD_GROUP  # noqa: S101  # each gang with a PodGroup has a scheduler


def pod_group(spec: JobSpec) -> Manifest | None:
    """Return the PodGroup of a job; None if its scheduler has none.

    All attempts share it. The minimum of an elastic job is `minReplicas`; pods beyond it that find
    no node are left out of the attempt.
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
        "metadata": object_metadata(spec),
        "spec": wishes,
    }
    return recorded(made)


def is_same_group(found: names.View, wanted: names.View) -> bool:
    """Whether a PodGroup has the wanted fields, and was created with no other fields.

    Other fields may be defaults of its scheduler, or come from an earlier spec of the job.
    """
    record = names.annotations(found).get(names.MADE_AS_ANNOTATION)
    is_made_so = record in (None, names.annotations(wanted)[names.MADE_AS_ANNOTATION])
    says_it = dict(found["spec"]).items() >= dict(wanted["spec"]).items()
    return is_made_so and says_it


def join(spec: JobSpec, pod: Manifest, *, attempt: Attempt) -> None:
    """Add the fields of gang scheduling and of exclusive placement to a pod."""
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
        _exclude(pod["spec"], scheduling.exclusive_topology_key, spec.uid, attempt.number)


def _queue(spec: JobSpec, metadata: Manifest, attempt: Attempt) -> None:
    """Add the labels of Kueue's plain pod groups; Kueue gates the pods until it admits them all.

    Each attempt is a group: Kueue waits for no replacement of a failed pod, and releases the quota
    when the pods are gone. With topology-aware scheduling, neighboring indices are placed nearby.
    """
    metadata["labels"] |= {
        "kueue.x-k8s.io/queue-name": spec.scheduling.queue,
        "kueue.x-k8s.io/pod-group-name": f"{spec.name}-{attempt.number}",
    }
    metadata["annotations"] |= {
        "kueue.x-k8s.io/pod-group-total-count": str(attempt.size),
        "kueue.x-k8s.io/retriable-in-group": "false",
        "kueue.x-k8s.io/pod-group-pod-index-label": names.REPLICA_INDEX_LABEL,
    }


def _exclude(pod_spec: Manifest, key: str, uid: str, attempt: int) -> None:
    """Place all pods of an attempt in one topology domain, which no other job may use.

    The selector names the attempt, because pods of an earlier attempt on lost nodes would bind the
    next attempt to their domain.
    """
    ours = {"matchLabels": {names.JOB_UID_LABEL: uid, names.ATTEMPT_LABEL: str(attempt)}}
    others = [
        {"key": names.JOB_UID_LABEL, "operator": "Exists"},
        {"key": names.JOB_UID_LABEL, "operator": "NotIn", "values": [uid]},
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
