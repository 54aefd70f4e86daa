"""Launchers at the control channel, with real sockets: they look at ranks, and hear the verdict."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from runtime.control import agent as agents
from runtime.control import attendant as attendants
from runtime.control import observer, server
from runtime.control.agent import Agent
from runtime.control.attendant import Attendant
from runtime.control.beat import Beat, Phase
from runtime.control.frames import Frame
from runtime.control.identity import Identity
from runtime.control.lines import MAX_LINE, written
from runtime.control.lives import Order, Restarts
from runtime.control.messages import (
    Attend,
    Begin,
    Clear,
    Cleared,
    Fell,
    Hello,
    Look,
    Message,
    Retire,
    Seen,
    Whereabouts,
)
from runtime.control.place import Place
from runtime.control.progress.encoding import to_json
from runtime.control.server import Server
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.summary import Summary
from runtime.control.verdicts.track import Limits
from runtime.control.wire import encode
from tests.runtime.control.ranks import LOOPBACK, PATIENT, SECONDS, direct, ended, until

LINE = Report.of((Frame("/app/data.py", 88, "read_shard"),))
# A rank that answers does so within `answer`, however busy the machine: else it is looked at, too.
LIMITS = Limits(floor=0.5, ceiling=0.5, silence=0.4, answer=2.0, patience=60.0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats and judgements follow each other faster than in a job."""
    monkeypatch.setattr(agents, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(observer, "SECONDS", 0.1)


@dataclass
class Pod:
    """A pod with one rank: what its launcher has looked at, and the verdicts that it has heard."""

    looked: list[tuple[int, ...]] = field(default_factory=list)
    heard: list[Summary | None] = field(default_factory=list)
    ordered: list[Order] = field(default_factory=list)
    say: Callable[[Fell | Cleared], None] = field(init=False)


class Heard(Agent):
    """A rank that keeps the verdicts that it hears."""

    def on_hang(self, hang: Summary | None) -> None:
        self.__dict__.setdefault("heard", []).append(hang)


@dataclass
class Job:
    """A job of pods with one rank each; ranks that answer nothing have no connection.

    Attributes:
        server: the coordinator.
        stack: what ends with the job.
        pods: the pods whose launchers attend.
        steps: the steps that the ranks have completed.
        since: when all ranks have begun to stand; None while they do not.
    """

    server: Server
    stack: ExitStack
    pods: dict[int, Pod] = field(default_factory=dict)
    steps: int = 9
    since: float | None = None

    def attend(self, replica: int, seen: Report = LINE) -> Pod:
        pod = self.pods[replica] = Pod()

        def look(ranks: tuple[int, ...]) -> Mapping[int, Report]:
            pod.looked.append(ranks)
            return dict.fromkeys(ranks, seen)

        attendant = Attendant(
            Attend(uid="uid", attempt=0, replica=replica, node=f"n{replica}"),
            lambda: (LOOPBACK, self.server.port),
            look=look,
            on_hang=pod.heard.append,
            on_order=pod.ordered.append,
        )
        self.stack.callback(attendant.close)
        pod.say = attendant.say
        return pod

    def rank(self, rank: int) -> Heard:
        def beat(_: Place) -> Beat:
            seconds = 0.0 if self.since is None else time.monotonic() - self.since
            return Beat(place=Place(self.steps), phase=Phase.STEP, phase_seconds=seconds)

        waits = Report(stack=(Frame("/usr/torch/distributed/c.py", 1, "all_reduce"),))
        made = Heard(
            direct(self.server),
            beat,
            lambda: waits,
            own=self.server.identity,
            rank=rank,
            timeouts=PATIENT,
        )
        self.stack.callback(made.close)
        return made

    def raw(self, *messages: Message) -> socket.socket:
        """Return a connection that has said something."""
        sock = socket.create_connection((LOOPBACK, self.server.port), SECONDS)
        self.stack.callback(sock.close)
        sock.sendall(b"".join(written(encode(one)) for one in messages))
        return sock


@contextmanager
def job(size: int, processes: int = 1, *, restarts: Restarts | None = None) -> Iterator[Job]:
    identity = Identity(uid="uid", attempt=0, size=size, processes=processes)
    own = Server(identity, host=LOOPBACK, timeouts=PATIENT, limits=LIMITS, restarts=restarts)
    with ExitStack() as stack:
        stack.callback(own.close)
        yield Job(own, stack)


@contextmanager
def hanging(size: int, *, restarts: Restarts | None = None) -> Iterator[tuple[Job, Heard]]:
    """A job in which all ranks wait but the last, which has beaten once and says nothing more."""
    with job(size, restarts=restarts) as made:
        for replica in range(size):
            made.attend(replica)
        others = [made.rank(rank) for rank in range(size - 1)]
        last = Beat(place=Place(9), phase=Phase.STEP)
        _silent = made.raw(made.server.identity.hello(size - 1), last)
        until(lambda: made.server._keeper.state.attending == set(range(size)))
        until(lambda: len(made.server._observer._judge._watch.tracks) == size)
        made.since = time.monotonic()
        yield made, others[0]


def test_the_launcher_of_a_silent_rank_looks_at_it_and_all_pods_hear_the_verdict() -> None:
    with hanging(3) as (made, other):
        until(lambda: all(pod.heard for pod in made.pods.values()))
        assert [pod.looked for pod in made.pods.values()] == [[], [], [(2,)]]
        [verdict] = {pod.heard[-1] for pod in made.pods.values()}
        assert verdict is not None
        assert (verdict.rank, verdict.replica, verdict.node) == (2, 2, "n2")
        assert (verdict.file, verdict.line) == ("/app/data.py", 88)
        assert verdict.waits_in == "/usr/torch/distributed/c.py:1 (all_reduce)"
        until(lambda: verdict in vars(other)["heard"])  # for a script that is PID 1


def test_the_verdict_is_taken_back_when_the_rank_goes_on() -> None:
    with hanging(2) as (made, _):
        until(lambda: all(pod.heard for pod in made.pods.values()))
        made.steps, made.since = made.steps + 1, None
        until(lambda: all(pod.heard[-1] is None for pod in made.pods.values()))


def test_a_pod_that_comes_late_hears_the_verdict_that_stands() -> None:
    with hanging(2) as (made, _):
        until(lambda: all(pod.heard for pod in made.pods.values()))
        late = made.attend(1)
        until(lambda: late.heard)
        assert late.heard == made.pods[0].heard


def test_a_verdict_is_kept_when_the_coordinator_has_ended() -> None:
    with hanging(2) as (made, _):
        until(lambda: all(pod.heard for pod in made.pods.values()))
        made.server.close()
        made.stack.close()
        assert [len(pod.heard) for pod in made.pods.values()] == [1, 1]


def shown(made: Job) -> dict[str, Any]:
    """What /progress answers now."""
    found: dict[str, Any] = json.loads(to_json(made.server._observer.snapshot()))
    return found


def ends(pods: Iterable[Pod], number: int) -> None:
    """Wait until pods are told to end a life, and let them say that they have."""
    pods = list(pods)
    until(lambda: all(pod.ordered for pod in pods))
    assert {type(pod.ordered[-1]) for pod in pods} == {Clear}
    for pod in pods:
        pod.say(Cleared(number=number))


def test_after_a_failure_all_pods_begin_another_life_in_which_the_old_one_does_not_count() -> None:
    with job(2, restarts=Restarts(most=1)) as made:
        pods = [made.attend(replica) for replica in range(2)]
        first = made.server.identity.hello(1)
        old = made.raw(first)
        assert old.recv(4096)
        until(lambda: made.server._keeper.state.attending == {0, 1})
        pods[1].say(Fell(number=0, rank=1, status=-9))
        ends(pods, 0)
        until(lambda: all(len(pod.ordered) > 1 for pod in pods))
        [begin] = {pod.ordered[-1] for pod in pods}
        assert isinstance(begin, Begin)
        assert begin.number == 1
        assert begin.life == made.server.identity.life != first.life
        assert ended(made.raw(first))  # of the old life
        assert made.raw(made.server.identity.hello(1)).recv(4096)
        found = shown(made)
        assert found["life"] == 1
        [failure] = found["failures"]
        assert (failure["life"], failure["rank"], failure["signal"]) == (0, 1, 9)


def test_a_hang_ends_a_life_if_that_is_asked_for() -> None:
    with hanging(2, restarts=Restarts(most=1, ends_hangs=True)) as (made, _):
        pods = made.pods.values()
        until(lambda: all(pod.ordered for pod in pods))
        made.since = None  # no rank stands in the next life
        ends(pods, 0)
        until(lambda: all(isinstance(pod.ordered[-1], Begin) for pod in pods))
        until(lambda: all(pod.heard[-1] is None for pod in pods))  # none hangs any more
        [failure] = shown(made)["failures"]
        assert (failure["rank"], failure["exception"]) == (1, "Hang")
        assert "rank 1" in failure["message"]


def test_a_hang_ends_no_life_by_default() -> None:
    with hanging(2, restarts=Restarts(most=1)) as (made, _):
        until(lambda: all(pod.heard for pod in made.pods.values()))
        judged = made.server._observer.judge_at
        until(lambda: made.server._observer.judge_at > judged + 0.1)  # once more
        assert [pod.ordered for pod in made.pods.values()] == [[], []]


OURS: dict[str, Any] = {"uid": "uid", "attempt": 0, "replica": 1}
STRANGERS: dict[str, list[Attend | Seen | Fell]] = {
    "a launcher of another job": [Attend(**OURS | {"uid": "other"})],
    "a launcher of another attempt": [Attend(**OURS | {"attempt": 1})],
    "a launcher of a pod that there is not": [Attend(**OURS | {"replica": 2})],
    "a launcher that says what a rank of another pod does": [
        Attend(**OURS),
        Seen(rank=1, report=LINE),
    ],
    "a launcher that says that a rank of another pod has failed": [
        Attend(**OURS),
        Fell(number=0, rank=1, status=1),
    ],
    "a rank that says that it has failed": [Fell(number=0, rank=1, status=1)],
    "a launcher that greets twice": [Attend(**OURS), Attend(**OURS)],
    "somebody who has seen something before a greeting": [Seen(rank=2, report=LINE)],
}


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS)
def test_it_is_dropped(said: list[Attend | Seen | Fell]) -> None:
    with job(4, processes=2) as made:
        sock = made.raw(*said)
        while not ended(sock):
            pass


