"""Storms over a training: kills, stops and suspensions of any process at any instant.

`python -m tests.distributed.storm FOLDER SEED...` runs a storm for each seed, and writes what it
has found, one JSON object a line. A storm is a job whose lives are disturbed until it is done.
`places:SEED` is one whose checkpoints are in an object store or in memory, and are damaged.
`ACCELERATEDJOB_STORMS_AT_ONCE` is the number of storms that run at once.
"""

import contextlib
import dataclasses
import functools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.launch import processes
from tests.distributed import storm_places, storm_training, storm_worlds
from tests.distributed.storm_training import (
    EPOCHS,
    LEDGER,
    LIFE,
    PER_EPOCH,
    SAMPLES,
    STEPS,
    WORKERS,
    Kind,
    Record,
)
from tests.runtime.object_store import s3_server

TRAINING = Path(storm_training.__file__)
STARTS = {
    "forked launcher": storm_worlds.by_forked_launcher,
    "launcher": storm_worlds.by_launcher,
    "no launcher": storm_worlds.without_launcher,
}
CADENCES: tuple[dict[str, str], ...] = (
    {"ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "5"},
    {"ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "1", "ACCELERATEDJOB_CHECKPOINT_KEEP": "1"},
    {"ACCELERATEDJOB_CHECKPOINT_EVERY_SECONDS": "1"},
    {},
)
SELDOM = (  # on storage, so that memory has newer ones
    {"ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "25"},
    {"ACCELERATEDJOB_CHECKPOINT_EVERY_SECONDS": "5", "ACCELERATEDJOB_CHECKPOINT_KEEP": "1"},
)
SILENCE = 240.0  # seconds without a step or an end, on a machine that is busy
ENDING = 120.0  # seconds for what a life has left
GANG = 5.0  # seconds from the first failure of a rank until the others are killed, as in a cluster
POLL = 0.002
STOPPED = 143
SAID = {  # what lives say, to see that it happens
    "resumed": "resumed from",
    "resumed from memory": "(memory): step",
    "a checkpoint is skipped": "; skipped",
}
AT_ONCE = "ACCELERATEDJOB_STORMS_AT_ONCE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What happens to a job.

    Attributes:
        seed: of all that is random.
        start: a key of `STARTS`.
        sizes: the world sizes of its lives, again and again.
        workers: of each data loader.
        cadence: variables.
        disturbed: the number of lives that are disturbed at most.
        longest: the longest suspension, in seconds.
        place: a key of `PLACES`: where the checkpoints are.
        memory: a key of `MEMORIES`: who has checkpoints in memory.
        harm: keys of `HARM`, one of which happens to the checkpoints behind each disturbed life.
        script: the path of the training; only of `storm_training` all properties are checked.
    """

    seed: int
    start: str = "forked launcher"
    sizes: tuple[int, ...] = (2,)
    workers: int = 0
    cadence: Mapping[str, str] = field(default_factory=dict)
    disturbed: int = 8
    longest: float = 2.0
    place: str = "directory"
    memory: str = "none"
    harm: tuple[str, ...] = ()
    script: str = str(TRAINING)

    @classmethod
    def of(cls, seed: int) -> "Storm":
        """The storm of a seed in the long run."""
        chance = random.Random(seed)
        sizes = [(2,), (2,), (3,), (4,), (2, 3, 1), (1, 4, 2)]
        return cls(
            seed=seed,
            start=chance.choice(["forked launcher", "forked launcher", "no launcher"]),
            sizes=chance.choice(sizes),
            workers=chance.choice([0, 0, 1, 2]),
            cadence=chance.choice(CADENCES),
            longest=chance.choice([1.0, 4.0, 15.0]),
        )

    @classmethod
    def of_places(cls, seed: int) -> "Storm":
        """The storm of a seed with object stores, checkpoints in memory, and damage."""
        chance = random.Random(seed)
        kinds = {  # which start, and which harm, there may be for each kind of memory
            "none": (("forked launcher", "no launcher"), ("flip",)),
            "of one machine": (("forked launcher", "no launcher"), IN_MEMORY),
            "of each rank": (("no launcher",), (*IN_MEMORY, "a machine's memory is lost")),
        }
        memory = chance.choice(list(kinds))
        starts, harm = kinds[memory]
        return cls(
            seed=seed,
            start=chance.choice(starts),
            sizes=chance.choice([(2,), (2,), (3,), (2, 3, 1)]),
            cadence=chance.choice(CADENCES[:3] if memory == "none" else SELDOM),
            place=chance.choice(["directory", "object store"]),
            memory=memory,
            harm=("nothing", "nothing", *harm),
        )


IN_MEMORY = ("flip", "flip in memory", "a file in memory is lost")


class Wrong(Exception):
    """A property does not hold."""


class Life:
    """The processes of one life, and what has been done to them."""

    def __init__(self, storm: Storm, folder: Path, number: int) -> None:
        self.number, self.size = number, storm.sizes[number % len(storm.sizes)]
        self.ledger, self.place = folder / "ledger", PLACES[storm.place](folder, storm)
        self.memory, temporary = folder / "memory", folder / "temporary"
        temporary.mkdir(exist_ok=True)
        where = {"directory": folder / "checkpoints", "object store": temporary}[storm.place]
        self.watched = where if storm.memory == "none" else self.memory
        self.words, self.log = folder / f"words.{number}", folder / f"log.{number}"
        self.done: list[str] = []
        self.codes: dict[int, int] = {}
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **storm.cadence,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "ACCELERATEDJOB_REPLICAS": "1",
            "ACCELERATEDJOB_PROCESSES_PER_REPLICA": str(self.size),
            "ACCELERATEDJOB_UID": "storm",
            "ACCELERATEDJOB_ATTEMPT": str(number),
            "ACCELERATEDJOB_CHECKPOINT_DIR": self.place.name,
            **MEMORIES[storm.memory](self.memory),
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            "TMPDIR": str(temporary),
            "ACCELERATEDJOB_TERMINATION_LOG": str(self.words),
            LEDGER: str(self.ledger),
            LIFE: str(number),
            WORKERS: str(storm.workers),
            storm_worlds.FILE: storm.script,
        }
        self.began = time.monotonic()
        self.started = STARTS[storm.start](self.size, env, self.log)

    @property
    def is_over(self) -> bool:
        """Whether all that was started has ended."""
        return set(self.started.values()) <= set(self.codes)

    @property
    def code(self) -> int:
        """The exit code of the life, as a pod would have it."""
        codes = [self.codes[pid] for pid in self.started.values()]
        return next((code for code in codes if code not in (0, STOPPED)), max(codes))

    def look(self) -> None:
        """Take note of processes that have ended."""
        self.codes.update(processes.reap())

    def records(self) -> int:
        """How much is in the ledger."""
        return self.ledger.stat().st_size

    def targets(self, role: str) -> list[int]:
        """The process IDs of all processes with a role."""
        found = Roles.now(os.getpid())
        tops = [pid for pid in self.started.values() if pid in found.parents]
        has_launcher = "launcher" in self.started
        ranks = [one for top in tops for one in found.children(top)] if has_launcher else tops
        workers = [one for rank in ranks for one in found.children(rank)]
        return {"launcher": tops, "rank": ranks, "worker": workers or ranks}[role]

    def hit(self, role: str, number: int, chance: random.Random) -> int | None:
        """Send a signal to one of a role; return its process ID."""
        targets = self.targets(role)
        if not targets:
            return None
        pid = chance.choice(targets)
        self.done.append(f"{signal.Signals(number).name} to a {role}, {self.age():.3f} s")
        processes.send([pid], number)
        return pid

    def age(self) -> float:
        """In seconds."""
        return time.monotonic() - self.began


@dataclass(frozen=True, slots=True)
class Roles:
    """The living descendants of this process, and their parents."""

    parents: dict[int, int]

    @classmethod
    def now(cls, root: int) -> "Roles":
        """As they are."""
        parents = dict(processes._parents())  # there is no other reader of /proc
        return cls({pid: top for pid, top in parents.items() if pid != root})

    def children(self, pid: int) -> list[int]:
        """The process IDs of the children of a process."""
        return sorted(one for one, parent in self.parents.items() if parent == pid)


# ---- When and what


def at_a_time(life: Life, chance: random.Random) -> Callable[[], bool]:
    """At any instant of the life."""
    at = chance.uniform(0, 3.0)
    return lambda: life.age() >= at


def at_the_start(life: Life, chance: random.Random) -> Callable[[], bool]:
    """Before the first step."""
    at = chance.uniform(0, 0.8)
    return lambda: life.age() >= at


def after_steps(life: Life, chance: random.Random) -> Callable[[], bool]:
    """When something was written to the ledger."""
    before, more = life.records(), chance.randrange(1, 40) * 32 * life.size
    return lambda: life.records() >= before + more


def in_a_save(life: Life, chance: random.Random) -> Callable[[], bool]:
    """When a directory of checkpoints changes, or shortly afterwards."""
    first, skipped = _names(life.watched), chance.randrange(4)
    seen = [first]
    until = life.began + 6.0

    def is_now() -> bool:
        found = _names(life.watched)
        if found != seen[-1]:
            seen.append(found)
        return len(seen) > skipped + 1 or time.monotonic() > until

    return is_now


def _names(folder: Path) -> list[str]:
    """What is in a directory, down to the files of checkpoints."""
    walked = ((top, *folders, *files) for top, folders, files in os.walk(folder))
    return sorted(f"{top}/{name}" for top, *names in walked for name in names)


def kill(life: Life, _: Storm, chance: random.Random) -> Iterator[float]:
    """Kill one process."""
    yield 0.0
    life.hit(chance.choice(["rank", "rank", "rank", "launcher", "worker"]), 9, chance)


def stop(life: Life, _: Storm, chance: random.Random) -> Iterator[float]:
    """Ask for a stop, at any process."""
    yield 0.0
    life.hit(chance.choice(["rank", "launcher"]), signal.SIGTERM, chance)


def stop_and_kill(life: Life, storm: Storm, chance: random.Random) -> Iterator[float]:
    """Kill within an agreement, a last save, or an end."""
    yield from stop(life, storm, chance)
    yield chance.choice([0.0, 0.01, 0.05, 0.2]) * chance.random()
    life.hit(chance.choice(["rank", "launcher"]), 9, chance)


def suspend(life: Life, storm: Storm, chance: random.Random) -> Iterator[float]:
    """Suspend a process for a while."""
    yield 0.0
    pid = life.hit(chance.choice(["rank", "launcher"]), signal.SIGSTOP, chance)
    if chance.random() < 0.5:
        yield chance.random() * 0.1
        life.hit("rank", signal.SIGTERM, chance)
    yield chance.random() * storm.longest
    if pid is not None:
        processes.send([pid], signal.SIGCONT)


WHEN = (at_a_time, at_the_start, after_steps, in_a_save)
WHAT = (kill, kill, kill, stop, stop, stop_and_kill, suspend)


def disturb(life: Life, storm: Storm, chance: random.Random) -> None:
    """Do one thing to a life, unless it ends before."""
    is_now = chance.choice(WHEN)(life, chance)
    what = chance.choice(WHAT)(life, storm, chance)
    while not life.is_over and not is_now():
        time.sleep(POLL)
        life.look()
    for seconds in what:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(POLL)
            life.look()


# ---- Damage between two lives


def flip_in_memory(life: Life, chance: random.Random) -> str | None:
    """Change a bit in the memory of one machine."""
    found = list(storm_places.machines(life.memory))
    return chance.choice(found).flip(chance) if found else None


def lose_in_memory(life: Life, chance: random.Random) -> str | None:
    """Remove one rank's file from the memory of one machine."""
    found = list(storm_places.machines(life.memory))
    return chance.choice(found).lose(chance) if found else None


HARM: dict[str, Callable[[Life, random.Random], str | None]] = {
    "nothing": lambda _, __: None,
    "flip": lambda life, chance: life.place.flip(chance),
    "flip in memory": flip_in_memory,
    "a file in memory is lost": lose_in_memory,
    "a machine's memory is lost": lambda life, chance: storm_places.lose_machine(
        life.memory, chance
    ),
}
PLACES: dict[str, Callable[[Path, Storm], storm_places.Place]] = {
    "directory": lambda folder, _: storm_places.Directory(folder / "checkpoints"),
    "object store": lambda _, storm: storm_places.Bucket(f"s3://bucket/{storm.seed}"),
}
MEMORY_DIR = "ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR"
MEMORIES: dict[str, Callable[[Path], dict[str, str]]] = {
    "none": lambda _: {},
    "of one machine": lambda memory: {MEMORY_DIR: str(memory / "all")},
    "of each rank": lambda memory: {storm_worlds.MEMORY_OF_EACH: str(memory)},
}


# ---- A job


def run(storm: Storm, folder: Path, reference: list[Record]) -> Counter[str]:
    """Run a job to its end; return how often each thing was done.

    Raises:
        Wrong: a property does not hold.
    """
    chance = random.Random(storm.seed)
    (folder / "ledger").touch()
    counted: Counter[str] = Counter()
    history: list[list[str]] = []
    had_checkpoint, stopped, is_done, number = False, False, False, 0
    while not is_done:
        life = Life(storm, folder, number)
        if number < storm.disturbed:
            disturb(life, storm, chance)
        history.append(life.done)
        (folder / "history").write_text(json.dumps(history))
        await_end(life)
        counted.update(told_of(life))
        newest = newest_checkpoint(life.place, had_checkpoint)
        check_code(life, newest)
        if stopped:
            check_nothing_twice(life)
        stopped, is_done, number = life.code == STOPPED, life.code == 0, number + 1
        if not life.done and not is_done:
            raise Wrong(f"life {life.number} was not disturbed and has ended with {life.code}")
        if life.done and not is_done and storm.harm and harm(life, storm, chance):
            counted[life.done[-1]] += 1
            before, newest = newest, life.place.newest()
            stopped = stopped and newest == before
        had_checkpoint = newest is not None
    records = Record.read(folder / "ledger")
    check_samples(records)
    if len(set(storm.sizes)) == 1:
        check_equal(records, reference)
    return counted


def told_of(life: Life) -> Iterator[str]:
    """What has happened in a life."""
    yield from ("lives", f"code {life.code}", *(one.partition(",")[0] for one in life.done))
    text = life.log.read_text(errors="replace")
    yield from (what for what, words in SAID.items() if words in text)


def harm(life: Life, storm: Storm, chance: random.Random) -> bool:
    """Damage checkpoints behind a life; return whether something was done."""
    name = chance.choice(storm.harm)
    where = HARM[name](life, chance)
    if where is not None:
        life.done.append(name)
    return where is not None


def await_end(life: Life) -> None:
    """Wait until a life has ended, and with it all that it has started."""
    last, since, failed = -1, time.monotonic(), None
    while not life.is_over:
        time.sleep(POLL)
        life.look()
        now = time.monotonic()
        if life.records() != last:
            last, since = life.records(), now
        if now - since > SILENCE:
            abandon("neither a step nor an end")
        failed = failed or (now if set(life.codes.values()) - {0, STOPPED} else None)
        if failed and now - failed > GANG and "launcher" not in life.started:
            processes.send([pid for pid in life.started.values() if pid not in life.codes], 9)
    until = time.monotonic() + ENDING
    while left := processes.left_behind([]):
        if time.monotonic() > until:
            abandon(f"processes {left} are left behind")
        time.sleep(0.01)
        life.look()


def abandon(why: str) -> None:
    """Show where all processes are, kill them, and fail."""
    for number in (signal.SIGCONT, signal.SIGABRT, signal.SIGKILL):
        processes.send(processes.left_behind([]), number)
        time.sleep(1.0)
    list(processes.reap())
    raise Wrong(why)


# ---- Properties


def newest_checkpoint(place: storm_places.Place, had_one: bool) -> int | None:
    """L5: the step of the newest valid checkpoint; there is one if there was one before."""
    newest = place.newest()
    if had_one and newest is None:
        raise Wrong(f"no valid checkpoint is left in {place.name}")
    return newest


def check_code(life: Life, newest: int | None) -> None:
    """143 only after a request to stop; then the message has the step of the checkpoint."""
    words = json.loads(life.words.read_text() or "{}") if life.words.exists() else {}
    was_asked = any(one.startswith("SIGTERM") for one in life.done)
    if (life.code == STOPPED or "stopped" in words) and not was_asked:
        raise Wrong(f"life {life.number} has stopped without a request: {life.code} {words}")
    if "stopped" in words and words["stopped"] != {"step": newest}:
        raise Wrong(f"life {life.number} has said {words}, but the checkpoint is of {newest}")
    if life.code == 0 and newest != STEPS:
        raise Wrong(f"the training is done, but the newest checkpoint is of {newest}")
    steps = [one for one in Record.read(life.ledger) if one.life == life.number]
    if life.code == STOPPED and steps and "stopped" not in words:
        raise Wrong(f"life {life.number} has stopped after {len(steps)} records without a word")


def check_nothing_twice(life: Life) -> None:
    """L3: after a stop no rank does again what the stopped life has done."""
    records = Record.read(life.ledger)
    stopped = [one for one in records if one.life == life.number - 1]
    before = {(one.kind, one.rank, one.step) for one in stopped}
    again = [
        one
        for one in records
        if one.life == life.number and (one.kind, one.rank, one.step) in before
    ]
    if again:
        raise Wrong(f"after a stop life {life.number} has done again {again[0]}")


def check_samples(records: list[Record]) -> None:
    """L2: in the steps that count each epoch has each sample exactly once."""
    last = {step.step: step.life for step in records if step.kind is Kind.STEP}
    kept = [one for one in records if one.kind is Kind.STEP and one.life == last[one.step]]
    if sorted(last) != list(range(1, STEPS + 1)):
        raise Wrong(f"the steps are {sorted(last)}")
    for epoch in range(EPOCHS):
        ids = sorted(i for one in kept if one.epoch == epoch for i in one.samples)
        if ids != list(range(SAMPLES)):
            raise Wrong(f"epoch {epoch} has the samples {ids}")
    if wrong := [one for one in kept if (one.step - 1) // PER_EPOCH != one.epoch]:
        raise Wrong(f"a step in the wrong epoch: {wrong[0]}")


def check_equal(records: list[Record], reference: list[Record]) -> None:
    """L1: everything that was ever done is what the undisturbed run has done, bit for bit."""
    whole = {_what(one) for one in reference}
    if differs := [one for one in records if _what(one) not in whole]:
        raise Wrong(f"not in the undisturbed run: {differs[0]}")
    if missing := whole - {_what(one) for one in records}:
        raise Wrong(f"never done: {next(iter(missing))}")


def _what(record: Record) -> tuple[object, ...]:
    return dataclasses.astuple(dataclasses.replace(record, life=0))


def main(folder: str, *seeds: str) -> None:
    """Run storms, several at once, behind an undisturbed training of each of their shapes."""
    most = int(os.environ.get(AT_ONCE, "2"))
    storms = [storm_of(seed) for seed in seeds]
    calm = {shape(one): calmed(one) for one in storms}
    parent = Path(folder)
    with contextlib.ExitStack() as stack:
        if any(one.place == "object store" for one in storms):
            stack.enter_context(object_store(parent / "objects"))
        storm_worlds.at_once(most, [functools.partial(rest, one, parent) for one in calm.values()])
        storm_worlds.at_once(most, [functools.partial(told, one, parent) for one in storms])


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[None]:
    """Have an object store, which the environment names."""
    folder.mkdir()
    with s3_server(folder) as options:
        for key, value in {**options["config"], "allow_http": "true"}.items():
            os.environ[f"AWS_{key}".upper()] = value
        storm_places.make_bucket()
        yield


def calmed(storm: Storm) -> Storm:
    """The undisturbed training of a storm, with a directory."""
    return dataclasses.replace(storm, disturbed=0, place="directory", memory="none", harm=())


def shape(storm: Storm) -> str:
    """What decides the bits of an undisturbed training."""
    return f"reference-{storm.sizes[0]}-{storm.workers}"


def rest(storm: Storm, parent: Path) -> None:
    """Run a training undisturbed."""
    where = parent / shape(storm)
    where.mkdir()
    (where / "ledger").touch()
    await_end(Life(storm, where, 0))


def told(storm: Storm, parent: Path) -> None:
    """Run a storm, and write what is found."""
    where, reference = parent / f"{storm.seed}", Record.read(parent / shape(storm) / "ledger")
    where.mkdir()
    began, wrong, counted = time.monotonic(), None, Counter[str]()
    try:
        counted = run(storm, where, reference)
    except Wrong as error:
        wrong = str(error)
    except Exception:  # noqa: BLE001  # the test of this storm shows it
        wrong = traceback.format_exc()
    found = dataclasses.asdict(storm) | {"wrong": wrong, "counted": counted}
    line = json.dumps(found | {"seconds": time.monotonic() - began}) + "\n"
    os.write(1, line.encode())  # whole, beside those of other storms
    if wrong is None:
        shutil.rmtree(where)


def storm_of(text: str) -> Storm:
    """The storm of a seed, of `places:` and a seed, or the one that JSON describes."""
    kind, _, seed = text.rpartition(":")
    if seed.isdecimal():
        return Storm.of_places(int(seed)) if kind == "places" else Storm.of(int(seed))
    facts = json.loads(text)
    lists = {name: tuple(facts[name]) for name in ("sizes", "harm") if name in facts}
    return Storm(**facts | lists)


if __name__ == "__main__":
    main(*sys.argv[1:])
