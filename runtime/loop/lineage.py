"""Which automatic checkpoint follows which: what may be resumed, and what must be kept."""

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from runtime.loop.state import FACT, LoopState

ORIGIN = "save"  # the entry of a checkpoint's manifest
_EMPTIED = "stale: the checkpoints on storage were removed"
_NAME = re.compile(r"[0-9a-f]{32}")


def random_name() -> str:
    """Return a name that no other save or life has."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a checkpoint comes from.

    Attributes:
        save: a random name of the save; the copies of a checkpoint have the same one.
        life: a random name of the life that has saved.
        base: the `save` of the newest checkpoint on storage when this one was begun; None if there
            was none.

    Raises:
        ValueError: a name is not one of `random_name`.
    """

    save: str
    life: str
    base: str | None

    def __post_init__(self) -> None:
        """Check the names."""
        _check(self.save)
        _check(self.life)
        if self.base is not None:
            _check(self.base)

    def fact(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of(cls, fact: object) -> Self | None:
        """Return what `fact` has written; None if this is something else.

        Args:
            fact: a value from the manifest of a checkpoint, which is not trusted.
        """
        found = fact if isinstance(fact, Mapping) else {}
        try:
            return cls(**{one.name: found[one.name] for one in fields(cls)})
        except (KeyError, ValueError):
            return None


def _check(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        sentence = f"the name of a save or life must have 32 digits, got {name!r:.100}"
        raise ValueError(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An automatic checkpoint.

    Attributes:
        number: the number in its name.
        state: where the loop was.
        origin: where it comes from; None if it does not say so.
    """

    number: int
    state: LoopState
    origin: Origin | None = None

    @classmethod
    def of(cls, number: int, manifest: Mapping[str, Any]) -> Self:
        """Return the entry of a checkpoint.

        Args:
            number: the number in its name.
            manifest: its manifest, which has an entry of a loop, and is not trusted.

        Raises:
            ValueError: no loop has written that entry.
        """
        origin = Origin.of(manifest.get(ORIGIN))
        return cls(number=number, state=LoopState.of(manifest[FACT]), origin=origin)

    @property
    def place(self) -> tuple[int, int]:
        """How far the training had come."""
        return self.state.step, self.state.begun

    @property
    def facts(self) -> dict[str, Any]:
        """The entries of the manifest."""
        own = {} if self.origin is None else {ORIGIN: self.origin.fact()}
        return {FACT: self.state.fact(), **own}


def kept(entries: Collection[Entry], keep: int) -> set[int]:
    """Return the numbers of the checkpoints to keep.

    These are the newest ones, and the last one of each call of `epochs`: what a script does between
    two calls can only be repeated from there.

    Args:
        entries: the undamaged checkpoints.
        keep: the number of newest ones, >= 1.
    """
    known = sorted(entries, key=lambda one: one.number)
    last = {one.state.call: one.number for one in known}
    return {one.number for one in known[-keep:]} | set(last.values())


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is to be resumed from memory.

    Attributes:
        entry: the checkpoint; None if the one on storage is to be taken.
        reason: why a newer checkpoint in memory is not; empty if there is none.
    """

    entry: Entry | None
    reason: str = ""


def remembered(machines: Sequence[Sequence[Entry]], stored: Sequence[Entry]) -> Remembered:
    """Return the newest checkpoint that all machines have in memory, if the training may go on so.

    Args:
        machines: for each machine, the undamaged checkpoints in its memory.
        stored: the checkpoints on storage, in the order in which they were written.
    """
    every = {_key(one): one for entries in machines for one in entries}
    common = set(every)
    for entries in machines:
        common &= {_key(one) for one in entries}
    is_emptied = not stored and any(one.origin and one.origin.base for one in every.values())
    reason = ""
    for key, one in sorted(every.items(), key=lambda item: item[1].place, reverse=True):
        if stored and one.place <= stored[-1].place:
            break
        problem = None if key in common else "not on all machines"
        problem = problem or (_EMPTIED if is_emptied else _staleness(one, stored))
        if problem is None:
            return Remembered(one, reason)
        reason = reason or f"step {one.state.step} in memory ({problem})"
    return Remembered(None, reason)


def _key(entry: Entry) -> tuple[int, str]:
    return entry.number, "" if entry.origin is None else entry.origin.save


def _staleness(entry: Entry, stored: Sequence[Entry]) -> str | None:
    """Return why the training may not go on from a checkpoint in memory; None if it may.

    It may if no other life has written to storage since: the newest checkpoint on storage is of the
    same life, or is the one that this checkpoint's life knew as the newest. Otherwise that other
    life went on from an older place, without this checkpoint.
    """
    newest = stored[-1].origin if stored else None
    own = entry.origin
    if own is None or (stored and newest is None):
        return "its origin is unknown"
    follows = own.base is None if newest is None else own.base == newest.save
    if not follows and (newest is None or own.life != newest.life):
        return "stale: the training has gone on without it"
    over = {one.state.call for one in stored if one.state.is_over}
    if not over >= set(range(entry.state.call)):
        return "storage lacks the end of an earlier call of epochs()"
    return None
