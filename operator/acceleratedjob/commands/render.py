"""`acceleratedjob render`: prints the objects of the first attempt of a job."""

import sys
from collections.abc import Iterator

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.commands.objects import print_objects
from acceleratedjob.commands.source import Source, ignored
from acceleratedjob.manifests.claims import claim
from acceleratedjob.manifests.network import network_policy, service
from acceleratedjob.manifests.pod import pod
from acceleratedjob.manifests.podgroup import pod_group
from acceleratedjob.terminal import complain


def render(source: Source, form: str) -> int:
    """Print the objects that the operator would create, and return the exit code.

    Args:
        source: the manifest.
        form: `yaml` or `json`.

    Raises:
        InvalidSpec: the manifest is invalid.
    """
    documents = source.read()
    for sentence in (*ignored(documents), *_warnings(documents.specs)):
        complain(sentence)
    made = [one for spec in documents.specs for one in _objects(spec)]
    print_objects(made, form, sys.stdout)
    return 0


def _warnings(specs: tuple[JobSpec, ...]) -> Iterator[str]:
    for spec in specs:
        told = None if spec.checkpoint is None else spec.checkpoint.unshared(spec.replicas)
        if told is not None:
            yield f"warning: {spec.name}: {told}"


def _objects(spec: JobSpec) -> Iterator[Manifest]:
    yield service(spec)
    if spec.network.isolate:
        yield network_policy(spec)
    yield from (made for made in (pod_group(spec), claim(spec)) if made is not None)
    attempt = Attempt.full(spec)
    for index in range(attempt.size):
        yield pod(spec, attempt=attempt, index=index)
