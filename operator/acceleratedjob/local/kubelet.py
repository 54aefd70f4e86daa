"""Runs the pods of a `LocalCluster` as processes, and reports their status as a kubelet does."""

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest, Reason, View
from acceleratedjob.api.template import trainer
from acceleratedjob.api.times import format_time, parse_time, utc_now
from acceleratedjob.cluster import Changed, Listed, Ref
from acceleratedjob.controller.polling.asking import ask
from acceleratedjob.controller.polling.hearing import Target
from acceleratedjob.controller.polling.notices import tell_pod
from acceleratedjob.lines import Line
from acceleratedjob.local.cluster import LocalCluster, grace_period
from acceleratedjob.local.container import Container
from acceleratedjob.local.dealing import Gpus, insufficient
from acceleratedjob.local.process import LOOPBACK, Command, Ports, command, missing_script
from acceleratedjob.local.volumes import make_volumes
from acceleratedjob.observe.endings import SIGNAL_BASE
from acceleratedjob.observe.termination import MAX_BYTES

NODE = "local"
CANNOT_START = 128  # containerd's exit code for a command that it cannot start
# The end of the log that is used as the termination message (FallbackToLogsOnError).
TAIL_LINES = 80
TAIL_CHARACTERS = 2048
TERMINATION_LOG = "ACCELERATEDJOB_TERMINATION_LOG"

Show = Callable[[View, Sequence[Line]], None]  # a pod and lines of its output


