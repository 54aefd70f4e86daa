"""What a job has one of, and somebody has changed: it is removed, and created anew.

A changed object is one that differs from its own record, not from what this version would make:
another version's object stays as it is, and so do the names of a running job's pods.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from acceleratedjob.actions import (
    Announce,
    CreatePolicy,
    CreateService,
    DeletePolicy,
    DeleteService,
)
from acceleratedjob.api import Reason
from acceleratedjob.observe import Single
from acceleratedjob.services import port
from acceleratedjob.situation import Situation, Steps

# Whoever changes it again each time, such as a webhook, keeps neither the operator nor the pods
# busy: the next repair comes this long after the last one, four times as long after each more.
PATIENCE = timedelta(seconds=30)
_FACTOR, _LONGEST = 4, 8  # the last wait is of 22 days


def repairs(at: Situation) -> Steps:
    """Deletions of what is not as it must be, its creation, and an event for each."""
    uids = {"Service": at.observed.service_uid, "NetworkPolicy": at.observed.policy_uid}
    found = [(kind, one) for kind, one in _changed(at) if _due(one) <= at.now]
    deleted = tuple(_DELETE[kind](uid) for kind, _ in found if (uid := uids[kind]) is not None)
    made = tuple(_CREATE[kind](one.repairs + 1) for kind, one in found)
    told = tuple(_told(at, kind, one) for kind, one in found)
    return deleted, made, told


def due(at: Situation) -> timedelta | None:
    """When to look again at what was changed soon after its creation."""
    waits = [_due(single) - at.now for _, single in _changed(at)]
    return min((wait for wait in waits if wait > timedelta()), default=None)


_DELETE: dict[str, type[DeleteService | DeletePolicy]] = {
    "Service": DeleteService,
    "NetworkPolicy": DeletePolicy,
}
_CREATE: dict[str, type[CreateService | CreatePolicy]] = {
    "Service": CreateService,
    "NetworkPolicy": CreatePolicy,
}


def _changed(at: Situation) -> Iterator[tuple[str, Single]]:
    for kind in ["Service"] + ["NetworkPolicy"] * at.spec.network.isolate:
        found = at.observed.singles.get(kind)
        if found is not None and not (found.as_made and port(kind, at.spec) in found.ports):
            yield kind, found


def _due(single: Single) -> datetime:
    factor: int = _FACTOR ** min(single.repairs, _LONGEST)
    return single.made + PATIENCE * factor


def _told(at: Situation, kind: str, found: Single) -> Announce:
    how = f"has no port {port(kind, at.spec)}" if found.as_made else "was changed by someone"
    # The number makes each repair an event of its own.
    sentence = f"{kind} {at.spec.name} {how}, and is created anew (repair {found.repairs + 1})"
    return Announce(Reason.REPAIRED, sentence, warning=True)
