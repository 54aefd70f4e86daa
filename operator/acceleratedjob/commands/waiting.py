"""What a run says about replicas that wait for GPUs, and whether it is of any use to wait."""

from collections.abc import Callable
from dataclasses import dataclass, field

from acceleratedjob.api.names import Reason, View
from acceleratedjob.api.status import Status
from acceleratedjob.commands.console import Console
from acceleratedjob.local.dealing import Shortage

NO_GPU = "`--set '{field}=0'`"  # how the limit of a job becomes 0


@dataclass(slots=True)
class Waits:
    """Tells once why replicas are not scheduled, and gives up if they never can be.

    Attributes:
        console: where it is told.
        lacks: the GPUs that this machine does not have; None if it has enough.
        give_up: called when replicas wait for GPUs that this machine does not have.
        is_vain: whether it was called.
    """

    console: Console
    lacks: Shortage | None
    give_up: Callable[[], None]
    is_vain: bool = field(default=False, init=False)
    _told: str = field(default="", init=False)

    def see(self, job: View) -> None:
        """See the status of the job."""
        status = Status.from_manifest(job)
        found = (one for one in status.pending if one.reason == Reason.UNSCHEDULABLE)
        entry = next(found, None)
        told = f"{entry.count} of {status.size} replicas wait: {entry.message}" if entry else ""
        if told not in ("", self._told):
            self.console.tell(told)
        self._told = told
        if told and self.lacks is not None and not self.is_vain:
            self.is_vain = True
            self.give_up()


def fitting(lacks: Shortage) -> str:
    """Return what to do about a shortage of GPUs.

    >>> few = Shortage(field="limits[gpu]", resource="gpu", each=2, replicas=4, there=5)
    >>> fitting(few)
    "use `--replicas 2`, or `--set 'limits[gpu]=0'` to train on the CPU"
    """
    fit = lacks.there // lacks.each
    less = f"`--replicas {fit}`" if fit else f"`--replicas 1 --set '{lacks.field}={lacks.there}'`"
    return f"use {less}, or {NO_GPU.format(field=lacks.field)} to train on the CPU"
