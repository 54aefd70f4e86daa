"""Finds the processes that are missing in a collective that fails or takes long.

The error of a transport does not tell which process is missing. Therefore each process has a thread
that regularly checks the process group's store for a roll call, and answers it with the position of
its process: the collective and the line of the script. Unless there is a roll call, nothing else is
sent. A process that does not answer has ended or is stopped.
"""

import json
import logging
import sys
import sysconfig
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import distributed

from runtime.errors import DistributedOperationException, MissingProcesses
from runtime.world.structure import difference

log = logging.getLogger(__name__)

PERIOD = 0.5  # seconds between two checks for a roll call
PATIENCE = 5.0  # seconds to wait for the answer of a process
SLOW_AFTER = 60.0  # seconds in one collective after which the missing processes are logged
_KEY = "acceleratedjob/roll"
_GONE = "does not answer: its process has ended, or its machine is gone"
_FOREIGN = tuple(
    str(Path(path).resolve())
    for path in (torch.__path__[0], Path(__file__).parent, sysconfig.get_paths()["stdlib"])
)


class Place(NamedTuple):
    """The position of a process.

    Attributes:
        operation: the name of the collective; empty outside of collectives.
        number: the number of the collective in this process, from 1.
        line: the line of the script.
        sent: a pair `(number, structure)` for each of the last collectives that have sent tensors;
            these are numbered separately.
    """

    operation: str
    number: int
    line: str
    sent: Sequence[Any] = ()

    def __str__(self) -> str:
        doing = f"in `{self.operation}`, its collective {self.number}" if self.operation else ""
        return ", ".join(part for part in (doing, f"at {self.line}") if part)


class Collective:
    """A context for a collective; if the collective fails, the error names the missing processes.

    Attributes:
        inside: the innermost collective that this process is in; None outside of collectives.
        seconds: the time that this process has spent in collectives.
        sent: the numbers and structures of the last collectives that have sent tensors.
        operation: the name of the collective.
        structure: the structure of the tensors that this process sends.
        number: the number of the collective in this process, from 1.
        sending: its number among the collectives that have a structure, from 1.
        began: the time of the monotonic clock at which it began, in seconds.
    """

    inside: ClassVar["Collective | None"] = None
    seconds: ClassVar[float] = 0.0
    sent: ClassVar[deque[tuple[int, Sequence[str]]]] = deque(maxlen=4)
    _count: ClassVar[int] = 0
    # Counts collectives with a structure only: the number of backwards may differ between ranks.
    _sendings: ClassVar[int] = 0

    def __init__(self, operation: str, structure: Sequence[str] = ()) -> None:
        """Describe a collective.

        Args:
            operation: the name of the collective.
            structure: the structure of the tensors to send, as `structure.lines` describes it.
        """
        self.operation = operation
        self.structure = structure
        self.number = self.sending = 0
        self.began = 0.0
        self._outer: Collective | None = None

    def __enter__(self) -> Self:
        Collective._count += 1
        self.number, self.began = Collective._count, time.monotonic()
        self._outer, Collective.inside = Collective.inside, self
        if self.structure:
            Collective._sendings += 1
            self.sending = Collective._sendings
            Collective.sent.append((self.sending, self.structure))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None and _is_transports(error):
                raise _explained(self, error) from error
        finally:
            Collective.inside = self._outer
            if self._outer is None:
                Collective.seconds += time.monotonic() - self.began

    def must_be_of_one_structure(self, is_alike: bool) -> None:
        """Check that all processes have sent the same structure.

        Args:
            is_alike: whether the checksums of all processes agree.

        Raises:
            DistributedOperationException: the structures differ; the message says what each process
                has sent.
        """
        if not is_alike:
            roll = call_roll(self, "differs", linger=True)
            what = difference(_structures(self, roll.places)) or "the other structures are unknown"
            raise DistributedOperationException(f"{_must_be_alike(self)}:\n{what}")


