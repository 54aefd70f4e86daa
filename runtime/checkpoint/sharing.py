"""Checks at the start that all processes see the same directory, and can write to it."""

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runtime.checkpoint.directory import from_main
from runtime.collectives.objects import each_object
from runtime.errors import CheckpointError
from runtime.world.contract import Job
from runtime.world.state import PartialState

_FILE = ".shared"  # the name of a file that exists only during the check
PATIENCE = 10.0  # seconds; a file server's client may have cached the directory
_Found = TypeVar("_Found", bound=Hashable)
_PERIOD = 0.1  # seconds between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a rank has found.

    Attributes:
        replica: the name of its replica, or of its machine outside of a job.
        sees: whether it sees the file of rank 0.
        problem: why it cannot write to the directory; None if it can.
    """

    replica: str
    sees: bool = True
    problem: str | None = None


def must_be_shared(folder: Path, *, patience: float = PATIENCE) -> None:
    """Check that all see a file of rank 0 in a directory, and can write there; called by all.

    The directory is created by rank 0 if needed.

    Args:
        folder: the directory.
        patience: the seconds that a process looks for the file before it gives up.

    Raises:
        CheckpointError: some ranks cannot write there, or do not see the file; the message names
            them, and is the same on all.
    """
    is_main = PartialState().is_main_process
    try:
        token: str = from_main(lambda: _leave(folder), makes=is_main)
    except (OSError, ValueError) as error:
        sentence = (
            f"{folder} must be a directory that rank 0 can write to: {error}; mount a volume "
            "there that this user may write to, or name another directory"
        )
        raise CheckpointError(sentence) from error
    try:
        problem = _problem(folder)
        sees = problem is None and sees_token(folder, token, patience)
        found = each_object(Seen(replica=_replica(), sees=sees, problem=problem))
    finally:
        if is_main:
            (folder / _FILE).unlink(missing_ok=True)
    _all_must_write(folder, found)
    if not all(one.sees for one in found):
        raise CheckpointError(_not_shared(folder, found))


def must_be_writable(folder: Path) -> None:
    """Check that all processes can write to a directory, each on its own machine; called by all.

    The directory is created if needed.

    Args:
        folder: the directory.

    Raises:
        CheckpointError: some ranks cannot; the message names them, and is the same on all.
    """
    problem = _problem(folder, makes=True)
    _all_must_write(folder, each_object(Seen(replica=_replica(), problem=problem)))


def _problem(folder: Path, *, makes: bool = False) -> str | None:
    """Return why this process cannot write to a directory; None if it can, or does not see it."""
    try:
        if makes:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except FileNotFoundError as error:
        return error.strerror if makes else None
    except OSError as error:
        return error.strerror or str(error)


def _all_must_write(folder: Path, found: list[Seen]) -> None:
    if any(one.problem for one in found):
        sentence = (
            f"{folder} must be a directory that all ranks can write to, but some cannot: "
            f"{'; '.join(_unwritable(found))}. Mount a volume there that this user may write to, "
            "or name another directory"
        )
        raise CheckpointError(sentence)


def _unwritable(found: list[Seen]) -> Iterator[str]:
    for (replica, problem), ranks in _ranks_of([(one.replica, one.problem) for one in found]):
        if problem is not None:
            yield f"{replica}, {ranks}: {problem}"


def _leave(folder: Path) -> str:
    """Write the token file in the place of an old one, and return its content."""
    folder.mkdir(parents=True, exist_ok=True)
    path, token = folder / _FILE, secrets.token_hex(16)
    path.unlink(missing_ok=True)  # a link is not followed
    with path.open("x") as file:
        file.write(token)
        file.flush()
        os.fsync(file.fileno())
    return token


def sees_token(
    folder: Path,
    token: str,
    patience: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Whether the token file has this content now or in a while.

    Args:
        folder: the directory.
        token: the content.
        patience: the seconds until this gives up.
        clock: a monotonic clock, in seconds.
        sleep: the function that waits.
    """
    until = clock() + patience
    while not _has(folder, token):
        if clock() >= until:
            return False
        sleep(_PERIOD)
    return True


def _has(folder: Path, token: str) -> bool:
    try:
        # A client of NFS asks its server when a directory is opened; a cached absence is dropped.
        if _FILE not in os.listdir(folder):  # noqa: PTH208  # names are all that is needed
            return False
        with (folder / _FILE).open("rb") as file:
            return file.read(len(token) + 1) == token.encode()
    except OSError:
        return False


def _replica() -> str:
    """Return the name of this replica, or of this machine outside of a job."""
    job = Job.from_env(os.environ)
    host = socket.gethostname()
    return f"host {host}" if job is None else f"replica {job.replica_index} (host {host})"


def _not_shared(folder: Path, found: list[Seen]) -> str:
    blind = [
        f"{replica}, {ranks}"
        for (replica, sees), ranks in _ranks_of([(one.replica, one.sees) for one in found])
        if not sees
    ]
    return (
        f"{folder} must be the same directory for all processes, but a file that rank 0 on "
        f"{found[0].replica} has written there is not seen by: {'; '.join(blind)}. Mount one "
        "ReadWriteMany volume there in all replicas, or give the URL of an object store, or set "
        "save_on_each_node=True, with which each machine keeps checkpoints of its own"
    )


def _ranks_of(found: Sequence[_Found]) -> list[tuple[_Found, str]]:
    """Return what ranks have found, each finding once, with the ranks that have it in words."""
    ranks: dict[_Found, list[str]] = {}
    for rank, one in enumerate(found):
        ranks.setdefault(one, []).append(str(rank))
    return [
        (one, f"rank{'s' * (len(those) > 1)} {' '.join(those)}") for one, those in ranks.items()
    ]
