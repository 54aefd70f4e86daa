"""dlrover: its launcher, with checkpoints in the memory of the agent."""

from bench.goodput.peers import Peer
from bench.goodput.systems.system import Command, Setup, Spot, System
from bench.goodput.systems.torchrun import OWN_STORE, RESTARTS, elastic
from bench.goodput.workloads import RANKS

SCRIPT = "bench.goodput.scripts.train_dlrover"
EVERY = (1, 5)  # steps between two checkpoints in memory


def _make(spot: Spot) -> Setup:
    """Return the master and the agent; `--standalone` does not start the master with torch 2.15."""
    port = spot.ports[0]
    master = Command(
        name="master",
        argv=(
            *(spot.python, "-u", "-m", "dlrover.python.master.main", "--port", str(port)),
            *("--node_num", "1", "--job_name", spot.run, "--platform", "local"),
        ),
        port=port,
    )
    agent = Command(
        name="pod",
        argv=(
            *(spot.python, f"{spot.scripts}/dlrover-run", *elastic(RANKS, RESTARTS)),
            *("--shutdown-timeout=2", "--save_at_breakpoint", "-m", SCRIPT),
        ),
        env={
            **OWN_STORE,
            "DLROVER_MASTER_ADDR": f"127.0.0.1:{port}",
            "ELASTIC_JOB_NAME": spot.run,  # the name of its files in memory, which it leaves
        },
    )
    return Setup(services=(master,), units=(agent,), leftovers=(f"*{spot.run}*",))


SYSTEMS = tuple(
    System(
        name=f"dlrover-{every}",
        group="dlrover",
        setting=f"a checkpoint in memory every {every} steps",
        make=_make,
        every=every,
        peer=Peer("dlrover", "0.6.1"),
    )
    for every in EVERY
)
