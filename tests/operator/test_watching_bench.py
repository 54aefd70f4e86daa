"""The benchmark of clients runs, and each way of watching and of creating sees every pod."""

import subprocess
import sys

WAYS = ("ours", "kubernetes.aio, raw", "kubernetes.aio, dicts", "kubernetes.aio, models", "kopf")


def test_each_way_sees_every_event_and_creates_every_pod() -> None:
    """A way that misses one is an error of the benchmark."""
    command = [sys.executable, "-m", "bench.operator.watching", "40", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "us CPU" in line]
    shown = [" ".join(line.split("us CPU")[0].split()[:-1]) for line in lines]
    created = (WAYS[0], WAYS[1], WAYS[3])
    assert shown == [*(f"event {way}" for way in WAYS), *(f"creation {way}" for way in created)]
    assert all(line.endswith("x ours") for line in lines)
