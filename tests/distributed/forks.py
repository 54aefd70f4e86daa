"""Worlds whose ranks are forks of this process: what is imported here, no rank imports again."""

import functools
import json
import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acceleratedjob.local.process import free_port
from tests.distributed.world import environment

Environment = Callable[[int, int, int], dict[str, str]]


def world(
    size: int, program: Callable[..., Any], *args: Any, env: Environment = environment
) -> list[Any]:
    """Run `program(args[0], size, *args[1:])` in each rank of a world, and return what each found.

    A rank that fails ends the world.

    Args:
        size: ranks.
        program: what a rank runs; it returns what JSON can hold.
        args: the program's arguments beside the size.
        env: a rank's environment, by its number, the size and the port.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(rank)) for rank in range(size)]
        run = functools.partial(program, args[0], size, *args[1:])
        ranks = [_fork(file, run, env(rank, size, port)) for rank, file in enumerate(files)]
        failed = _end_of(set(ranks))
        assert not failed, f"{program.__name__} in a world of {size}: exit code {failed}"
        return [json.loads(file.read_text()) for file in files]


def _fork(file: Path, run: Callable[[], Any], env: dict[str, str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(env)
        file.write_text(json.dumps(run()))
        code = 0
    except BaseException:  # noqa: BLE001  # whatever it is, it must not go on as the parent
        traceback.print_exc()
    finally:
        os._exit(code)  # what is registered for the end of a process is the parent's


def _end_of(ranks: set[int]) -> int:
    """Wait for all; 0, or the exit code of the first that fails, after which the others end."""
    failed = 0
    while ranks:
        rank, status = os.wait()
        ranks.discard(rank)
        code = os.waitstatus_to_exitcode(status)
        if code and not failed:
            failed = code
            for other in ranks:
                os.kill(other, signal.SIGKILL)
    return failed
