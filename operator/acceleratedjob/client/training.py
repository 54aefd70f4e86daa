"""Makes the manifest of a job from the arguments of `Client.train`; pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from acceleratedjob.api.names import API_VERSION, KIND, MAX_NAME_LENGTH, Manifest
from acceleratedjob.api.schema import integer, string
from acceleratedjob.api.template import TRAINER
from acceleratedjob.client.code import START, Code
from acceleratedjob.errors import InvalidSpec, shown
from acceleratedjob.validation import check

GPU = "nvidia.com/gpu"
_IMAGE = "spec.template.spec.containers[0].image"
CODE, WORK = "acceleratedjob-code", "acceleratedjob-work"  # volumes, and where they are mounted:
CODE_PATH, WORK_PATH = "/acceleratedjob/code", "/acceleratedjob/work"
SUFFIX_LENGTH = 5
_OURS = {  # fields that other arguments set, by the argument that must not
    "spec": frozenset({"checkpoint", "processesPerReplica", "replicas", "template"}),
    "pod": frozenset({"containers"}),
    "container": frozenset({"args", "command", "env", "image", "name", "resources"}),
}
_SIZE = re.compile(r"\d+(\.\d+)?[KMGTP]i?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a training needs, beside its code.

    Attributes:
        name: the name of the job.
        namespace: the namespace of the job.
        image: the image of the pods; None only on this machine.
        replicas: the number of pods.
        gpus: the number of GPUs of a pod.
        processes: the number of processes of a pod; None for one a GPU.
        packages: what pip installs when a pod starts.
        env: environment variables.
        checkpoint: where checkpoints are kept: the URL of an object store, the size of a volume, or
            the fields of `spec.checkpoint`.
        resources: limits of the container, such as `{"memory": "16Gi"}`.
        spec: other fields of the spec of the job.
        pod: other fields of the spec of the pods, such as `nodeSelector`; lists are appended.
        container: other fields of the training container, such as `volumeMounts`; the same.

    Raises:
        InvalidSpec: an argument is invalid.
    """

    name: str
    namespace: str
    image: str | None = None
    replicas: int = 1
    gpus: int = 0
    processes: int | None = None
    packages: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    checkpoint: str | Mapping[str, Any] | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what the spec of the job would not show as it was given."""
        for name in ("env", "resources", *_OURS):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise InvalidSpec(name, f"must be a dict, got {shown(given)}")
            for key in sorted(_OURS.get(name, frozenset()) & given.keys()):
                raise InvalidSpec(f"{name}[{key!r}]", "is made from the other arguments")
        for key, value in self.env.items():
            string(value, f"env[{key!r}]")
        integer(minimum=0)(self.gpus, "gpus")
        if self.gpus and GPU in self.resources:
            raise InvalidSpec(f"resources[{GPU!r}]", "is made from gpus: remove one of them")
        _check_packages(self.packages)


def _check_packages(given: Sequence[str]) -> None:
    if isinstance(given, str):
        raise InvalidSpec("packages", f"must be a list of text, got {shown(given)}")
    for index, one in enumerate(given):
        if not _is_package(one):
            sentence = "must be a package as pip takes it, such as 'einops==0.8.1', not a flag"
            raise InvalidSpec(f"packages[{index}]", f"{sentence}, got {shown(one)}")


def _is_package(given: object) -> bool:
    """Whether pip would take something as one package, and not as a flag."""
    return isinstance(given, str) and re.fullmatch(r"[^-\s].*", given) is not None


def job_manifest(training: Training, code: Code, *, config_map: str) -> Manifest:
    """Return the AcceleratedJob of a training.

    Args:
        training: what it needs.
        code: its code.
        config_map: the name of the ConfigMap of the code.

    Raises:
        InvalidSpec: the job would be invalid.
    """
    optional: dict[str, Any] = {
        "processesPerReplica": training.processes,
        "checkpoint": _checkpoint(training),
    }
    made: Manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": training.name, "namespace": training.namespace},
        "spec": {
            "replicas": training.replicas,
            **{name: value for name, value in optional.items() if value is not None},
            **training.spec,
            "template": {"spec": _pod(training, code, config_map)},
        },
    }
    _check(made, needs_image=training.image is not None)
    return made


def _check(job: Manifest, *, needs_image: bool) -> None:
    """Check a job as a cluster does, which gets it as JSON."""
    found = check.faults(json.loads(json.dumps(job)))
    wrong = [fault for fault in found if needs_image or fault.field != _IMAGE]
    if wrong:
        first, *others = wrong
        raise InvalidSpec(first.field, first.message, others)


def _pod(training: Training, code: Code, config_map: str) -> Manifest:
    volumes: dict[str, Manifest] = {
        CODE: {"configMap": {"name": config_map}},
        WORK: {"emptyDir": {}},
    }
    made = {
        "containers": [_container(training, code)],
        "volumes": [{"name": name} | source for name, source in volumes.items()],
    }
    return _with(made, training.pod)


def _container(training: Training, code: Code) -> Manifest:
    limits = {**training.resources, **({GPU: training.gpus} if training.gpus else {})}
    words = (code.script, *code.words)
    made: Manifest = {
        "name": TRAINER,
        "image": training.image,
        "command": ["python", f"{CODE_PATH}/{START}", WORK_PATH],
        "args": [one.replace("$", "$$") for one in words],  # else $(NAME) would be a variable
        "env": [{"name": name, "value": value} for name, value in training.env.items()],
        "resources": {"limits": limits} if limits else None,
        "volumeMounts": [
            {"name": CODE, "mountPath": CODE_PATH, "readOnly": True},
            {"name": WORK, "mountPath": WORK_PATH},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    known = {name: value for name, value in made.items() if value not in (None, [])}
    return _with(known, training.container)


def _with(made: Manifest, given: Mapping[str, Any]) -> Manifest:
    """Return an object with the fields that the user gives; lists are appended to ours."""
    ours = {name: value for name, value in made.items() if isinstance(value, list)}
    both = {name: [*value, *given[name]] for name, value in ours.items() if name in given}
    return {**made, **given, **both}


def _checkpoint(training: Training) -> Mapping[str, Any] | None:
    """Return `spec.checkpoint`.

    Raises:
        InvalidSpec: the text is neither the URL of an object store nor a size.
    """
    given = training.checkpoint
    if not isinstance(given, str):
        return given
    if "://" in given:
        return {"uri": given}
    if not _SIZE.fullmatch(given):
        sentence = "must be a URL such as s3://bucket/runs, the size of a volume such as 20Gi, or"
        raise InvalidSpec("checkpoint", f"{sentence} a dict of fields, got {shown(given)}")
    mode = "ReadWriteOnce" if training.replicas == 1 else "ReadWriteMany"
    claim = {"accessModes": [mode], "resources": {"requests": {"storage": given}}}
    return {"volume": {"volumeClaimTemplate": {"spec": claim}}}


def job_name(title: str, suffix: str) -> str:
    """Return a name for the job of a function or script.

    >>> job_name("Train_MNIST", "x7k2p"), job_name("2d", "x7k2p")
    ('train-mnist-x7k2p', 'job-2d-x7k2p')
    """
    words = "-".join(re.findall("[a-z0-9]+", title.lower())) or "job"
    words = words if words[0].isalpha() else f"job-{words}"
    return f"{words[: MAX_NAME_LENGTH - len(suffix) - 1].rstrip('-')}-{suffix}"


def with_owner(config_map: Manifest, job: Manifest) -> Manifest:
    """Return a ConfigMap that is deleted with a job, in its namespace.

    The reference does not block the deletion of the job, which would need a permission on its
    finalizers.
    """
    metadata = job["metadata"]
    owner = {"apiVersion": API_VERSION, "kind": KIND, "controller": True}
    owner |= {"name": metadata["name"], "uid": metadata["uid"]}
    own = config_map["metadata"] | {"namespace": metadata["namespace"], "ownerReferences": [owner]}
    return config_map | {"metadata": own}
