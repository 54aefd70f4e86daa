"""Runs the pods of a `LocalCluster` as processes, and reports on them as a kubelet does."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from acceleratedjob import api
from acceleratedjob.api import Manifest, View, parse_time
from acceleratedjob.cluster import Changed, Listed, Ref
from acceleratedjob.endings import SIGNAL_BASE
from acceleratedjob.local.cluster import LocalCluster, utc_now
from acceleratedjob.local.process import command, end_with_parent, free_port
from acceleratedjob.status import format_time
from acceleratedjob.template import trainer
from acceleratedjob.termination import MAX_BYTES

NODE = "local"
CANNOT_START = 127  # a shell's exit code for a command that is not there
KILL_AFTER_STOP_SECONDS = 10

Print = Callable[[View, str], None]  # a pod and a line of its output


class Kubelet:
    """One process for each pod."""

    def __init__(self, cluster: LocalCluster, *, workdir: Path, show: Print) -> None:
        """Args: cluster: whose pods; workdir: where they start; show: takes their output."""
        self._cluster = cluster
        self._workdir = workdir
        self._show = show
        self._ports: dict[str, int] = {}  # by MASTER_ADDR, which names the job and the attempt
        self._lives: dict[str, asyncio.Task[None]] = {}  # by the pod's uid
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._kills: dict[str, asyncio.TimerHandle] = {}

    async def run(self) -> None:
        """Start and stop processes as pods come and go, until cancelled; then end them all."""
        try:
            async for change in self._cluster.watch("Pod"):
                pods = change.objects if isinstance(change, Listed) else (change.object,)
                for pod in pods if isinstance(change, Listed | Changed) else ():
                    self._see(pod)
        finally:
            await self._stop_all()

    def _see(self, pod: Manifest) -> None:
        uid, deadline = pod["metadata"]["uid"], pod["metadata"].get("deletionTimestamp")
        if deadline is not None:
            self._stop(pod, parse_time(deadline))
        elif uid not in self._lives:
            self._lives[uid] = asyncio.create_task(self._live(pod))

    async def _live(self, pod: Manifest) -> None:
        """A pod's life: started, read to the end, reported."""
        self._report(pod, {"running": {"startedAt": format_time(utc_now())}}, "Running")
        try:
            with tempfile.TemporaryDirectory(prefix="acceleratedjob-") as folder:
                words = Path(folder, "termination-log")
                code = await self._process(pod, words)
                message = _said(words)
        except OSError as error:
            code, message = CANNOT_START, f"cannot be started: {error}"
        ended = {
            "exitCode": code if code >= 0 else SIGNAL_BASE - code,
            "reason": "Completed" if code == 0 else "Error",
            "message": message,
            "finishedAt": format_time(utc_now()),
        }
        self._report(pod, {"terminated": ended}, "Succeeded" if code == 0 else "Failed")

    async def _process(self, pod: Manifest, words: Path) -> int:
        uid = pod["metadata"]["uid"]
        ready = command(pod, port=self._port(pod), workdir=self._workdir, inherited=os.environ)
        process = await asyncio.create_subprocess_exec(
            *ready.argv,
            env=ready.env | {"ACCELERATEDJOB_TERMINATION_LOG": str(words)},
            cwd=ready.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,  # this program starts no threads
        )
        self._processes[uid] = process
        if process.stdout is not None:
            async for line in process.stdout:
                self._show(pod, line.decode(errors="replace").rstrip("\n"))
        return await process.wait()

    def _port(self, pod: Manifest) -> int:
        env = {entry["name"]: entry.get("value") for entry in trainer(pod)["env"]}
        return self._ports.setdefault(str(env["MASTER_ADDR"]), free_port())

    def _report(self, pod: Manifest, state: Manifest, phase: str) -> None:
        ready = "True" if phase == "Running" else "False"

        def alter(stored: Manifest) -> None:
            stored["spec"]["nodeName"] = NODE
            stored["status"] = {
                "phase": phase,
                "conditions": [
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "Ready", "status": ready},
                ],
                "containerStatuses": [{"name": trainer(pod)["name"], "state": state}],
            }

        stored = self._cluster.change(Ref.of(pod), alter)
        if "terminated" in state and stored["metadata"].get("deletionTimestamp"):
            self._cluster.remove(Ref.of(pod), uid=pod["metadata"]["uid"])

    def _stop(self, pod: Manifest, deadline: datetime) -> None:
        """SIGTERM now, SIGKILL at the deadline; a pod that has ended goes at once."""
        uid = pod["metadata"]["uid"]
        life = self._lives.get(uid)
        if life is None or life.done():
            self._cluster.remove(Ref.of(pod), uid=pod["metadata"]["uid"])
            return
        if uid in self._kills:
            self._kills.pop(uid).cancel()
        else:
            self._signal(uid, signal.SIGTERM)
        seconds = max(0.0, (deadline - utc_now()).total_seconds())
        loop = asyncio.get_running_loop()
        self._kills[uid] = loop.call_later(seconds, self._signal, uid, signal.SIGKILL)

    def _signal(self, uid: str, number: signal.Signals) -> None:
        """Signal a pod's whole process group: what it has started ends with it."""
        process = self._processes.get(uid)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended this moment
                os.killpg(process.pid, number)

    async def _stop_all(self) -> None:
        """End what still runs: asked first, then killed."""
        living = {uid: life for uid, life in self._lives.items() if not life.done()}
        for number, seconds in ((signal.SIGTERM, KILL_AFTER_STOP_SECONDS), (signal.SIGKILL, None)):
            for uid, life in living.items():
                if not life.done():
                    self._signal(uid, number)
            if living:
                await asyncio.wait(living.values(), timeout=seconds)


def replica_index(pod: View) -> int:
    """The index of a pod's replica."""
    return int(pod["metadata"]["labels"][api.REPLICA_INDEX_LABEL])


def _said(words: Path) -> str:
    """What a process has left, as much as a kubelet keeps."""
    if not words.exists():
        return ""
    with words.open("rb") as file:
        return file.read(MAX_BYTES).decode(errors="replace")
