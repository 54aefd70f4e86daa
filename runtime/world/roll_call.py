"""Who did not come: what is said of a collective that fails, or waits for long.

A transport only knows that it has waited in vain. So each process has a thread that looks once in a
while whether somebody asks where it is, and answers in the process group's store. As long as all
goes well nothing else is sent. A process that does not answer is gone, or stands still as a whole.
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

PERIOD = 0.5  # seconds between two looks
PATIENCE = 5.0  # seconds that a living process may take to answer
SLOW_AFTER = 60.0  # seconds in one collective; then it is said who is missing
_KEY = "acceleratedjob/roll"
_GONE = "does not answer: its process has ended, or its machine is gone"
_FOREIGN = tuple(
    str(Path(path).resolve())
    for path in (torch.__path__[0], Path(__file__).parent, sysconfig.get_paths()["stdlib"])
)


class Place(NamedTuple):
    """Where a process is."""

    operation: str  # "" outside of all collectives
    number: int  # of the collective, from 1
    line: str  # of the script
    sent: Sequence[Any] = ()  # [place among those with a structure, structure] of the last ones

    def __str__(self) -> str:
        doing = f"in `{self.operation}`, its collective {self.number}" if self.operation else ""
        return ", ".join(part for part in (doing, f"at {self.line}") if part)


class Collective:
    """Around what all processes do together: names it, and if it fails also who is missing."""

    inside: ClassVar["Collective | None"] = None  # where this process is
    sent: ClassVar[deque[tuple[int, Sequence[str]]]] = deque(maxlen=4)  # the last structures
    _count: ClassVar[int] = 0
    _sendings: ClassVar[int] = 0  # with a structure: backwards may be more on one rank than others

    def __init__(self, operation: str, structure: Sequence[str] = ()) -> None:
        """Args: structure: what it sends, as `structure.lines` describes it."""
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

    def must_be_of_one_structure(self, is_alike: bool) -> None:
        """Go on if all processes have sent the same structure.

        Raises:
            DistributedOperationException: they have not; says which process has sent what.
        """
        if not is_alike:
            roll = call_roll(self, "differs", linger=True)
            what = difference(_structures(self, roll.places)) or "what others have sent is unknown"
            raise DistributedOperationException(f"{_must_be_alike(self)}:\n{what}")


def _is_transports(error: BaseException) -> bool:
    """Whether a connection failed or waited in vain, not what was to be sent."""
    is_gloos = isinstance(error, RuntimeError) and "gloo/transport" in str(error)
    return is_gloos or isinstance(error, distributed.DistError)


def _explained(collective: Collective, error: BaseException) -> Exception:
    """Why a transport has failed: structures that differ, or processes that did not come."""
    name, size = collective.operation, distributed.get_world_size()
    missing, places = call_roll(collective, "failed", linger=True)
    reason = str(error).splitlines()[0]
    if collective.structure and (what := difference(_structures(collective, places))):
        sentence = f"{_must_be_alike(collective)}:\n{what}\nThe transport says: {reason}"
        return DistributedOperationException(sentence)
    who = "\n".join(f"  - rank {rank} {where}" for rank, where in missing.items())
    found = f"{len(missing)} of {size} processes did not come:\n{who}" if missing else "all came"
    return MissingProcesses(
        f"`{name}`, collective {collective.number} of rank {distributed.get_rank()}, must be "
        f"called by all {size} processes; {found}\nThe transport says: {reason}\nLook at what "
        f"these processes logged last. If they are only late, give them more time: "
        f"InitProcessGroupKwargs(timeout=...) or ACCELERATE_COLLECTIVE_TIMEOUT, in seconds."
    )


def _must_be_alike(collective: Collective) -> str:
    return (
        f"`{collective.operation}`, collective {collective.number} of rank "
        f"{distributed.get_rank()}, must be given tensors of the same structure by all processes"
    )


def _structures(collective: Collective, places: Sequence[Place | None]) -> dict[int, Sequence[str]]:
    """What each rank that has answered has sent in a collective."""
    return {
        rank: structure
        for rank, place in enumerate(places)
        if place is not None
        for sending, structure in place.sent
        if sending == collective.sending
    }


class Roll(NamedTuple):
    """What all processes have answered."""

    missing: dict[int, str]  # of each rank that is elsewhere: where
    places: Sequence[Place | None]  # of each rank; None: it did not answer


_answering: list["Answering"] = []  # one at most


def call_roll(collective: Collective, why: str, *, linger: bool = False) -> Roll:
    """Ask all processes where they are.

    Args:
        collective: where this process is.
        why: processes that ask for one reason in one collective ask together.
        linger: this process may end afterwards: rank 0 waits until those who came have heard.
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
        if linger and rank == 0:  # the store ends with it
            deadline = time.monotonic() + PATIENCE
            for one in _ranks():
                if one not in missing:
                    _heard(store, f"{key}/{one}/heard", deadline)
    except distributed.DistNetworkError:
        told = next((one.told for one in _answering), {})
        nobody = {0: "does not answer, and so nobody does: the store is kept by it"}
        return Roll(told or nobody, ())
    return Roll(missing, answers)