def _is_transports(error: BaseException) -> bool:
    """Whether an error comes from a connection or a timeout, not from wrong arguments."""
    is_gloos = isinstance(error, RuntimeError) and "gloo/transport" in str(error)
    return is_gloos or isinstance(error, distributed.DistError)


def _explained(collective: Collective, error: BaseException) -> Exception:
    """Return the error to raise: the structures differ, or processes are missing."""
    name, size = collective.operation, distributed.get_world_size()
    missing, places = call_roll(collective, "failed", linger=True)
    reason = str(error).splitlines()[0]
    if collective.structure and (what := difference(_structures(collective, places))):
        sentence = f"{_must_be_alike(collective)}:\n{what}\nThe transport's error: {reason}"
        return DistributedOperationException(sentence)
    who = "\n".join(f"  - rank {rank} {where}" for rank, where in missing.items())
    found = f"{len(missing)} of {size} processes are missing:\n{who}" if missing else "all did"
    return MissingProcesses(
        f"`{name}`, collective {collective.number} of rank {distributed.get_rank()}, must be "
        f"called by all {size} processes; {found}\nThe transport's error: {reason}\nLook at the "
        f"last log lines of these processes. If they are only late, increase the timeout: "
        f"InitProcessGroupKwargs(timeout=...) or ACCELERATE_COLLECTIVE_TIMEOUT, in seconds."
    )


def _must_be_alike(collective: Collective) -> str:
    return (
        f"`{collective.operation}`, collective {collective.number} of rank "
        f"{distributed.get_rank()}, must be given tensors of the same structure by all processes"
    )


def _structures(collective: Collective, places: Sequence[Place | None]) -> dict[int, Sequence[str]]:
    """Return the structure that each rank has sent in a collective, for ranks that answered."""
    return {
        rank: structure
        for rank, place in enumerate(places)
        if place is not None
        for sending, structure in place.sent
        if sending == collective.sending
    }


class Roll(NamedTuple):
    """The result of a roll call.

    Attributes:
        missing: rank -> its position in words, for each rank that is not in the collective.
        places: the position of each rank; None if it did not answer.
    """

    missing: dict[int, str]
    places: Sequence[Place | None]


_answering: list["Answering"] = []  # one at most


def call_roll(collective: Collective, why: str, *, linger: bool = False) -> Roll:
    """Ask all processes for their positions.

    Args:
        collective: the collective that this process is in.
        why: the reason. Processes that ask for the same reason in the same collective share one
            roll call.
        linger: whether this process may exit after the roll call. Rank 0 then waits until all
            processes that are in the collective have read the result, since it keeps the store.
    """
    store, rank = distributed.distributed_c10d._get_default_store(), distributed.get_rank()  # noqa: SLF001
    try:
        key = f"{_KEY}/{_round(store, f'{why}/{collective.number}/{collective.operation}')}"
        store.set(f"{key}/{rank}", json.dumps(_place()))
        deadline = time.monotonic() + PATIENCE
        answers = [_heard(store, f"{key}/{one}", deadline) for one in _ranks()]
        missing = {
            one: _GONE if where is None else f"is {where}"
            for one, where in enumerate(answers)
            if not _is_at(where, collective)
        }
        store.set(f"{key}/found", json.dumps(missing))
        store.set(f"{key}/{rank}/heard", "")
        if linger and rank == 0:  # the store ends with this process
            deadline = time.monotonic() + PATIENCE
            for one in _ranks():
                if one not in missing:
                    _heard(store, f"{key}/{one}/heard", deadline)
    except distributed.DistNetworkError:
        told = next((one.told for one in _answering), {})
        nobody = {0: "does not answer, and has the store through which all others would answer"}
        return Roll(told or nobody, ())
    return Roll(missing, answers)


def _ranks() -> range:
    return range(distributed.get_world_size())


