"""The processes of one side: a single process, or a world that communicates over gloo."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import Any, Self

from acceleratedjob.local.process import free_port
from tests.distributed.world import ROOT, environment

SECONDS = 300  # the maximum time for a reply
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'operator'}"}


class Failed(RuntimeError):
    """A process has ended, or does not reply."""


class World:
    """Worker processes that all get the same requests, one at a time."""

    def __init__(self, processes: int | None = None) -> None:
        """Start the processes; the first reply shows that they are ready.

        Args:
            processes: the world size; None for one process without ranks in its environment.
        """
        port = free_port() if processes else 0
        local = {"GLOO_SOCKET_IFNAME": "lo"} | ONE_THREAD
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in __exit__
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "bench.worker"],
                env=(environment(rank, processes, port) if processes else dict(os.environ)) | local,
                cwd=ROOT,
                text=True,
                bufsize=1,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
            for rank in range(processes or 1)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            assert process.stdin is not None  # noqa: S101  # for mypy
            with contextlib.suppress(BrokenPipeError):  # it has ended, which `ask` has reported
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(10 if kind is None else 0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None  # noqa: S101  # for mypy
            process.stdout.close()
        self._errors.close()

    def ask(self, *request: Any) -> list[Any]:
        """Send a request to all processes, and return their replies.

        Raises:
            Failed: a process has ended, or did not reply in time.
        """
        watch = threading.Timer(SECONDS, self._kill)
        watch.start()
        try:
            self._send(json.dumps(request) + "\n")
            return [self._reply(process) for process in self._processes]
        finally:
            watch.cancel()

    def _send(self, line: str) -> None:
        for process in self._processes:
            assert process.stdin is not None  # noqa: S101  # for mypy
            try:
                process.stdin.write(line)
            except BrokenPipeError:
                self._refuse(process)

    def _reply(self, process: "subprocess.Popen[str]") -> Any:
        assert process.stdout is not None  # noqa: S101  # for mypy
        line = process.stdout.readline()
        if not line:
            self._refuse(process)
        return json.loads(line)

    def _refuse(self, process: "subprocess.Popen[str]") -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)  # so that it can write its error
        self._kill()
        self._errors.seek(0)
        sentence = f"process {process.pid} of the benchmark must answer within {SECONDS} s, and "
        raise Failed(f"{sentence}has ended:\n{self._errors.read()[-4000:]}")

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()
