"""Automatic checkpoints of two ranks in an object store and in memory: `python tiers.py`.

Writes as JSON what each rank of each life has noted, and what rank 0 has said. Each rank may be
told that it is alone on its machine; then it has a directory in memory of its own.
"""

import json
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from obstore.fsspec import FsspecStore, register

from runtime.errors import CheckpointError
from runtime.loop import cadence
from tests.distributed.forks import world
from tests.distributed.loops import script_of
from tests.distributed.world import environment, machines_of_one
from tests.runtime.loops import lived, plain
from tests.runtime.object_store import s3_server
from tests.states import fresh

SHAPES = {"one machine": environment, "two machines": machines_of_one}
NOTES = 5  # of a life
LIVES = 12


class Read:
    """Counts the bytes that this process reads from the object store."""

    def __init__(self) -> None:
        self.bytes = 0
        before = FsspecStore._cat_file

        async def cat_file(fs: Any, *args: Any, **options: Any) -> bytes:
            found: bytes = await before(fs, *args, **options)
            self.bytes += len(found)
            return found

        FsspecStore._cat_file = cat_file  # type: ignore[assignment,method-assign]


def bucket(options: dict[str, Any], _: int) -> None:
    """Make the bucket."""
    FsspecStore("s3", **options).pipe_file("bucket/exists", b"")


def life(name: str, _: int, place: str, notes: int | None, memory: str | None) -> dict[str, Any]:
    """One life of a script, in each rank."""
    register("s3")
    os.environ["ACCELERATEDJOB_CHECKPOINT_DIR"] = place
    os.environ["ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS"] = "4" if memory else "1"
    if memory is not None:
        own = os.environ["RANK"] if os.environ["LOCAL_WORLD_SIZE"] == "1" else "0"
        os.environ["ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR"] = f"{memory}/{own}"
        cadence.SHORTEST, cadence.SHARE = 0.0, float("inf")
    read, said = Read(), StringIO()
    with redirect_stderr(said):
        try:
            found = lived(script_of(name), notes)
        except CheckpointError as error:
            return {"error": str(error)}
    return {"notes": found, "said": said.getvalue(), "read": read.bytes}


def lives(
    name: str, place: str, shape: str, memory: str | None = None, *, loses: int | None = None
) -> list[Any]:
    """All lives of a script until its end, by rank.

    Args:
        name: of the script.
        place: of the checkpoints.
        shape: how many machines there are.
        memory: the directory in memory.
        loses: the rank whose memory is lost between any two lives; None: that of none.
    """
    found: list[Any] = []
    for number in range(LIVES):
        env = SHAPES[shape]
        found.append(world(2, life, name, place, NOTES + number % 2, memory, env=env))
        if "error" in found[-1][0] or found[-1][0]["notes"][-1][0] == "weights":
            break
        if loses is not None:
            shutil.rmtree(f"{memory}/{loses}")
    return found


def main() -> None:
    """All cases; before, what torch imports when it is used."""
    lived(plain)
    fresh()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as text, s3_server(Path(text)) as options:
        for key, value in {**options["config"], "allow_http": "true"}.items():
            os.environ[f"AWS_{key}".upper()] = value
        world(1, bucket, options)  # this process must not: fsspec's thread would not be in forks
        found["whole"] = world(2, life, "shard", f"{text}/whole", None, None)
        for shape in SHAPES:
            place = f"s3://bucket/{shape.split()[0]}"
            found[f"object store, {shape}"] = lives("shard", place, shape)
            found[f"sharded, {shape}"] = lives("sharded model", f"{place}/sharded", shape)
            memory = f"{text}/memory/{shape}"
            found[f"memory, {shape}"] = lives("shard", f"{text}/storage/{shape}", shape, memory)
        found["memory, lost"] = lives(
            "shard", f"{text}/lost", "two machines", f"{text}/memory/lost", loses=1
        )
        found["sharded in memory"] = lives(
            "sharded model", f"{text}/both", "two machines", f"{text}/memory/both"
        )
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
