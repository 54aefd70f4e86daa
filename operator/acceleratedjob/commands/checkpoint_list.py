"""Lists of checkpoints, as the runtime tells them; and those of a folder of this machine."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from acceleratedjob.api.schema import MAX_COUNT, dump, integer, list_of, read, section, string
from acceleratedjob.api.schema import time as read_time
from acceleratedjob.api.times import age, parse_time, utc_now
from acceleratedjob.commands.errors import Misuse
from acceleratedjob.commands.objects import print_object
from acceleratedjob.commands.text import aligned
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.exits import EXIT_NOT_FOUND
from acceleratedjob.terminal import say

MODULE = "runtime.checkpoints"
HEADER = ("CHECKPOINT", "STEP", "AGE", "SIZE", "STATE")
_COUNT = integer(minimum=0, maximum=MAX_COUNT)
_KIB = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint, as the runtime tells of it.

    Attributes:
        name: its name.
        step: the number of completed optimizer steps; None if it does not say so.
        time: when it was complete.
        bytes: the size of its files.
        problem: why it cannot be loaded; None if nothing is known to be wrong.
    """

    name: Annotated[str, string]
    step: Annotated[int | None, _COUNT] = None
    time: Annotated[str | None, read_time] = None
    bytes: Annotated[int | None, _COUNT] = None
    problem: Annotated[str | None, string] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The checkpoints of a directory or an object store.

    Attributes:
        place: the path or URL.
        checkpoints: the checkpoints, the newest first.
    """

    place: Annotated[str, string]
    checkpoints: Annotated[
        tuple[Saved, ...], list_of(section(Saved, whole=False), at_most=10_000)
    ] = ()


def read_places(text: str) -> list[Place]:
    """Read what `python -m runtime.checkpoints --json` prints, which is not trusted.

    Raises:
        ValueError: it is something else.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, list):
            raise InvalidSpec("", "must be a list")  # noqa: TRY301  # handled alike
        return [read(Place, one, f"[{i}]", whole=False) for i, one in enumerate(found)]
    except (InvalidSpec, ValueError, RecursionError) as error:
        raise ValueError(f"the list of checkpoints cannot be read: {error}") from error


def report(places: Iterable[Place], now: datetime) -> Iterator[str]:
    """Yield the lines to print."""
    for one in places:
        yield one.place
        if one.checkpoints:
            rows = [HEADER, *(_row(each, now) for each in one.checkpoints)]
            yield from (f"  {line}" for line in aligned(rows))
        else:
            yield "  no checkpoints"


def _row(saved: Saved, now: datetime) -> tuple[str, ...]:
    ago = "" if saved.time is None else age((now - parse_time(saved.time)).total_seconds())
    step = "" if saved.step is None else str(saved.step)
    size = "" if saved.bytes is None else _size(saved.bytes)
    return saved.name, step, ago, size, saved.problem or "complete"


def _size(count: int) -> str:
    """Format a number of bytes.

    >>> _size(512), _size(1536), _size(3 * 2**40)
    ('512 B', '1.5 KiB', '3.0 TiB')
    """
    value, unit = float(count), 0
    while value >= _KIB and unit < len(_UNITS) - 1:
        value, unit = value / _KIB, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def print_places(places: Sequence[Place], form: str | None) -> None:
    """Print checkpoints.

    Args:
        places: the places with their checkpoints.
        form: `json` or `yaml`; None for a table.
    """
    if form is None:
        say(*report(places, utc_now()))
    else:
        found = [{"place": one.place, "checkpoints": dump(one.checkpoints)} for one in places]
        print_object(found, form, sys.stdout)


def list_folder(folder: str, form: str | None) -> int:
    """Print the checkpoints of a folder of this machine or of a URL; return the exit code.

    Raises:
        Misuse: they cannot be listed.
    """
    command = [sys.executable, "-m", MODULE, "--json", folder]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # our own module
    if done.returncode:
        raise Misuse(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    places = read_places(done.stdout.decode(errors="replace"))
    print_places(places, form)
    return 0 if any(one.checkpoints for one in places) else EXIT_NOT_FOUND
