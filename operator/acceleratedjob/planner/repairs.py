"""Repairs a Service or NetworkPolicy that another client changed: deletes and re-creates it.

An object counts as changed if it differs from the record in its annotation. It does not count as
changed if this version would create a different object: another version of the operator may have
created it.
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

# The wait before the second repair; each further repair waits four times as long. Otherwise a
# webhook that changes every new object would keep the operator busy.
PATIENCE = timedelta(seconds=30)
_FACTOR, _LONGEST = 4, 8  # the longest wait is about 22 days


def repairs(at: Situation) -> Steps:
    """Return the steps for each changed object: its deletion, its creation, and an Event."""
    uids = {"Service": at.observed.service_uid, "NetworkPolicy": at.observed.policy_uid}
    found = [(kind, one) for kind, one in _changed(at) if _due(one) <= at.now]
    deleted = tuple(_DELETE[kind](uid) for kind, _ in found if (uid := uids[kind]) is not None)
    made = tuple(_CREATE[kind](one.repairs + 1) for kind, one in found)
    told = tuple(_told(at, kind, one) for kind, one in found)
    return deleted, made, told


def due(at: Situation) -> timedelta | None:
    """Return the time until the next repair that must still wait; None if there is none."""
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
        else "was changed by another client"
    )
    # Without the number, a second repair would have the same Event as the first.
    sentence = f"{kind} {at.spec.name} {how}; re-creating it (repair {found.repairs + 1})"
    return Announce(Reason.REPAIRED, sentence, warning=True)
