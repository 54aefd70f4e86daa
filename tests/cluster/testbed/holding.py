"""Share one test bed among processes, and end it when the last of them is gone, however it went.

Each user of a bed holds a shared lock on a file; the bed's supervisor ends when it gets that lock
for itself. The kernel drops the locks of a process that dies, so there is no count to go wrong and
no process id to be reused. The supervisor in turn locks a file for its life: a folder whose
supervisor's lock is free was left by a crash, and is swept by whoever starts next.
"""

import fcntl
import functools
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tests.cluster.testbed.places import PROJECT, Place, beds
from tests.cluster.testbed.processes import Components, TestbedFailed, tail, wait_until

_POLL = 0.1  # seconds between two looks at the holders
_START = 3600.0  # seconds; the first start on a machine builds the binaries and an image
_END = 240.0  # seconds a bed may take to end


@contextmanager
def _locked(path: Path, how: int) -> Iterator[IO[bytes]]:
    with path.open("ab") as file:
        fcntl.flock(file, how)
        yield file


def _try_exclusive(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_served(place: Place) -> bool:
    """Whether the supervisor of a place is alive."""
    with place.server.open("ab") as file:
        return not _try_exclusive(file)


@contextmanager
def hold(place: Place, serve: Sequence[str]) -> Iterator[Place]:
    """Have a part of a test bed running inside the block, shared with all who hold the same name.

    Args:
        place: which part.
        serve: the arguments of `python -m tests.cluster.testbed` that start it.
    """
    with ExitStack() as stack:
        with _starting():
            # Waits while a former bed of that name ends.
            stack.enter_context(_locked(place.holders, fcntl.LOCK_SH))
            if not (place.ready.exists() and is_served(place)):
                wait_until(lambda: not is_served(place), what="the end of a bed", seconds=_END)
                sweep()
                _start(place, serve)
        yield place


def _starting() -> AbstractContextManager[IO[bytes]]:
    return _locked(beds() / "starting", fcntl.LOCK_EX)


def _start(place: Place, serve: Sequence[str]) -> None:
    place.folder.mkdir()
    log = place.supervisor_log
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.testbed", *serve],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for the tests; the lock ends the bed
        )

    def is_ready() -> bool:
        if supervisor.poll() is not None:
            raise TestbedFailed(f"the test bed did not start:\n{tail(log)}")
        return place.ready.exists()

    wait_until(is_ready, what=f"the test bed {place.name} (log: {log})", seconds=_START)
    supervisor.returncode = 0  # it is on its own from here: no warning that it still runs


@contextmanager
def serving(place: Place) -> Iterator[Components]:
    """Be the supervisor of a place: the block starts the components given to it.

    After the block the part is declared ready, and served until nobody holds it; then, or when
    anything fails, all of it is ended and removed.
    """
    with _locked(place.server, fcntl.LOCK_EX):
        components = Components(place)
        try:
            yield components
            place.ready.touch()
            _serve(place, components)
        finally:
            place.ready.unlink(missing_ok=True)
            components.stop()
            remove(place)


def _serve(place: Place, components: Components) -> None:
    with place.holders.open("ab") as holders:
        while place.kept.exists() or not _try_exclusive(holders):
            components.restart_asked_for()
            components.check()
            time.sleep(_POLL)
        place.ready.unlink()  # while nobody can hold it: who waits for the lock starts anew


def keep(place: Place, serve: Sequence[str]) -> None:
    """Start a part that stays until `release`."""
    place.kept.touch()
    with hold(place, serve):
        pass


def release(place: Place) -> None:
    """End a kept part, and return when it is gone."""
    place.kept.unlink(missing_ok=True)
    wait_until(lambda: not is_served(place), what=f"the end of {place.name}", seconds=_END)
    with _starting():
        sweep()


def sweep() -> None:
    """Remove what crashed supervisors left; call it only while nothing else starts."""
    for server in beds().glob("*.server"):
        place = Place(server.stem)
        if not is_served(place):
            remove(place)
            _forget(place)


def _forget(place: Place) -> None:
    """Remove the locks and the log of a part that nobody waits for."""
    with place.holders.open("ab") as file:
        if _try_exclusive(file):
            for path in (place.server, place.supervisor_log, place.holders):
                path.unlink(missing_ok=True)


def remove(place: Place) -> None:
    """Remove all that a part left on the machine; its processes must have ended."""
    for cgroup in place.cgroups():
        gone = functools.partial(_is_removed, cgroup)
        wait_until(gone, what=f"the end of {cgroup}", seconds=_END)
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    if f" {place.folder}/" in mounts:
        raise TestbedFailed(f"nothing may be mounted under {place.folder}: unmount it first")
    if place.folder.exists():
        shutil.rmtree(place.folder)


def _is_removed(cgroup: Path) -> bool:
    """Try to remove a tree of control groups, the leaves first; a dying process may be in one."""
    try:
        folders = [path for path in cgroup.rglob("*") if path.is_dir()]
        for folder in sorted([*folders, cgroup], reverse=True):
            folder.rmdir()
    except FileNotFoundError:
        return not cgroup.exists()
    except OSError:
        return False
    return True
