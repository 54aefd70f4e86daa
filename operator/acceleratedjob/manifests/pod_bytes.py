"""The pods of an attempt as JSON: the manifest is rendered once, and the index is inserted."""

import json
import uuid
from functools import cached_property

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import pod_name
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import Ref, Rendered
from acceleratedjob.manifests.pod import pod


class _Hole(int):
    """Stands for an index that is not known yet: as text it is a word that nothing else has."""

    word: str

    def __str__(self) -> str:
        return self.word

    def __format__(self, form: str) -> str:
        return self.word


class Gang:
    """All pods of an attempt, rendered when the first of them is requested."""

    def __init__(self, spec: JobSpec, attempt: Attempt) -> None:
        """Args: spec: whose; it need not be one that can be run, as long as no pod is made."""
        self.spec = spec
        self.attempt = attempt

    @cached_property
    def _parts(self) -> list[bytes]:
        """The manifest, split at each position of the index."""
        hole = _Hole(-1)
        hole.word = uuid.uuid4().hex  # new each time: no author can have written it
        manifest = pod(self.spec, attempt=self.attempt, index=hole)
        text = json.dumps(manifest, separators=(",", ":"))
        return text.encode().split(hole.word.encode())

    def pod(self, index: int) -> Rendered:
        """The pod of a replica; the API server validates the fields of the first pod strictly."""
        name = pod_name(self.spec.name, self.attempt.number, index)
        body = str(index).encode().join(self._parts)
        return Rendered(Ref("Pod", self.spec.namespace, name), body, is_checked=index == 0)