def _ranks() -> range:
    return range(distributed.get_world_size())


def _round(store: Any, why: str) -> int:
    """The number of the question: the first one to ask makes it."""
    if store.add(f"{_KEY}/asked/{why}", 1) == 1:
        store.set(f"{_KEY}/round/{why}", str(store.add(_KEY, 1)))
    return int(store.get(f"{_KEY}/round/{why}"))


def _heard(store: Any, key: str, deadline: float) -> Place | None:
    """A process' answer; None if it does not come in time."""
    while not store.check([key]):  # a wait would keep the store from the answering thread
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    answer = store.get(key)
    return Place(*json.loads(answer)) if answer else None


def _is_at(place: Place | None, collective: Collective) -> bool:
    return place is not None and place[:2] == (collective.operation, collective.number)


def _place() -> Place:
    collective = Collective.inside
    frames = sys._current_frames()  # noqa: SLF001  # the way to another thread's stack
    stack = traceback.extract_stack(frames[threading.main_thread().ident or 0])
    script = [one for one in stack if not one.filename.startswith(_FOREIGN)] or stack
    line = f"{script[-1].filename}:{script[-1].lineno} ({script[-1].name})"
    sent = list(Collective.sent)
    if collective is None:
        return Place("", 0, line, sent)
    return Place(collective.operation, collective.number, line, sent)


def begin() -> None:
    """Have this process answer from now on; it has joined the world."""
    end()
    _answering.append(Answering())
    _answering[0].start()


def end() -> None:
    """Have it answer no more: it leaves the world."""
    while _answering:
        _answering.pop().end()


class Answering(threading.Thread):
    """Answers for its process, and says who is missing in a collective that takes long."""

    def __init__(self) -> None:
        super().__init__(name="roll call", daemon=True)
        self._store: Any = distributed.distributed_c10d._get_default_store()  # noqa: SLF001
        self._rank = distributed.get_rank()
        self._ended = threading.Event()
        self._answered = 0
        self._waiting: list[int] = []  # rounds whose outcome was not heard yet
        self.told: dict[int, str] = {}  # who is missing, as the last round has found
        self._said: Collective | None = None

    def run(self) -> None:
        """Look once in a while, until the end or until the store is gone."""
        try:
            while not self._ended.wait(PERIOD) and distributed.is_initialized():
                self._answer()
                self._watch()
        except distributed.DistError:
            log.debug("the store is gone: nobody can ask any more")

    def end(self) -> None:
        """Answer no more."""
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
        """Remember what a round has found: who asked may end, and the store with it."""
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
        sentence = "rank %d has waited for %.0f s in `%s`, its collective %d; not there: %s"
        where = "; ".join(f"rank {rank} {where}" for rank, where in missing.items()) or "nobody"
        log.warning(sentence, self._rank, seconds, collective.operation, collective.number, where)
