"""`acceleratedjob render`: prints the objects of the first attempt of a job, as YAML."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import yaml

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.commands.loading import load
from acceleratedjob.manifests.claims import claim
from acceleratedjob.manifests.network import network_policy, service
from acceleratedjob.manifests.pod import pod
from acceleratedjob.manifests.podgroup import pod_group


def render(manifest: Path, output: TextIO) -> None:
    """Print the objects that the operator would create for the job of a manifest.

    Raises:
        InvalidSpec: the manifest is not a valid job.
    """
    spec = JobSpec.from_manifest(load(manifest))
    told = None if spec.checkpoint is None else spec.checkpoint.unshared(spec.replicas)
    if told is not None:
        output.write(f"# Warning: {told}\n")
    yaml.safe_dump_all(_objects(spec), output, sort_keys=False)


def _objects(spec: JobSpec) -> Iterator[Manifest]:
    yield service(spec)
    if spec.network.isolate:
        yield network_policy(spec)
    yield from (made for made in (pod_group(spec), claim(spec)) if made is not None)
    attempt = Attempt.full(spec)
    for index in range(attempt.size):
        yield pod(spec, attempt=attempt, index=index)
