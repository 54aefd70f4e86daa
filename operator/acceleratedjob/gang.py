"""The pods of one attempt as bytes: the manifest is made once, and only the index is put in."""

import json
import uuid
from functools import cached_property

from acceleratedjob.api import pod_name
from acceleratedjob.cluster import Ref, Rendered
from acceleratedjob.pods import pod
from acceleratedjob.spec import JobSpec


class _Hole(int):
    """Stands for an index that is not known yet: as text it is a word that nothing else has."""

    word: str

    def __str__(self) -> str:
        return self.word

    def __format__(self, form: str) -> str:
        return self.word


class Gang:
    """All pods of one attempt of a job, rendered when the first of them is asked for."""

    def __init__(self, spec: JobSpec, attempt: int) -> None:
        """Args: spec: whose; it need not be one that can be run, as long as no pod is made."""
        self.spec = spec
        self.attempt = attempt

    @cached_property
    def _parts(self) -> list[bytes]:
        """The manifest, cut wherever the index stands."""
        hole = _Hole(-1)
        hole.word = uuid.uuid4().hex  # new each time: no author can have written it
        manifest = pod(self.spec, attempt=self.attempt, index=hole)
        text = json.dumps(manifest, separators=(",", ":"))
        return text.encode().split(hole.word.encode())

    def pod(self, index: int) -> Rendered:
        """One replica's; the first of an attempt is created before the others, and checked."""
        name = pod_name(self.spec.name, self.attempt, index)
        body = str(index).encode().join(self._parts)
        return Rendered(Ref("Pod", self.spec.namespace, name), body, is_checked=index == 0)
