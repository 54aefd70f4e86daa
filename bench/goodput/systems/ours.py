"""This project: `python -m runtime.launch`, in a pod whose attempts the outer loop makes."""

from collections.abc import Mapping
from pathlib import Path

from bench.goodput.schedule import GRACE
from bench.goodput.systems.system import Command, Setup, Spot, System
from bench.goodput.workloads import RANKS, START_LIMIT, STEP_LIMIT

IN_PLACE = "ACCELERATEDJOB_IN_PLACE_RESTARTS"
STALLS = "ACCELERATEDJOB_STALL_DEADLINE_SECONDS"
RESTARTS = 10**6  # without a limit, as for the others
SCRIPT = "bench.goodput.scripts.train_ours"
# The launcher with other limits than those of a job.
LAUNCHER = f"""
import functools, sys
from runtime.control.verdicts.track import Limits
from runtime.launch.__main__ import main
from runtime.launch.coordinator import control_of
main(functools.partial(control_of, limits=Limits(floor={STEP_LIMIT}, ceiling={START_LIMIT})))
"""


def _env(spot: Spot) -> Mapping[str, str]:
    """Return what the operator sets in the pod of a job."""
    facts = {
        "ACCELERATEDJOB_NAME": spot.run,
        "ACCELERATEDJOB_UID": spot.run,
        "ACCELERATEDJOB_REPLICAS": 1,
        "ACCELERATEDJOB_REPLICA_INDEX": 0,
        "ACCELERATEDJOB_PROCESSES_PER_REPLICA": RANKS,
        "ACCELERATEDJOB_PROGRESS_PORT": spot.ports[0],
        "ACCELERATEDJOB_TERMINATION_LOG": spot.folder / "message",
        "ACCELERATEDJOB_STOP_GRACE_SECONDS": int(GRACE),
        "ACCELERATEDJOB_CHECKPOINT_DIR": spot.folder / "checkpoints",
        "PET_NNODES": 1,
        "PET_NODE_RANK": 0,
        "PET_NPROC_PER_NODE": RANKS,
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": spot.ports[1],
    }
    return {name: str(one) for name, one in facts.items()}


def _pod(spot: Spot, *, is_in_place: bool) -> Setup:
    memory = Path("/dev/shm", spot.run)  # noqa: S108  # the memory of a pod
    more = {
        "ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR": str(memory),
        IN_PLACE: str(RESTARTS),
        STALLS: str(int(STEP_LIMIT)),
    }
    pod = Command(
        name="pod",
        argv=(spot.python, "-c", LAUNCHER, "-m", SCRIPT),
        env={**_env(spot), **(more if is_in_place else {})},
        message=None if is_in_place else spot.folder / "message",  # else the outer loop ends hangs
        fresh=(memory, spot.folder / "message"),
    )
    return Setup(units=(pod,), leftovers=(spot.run,))


SYSTEMS = (
    System(
        name="ours",
        group="AcceleratedJob, in place",
        make=lambda spot: _pod(spot, is_in_place=True),
    ),
    System(
        name="ours-pods",
        group="AcceleratedJob, new pods only",
        make=lambda spot: _pod(spot, is_in_place=False),
    ),
)
