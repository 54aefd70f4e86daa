"""Maps a field that the API server rejects in an object to the field of the job it comes from."""

import re

from acceleratedjob.api import template
from acceleratedjob.manifests import env
from acceleratedjob.manifests.pod_bytes import Gang
from acceleratedjob.planner.actions import Action, CreatePod, CreatePodGroup, CreatePolicy

_OTHERS = {CreatePodGroup: "spec.scheduling", CreatePolicy: "spec.network.isolate"}
_ENV = re.compile(r"(spec\.containers\[(\d+)\]\.env)\[(\d+)\](.*)")


def field_at_fault(gang: Gang, action: Action, field: str) -> str:
    """The path of the job's field, from that of the object's field; empty if there is none."""
    if not isinstance(action, CreatePod):
        return _OTHERS.get(type(action), "spec")
    return ".".join(part for part in ("spec.template", _in_template(gang, field)) if part)


def _in_template(gang: Gang, field: str) -> str:
    """The index in the template, where the author's variables do not come after ours."""
    spec, found = gang.spec, _ENV.fullmatch(field)
    if found is None or int(found[2]) != template.trainer_index(spec.template):
        return field
    given = template.trainer(spec.template).get("env") or []
    names = env.pod_env(spec, attempt=gang.attempt, index=0)
    ours = len(env.merged(names, given)) - len(given)
    return f"{found[1]}[{int(found[3]) - ours}]{found[4]}"
