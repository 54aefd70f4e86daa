"""Parses and validates a manifest into a frozen `JobSpec`.

Fields and defaults are those of the CRD (charts/acceleratedjob), which documents them. The rules of
the CRD are also checked here, because `acceleratedjob run` has no API server.
"""

import dataclasses
import posixpath
from dataclasses import dataclass
from typing import Annotated, Any

from acceleratedjob.api import devices, template
from acceleratedjob.api.bounds import UNREADABLE, excess
from acceleratedjob.api.checkpoint import MOUNT_PATH, VOLUME_NAME, Checkpoint, read_checkpoint
from acceleratedjob.api.fingerprints import fingerprint
from acceleratedjob.api.names import API_VERSION, CONTROLLER, KIND, MAX_NAME_LENGTH, View
from acceleratedjob.api.schema import (
    Faults,
    boolean,
    choice,
    dump,
    integer,
    mapping,
    read,
    readable,
    section,
    text,
)
from acceleratedjob.api.sections import (
    MAX_PROCESSES,
    MAX_REPLICAS,
    Elastic,
    FailurePolicy,
    Network,
    RuntimeSettings,
    Scheduling,
    SharedMemory,
    read_elastic,
    read_failure_policy,
    read_network,
    read_scheduling,
)
from acceleratedjob.errors import InvalidSpec, shown

USUAL_GRACE_SECONDS = 30  # Kubernetes' default
AUTO = "auto"
_NO_TEMPLATE: View = {"spec": {"containers": [{"name": template.TRAINER}]}}
_CONTROLLER = text(
    r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?",
    f"a controller's name, such as {CONTROLLER}",
    at_most=63,  # as for managedBy in batch/v1
)


