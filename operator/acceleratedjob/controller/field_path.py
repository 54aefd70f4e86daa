"""Maps a field that the API server rejects in an object to the field of the job it comes from."""

import re

from acceleratedjob.api import template
from acceleratedjob.manifests import env
from acceleratedjob.manifests.pod_bytes import Gang
from acceleratedjob.planner.actions import (
    Action,
    CreateClaim,
    CreatePod,
    CreatePodGroup,
    CreatePolicy,
)

_OTHERS = {CreatePodGroup: "spec.scheduling", CreatePolicy: "spec.network.isolate"}
_CLAIM = "spec.checkpoint.volume.volumeClaimTemplate"
_VOLUME = re.compile(r"spec\.volumes\[(\d+)\]\.?(.*)")
_ENV = re.compile(r"(spec\.containers\[(\d+)\]\.env)\[(\d+)\](.*)")


def field_at_fault(gang: Gang, action: Action, field: str) -> str:
    """Return the path of the field of the job, given the path of the field of the object."""
    if isinstance(action, CreateClaim):
        return _joined(_CLAIM, field)
    if not isinstance(action, CreatePod):
        return _OTHERS.get(type(action), "spec")
    volume = _VOLUME.fullmatch(field)
    if volume is not None and _is_checkpoints(gang, int(volume[1])):
        return _joined("spec.checkpoint.volume", volume[2])
    return _joined("spec.template", _in_template(gang, field))


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _is_checkpoints(gang: Gang, index: int) -> bool:
    """Whether a volume of the pod is that of the checkpoints, which follows the template's."""
    given, volumes = gang.spec.checkpoint, gang.spec.template["spec"].get("volumes") or ()
    return given is not None and given.volume is not None and index == len(volumes)


def _in_template(gang: Gang, field: str) -> str:
    """Return the path in the template, whose `env` lacks the variables that the operator adds."""
    spec, found = gang.spec, _ENV.fullmatch(field)
    if found is None or int(found[2]) != template.trainer_index(spec.template):
        return field
    given = template.trainer(spec.template).get("env") or []
    names = env.pod_env(spec, attempt=gang.attempt, index=0)
    ours = len(env.merged(names, given)) - len(given)
    return f"{found[1]}[{int(found[3]) - ours}]{found[4]}"
