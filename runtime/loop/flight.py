"""Which collectives this process has entered: from torch's flight recorder, and the roll call."""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import distributed

from runtime.control import stacks
from runtime.control.frames import printable
from runtime.control.verdicts.report import MAX_POSITIONS, MAX_TEXT, Position, Report
from runtime.world.roll_call import Collective

log = logging.getLogger(__name__)

_RECORDERS = ("_dump_fr_trace_json", "_dump_nccl_trace_json")  # of gloo (torch >= 2.10), of NCCL
_OF_ALL = "default_pg"  # torch's description of the group of all ranks


def report() -> Report:
    """Return where this process is; called from a thread other than the main thread."""
    return Report.of(stacks.here().stack, inside=_inside(), positions=positions(_entries()))


def _inside() -> str:
    collective = Collective.inside
    return f"{collective.operation}, its collective {collective.number}" if collective else ""


def _entries() -> Iterator[Any]:
    """Yield what torch's flight recorders know, without stacks; nothing without a recorder."""
    library = getattr(torch._C, "_distributed_c10d", None)  # noqa: SLF001
    for recorder in _RECORDERS:
        if not distributed.is_initialized() or (dump := getattr(library, recorder, None)) is None:
            continue
        try:
            yield from json.loads(dump()).get("entries", ())
        except (RuntimeError, ValueError) as error:
            log.debug("%s of torch gave nothing: %s", recorder, error)


def positions(entries: Iterable[Any]) -> tuple[Position, ...]:
    """Return the last collective of each process group, those that wait first.

    Args:
        entries: the "entries" that `_dump_fr_trace_json` of torch returns.
    """
    last: dict[str, Position] = {}
    for position in _read(entries):
        known = last.get(position.group, position)
        last[position.group] = max(known, position, key=lambda one: one.number)
    found = sorted(last.values(), key=lambda one: (not one.is_waiting, one.group))
    return tuple(found[:MAX_POSITIONS])


def _read(entries: Iterable[Any]) -> Iterator[Position]:
    """Yield a position for each entry that is a collective; another form of entry is skipped."""
    for entry in entries:
        try:
            if not entry["is_p2p"]:
                name, description = entry["process_group"]
                backend, _, operation = entry["profiling_name"].rpartition(":")
                yield Position(
                    group=printable(f"{backend}:{name}")[:MAX_TEXT],
                    number=int(entry["collective_seq_id"]),
                    operation=printable(operation)[:MAX_TEXT],
                    is_waiting=not entry["retired"] and entry["state"] != "completed",
                    is_of_all=description == _OF_ALL,
                )
        except (KeyError, TypeError, ValueError):
            log.debug("an unknown entry of torch's flight recorder: %s", entry)
