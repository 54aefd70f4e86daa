"""torchft: each rank is a replica of its own, and the others go on while one is away."""

from bench.goodput.peers import Peer
from bench.goodput.systems.system import Command, Setup, Spot, System
from bench.goodput.systems.torchrun import TIMER, torchrun
from bench.goodput.workloads import RANKS

SCRIPT = "bench.goodput.scripts.train_torchft"
REPLICA = "REPLICA_GROUP_ID"
EVERY = 50  # steps between two checkpoints on disk, for the case that all replicas end


def _make(spot: Spot) -> Setup:
    port = spot.ports[0]
    lighthouse = Command(
        name="lighthouse",
        argv=(
            *(f"{spot.scripts}/torchft_lighthouse", "--bind", f"[::]:{port}"),
            *("--min_replicas", "1", "--quorum_tick_ms", "20", "--join_timeout_ms", "1000"),
            *("--heartbeat_timeout_ms", "1000"),
        ),
        port=port,
    )
    return Setup(services=(lighthouse,), units=tuple(_replica(spot, rank) for rank in range(RANKS)))


def _replica(spot: Spot, rank: int) -> Command:
    """Return a replica, whose torchrun must share its store over restarts: the manager needs it."""
    env = {
        REPLICA: str(rank),
        "TORCHFT_LIGHTHOUSE": f"http://127.0.0.1:{spot.ports[0]}",
        **TIMER,
    }
    return Command(name=f"replica-{rank}", argv=torchrun(spot, SCRIPT, ranks=1), env=env)


SYSTEMS = (
    System(
        name="torchft",
        group="torchft",
        setting=f"a checkpoint on disk every {EVERY} steps",
        make=_make,
        every=EVERY,
        peer=Peer("torchft", "0.2.0"),
        variable=REPLICA,
    ),
)
