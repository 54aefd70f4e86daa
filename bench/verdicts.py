"""What verdicts cost, and whether they are right: a line for each figure.

python -m bench.verdicts                  costs: a digest next to a copy of the same bytes, a
                                          second of beats of 1,000 ranks, and stacks
python -m bench.verdicts --hangs 20       jobs of real launchers in which one rank hangs
python -m bench.verdicts --pauses         what may take long, and must not be called a hang
python -m bench.verdicts --lives 20       jobs that start and stop
python -m bench.verdicts --differences    a slow rank, and a flipped bit
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from bench import hangs
from bench.hanging_training import HANGS, PEACE
from runtime.control import stacks
from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.verdicts.hang import Watch
from runtime.control.verdicts.straggler import Stragglers
from runtime.loop.digest import digest

RANKS = 1000
ROUNDS = 7
ASKED = """
import sys, threading
from runtime.control import stacks
stacks.install()
print("ready", flush=True)
threading.Event().wait()
"""


def seconds(work: Callable[[], object]) -> float:
    """Return the median time of a call, in seconds."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def digest_and_copy(elements: int, device: str) -> str:
    """Compare the digest of a float32 tensor with a copy of it."""
    tensor = torch.randn(elements, device=device)
    other = torch.empty_like(tensor)
    one = torch.zeros((), device=device)

    def copied() -> None:
        other.copy_(tensor)
        one.item()  # waits for the device

    copy, taken = seconds(copied), seconds(lambda: digest(tensor).item())
    rate = 4 * elements / taken / 1e9
    return f"digest: {taken / copy:.1f} times a copy of the same bytes ({rate:.1f} GB/s, {device})"


def beats() -> str:
    """Time a second of beats that come one by one."""
    watch, stragglers, second = Watch(), Stragglers(), 0

    def work() -> None:
        nonlocal watch, stragglers, second
        second += 1
        for rank in range(RANKS):
            beat = Beat(place=Place(10 * second), phase=Phase.STEP, own_seconds=0.1)
            watch = watch.heard(watch.life, {rank: beat}, second + rank / RANKS)
            stragglers = stragglers.heard(stragglers.life, {rank: beat})
        watch, _ = watch.decided({})

    return f"judges: {1000 * seconds(work):.0f} ms for a second of beats of {RANKS} ranks"


def asked() -> str:
    """Time a question to another process."""
    command = [sys.executable, "-c", ASKED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            (process.stdout or sys.stdin).readline()
            taken = seconds(lambda: stacks.ask(process.pid))
        finally:
            process.kill()
    return f"stacks: {1000 * taken:.1f} ms for the stacks of another process"


PAUSES = {  # seconds
    "the first step": 60,
    "an evaluation without batches": 60,
    "a checkpoint": 30,
    "a save of the script": 30,
    "a pause of all ranks": 60,
}
WORLDS = ((2, 1), (1, 2), (1, 3), (2, 2))  # pods, and ranks in each


def print_hangs(number: int) -> None:
    """Let a rank hang in each way, in worlds of several sizes."""
    right, longest = 0, 0.0
    for index in range(number):
        kind = list(HANGS)[index % len(HANGS)]
        pods, processes = WORLDS[index // len(HANGS) % len(WORLDS)]
        culprit = index % (pods * processes)
        seconds, wrong = hangs.hang(kind, pods=pods, processes=processes, culprit=culprit)
        right, longest = right + (not wrong), max(longest, seconds)
        print(
            f"{kind}, rank {culprit} of {pods} x {processes}: {wrong or 'right'}, {seconds:.1f} s"
        )
    print(f"hangs: {right} of {number} right, the slowest after {longest:.1f} s")


def print_pauses() -> None:
    """Let all ranks take long in each way."""
    for kind, length in PAUSES.items():
        print(f"{kind}, {length} s: {hangs.pause(kind, length) or 'no verdict'}")


def print_differences() -> None:
    """Let a rank be slow, and flip a bit of another."""
    steps, text = hangs.steps_until("straggler", "is_slow", 1, processes=2)
    print(f"slow from the begin, named at step {steps}: {text}")
    env = {"ACCELERATEDJOB_DIVERGENCE_EVERY_STEPS": "2"}
    steps, text = hangs.steps_until("divergence", "flips_a_bit", 2, processes=3, env=env)
    print(f"a flipped bit at step {PEACE + 1}, named at step {steps}: {text}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.verdicts")
    parser.add_argument("--hangs", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--pauses", action="store_true")
    parser.add_argument("--lives", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--differences", action="store_true")
    parser.add_argument("--elements", type=int, default=1 << 26, help="of the tensor")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.hangs:
        print_hangs(options.hangs)
    if options.pauses:
        print_pauses()
    if options.lives:
        print(f"{options.lives} lives: {hangs.lives(options.lives) or 'no verdict'}")
    if options.differences:
        print_differences()
    if options.hangs or options.pauses or options.lives or options.differences:
        return
    for line in (digest_and_copy(options.elements, options.device), beats(), asked()):
        print(line)


if __name__ == "__main__":
    main()
