"""NVIDIA's resiliency extension: its launcher, and its restart within the process."""

from bench.goodput.peers import Peer
from bench.goodput.systems.system import Command, Setup, Spot, System
from bench.goodput.systems.torchrun import EVERY, OWN_STORE, SCRIPT, elastic
from bench.goodput.workloads import RANKS, START_LIMIT

PEER = Peer("nvidia-resiliency-ext", "0.4.1")  # a later one needs a newer glibc than many machines
FT = "GOODPUT_FT"
SPARE = 2  # processes in reserve
# In a round that was aborted its monitors may refuse all heartbeats for ever ("current state
# RankMonitorState.ABORTED"), so that each restart fails at once: then only a new launcher helps.
RESTARTS = 10
WITHIN = "bench.goodput.scripts.train_within"


def _launcher(spot: Spot) -> Setup:
    argv = (
        *(spot.python, f"{spot.scripts}/ft_launcher", *elastic(RANKS, RESTARTS)),
        *("--workers-stop-timeout=2", "--term-timeout=10"),
        f"--ft-initial-rank-heartbeat-timeout={START_LIMIT}",
        f"--ft-rank-heartbeat-timeout={spot.workload.silence}",
        *("--ft-workload-check-interval=0.5", "--ft-rank-termination-signal=SIGKILL"),
        *("--ft-enable-nic-monitor=False", "--ft-node-health-check-interval=1000"),
        *("-m", SCRIPT),
    )
    return Setup(units=(Command(name="pod", argv=argv, env={**OWN_STORE, FT: "1"}),))


def _within(spot: Spot) -> Setup:
    """Return plain processes, since torchrun would end the survivors, and a store beside them.

    The package's own store lives in rank 0, whose end would be that of the others.
    """
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(spot.ports[0])}
    ranks = ("bench.goodput.scripts.spawn_ranks", str(RANKS), str(SPARE), WITHIN)
    pod = Command(name="pod", argv=(spot.python, "-m", *ranks), env=env)
    return Setup(units=(pod,))


SYSTEMS = tuple(
    System(
        name=f"{name}-{every}",
        group=group,
        setting=f"a checkpoint every {every} steps",
        make=make,
        every=every,
        peer=PEER,
    )
    for name, group, make in (
        ("ft-launcher", "NVRx ft_launcher + Accelerate", _launcher),
        ("inprocess", f"NVRx inprocess, {SPARE} in reserve", _within),
    )
    for every in EVERY
)