def test_somebody_who_says_nothing_is_dropped_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_GREETING_SECONDS", 0.1)
    with job(2) as made:
        assert ended(made.raw())


def test_nobody_is_let_in_while_too_many_have_said_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_GREETING_SECONDS", 1000.0)
    monkeypatch.setattr(server, "_GUESTS", 1)
    with job(2) as made:
        _silent = [made.raw() for _ in range(3)]
        assert ended(made.raw())


def test_a_rank_whose_connection_has_ended_counts_as_absent() -> None:
    with job(2) as made:
        socks = [made.raw(made.server.identity.hello(rank)) for rank in (0, 1)]
        until(lambda: made.server._rounds.state.connected == {0, 1})
        socks[1].close()
        until(lambda: made.server._rounds.state.connected == {0})


def test_a_flood_of_stacks_is_bounded_and_the_others_are_heard() -> None:
    """What nobody asked for is dropped, and what was asked for is kept once for each rank."""
    longest = Report.of((Frame("/" + "x" * 400, 1, "f" * 150),) * 99)
    with job(34, processes=17) as made:
        socks = [made.raw(made.server.identity.hello(rank)) for rank in range(32)]
        socks += [made.raw(Attend(uid="uid", attempt=0, replica=one)) for one in (0, 1)]
        floods = [encode(Whereabouts(longest))] * 32
        floods += [encode(Seen(rank=rank, report=longest)) for rank in (0, 17)]
        lines = [written(one) * 200 for one in floods]
        senders = [
            threading.Thread(target=sock.sendall, args=(line,))
            for sock, line in zip(socks, lines, strict=True)
        ]
        for one in senders:
            one.start()
        quiet = made.rank(33)
        until(lambda: "heard" in vars(quiet))
        for one in senders:
            one.join()
        judge = made.server._observer._judge
        assert judge._watch.reports == {}