def _round(store: Any, why: str) -> int:
    """Return the number of the roll call, which the first process that asks determines."""
    if store.add(f"{_KEY}/asked/{why}", 1) == 1:
        store.set(f"{_KEY}/round/{why}", str(store.add(_KEY, 1)))
    return int(store.get(f"{_KEY}/round/{why}"))


def _heard(store: Any, key: str, deadline: float) -> Place | None:
    """Return the answer of a process; None if there is none before the deadline."""
    while not store.check([key]):  # store.wait() would block the answering thread
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    answer = store.get(key)
    return Place(*json.loads(answer)) if answer else None


def _is_at(place: Place | None, collective: Collective) -> bool:
    return place is not None and place[:2] == (collective.operation, collective.number)


def _place() -> Place:
    collective = Collective.inside
    frames = sys._current_frames()  # noqa: SLF001  # the only way to read another thread's stack
    stack = traceback.extract_stack(frames[threading.main_thread().ident or 0])
    script = [one for one in stack if not one.filename.startswith(_FOREIGN)] or stack
    line = f"{script[-1].filename}:{script[-1].lineno} ({script[-1].name})"
    sent = list(Collective.sent)
    if collective is None:
        return Place("", 0, line, sent)
    return Place(collective.operation, collective.number, line, sent)


def begin() -> None:
    """Start the thread that answers for this process; called after the world is joined."""
    end()
    _answering.append(Answering())
    _answering[0].start()


def end() -> None:
    """Stop the thread that answers for this process; called before the world is left."""
    while _answering:
        _answering.pop().end()


class Answering(threading.Thread):
    """The thread that answers roll calls, and logs who is missing in a collective that takes long.

    Attributes:
        told: rank -> its position in words, for the ranks that the last roll call found missing.
    """

    def __init__(self) -> None:
        super().__init__(name="roll call", daemon=True)
        self._store: Any = distributed.distributed_c10d._get_default_store()  # noqa: SLF001
        self._rank = distributed.get_rank()
        self._ended = threading.Event()
        self._answered = 0
        self._waiting: list[int] = []  # roll calls whose result was not read yet
        self.told: dict[int, str] = {}
        self._said: Collective | None = None  # the last collective that was logged

    def run(self) -> None:
        """Check for roll calls until `end` is called or the store is closed."""
        try:
            while not self._ended.wait(PERIOD) and distributed.is_initialized():
                self._answer()
                self._watch()
        except distributed.DistError:
            log.debug("the store is closed: there are no more roll calls")

    def end(self) -> None:
        """Stop the thread."""
        self._ended.set()
        self.join()

    def _answer(self) -> None:
        asked = self._store.add(_KEY, 0)
        for number in range(self._answered + 1, asked + 1):
            self._store.set(f"{_KEY}/{number}/{self._rank}", json.dumps(_place()))
            self._waiting.append(number)
        self._answered = asked
        self._waiting = [number for number in self._waiting if not self._hear(number)]

    def _hear(self, number: int) -> bool:
        """Read the result of a roll call, if there is one; the store may be closed after it."""
        key = f"{_KEY}/{number}"
        if not self._store.check([f"{key}/found"]):
            return False
        found = json.loads(self._store.get(f"{key}/found"))
        self.told = {int(rank): where for rank, where in found.items()}
        self._store.set(f"{key}/{self._rank}/heard", "")
        return True

    def _watch(self) -> None:
        collective = Collective.inside
        if collective is None or collective is self._said:
            return
        seconds = time.monotonic() - collective.began
        if seconds < SLOW_AFTER:
            return
        self._said = collective
        missing = call_roll(collective, "slow").missing
        sentence = "rank %d has waited for %.0f s in `%s`, its collective %d; missing: %s"
        where = "; ".join(f"rank {rank} {where}" for rank, where in missing.items()) or "nobody"
        log.warning(sentence, self._rank, seconds, collective.operation, collective.number, where)
