"""The manifests and the environment of an attempt of the full size."""

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.manifests.env import Env, pod_env
from acceleratedjob.manifests.pod import pod
from acceleratedjob.manifests.pod_bytes import Gang


def pod_of(spec: JobSpec, *, attempt: int = 0, index: int = 0) -> Manifest:
    """The pod of a replica."""
    return pod(spec, attempt=Attempt.full(spec, attempt), index=index)


def env_of(spec: JobSpec, *, attempt: int = 0, index: int = 0) -> Env:
    """The environment of a replica."""
    return pod_env(spec, attempt=Attempt.full(spec, attempt), index=index)


def gang_of(spec: JobSpec, attempt: int = 0) -> Gang:
    """All pods."""
    return Gang(spec, Attempt.full(spec, attempt))
