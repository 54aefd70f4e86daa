"""What a job has one of, and somebody has changed: it is removed, and so created anew."""

from collections.abc import Iterator
from datetime import timedelta

from acceleratedjob.actions import Action, Announce, DeletePolicy, DeleteService
from acceleratedjob.api import Reason
from acceleratedjob.observe import Single
from acceleratedjob.services import essence, network_policy, service
from acceleratedjob.situation import Situation

# Whoever changes it again each time, such as a webhook, must not keep the operator busy.
PATIENCE = timedelta(seconds=30)


def repairs(at: Situation) -> tuple[Action, ...]:
    """Deletions of what is not as it must be, with an event for each."""
    uids = {"Service": at.observed.service_uid, "NetworkPolicy": at.observed.policy_uid}
    actions: list[Action] = []
    for kind, single in _changed(at):
        uid = uids[kind]
        if uid is not None and single.made + PATIENCE <= at.now:
            told = f"{kind} {at.spec.name} was changed by someone, and is created anew"
            actions += [_DELETE[kind](uid), Announce(Reason.REPAIRED, told, warning=True)]
    return tuple(actions)


def due(at: Situation) -> timedelta | None:
    """When to look again at what was changed soon after its creation."""
    waits = [single.made + PATIENCE - at.now for _, single in _changed(at)]
    return min((wait for wait in waits if wait > timedelta()), default=None)


_DELETE: dict[str, type[DeleteService | DeletePolicy]] = {
    "Service": DeleteService,
    "NetworkPolicy": DeletePolicy,
}


def _changed(at: Situation) -> Iterator[tuple[str, Single]]:
    wanted = [service(at.spec)] + [network_policy(at.spec)] * at.spec.network.isolate
    for manifest in wanted:
        kind = manifest["kind"]
        found = at.observed.singles.get(kind)
        if found is not None and found.essence != essence(kind, manifest):
            yield kind, found