class Kubelet:
    """Runs a container for each pod."""

    def __init__(
        self,
        cluster: LocalCluster,
        *,
        workdir: Path,
        checkpoints: Path,
        show: Show,
        reads_stdin: bool = False,
        gpus: Gpus | None = None,
    ) -> None:
        """Create a kubelet.

        Args:
            cluster: the cluster whose pods it runs.
            workdir: the working directory of the containers.
            checkpoints: the folder that takes the place of the volume of the checkpoints.
            show: called with their output.
            reads_stdin: whether they read from the standard input of this program.
            gpus: the GPUs of the machine; by default those that this program sees.
        """
        self._cluster = cluster
        self._workdir, self._checkpoints = workdir, checkpoints
        self._show, self._reads_stdin = show, reads_stdin
        self._gpus = gpus or Gpus.of_this_machine()
        self._ports: dict[str, Ports] = {}  # by MASTER_ADDR, which differs between attempts
        self._lives: dict[str, asyncio.Task[None]] = {}  # by pod uid, like the following two
        self._containers: dict[str, Container] = {}
        self._stop_by: dict[str, datetime] = {}
        self._progress_ports: dict[str, int] = {}  # of pods that are replica 0

    async def run(self) -> None:
        """Start and stop processes as pods are created and deleted; when cancelled, stop them all.

        Raises:
            ExceptionGroup: an internal error, after all processes have ended.
        """
        async with asyncio.TaskGroup() as tasks:
            async for change in self._cluster.watch("Pod"):
                pods = change.objects if isinstance(change, Listed) else (change.object,)
                for pod in pods if isinstance(change, Listed | Changed) else ():
                    self._see(pod)
                self._start_pods(tasks)

    async def ask(self, target: Target) -> bytes:
        """Ask replica 0 for its progress, at the port that its process listens at.

        Raises:
            OSError: it does not run.
        """
        return await ask(target.address, self._port_of(target))

    async def tell(self, target: Target, request: bytes) -> int:
        """Send a request to stop to replica 0, as `ask` asks it; return the answer's status.

        Raises:
            OSError: it does not run.
        """
        return await tell_pod(replace(target, port=self._port_of(target)), request)

    def _port_of(self, target: Target) -> int:
        port = self._progress_ports.get(target.pod)
        if port is None:
            sentence = f"pod {target.pod} does not run"
            raise OSError(sentence)
        return port

    def stop(self, seconds: float) -> None:
        """Send SIGTERM to all containers, and kill them after a number of seconds."""
        for container in self._containers.values():
            container.stop(seconds)

    def kill(self) -> None:
        """Kill all processes immediately."""
        for container in self._containers.values():
            container.kill()

    def _see(self, pod: Manifest) -> None:
        deadline = pod["metadata"].get("deletionTimestamp")
        if deadline is not None:
            self._stop(pod, parse_time(deadline))

    def _start_pods(self, tasks: asyncio.TaskGroup) -> None:
        """Start the pods that are new, or wait for GPUs, as far as their GPUs are free now."""
        for pod in self._cluster.objects("Pod"):
            metadata = pod["metadata"]
            if metadata["uid"] in self._lives or "deletionTimestamp" in metadata:
                continue
            lacking = self._gpus.take(pod)
            if lacking:
                self._report_unscheduled(pod, insufficient(lacking))
            else:
                self._report(pod, {"running": {"startedAt": format_time(utc_now())}}, "Running")
                self._lives[metadata["uid"]] = tasks.create_task(self._live(pod))

    async def _live(self, pod: Manifest) -> None:
        """Run a pod, and report its end."""
        try:
            # A process that is killed may still create a file.
            with tempfile.TemporaryDirectory(
                prefix="acceleratedjob-", ignore_cleanup_errors=True
            ) as folder:
                ended = await self._run(pod, Path(folder))
        finally:
            self._gpus.give_back(pod)
        ended["finishedAt"] = format_time(utc_now())
        succeeded = ended["exitCode"] == 0
        self._report(pod, {"terminated": ended}, "Succeeded" if succeeded else "Failed")

    async def _run(self, pod: Manifest, folder: Path) -> Manifest:
        """Run the container of a pod in a folder of its own, and return its terminated state."""
        ports, words = self._ports_of(pod), folder / "termination-log"
        ready = command(
            pod,
            ports=ports,
            workdir=self._workdir,
            checkpoints=self._checkpoints,
            inherited=os.environ,
            mounts=make_volumes(pod, self._cluster.objects("ConfigMap"), folder / "volumes"),
        )
        ready.env.update(self._gpus.env(pod), **{TERMINATION_LOG: str(words)})
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        try:
            container = await self._start(pod, ready, tail)
        except (OSError, ValueError) as error:
            return _cannot_start(f"{ready.argv[0]!r} cannot be started: {error}")
        uid = pod["metadata"]["uid"]
        self._containers[uid] = container
        if replica_index(pod) == 0:
            self._progress_ports[uid] = ports.progress
        try:
            if uid in self._stop_by:
                container.stop(_seconds_until(self._stop_by[uid]))
            code = await container.run()
        finally:
            del self._containers[uid]
            self._progress_ports.pop(uid, None)
        return _ended(code, ready, _said(words) or "\n".join(tail) * (code != 0))

    async def _start(self, pod: Manifest, ready: Command, tail: deque[str]) -> Container:
        def show(written: Sequence[Line]) -> None:
            kept = (one for one in written if one.is_finished and not one.is_overwritten)
            tail.extend(one.text[-TAIL_CHARACTERS:] for one in kept)
            self._show(pod, written)

        return await Container.start(
            ready,
            mark=TERMINATION_LOG,
            grace_seconds=grace_period(pod),
            show=show,
            reads_stdin=self._reads_stdin,
        )

    def _ports_of(self, pod: Manifest) -> Ports:
        env = {entry["name"]: entry.get("value") for entry in trainer(pod)["env"]}
        return self._ports.setdefault(str(env["MASTER_ADDR"]), Ports.free())

    def _report_unscheduled(self, pod: Manifest, message: str) -> None:
        told = {
            "type": "PodScheduled",
            "status": "False",
            "reason": Reason.UNSCHEDULABLE,
            "message": message,
        }
        if told not in pod["status"].get("conditions", ()):
            self._cluster.change(
                Ref.of(pod), lambda stored: stored["status"].update(conditions=[told])
            )

    def _report(self, pod: Manifest, state: Manifest, phase: str) -> None:
        ready = "True" if phase == "Running" else "False"

        def alter(stored: Manifest) -> None:
            stored["spec"]["nodeName"] = NODE
            stored["status"] = {
                "phase": phase,
                "podIP": LOOPBACK,
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
        """Send SIGTERM, and SIGKILL at the deadline; an ended pod is removed immediately."""
        uid = pod["metadata"]["uid"]
        life = self._lives.get(uid)
        if life is None or life.done():
            self._cluster.remove(Ref.of(pod), uid=uid)
            return
        self._stop_by[uid] = deadline
        if uid in self._containers:
            self._containers[uid].stop(_seconds_until(deadline))


def _seconds_until(deadline: datetime) -> float:
    return (deadline - utc_now()).total_seconds()


def replica_index(pod: View) -> int:
    """Return the replica index of a pod."""
    return int(pod["metadata"]["labels"][names.REPLICA_INDEX_LABEL])


def _ended(code: int, ready: Command, message: str) -> Manifest:
    script = missing_script(ready) if code else None
    if script is not None:
        return _cannot_start(
            f"{script} is not a file in {ready.cwd.resolve()}; see `--workdir`", code
        )
    return {
        "exitCode": code if code >= 0 else SIGNAL_BASE - code,
        "reason": "Completed" if code == 0 else "Error",
        "message": message[-TAIL_CHARACTERS:],
    }


def _cannot_start(message: str, code: int = CANNOT_START) -> Manifest:
    return {"exitCode": code, "reason": "StartError", "message": message}


def _said(words: Path) -> str:
    """Return the termination message of a process, up to the kubelet's limit."""
    if not words.exists():
        return ""
    with words.open("rb") as file:
        return file.read(MAX_BYTES).decode(errors="replace")
