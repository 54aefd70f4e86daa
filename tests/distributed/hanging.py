"""Worlds in which one rank hangs, judged as they run: `hanging.py SIZE:KIND:RANK... [--floor S]`.

The ranks are forked from one process that has imported torch, and beat through pipes. This process
plays the coordinator: it drives the judge, asks the ranks for their reports, and asks the processes
that do not answer by a signal, as their launcher does. It writes one JSON line for each world.
"""

import argparse
import collections
import contextlib
import itertools
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch._dynamo  # DistributedDataParallel imports it: once for all worlds
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from acceleratedjob.local.process import free_port
from runtime.control import asking, stacks
from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.verdicts import report
from runtime.control.verdicts.hang import Order, Watch
from runtime.control.verdicts.life import Home
from runtime.control.verdicts.track import Limits
from runtime.control.verdicts.verdict import Verdict
from runtime.loop import flight

PERIOD = 0.1  # seconds between two beats
ANSWER = 5.0  # seconds to wait for an answer before a process is asked by a signal
STEP = 0.05  # seconds
PEACE = 8  # steps before one rank hangs
LAST = 60.0  # seconds in which there must be a verdict, beyond the floor
LOCK = threading.Lock()


def sleeps() -> None:
    time.sleep(1000)


def is_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def waits_for_its_own_lock() -> None:
    with LOCK:
        LOCK.acquire()


def loops_in_c() -> None:
    """Without end, and without ever giving the interpreter lock to another thread."""
    collections.deque(itertools.repeat(0), maxlen=0)


def reads_slowly() -> None:
    source, _sink = os.pipe()  # nobody writes
    os.read(source, 1)


KINDS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (sleeps, is_stopped, waits_for_its_own_lock, loops_in_c, reads_slowly)
}


@dataclass
class Doing:
    """What the main thread of a rank does, for the thread that beats."""

    phase: Phase = Phase.INIT
    steps: int = 0
    since: float = field(default_factory=time.monotonic)
    ticks: int = 0
    seen: tuple[int, int] = (0, 0)

    def set(self, phase: Phase) -> None:
        self.phase, self.since = phase, time.monotonic()

    def beat(self) -> dict[str, Any]:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        now = (id(frame), frame.f_lasti)
        self.ticks += now != self.seen
        self.seen = now
        return {
            "phase": self.phase,
            "steps": self.steps,
            "phase_seconds": time.monotonic() - self.since,
            "ticks": int(self.ticks * PERIOD),
        }


def talk(channel: socket.socket, doing: Doing) -> None:
    """Beat, and answer each byte that comes with a report."""
    channel.settimeout(PERIOD)
    while True:
        channel.sendall(json.dumps({"beat": doing.beat()}).encode() + b"\n")
        with contextlib.suppress(TimeoutError):
            if not channel.recv(1):
                return
            channel.sendall(json.dumps({"report": flight.report().as_dict()}).encode() + b"\n")


def train(rank: int, size: int, port: int, fault: tuple[str, int], channel: socket.socket) -> None:
    kind, culprit = fault
    stacks.install()
    doing = Doing()
    threading.Thread(target=talk, args=(channel, doing), daemon=True).start()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=size)
    model = DistributedDataParallel(nn.Linear(4, 4))
    for step in itertools.count():
        doing.set(Phase.DATA)
        is_its_turn = rank == culprit and step == PEACE
        if is_its_turn and kind == reads_slowly.__name__:
            reads_slowly()
        doing.set(Phase.STEP)
        loss = model(torch.ones(2, 4)).sum()
        if is_its_turn:
            KINDS[kind]()
        loss.backward()
        time.sleep(STEP)
        doing.steps += 1


def forked(size: int, fault: tuple[str, int]) -> dict[int, tuple[int, socket.socket]]:
    """Start a world; return rank -> its process and the socket that it beats through."""
    port, world = free_port(), {}
    for rank in range(size):
        ours, its = socket.socketpair()
        pid = os.fork()
        if not pid:
            try:
                train(rank, size, port, fault, its)
            finally:
                os._exit(1)
        its.close()
        world[rank] = (pid, ours)
    return world