def test_the_longest_report_fits_into_a_line() -> None:
    longest = Report.of((Frame("/" + "x" * 400, 2**31, '"' * 400),) * 99, inside='"' * 400)
    assert len(written(encode(Seen(rank=2**31, report=longest)))) < MAX_LINE


Looks = Callable[[tuple[int, ...]], Mapping[int, Report]]


def attending(
    coordinator: socket.socket, stack: ExitStack, look: Looks = lambda _: {}
) -> Attendant:
    """An attendant that sees no process, and ends with the stack."""
    attendant = Attendant(
        Attend(**OURS),
        coordinator.getsockname,
        look=look,
        on_hang=lambda _: None,
        on_order=lambda _: None,
    )
    stack.callback(attendant.close)
    return attendant


def test_a_launcher_leaves_somebody_who_says_what_no_coordinator_says() -> None:
    with socket.create_server((LOOPBACK, 0)) as other, ExitStack() as stack:
        attending(other, stack)
        sock, _ = other.accept()
        with sock:
            assert sock.recv(4096) == written(encode(Attend(**OURS)))
            sock.sendall(written(encode(Hello(uid="uid", attempt=0, life="", rank=0))))
            assert ended(sock)


def test_what_a_launcher_has_said_of_its_life_is_said_again_on_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendants, "_RETRY_SECONDS", 0.05)
    fell = Fell(number=0, rank=1, status=-9)
    expected = written(encode(Attend(**OURS))) + written(encode(fell))
    with socket.create_server((LOOPBACK, 0)) as other, ExitStack() as stack:
        attendant = attending(other, stack)
        attendant.say(fell)
        for _ in range(2):
            sock, _ = other.accept()
            with sock:
                sock.settimeout(SECONDS)
                with sock.makefile("rb") as said:
                    assert said.read(len(expected)) == expected


