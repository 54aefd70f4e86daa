"""Maps a field that the API server rejects in an object to the field of the job it comes from."""

import re

from acceleratedjob.api import template
from acceleratedjob.manifests import env
from acceleratedjob.manifests.pod_bytes import Gang
from acceleratedjob.planner.actions import Action, CreatePod, CreatePodGroup, CreatePolicy

_OTHERS = {CreatePodGroup: "spec.scheduling", CreatePolicy: "spec.network.isolate"}
_ENV = re.compile(r"(spec\.containers\[(\d+)\]\.env)\[(\d+)\](.*)")


def field_at_fault(gang: Gang, action: Action, field: str) -> str:
    """Return the path of the field of the job, given the path of the field of the object."""
    if not isinstance(action, CreatePod):
        return _OTHERS.get(type(action), "spec")
    return ".".join(part for part in ("spec.template", _in_template(gang, field)) if part)


def _in_template(gang: Gang, field: str) -> str:
    """Return the path in the template, whose `env` lacks the variables that the operator adds."""
    spec, found = gang.spec, _ENV.fullmatch(field)
    if found is None or int(found[2]) != template.trainer_index(spec.template):
        return field
    given = template.trainer(spec.template).get("env") or []
    names = env.pod_env(spec, attempt=gang.attempt, index=0)
    ours = len(env.merged(names, given)) - len(given)
    return f"{found[1]}[{int(found[3]) - ours}]{found[4]}"