def lines(world: dict[int, tuple[int, socket.socket]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what the ranks say, until this generator is closed; (-1, {}) while they say nothing."""
    buffers = dict.fromkeys(world, b"")
    with selectors.DefaultSelector() as selector:
        for rank, (_, channel) in world.items():
            selector.register(channel, selectors.EVENT_READ, rank)
        while True:
            ready = selector.select(PERIOD)
            for key, _ in ready:
                rank = key.data
                *whole, buffers[rank] = (buffers[rank] + world[rank][1].recv(1 << 16)).split(b"\n")
                yield from ((rank, json.loads(line)) for line in whole)
            if not ready:
                yield -1, {}


def beat_of(told: dict[str, Any]) -> Beat:
    return Beat(
        place=Place(told["steps"]),
        phase=Phase(told["phase"]),
        phase_seconds=told["phase_seconds"],
        ticks=told["ticks"],
    )


class Coordinator:
    """Feeds a judge with what the ranks say, and does what it wants."""

    def __init__(self, world: dict[int, tuple[int, socket.socket]], limits: Limits) -> None:
        self.world = world
        self.watch = Watch(limits=limits)
        self.homes = {rank: Home(rank, f"node-{rank}") for rank in world}
        self.moved = time.monotonic()  # when a place was last seen to change
        self.asked: float | None = None

    def hear(self, rank: int, told: dict[str, Any], now: float) -> None:
        if "beat" in told:
            beat, known = beat_of(told["beat"]), self.watch.tracks.get(rank)
            self.moved = now if known is None or beat.place != known.beat.place else self.moved
            self.watch = self.watch.heard(self.watch.life, {rank: beat}, now)
        if "report" in told:
            self.tell(rank, report.read(told["report"]))

    def tell(self, rank: int, told: report.Report) -> None:
        self.watch = self.watch.told(self.watch.life, rank, told)

    @property
    def is_at_peace(self) -> bool:
        """Whether no rank hangs yet: who stands is only slow, on a machine with much else to do.

        A rank that stops all of its threads cannot tell of its last step, but the others can.
        """
        return all(one.beat.place.steps < PEACE for one in self.watch.tracks.values())

    def look(self, now: float) -> Verdict | None:
        if self.is_at_peace:
            return None
        if self.asked is not None and now - self.asked > ANSWER:
            self.asked = None
            for rank in self.world.keys() - self.watch.reports.keys():
                self.tell(rank, asking.report_of(self.world[rank][0], ANSWER))
        self.watch, wish = self.watch.decided(self.homes)
        if wish is Order.COLLECT:
            self.asked = now
            for _, channel in self.world.values():
                channel.sendall(b"?")
        return wish if isinstance(wish, Verdict) else None


def judge(world: dict[int, tuple[int, socket.socket]], limits: Limits) -> tuple[Verdict, float]:
    """Return the verdict on a world, and the seconds since all its ranks stood."""
    coordinator = Coordinator(world, limits)
    for rank, told in lines(world):
        now = time.monotonic()
        coordinator.hear(rank, told, now)
        verdict = coordinator.look(now)
        if verdict is not None:
            return verdict, now - coordinator.moved
        assert now - coordinator.moved < limits.floor + LAST, coordinator.watch
    raise AssertionError("unreachable: `lines` never ends")


def end(world: dict[int, tuple[int, socket.socket]]) -> None:
    for pid, channel in world.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        channel.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", metavar="SIZE:KIND:RANK")
    parser.add_argument("--floor", type=float, default=1.0)
    options = parser.parse_args()
    limits = Limits(floor=options.floor, ceiling=30.0, patience=3 * ANSWER)
    for case in options.cases:
        size, kind, rank = case.split(":")
        world = forked(int(size), (kind, int(rank)))
        try:
            verdict, seconds = judge(world, limits)
        finally:
            end(world)
        told = {"case": case, "seconds": round(seconds, 1), **verdict.as_dict()}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