def finding(find: Callable[[], tuple[str, int]]) -> Attendant:
    return Attendant(
        Attend(uid="uid", attempt=0, replica=1),
        find,
        look=lambda _: {},
        on_hang=lambda _: None,
        on_order=lambda _: None,
    )


def test_a_launcher_that_still_looks_for_the_coordinator_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendants, "_CLOSING_SECONDS", 0.1)
    is_asked, answers = threading.Event(), threading.Event()

    def find() -> tuple[str, int]:
        is_asked.set()
        answers.wait()  # as a name server that does not answer
        raise OSError

    attendant = finding(find)
    assert is_asked.wait(SECONDS)
    closing = threading.Thread(target=attendant.close, daemon=True)
    closing.start()
    closing.join(SECONDS)
    assert not closing.is_alive()
    answers.set()


def test_a_launcher_outlives_its_end_of_the_channel(caplog: pytest.LogCaptureFixture) -> None:
    def find() -> tuple[str, int]:
        raise UnicodeError("label empty or too long")  # of a host name, says Python

    attendant = finding(find)
    until(lambda: "the launcher of replica 1 has failed" in caplog.text)
    attendant.say(Cleared(number=0))
    attendant.close()


def test_the_end_of_an_attendant_is_no_error_if_its_thread_has_ended_a_moment_before() -> None:
    """The thread looks whether it is over at any time, and closes what `close` would wake it by."""
    with socket.create_server((LOOPBACK, 0)) as other, ExitStack() as stack:
        attendant = attending(other, stack)
        attendant._is_over = True
        attendant._wake()
        attendant._thread.join(SECONDS)
        attendant.say(Retire())
        attendant.close()


def test_what_a_launcher_has_said_is_told_though_it_looks_at_a_process_and_then_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendants, "_SILENCE_SECONDS", SECONDS)
    looks, may_go_on = threading.Event(), threading.Event()
    expected = b"".join(written(encode(one)) for one in (Attend(**OURS), Retire()))

    def look(_: tuple[int, ...]) -> Mapping[int, Report]:
        looks.set()
        assert may_go_on.wait(SECONDS)
        return {}

    with socket.create_server((LOOPBACK, 0)) as other, ExitStack() as stack:
        attendant = attending(other, stack, look)
        sock, _ = other.accept()
        with sock, sock.makefile("rb") as said:
            sock.sendall(written(encode(Look((1,)))))
            assert looks.wait(SECONDS)
            attendant.say(Retire())
            ends = threading.Thread(target=attendant.close)
            ends.start()
            until(lambda: attendant._is_over)
            may_go_on.set()
            ends.join(SECONDS)
            stack.pop_all()  # it has ended
            assert said.read() == expected
