"""Which field of a job is at fault when the API server refuses what was made of it."""

import re

from acceleratedjob import env, template
from acceleratedjob.actions import Action, CreatePod, CreatePodGroup, CreatePolicy
from acceleratedjob.spec import JobSpec

_OTHERS = {CreatePodGroup: "spec.scheduling", CreatePolicy: "spec.network.isolate"}
_ENV = re.compile(r"(spec\.containers\[(\d+)\]\.env)\[(\d+)\](.*)")


def field_at_fault(spec: JobSpec, action: Action, field: str) -> str:
    """The job's field, from the one that the API server names in the object; it may name none."""
    if not isinstance(action, CreatePod):
        return _OTHERS.get(type(action), "spec")
    return ".".join(part for part in ("spec.template", _in_template(spec, field)) if part)


def _in_template(spec: JobSpec, field: str) -> str:
    """Undo what the pod has more than its template: variables before the author's own."""
    found = _ENV.fullmatch(field)
    if found is None or int(found[2]) != template.trainer_index(spec.template):
        return field
    given = template.trainer(spec.template).get("env") or []
    ours = len(env.merged(env.pod_env(spec, attempt=0, index=0), given)) - len(given)
    return f"{found[1]}[{int(found[3]) - ours}]{found[4]}"
