"""Renders the pods of an attempt as JSON: the manifest once, and then each index into it."""

import json
import uuid
from functools import cached_property

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import pod_name
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import Ref, Rendered
from acceleratedjob.manifests.pod import pod


class _Hole(int):
    """A placeholder for a pod index: formatted as text, it is a unique word."""

    word: str

    def __str__(self) -> str:
        return self.word

    def __format__(self, form: str) -> str:
        return self.word


class Gang:
    """All pods of an attempt, rendered when the first pod is requested."""

    def __init__(self, spec: JobSpec, attempt: Attempt) -> None:
        """Create a gang.

        Args:
            spec: the job; it must be valid if a pod is requested.
            attempt: the attempt of the pods.
        """
        self.spec = spec
        self.attempt = attempt

    @cached_property
    def _parts(self) -> list[bytes]:
        """The manifest, split at each position of the index."""
        hole = _Hole(-1)
        hole.word = uuid.uuid4().hex  # random, so the template cannot contain it
        manifest = pod(self.spec, attempt=self.attempt, index=hole)
        text = json.dumps(manifest, separators=(",", ":"))
        return text.encode().split(hole.word.encode())

    def pod(self, index: int) -> Rendered:
        """Return the pod of a replica.

        The API server checks the fields of the first pod strictly; the others differ only in the
        index.
        """
        name = pod_name(self.spec.name, self.attempt.number, index)
        body = str(index).encode().join(self._parts)
        return Rendered(Ref("Pod", self.spec.namespace, name), body, is_checked=index == 0)
