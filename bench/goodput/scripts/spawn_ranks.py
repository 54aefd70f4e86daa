"""Starts plain processes with a rank each; some are in reserve.

    python -m bench.goodput.scripts.spawn_ranks RANKS SPARE MODULE

As `srun --kill-on-bad-exit=0` it lets the others go on when one ends. It ends with an error when
fewer are left than the training needs, and well when one has ended well.
"""

import os
import subprocess
import sys
import time

GRACE = 10.0  # seconds that the others have to end when one has ended well


def main() -> int:
    """Start the processes, and return the exit code."""
    ranks, spare, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    total = ranks + spare
    world = {"WORLD_SIZE": str(total)}
    running = {}
    for rank in range(total):
        env = {**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        made = subprocess.Popen([sys.executable, "-m", module], env=env)
        running[made.pid] = made
    while len(running) >= ranks:
        pid, status = os.wait()
        if pid in running:
            del running[pid]
            if status == 0:
                return _ended(running)
    return 1


def _ended(others: dict[int, "subprocess.Popen[bytes]"]) -> int:
    """Wait for the others, and kill what is in reserve then."""
    end = time.monotonic() + GRACE
    for one in others.values():
        try:
            one.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
