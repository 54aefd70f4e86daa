"""The pods of one attempt as bytes: the manifest is made once, and only the index is put in."""

import json
import uuid

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
    """All pods of one attempt of a job."""

    def __init__(self, spec: JobSpec, attempt: int) -> None:
        """Render them."""
        hole = _Hole(-1)
        hole.word = uuid.uuid4().hex  # new each time: no author can have written it
        manifest = pod(spec, attempt=attempt, index=hole)
        text = json.dumps(manifest, separators=(",", ":"))
        self._parts = text.encode().split(hole.word.encode())
        self._spec = spec
        self._attempt = attempt

    def pod(self, index: int) -> Rendered:
        """One replica's; the first of an attempt is created before the others, and checked."""
        name = pod_name(self._spec.name, self._attempt, index)
        body = str(index).encode().join(self._parts)
        return Rendered(Ref("Pod", self._spec.namespace, name), body, is_checked=index == 0)
