"""Repairs a Service or NetworkPolicy that was changed by someone else: deletes and recreates it.

An object counts as changed if it differs from the record in its own annotation, not if it differs
from what this version would create: objects of other versions of the operator are kept.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from acceleratedjob.api.names import Reason
from acceleratedjob.observe.pod import Single
from acceleratedjob.planner.actions import (
    Announce,
    CreatePolicy,
    CreateService,
    DeletePolicy,
    DeleteService,
)
from acceleratedjob.planner.state import Situation, Steps

# Whoever changes it again each time, such as a webhook, keeps neither the operator nor the pods
# busy: the next repair comes this long after the last one, four times as long after each more.
PATIENCE = timedelta(seconds=30)
_FACTOR, _LONGEST = 4, 8  # the last wait is of 22 days


def repairs(at: Situation) -> Steps:
    """The deletion of each changed object, its creation, and an event."""
    uids = {"Service": at.observed.service_uid, "NetworkPolicy": at.observed.policy_uid}
    found = [(kind, one) for kind, one in _changed(at) if _due(one) <= at.now]
    deleted = tuple(_DELETE[kind](uid) for kind, _ in found if (uid := uids[kind]) is not None)
    made = tuple(_CREATE[kind](one.repairs + 1) for kind, one in found)
    told = tuple(_told(at, kind, one) for kind, one in found)
    return deleted, made, told


def due(at: Situation) -> timedelta | None:
    """When an object that was changed soon after its creation is repaired."""
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
        if found is not None and not (
            found.as_made and at.spec.network.port_of(kind) in found.ports
        ):
            yield kind, found


def _due(single: Single) -> datetime:
    factor: int = _FACTOR ** min(single.repairs, _LONGEST)
    return single.made + PATIENCE * factor


def _told(at: Situation, kind: str, found: Single) -> Announce:
    how = (
        f"has no port {at.spec.network.port_of(kind)}"
        if found.as_made
        else "was changed by someone"
    )
    # The number makes each repair an event of its own.
    sentence = f"{kind} {at.spec.name} {how}, and is created anew (repair {found.repairs + 1})"
    return Announce(Reason.REPAIRED, sentence, warning=True)