def _auto_or_count(value: object, path: str) -> int | str:
    if value == AUTO:
        return AUTO
    if isinstance(value, str):
        raise InvalidSpec(path, f"must be auto or a whole number, got {shown(value)}")
    count: int = integer(minimum=1, maximum=MAX_PROCESSES)(value, path)
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    """The fields of `spec`, which the CRD documents."""

    template: Annotated[View, template.read_template]
    replicas: Annotated[int, integer(minimum=1, maximum=MAX_REPLICAS)] = 1
    processes_per_replica: Annotated[int | str, _auto_or_count] = AUTO
    elastic: Annotated[Elastic | None, read_elastic] = None
    runtime: Annotated[RuntimeSettings, section(RuntimeSettings)] = RuntimeSettings()
    checkpoint: Annotated[Checkpoint | None, read_checkpoint] = None
    suspend: Annotated[bool, boolean] = False
    managed_by: Annotated[str | None, _CONTROLLER] = None
    active_deadline_seconds: Annotated[int | None, integer(minimum=1)] = None
    startup_deadline_seconds: Annotated[int | None, integer(minimum=1)] = None
    stall_deadline_seconds: Annotated[int | None, integer(minimum=1)] = None
    ttl_seconds_after_finished: Annotated[int | None, integer(minimum=0)] = None
    failure_policy: Annotated[FailurePolicy, read_failure_policy] = FailurePolicy()
    clean_pod_policy: Annotated[str, choice("Running", "All", "None")] = "Running"
    scheduling: Annotated[Scheduling, read_scheduling] = Scheduling()
    network: Annotated[Network, read_network] = Network()
    shared_memory: Annotated[SharedMemory, section(SharedMemory)] = SharedMemory()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec(_Spec):
    """A valid job: its identity and its spec.

    Attributes:
        name: the name of the job.
        namespace: the namespace of the job.
        uid: the uid of the job; empty if the job is not stored in a cluster.
        generation: `metadata.generation`, the version of the spec.
        fingerprints: the hashes of the fields that pods are created from; see `_fingerprints`.
    """

    name: str = ""
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    fingerprints: tuple[str, ...] = ()

    @classmethod
    def from_manifest(cls, manifest: View) -> "JobSpec":
        """Parse and validate an AcceleratedJob.

        Raises:
            InvalidSpec: the manifest is invalid.
        """
        _check_kind(manifest)
        _check_extent(manifest)
        metadata = mapping(manifest.get("metadata") or {}, "metadata")
        with Faults() as faults:
            spec = faults.of(_read_spec, manifest.get("spec") or {})
            name = faults.of(_check_name, metadata.get("name"))
        return cls(
            **{name: getattr(spec, name) for name in _Spec.__dataclass_fields__},
            name=name,
            namespace=metadata.get("namespace") or "default",
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 0),
            fingerprints=_fingerprints(spec),
        )

    @classmethod
    def from_refused(cls, manifest: View) -> "JobSpec":
        """Return the valid fields of an invalid job; all others have their defaults.

        It is used for decisions about existing pods only: no pod is created from it.
        """
        metadata = manifest["metadata"]
        is_bounded = manifest.get(UNREADABLE) is None and excess(manifest.get("spec")) is None
        known = readable(_Spec, manifest.get("spec") if is_bounded else None)
        return cls(
            **{"template": _NO_TEMPLATE} | known,
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
        )

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint to record for an attempt; None for an invalid job."""
        return next(iter(self.fingerprints), None)

    @property
    def processes(self) -> int:
        """The number of processes per replica; `auto` is the number of devices, at least one."""
        given = self.processes_per_replica
        return given if isinstance(given, int) else _counted(self)

    @property
    def grace_seconds(self) -> int:
        """The grace period of a pod: the seconds between SIGTERM and SIGKILL."""
        given: Any = self.template["spec"].get("terminationGracePeriodSeconds")
        return USUAL_GRACE_SECONDS if given is None else int(given)


def _read_spec(value: object) -> _Spec:
    """Read all fields, and check those that depend on each other."""
    spec = read(_Spec, value, "spec")
    with Faults() as faults:
        for check in _CHECKS:
            faults.of(check, spec)
    return spec


def _check_extent(manifest: View) -> None:
    """Check the size and the depth, before other checks, so that those take a bounded time."""
    sentence = manifest.get(UNREADABLE) or excess(manifest.get("spec"))
    if sentence is not None:
        raise InvalidSpec("spec", str(sentence))


def _counted(spec: _Spec) -> int:
    """Return the number that `auto` stands for: one process per device, at least one."""
    return max(1, devices.count(spec.template))


def _fingerprints(spec: _Spec) -> tuple[str, ...]:
    """Return hashes of the fields that pods are created from; a new hash requires a new attempt.

    The first hash is that of the fields as written, so a later version of the operator with other
    defaults, or that counts more devices, computes the same hash. If a number of processes means
    the same as `auto`, the second hash is that of the other notation. `replicas` is compared
    separately. Fields that only the operator reads are left out.
    """
    given, counted = spec.processes_per_replica, _counted(spec)
    words = {given: None} | ({AUTO: None, counted: None} if given in (AUTO, counted) else {})
    sections: tuple[Any, ...] = (spec.runtime, spec.scheduling, spec.network, spec.shared_memory)
    sections += () if spec.checkpoint is None else (spec.checkpoint,)
    shared = fingerprint(spec.template, *map(_given, sections))
    return tuple(fingerprint(shared, word) for word in words)


def _given(section: Any) -> dict[str, Any]:
    """Return the fields of a section that differ from their defaults."""
    return {
        field.name: dump(getattr(section, field.name))
        for field in dataclasses.fields(section)
        if getattr(section, field.name) != field.default and field.name != "isolate"
    }


def _check_bounds(spec: _Spec) -> None:
    bounds = spec.elastic
    if bounds is not None and not bounds.min_replicas <= spec.replicas <= bounds.max_replicas:
        within = f"elastic's minReplicas ({bounds.min_replicas}) and maxReplicas"
        sentence = f"must be within {within} ({bounds.max_replicas}), got {spec.replicas}"
        raise InvalidSpec("spec.replicas", sentence)


def _check_priority(spec: _Spec) -> None:
    ours = spec.scheduling.priority_class_name
    theirs = spec.template["spec"].get("priorityClassName")
    if None not in (ours, theirs) and ours != theirs:
        sentence = f"must be the template's ({shown(theirs)}) or be set in one place only"
        sentence = f"{sentence}, got {shown(ours)}"
        raise InvalidSpec("spec.scheduling.priorityClassName", sentence)


def _check_devices(spec: _Spec) -> None:
    asked = devices.count(spec.template)
    if asked > MAX_PROCESSES:
        index = template.trainer_index(spec.template)
        path = f"spec.template.spec.containers[{index}].resources.limits"
        raise InvalidSpec(path, f"must have at most {MAX_PROCESSES} devices, got {asked}")


def _check_processes(spec: _Spec) -> None:
    """Check that NCCL has a GPU for each process; with the backend gloo, they may share one."""
    given, most = spec.processes_per_replica, devices.enough_for(spec.template)
    if spec.runtime.backend == "gloo" or not isinstance(given, int) or most is None:
        return
    if given > most:
        sentence = f"must be at most the number of GPUs in the limits, {most}, got {given}"
        advice = "NCCL needs a GPU for each process; spec.runtime.backend gloo lets them share one"
        raise InvalidSpec("spec.processesPerReplica", f"{sentence}: {advice}")


def _check_checkpoint(spec: _Spec) -> None:
    """Check that the template leaves the name and the mount path of the checkpoint volume free."""
    if spec.checkpoint is None or spec.checkpoint.volume is None:
        return
    for i, volume in enumerate(spec.template["spec"].get("volumes") or ()):
        if volume.get("name") == VOLUME_NAME:
            sentence = f"must not be {VOLUME_NAME}, which is the volume of spec.checkpoint"
            raise InvalidSpec(f"spec.template.spec.volumes[{i}].name", sentence)
    index = template.trainer_index(spec.template)
    for i, mount in enumerate(template.trainer(spec.template).get("volumeMounts") or ()):
        place = posixpath.normpath(mount.get("mountPath") or "")
        if f"{place}/".startswith(f"{MOUNT_PATH}/"):
            path = f"spec.template.spec.containers[{index}].volumeMounts[{i}].mountPath"
            sentence = (
                f"must not be in {MOUNT_PATH}, where the volume of spec.checkpoint is mounted"
            )
            raise InvalidSpec(path, f"{sentence}, got {shown(mount['mountPath'])}")


_CHECKS = (_check_bounds, _check_priority, _check_devices, _check_processes, _check_checkpoint)


def _check_kind(manifest: View) -> None:
    with Faults() as faults:
        for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            if manifest.get(name) != wanted:
                faults.add(name, f"must be {wanted}, got {shown(manifest.get(name))}")


def _check_name(name: object) -> str:
    if name is None:
        raise InvalidSpec("metadata.name", "is required")
    what = "a lowercase DNS label that starts with a letter, because it names the job's Service"
    reader = text(r"[a-z]([-a-z0-9]*[a-z0-9])?", what, at_most=MAX_NAME_LENGTH)
    checked: str = reader(name, "metadata.name")
    return checked
