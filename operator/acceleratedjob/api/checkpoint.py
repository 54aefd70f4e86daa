"""`spec.checkpoint`: where the runtime keeps checkpoints, and how often it writes them."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from acceleratedjob.api.names import View
from acceleratedjob.api.schema import (
    Faults,
    boolean,
    choice,
    integer,
    key,
    list_of,
    mapping,
    mapping_of,
    partly,
    read,
    string,
    text,
)
from acceleratedjob.errors import InvalidSpec, shown

MOUNT_PATH = "/checkpoints"  # in the training container
VOLUME_NAME = "checkpoint"  # in the pod
RETAIN, DELETE = "Retain", "Delete"
ACCESS_MODES = READ_WRITE_ONCE, READ_ONLY_MANY, _, READ_WRITE_ONCE_POD = (
    *("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"),
)
_ON_ONE_NODE = {READ_WRITE_ONCE, READ_WRITE_ONCE_POD}
_CADENCES = ("every_steps", "every_seconds", "continuous")
_NOT_STORES = re.compile("(file|memory):")
_STRINGS = mapping_of(string)
_DIRECTORIES = ("", "DirectoryOrCreate", "Directory")  # types of a hostPath


def _read_modes(value: object, path: str) -> tuple[str, ...]:
    modes: tuple[str, ...] = list_of(choice(*ACCESS_MODES), at_least=1, at_most=4)(value, path)
    if set(modes) == {READ_ONLY_MANY}:
        raise InvalidSpec(path, "must have one that writes: checkpoints are written to the volume")
    return modes


def _read_writable(value: object, path: str) -> bool:
    if boolean(value, path):
        raise InvalidSpec(path, "must not be true: checkpoints are written to the volume")
    return False


_CLAIM_TEMPLATE = partly(
    {
        "metadata": partly({"labels": _STRINGS, "annotations": _STRINGS}, whole=True),
        "spec": partly(
            {
                "accessModes": _read_modes,
                "resources": mapping,
                "volumeMode": choice("Filesystem"),
            },
            required=["accessModes", "resources"],
        ),
    },
    required=["spec"],
    whole=True,
)
_CLAIM_NAME = text(r"(?s:.+)", "a name", at_most=253)
_CLAIM = partly({"claimName": _CLAIM_NAME}, required=["claimName"], whole=True)
_WRITABLE = partly({"readOnly": _read_writable})
_HOST_PATH = partly({"type": choice(*_DIRECTORIES)})
_URI = text(r"[a-z][a-z0-9+.-]*://[^\s/]\S*", "a URL such as s3://bucket/prefix", at_most=1024)
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SECRET = text(rf"{_LABEL}(\.{_LABEL})*", "the name of a Secret", at_most=253)
_WORD = "[A-Za-z0-9_][A-Za-z0-9._-]*"
_PATH = text(f"{_WORD}(/{_WORD})*", "a relative path, such as team/bert", at_most=255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """`spec.checkpoint.volume`: exactly one field is set.

    Attributes:
        volume_claim_template: the template of a claim that the operator creates.
        persistent_volume_claim: an existing claim.
        nfs: an NFS export, as in a pod.
        host_path: a directory of the nodes, as in a pod.
        csi: an inline CSI volume, as in a pod.
    """

    volume_claim_template: Annotated[View | None, _CLAIM_TEMPLATE] = None
    persistent_volume_claim: Annotated[View | None, _CLAIM] = None
    nfs: Annotated[View | None, _WRITABLE] = None
    host_path: Annotated[View | None, _HOST_PATH] = None
    csi: Annotated[View | None, _WRITABLE] = None

    def source(self, job: str) -> dict[str, Any]:
        """Return the volume source of the pods of a job."""
        if self.volume_claim_template is not None:
            return {"persistentVolumeClaim": {"claimName": claim_name(job)}}
        return {
            key(name): dict(value)
            for name in self.__dataclass_fields__
            if (value := getattr(self, name)) is not None
        }


def _read_volume(value: object, path: str) -> Volume:
    volume = read(Volume, value, path)
    found = [key(name) for name in volume.__dataclass_fields__ if getattr(volume, name) is not None]
    if len(found) != 1:
        raise InvalidSpec(path, f"must have exactly one field, got {', '.join(found) or 'none'}")
    return volume


def _read_uri(value: object, path: str) -> str:
    uri: str = _URI(value, path)
    if _NOT_STORES.match(uri):
        sentence = "must be that of an object store, such as s3://bucket/prefix; use volume for a"
        raise InvalidSpec(path, f"{sentence} directory, got {shown(uri)}")
    return uri


def _read_true(value: object, path: str) -> bool:
    if value is not True:
        raise InvalidSpec(path, f"must be true or absent, got {shown(value)}")
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`spec.checkpoint`: where the runtime keeps checkpoints, and how often it writes them.

    Attributes:
        volume: the volume; None with a `uri`.
        uri: the URL of an object store; None with a `volume`.
        secret_name: the Secret with the environment variables of the object store.
        path: the directory in the volume, or below the URL; None for one of this job alone.
        every_steps: the number of optimizer steps between two checkpoints.
        every_seconds: the time between two checkpoints, in seconds.
        continuous: whether a checkpoint follows the other, which is the default.
        keep: the number of checkpoints to keep.
        in_memory: whether the memory of each pod has newer ones, for restarts in place.
        reclaim_policy: whether the claim of a template is deleted with the job.
    """

    volume: Annotated[Volume | None, _read_volume] = None
    uri: Annotated[str | None, _read_uri] = None
    secret_name: Annotated[str | None, _SECRET] = None
    path: Annotated[str | None, _PATH] = None
    every_steps: Annotated[int | None, integer(minimum=1)] = None
    every_seconds: Annotated[int | None, integer(minimum=1)] = None
    continuous: Annotated[bool | None, _read_true] = None
    keep: Annotated[int, integer(minimum=1)] = 2
    in_memory: Annotated[bool, boolean] = False
    reclaim_policy: Annotated[str, choice(RETAIN, DELETE)] = RETAIN

    @property
    def claim_template(self) -> View | None:
        """The template of the claim that the operator creates; None without one."""
        return None if self.volume is None else self.volume.volume_claim_template

    @property
    def cadence(self) -> str:
        """How often checkpoints are written, in words."""
        if self.every_steps is not None:
            return f"every {self.every_steps} steps"
        if self.every_seconds is not None:
            return f"every {self.every_seconds} s"
        return "continuously"

    def address(self, job: str, uid: str) -> str:
        """Return the directory in the training container, or the URL, of a job's checkpoints.

        A job that is created again has another uid, and so another directory.
        """
        root = MOUNT_PATH if self.uri is None else self.uri.rstrip("/")
        return f"{root}/{self.path or '-'.join(filter(None, (job, uid)))}"

    def unshared(self, replicas: int) -> str | None:
        """Return a warning if the claim can be mounted on one node only; None otherwise."""
        template = self.claim_template
        modes: list[str] = [] if template is None else list(template["spec"]["accessModes"])
        if template is None or replicas == 1 or not _ON_ONE_NODE.issuperset(modes):
            return None
        return (
            f"the claim of spec.checkpoint has the access mode {' and '.join(modes)}, so its "
            f"volume can be mounted on one node only, but the job has {replicas} replicas: pods on "
            "other nodes do not start; use ReadWriteMany"
        )


def claim_name(job: str) -> str:
    """Return the name of the claim that the operator creates for a job.

    >>> claim_name("digits")
    'digits-checkpoint'
    """
    return f"{job}-checkpoint"


def read_checkpoint(value: object, path: str) -> Checkpoint:
    """Read `spec.checkpoint`.

    Raises:
        InvalidSpec: a field is invalid, or the fields do not fit each other.
    """
    found = read(Checkpoint, value, path)
    with Faults() as faults:
        if (found.volume is None) == (found.uri is None):
            faults.add(path, "must have exactly one of volume and uri")
        if sum(getattr(found, name) is not None for name in _CADENCES) > 1:
            faults.add(path, f"must have at most one of {', '.join(map(key, _CADENCES))}")
        if found.secret_name is not None and found.uri is None:
            faults.add(f"{path}.secretName", "needs uri")
        if found.reclaim_policy == DELETE and found.claim_template is None:
            sentence = "Delete needs volume.volumeClaimTemplate: the operator deletes no files"
            faults.add(f"{path}.reclaimPolicy", sentence)
    return found
