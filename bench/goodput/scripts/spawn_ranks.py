"""Starts plain processes with a rank each; some are in reserve.

    python -m bench.goodput.scripts.spawn_ranks RANKS SPARE MODULE

As `srun --kill-on-bad-exit=0` it lets the others go on when one ends. It ends with an error when
fewer are left than the training needs, and well when one has ended well. Beside them runs a store,
a new one each time, because the barriers in an old one count the ranks of the last time.
"""

import os
import subprocess
import sys
import time

STORE = "bench.goodput.scripts.serve_store"
GRACE = 10.0  # seconds that the others have to end when one has ended well


def main() -> int:
    """Start the processes, and return the exit code."""
    ranks, spare, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    total = ranks + spare
    argv = [sys.executable, "-m", STORE]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as store:
        assert store.stdout is not None  # noqa: S101  # it was asked for
        world = {"WORLD_SIZE": str(total), "GOODPUT_STORE": store.stdout.readline().strip()}
        running = {}
        for rank in range(total):
            env = {**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            made = subprocess.Popen([sys.executable, "-m", module], env=env)
            running[made.pid] = made
        try:
            return _waited(running, ranks)
        finally:
            store.kill()


def _waited(running: dict[int, "subprocess.Popen[bytes]"], ranks: int) -> int:
    """Wait until one has ended well, or too few are left; return the exit code."""
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
