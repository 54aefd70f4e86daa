"""torchrun with Accelerate: the script saves every so many steps."""

import functools
from collections.abc import Mapping

from bench.goodput.systems.system import Command, Setup, Spot, System
from bench.goodput.workloads import RANKS

EVERY = (10, 50, 200)  # steps between two calls of save_state
SCRIPT = "bench.goodput.scripts.train_accelerate"
STATEFUL = "GOODPUT_STATEFUL"
RESTARTS = 10**6  # without a limit
# Since torch 2.15 the ranks of a restart find the address of a dead one in the shared store.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
# Its timer ends a hanging rank, and the agent with it; without it a hang costs the timeout of the
# collective, and 30 s in which the agent waits for the rank.
TIMER = {"TORCHELASTIC_ENABLE_FILE_TIMER": "1"}


def torchrun(
    spot: Spot, module: str, *, restarts: int = RESTARTS, ranks: int = RANKS
) -> tuple[str, ...]:
    """Return the command that runs a module in some ranks of this machine."""
    return (
        *(spot.python, "-m", "torch.distributed.run", *elastic(ranks, restarts)),
        *("--shutdown-timeout=2", "-m", module),
    )


def elastic(ranks: int, restarts: int) -> tuple[str, ...]:
    """Return the flags of torchrun that its descendants have as well."""
    return (
        *("--nnodes=1", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--monitor-interval=0.1"),
    )


def _make(env: Mapping[str, str], spot: Spot) -> Setup:
    return Setup(units=(Command(name="pod", argv=torchrun(spot, SCRIPT), env=env),))


SYSTEMS = tuple(
    System(
        name=f"{name}-{every}",
        group=group,
        setting=f"save_state every {every} steps",
        make=functools.partial(_make, {**OWN_STORE, **TIMER, **more}),
        every=every,
    )
    for name, group, more in (
        ("accelerate", "torchrun + Accelerate", {}),
        ("stateful", "torchrun + Accelerate + StatefulDataLoader", {STATEFUL: "1"}),
    )
    for every in EVERY
)
