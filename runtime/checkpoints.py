"""`python -m runtime.checkpoints [PLACE]`: lists the checkpoints in a directory or an object store.

Without PLACE, it lists those of the job whose pod this is. Nothing is changed, torch is not
imported, and checksums are not compared: `load_state` compares them.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runtime.checkpoint.manifest import damage, name_of
from runtime.checkpoint.stores.opening import is_url, open_store
from runtime.checkpoint.stores.store import Store
from runtime.config.settings import LoopSettings
from runtime.control.progress.encoding import format_time
from runtime.errors import CheckpointError, DamagedCheckpoint
from runtime.loop.state import FACT, LoopState

PLACE = LoopSettings.variable("checkpoint_dir")
UNFINISHED = "incomplete: it is being written, or its writer has died"
_HEADER = ("CHECKPOINT", "STEP", "WRITTEN", "BYTES", "STATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint in a listing.

    Attributes:
        name: its name, `checkpoint_<number>`.
        step: the number of completed optimizer steps; None if it is not an automatic checkpoint.
        time: when it was complete, in UTC; None if that is not known.
        bytes: the size of its files; None if that is not known.
        problem: why it cannot be loaded; None if nothing is known to be wrong.
    """

    name: str
    step: int | None = None
    time: str | None = None
    bytes: int | None = None
    problem: str | None = None


def saved_in(place: str) -> list[Saved]:
    """Return the checkpoints in a place, the newest first; none if it does not exist.

    Args:
        place: a path or a URL.

    Raises:
        CheckpointError: the place cannot be read.
    """
    store = open_store(place)
    listed = store.storage.list()
    found = [_saved(store, place, one.number) for one in listed if one.is_complete]
    left = (name_of(one.number) for one in listed if not one.is_complete)
    found += [Saved(name=name, problem=UNFINISHED) for name in left]
    if any(one.problem is not None for one in found):  # the training may have removed it meanwhile
        present = {name_of(one.number) for one in store.storage.list()}
        found = [one for one in found if one.name in present]
    return sorted(found, key=_number, reverse=True)


def _number(saved: Saved) -> int:
    return int(saved.name.rpartition("_")[2])


def _saved(store: Store, place: str, number: int) -> Saved:
    """Describe a complete checkpoint."""
    name = name_of(number)
    try:
        manifest = store.manifest(number)
        if manifest and not is_url(place):  # `Store.damage` would finish what a writer has begun
            problem = damage(Path(place, name), reads=False)
            if problem is not None:
                return Saved(name=name, problem=f"damaged: {problem}")
        files = manifest.get("files", {})
        step = LoopState.of(manifest[FACT]).step if FACT in manifest else None
    except (DamagedCheckpoint, ValueError) as error:
        return Saved(name=name, problem=f"damaged: {error}")
    written = store.storage.written(number)
    return Saved(
        name=name,
        step=step,
        time=None if written is None else format_time(datetime.fromtimestamp(written, UTC)),
        bytes=sum(int(entry["bytes"]) for entry in files.values()) if files else None,
    )


def places_in(place: str) -> list[str]:
    """Return the place, or those below it if it is the directory of several trainings.

    `acceleratedjob run` has one directory for each job, and in it one for each run.

    Args:
        place: a path or a URL.
    """
    folder = Path(place)
    if is_url(place) or not folder.is_dir() or open_store(place).storage.list():
        return [place]
    inner = sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())
    return [str(one) for one in inner if open_store(str(one)).storage.list()] or [place]


def report(place: str, saved: Sequence[Saved]) -> Iterator[str]:
    """Yield the lines to print.

    Args:
        place: the path or URL.
        saved: the checkpoints in it.
    """
    yield place
    if not saved:
        yield "  no checkpoints"
        return
    rows = [_HEADER, *(_row(one) for one in saved)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    for row in rows:
        padded = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"  {'   '.join(padded)}".rstrip()


def _row(saved: Saved) -> tuple[str, ...]:
    numbers = (saved.step, saved.time, saved.bytes)
    cells = ("" if one is None else str(one) for one in numbers)
    return (saved.name, *cells, saved.problem or "complete")


def main() -> None:
    """Print the checkpoints."""
    parser = argparse.ArgumentParser(prog="python -m runtime.checkpoints", description=__doc__)
    parser.add_argument("place", nargs="?", metavar="PLACE", help="a directory or a URL")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    place = options.place or os.environ.get(PLACE)
    if not place:
        sys.exit(f"name a directory or a URL: the variable {PLACE} is not set")
    try:
        found = [(one, saved_in(one)) for one in places_in(place)]
    except CheckpointError as error:
        sys.exit(str(error))
    if options.json:
        listed = [
            {"place": one, "checkpoints": [dataclasses.asdict(each) for each in saved]}
            for one, saved in found
        ]
        sys.stdout.write(f"{json.dumps(listed)}\n")
        return
    for one, saved in found:
        sys.stdout.writelines(f"{line}\n" for line in report(one, saved))


if __name__ == "__main__":
    main()
