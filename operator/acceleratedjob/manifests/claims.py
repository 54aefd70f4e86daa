"""The volume of `spec.checkpoint`: its claim, and how the pods mount it."""

from acceleratedjob.api import names
from acceleratedjob.api.checkpoint import DELETE, MOUNT_PATH, VOLUME_NAME, claim_name
from acceleratedjob.api.names import Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.manifests.network import owner_reference


def claim(spec: JobSpec) -> Manifest | None:
    """Return the claim that the operator creates for a job; None if it creates none.

    A claim without an owner outlives the job. Its labels say for which jobs it was created.
    """
    given = spec.checkpoint
    if given is None or given.claim_template is None:
        return None
    metadata = given.claim_template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {})} | names.job_labels(spec.name) | names.APP_LABELS
    made: Manifest = {
        "name": claim_name(spec.name),
        "namespace": spec.namespace,
        "labels": labels,
        "annotations": {**(metadata.get("annotations") or {})},
    }
    if given.reclaim_policy == DELETE:
        made["ownerReferences"] = [owner_reference(spec)]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": made,
        "spec": dict(given.claim_template["spec"]),
    }


def may_use(found: View, wanted: View) -> bool:
    """Whether a job may use an existing claim of the name of its own.

    A claim that is kept is used again by a later job of the same name. A claim that would be
    deleted with the job must have been created for this very job, because it may contain the
    checkpoints of another one.
    """
    if "deletionTimestamp" in found["metadata"]:
        return False
    owner = names.owner_uid(found)
    if owner is not None or names.owner_uid(wanted) is not None:
        return owner == names.owner_uid(wanted)
    labels = found["metadata"].get("labels") or {}
    ours = names.APP_LABELS | {
        names.JOB_NAME_LABEL: wanted["metadata"]["labels"][names.JOB_NAME_LABEL]
    }
    return ours.items() <= dict(labels).items()


def mount(spec: JobSpec, pod_spec: Manifest, container: Manifest) -> None:
    """Mount the volume of the checkpoints, or add the credentials of the object store."""
    given = spec.checkpoint
    if given is None:
        return
    if given.secret_name is not None:
        secret = {"secretRef": {"name": given.secret_name}}
        container["envFrom"] = [*(container.get("envFrom") or []), secret]
    if given.volume is not None:
        source = given.volume.source(spec.name)
        mounted = {"name": VOLUME_NAME, "mountPath": MOUNT_PATH}
        pod_spec["volumes"] = [*(pod_spec.get("volumes") or []), {"name": VOLUME_NAME} | source]
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mounted]
