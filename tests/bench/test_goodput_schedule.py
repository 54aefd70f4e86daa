"""The schedules of bench/goodput, and what injects them."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.goodput import processes
from bench.goodput.injector import Injector, signals
from bench.goodput.processes import RANK, RUN
from bench.goodput.schedule import GRACE, SLOW, WEIGHTS, Fault, Strike, schedule


@given(st.integers(0, 99), st.floats(1, 300), st.floats(1, 3000), st.integers(2, 8))
def test_a_schedule_depends_on_its_seed_only_and_a_longer_one_begins_alike(
    seed: int, mtbf: float, seconds: float, ranks: int
) -> None:
    found = schedule(seed, mtbf=mtbf, seconds=seconds, ranks=ranks)
    assert found == schedule(seed, mtbf=mtbf, seconds=2 * seconds, ranks=ranks)[: len(found)]
    assert [one.at for one in found] == sorted(one.at for one in found)
    for one in found:
        assert 0 < one.at < seconds
        assert (one.rank == 0) == (one.fault is Fault.KILL_FIRST)
        assert one.rank < ranks


def test_faults_come_as_often_as_asked_and_in_the_given_proportions() -> None:
    found = schedule(1, mtbf=60, seconds=60 * 10_000, ranks=2)
    assert len(found) == pytest.approx(10_000, rel=0.05)
    counts, total = Counter(one.fault for one in found), sum(WEIGHTS.values())
    for fault, weight in WEIGHTS.items():
        assert counts[fault] / len(found) == pytest.approx(weight / total, abs=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"mtbf": 0}, id="no time between faults"),
        pytest.param({"seconds": 0}, id="no time for faults"),
        pytest.param({"ranks": 1}, id="no rank but the first"),
    ],
)
def test_a_schedule_that_cannot_be_made_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive and ranks at least 2"):
        schedule(0, **({"mtbf": 1, "seconds": 1, "ranks": 2} | wrong))


@pytest.mark.parametrize(
    ("fault", "first", "last", "at", "count"),
    [
        (Fault.KILL, signal.SIGKILL, signal.SIGKILL, 0.0, 1),
        (Fault.KILL_FIRST, signal.SIGKILL, signal.SIGKILL, 0.0, 1),
        (Fault.PREEMPT, signal.SIGTERM, signal.SIGKILL, GRACE, 2),
        (Fault.HANG, signal.SIGSTOP, signal.SIGSTOP, 0.0, 1),
        (Fault.STRAGGLE, signal.SIGSTOP, signal.SIGCONT, SLOW, 200),
    ],
    ids=str,
)
def test_each_fault_is_these_signals(
    fault: Fault, first: signal.Signals, last: signal.Signals, at: float, count: int
) -> None:
    found = signals(fault)
    assert (found[0], found[-1][1], len(found)) == ((0.0, first), last, count)
    assert found[-1][0] == pytest.approx(at, abs=0.06)
    assert [when for when, _ in found] == sorted(when for when, _ in found)


class Ranks:
    """Ranks of which some have no process, and what was sent to them."""

    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        self.sent: list[tuple[int, int]] = []

    def send(self, pids: Iterable[int], number: int) -> None:
        self.sent += [(pid, number) for pid in pids]


def test_a_fault_waits_until_its_rank_has_a_process_and_keeps_to_that_process() -> None:
    ranks = Ranks()
    strikes = [Strike(1.0, Fault.PREEMPT, 1), Strike(2.0, Fault.KILL_FIRST, 0)]
    injector = Injector(strikes, ranks.pids.get, ranks.send)
    injector.tick(100.0)
    assert ranks.sent == []  # the training has not begun

    injector.began = 100.0
    ranks.pids[0] = 10
    injector.tick(103.0)
    assert (ranks.sent, injector.waits) == ([], 2)  # in order: rank 1 is hit first

    ranks.pids[1] = 11
    injector.tick(104.0)
    assert ranks.sent == [(11, signal.SIGTERM), (10, signal.SIGKILL)]
    assert [(hit.at, hit.pid) for hit in injector.hits] == [(104.0, 11), (104.0, 10)]

    ranks.pids[1] = 12
    injector.tick(104.0 + GRACE)
    assert ranks.sent[2:] == [(11, signal.SIGKILL)]  # not the new process


NESTED = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
WAITS = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for one in found:
        one.kill()
        one.communicate()


def start(run: str, rank: int, *program: str) -> "subprocess.Popen[bytes]":
    """A process of a rank, which waits."""
    env = {**os.environ, RUN: run, RANK: str(rank)}
    made = subprocess.Popen(
        [sys.executable, "-c", *(program or (WAITS,))],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert made.stdout is not None
    made.stdout.readline()
    return made


def test_a_rank_is_found_by_its_environment_or_by_what_it_has_written(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    run = f"run-{os.getpid()}"
    first, second, other = start(run, 0), start(run, 1), start(f"{run}-other", 1)
    started += [first, second, other]
    assert processes.of_rank(run, 0, {}) == first.pid
    assert processes.of_rank(run, 1, {}) == second.pid
    assert processes.of_rank(run, 2, {}) is None
    swapped = {first.pid: 1, second.pid: 0}
    assert processes.of_rank(run, 1, swapped) == first.pid
    assert processes.of_rank(run, 0, {other.pid: 0, **swapped}) == second.pid


def test_a_rank_is_not_its_own_child(started: list["subprocess.Popen[bytes]"]) -> None:
    run = f"run-{os.getpid()}"
    parent = start(run, 0, NESTED, WAITS)
    started.append(parent)
    assert len(processes.of_run(run)) == 2
    assert processes.of_rank(run, 0, {}) == parent.pid
    processes.kill_all(run)
    assert not processes.of_run(run)


def test_only_processes_of_the_run_get_signals_and_their_ends_are_noted(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    run = f"run-{os.getpid()}"
    mine, other = start(run, 0), start(f"{run}-other", 0)
    started += [mine, other]
    ends = processes.Ends()
    for one in started:
        ends.watch(one.pid)
    processes.send(run, [mine.pid, other.pid], signal.SIGKILL)
    assert [one.pid for one in ends.wait(60)] == [mine.pid]
    assert ends.wait(0) == []
    assert other.poll() is None
    ends.close()
