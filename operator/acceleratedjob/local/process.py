"""Translates the training container of a pod into a process on this machine.

Host names that only a cluster resolves become the loopback address, and ports become free ports.
All other environment variables are the same as in a cluster, except that the ranks share the cores.
Secrets and other containers are ignored, and so are resources, except for the GPUs that
`local.dealing` deals, and volumes, except for those that `local.volumes` makes.
"""

import ctypes
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from acceleratedjob.api.checkpoint import DELETE, MOUNT_PATH
from acceleratedjob.api.names import CONTROLLER, View
from acceleratedjob.api.sections import Scheduling
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.template import reserved_env, trainer, trainer_index
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.local.dealing import ignored_devices
from acceleratedjob.manifests.env import CHECKPOINT_DIR, CHECKPOINT_MEMORY_DIR

LOOPBACK = "127.0.0.1"
_ADDRESSES = ("MASTER_ADDR", "PET_MASTER_ADDR")
_RUNS_SCRIPTS = re.compile(r"python[\d.]*|torchrun|accelerate|(ba|da|z|k)?sh")
_SCRIPT = re.compile(r"[^-\s]\S*\.(py|sh)")
_COMMAND = re.compile(r"-[A-Za-z]*c.*")  # -c, -lc: the next word is the program itself
_MODULE = re.compile(r"-[A-Za-z]*m")
_LAUNCHERS = (  # modules that run a script
    *(["runtime.launch"], ["torch.distributed.run"], ["torch.distributed.launch"]),
    ["accelerate.commands.launch"],
)
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class Command:
    """The command to start for a pod.

    Attributes:
        argv: the program and its arguments.
        env: the environment variables.
        cwd: the working directory.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: Path


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of this machine, the same for all pods of an attempt.

    All pods share the loopback address, and only replica 0 listens at these ports.

    Attributes:
        master: the port of rank 0.
        progress: the port of the control channel.
    """

    master: int
    progress: int

    @classmethod
    def free(cls) -> "Ports":
        """Return free ports, which differ."""
        return cls(free_port(), free_port())

    def env(self) -> dict[str, str]:
        """Return the environment variables whose values the ports replace."""
        master, progress = str(self.master), str(self.progress)
        return {
            "MASTER_PORT": master,
            "PET_MASTER_PORT": master,
            "ACCELERATEDJOB_PROGRESS_PORT": progress,
        }


def check_runnable(spec: JobSpec) -> None:
    """Check that a job can run on this machine.

    Raises:
        InvalidSpec: the training container has no command, the job is suspended, or another
            controller manages it.
    """
    if spec.suspend:
        raise InvalidSpec(
            "spec.suspend", "must be false to run on this machine, where nothing resumes the job"
        )
    if spec.managed_by not in (None, CONTROLLER):
        sentence = f"must be {CONTROLLER} to run on this machine, got {spec.managed_by}"
        raise InvalidSpec("spec.managedBy", sentence)
    template = spec.template
    if not trainer(template).get("command"):
        path = f"spec.template.spec.containers[{trainer_index(template)}].command"
        raise InvalidSpec(path, "is required to run on this machine, where there is no image")


def ignored(spec: JobSpec) -> Iterator[str]:
    """Yield a sentence for each field of a job that has no effect on this machine."""
    if spec.scheduling != Scheduling():
        yield "spec.scheduling is ignored: on this machine all processes start at once"
    given = spec.checkpoint
    if given is not None and given.secret_name is not None:
        yield (
            "spec.checkpoint.secretName is ignored: set the variables of the object store in this "
            "environment"
        )
    if given is not None and given.reclaim_policy == DELETE:
        yield "spec.checkpoint.reclaimPolicy Delete is ignored: nothing is deleted"
    if given is not None and given.in_memory:
        yield "spec.checkpoint.inMemory is ignored: all checkpoints are in a folder of this machine"
    for name in ignored_devices(spec.template):
        yield f"the limit of {name} is ignored: the processes see all such devices of this machine"
    if spec.network.isolate:
        yield "spec.network.isolate is ignored: the processes use the loopback interface"


def command(
    pod: View,
    *,
    ports: Ports,
    workdir: Path,
    checkpoints: Path,
    inherited: Mapping[str, str],
    mounts: Mapping[str, Path] | None = None,
) -> Command:
    """Return the command of the training container of a pod.

    Args:
        pod: the manifest of the pod.
        ports: the ports of the attempt.
        workdir: the working directory; that of the container is a path in its image.
        checkpoints: the folder that takes the place of the volume of the checkpoints.
        inherited: the environment of this program; it may set variables that the container takes
            from a Secret or a ConfigMap.
        mounts: the folders that take the place of other volumes, by their mount path.
    """
    container = trainer(pod)
    given = {entry["name"]: entry.get("value") for entry in container.get("env") or ()}
    contract = {name: value for name, value in given.items() if value is not None}
    contract |= {name: LOOPBACK for name in _ADDRESSES if name in contract}
    contract |= {name: port for name, port in ports.env().items() if name in contract}
    contract.pop(CHECKPOINT_MEMORY_DIR, None)  # nobody would remove what is left there
    if CHECKPOINT_DIR in contract:
        contract[CHECKPOINT_DIR] = on_this_machine(contract[CHECKPOINT_DIR], checkpoints)
    kept = {name: value for name, value in inherited.items() if reserved_env(name) is None}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    ours = {"PATH": path, "PYTHONUNBUFFERED": "1"}
    env = _threads(contract) | kept | ours | expand_all(contract)
    words = [expand(one, env) for one in (*container["command"], *(container.get("args") or ()))]
    return Command([_mounted(word, mounts or {}) for word in words], env, workdir)


def _mounted(word: str, mounts: Mapping[str, Path]) -> str:
    """Return a word of a command with the folder of a volume in place of its mount path."""
    for mount, folder in mounts.items():
        if word == mount or word.startswith(f"{mount}/"):
            return f"{folder}{word.removeprefix(mount)}"
    return word


def _threads(contract: Mapping[str, str]) -> dict[str, str]:
    """Return how many threads a rank has beside the others: with all cores each, they would wait.

    A rank that is alone has those that torch chooses.
    """
    world = int(contract.get("WORLD_SIZE", 1))
    cores = os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // world))} if world > 1 else {}


def on_this_machine(address: str, checkpoints: Path) -> str:
    """Return the place of checkpoints on this machine; an object store is the same everywhere.

    >>> on_this_machine("/checkpoints/digits-1", Path("/home/me/digits-checkpoint"))
    '/home/me/digits-checkpoint/digits-1'
    """
    path = PurePosixPath(address)
    if not path.is_relative_to(MOUNT_PATH):
        return address
    return str(checkpoints.absolute() / path.relative_to(MOUNT_PATH))


def missing_script(command: Command) -> str | None:
    """Return the script that a command runs, if that file does not exist.

    Only commands of Python, torchrun, Accelerate and shells are checked. The script is the first
    argument that looks like a script; an earlier argument that is an existing path, such as the
    folder of a package, is the program. Later arguments belong to the script.
    """
    program, *words = command.argv
    if not _RUNS_SCRIPTS.fullmatch(Path(program).name):
        return None
    for index, word in enumerate(words):
        is_module = _MODULE.fullmatch(word) and words[index + 1 : index + 2] not in _LAUNCHERS
        # Path.exists would raise for a word that is too long.
        is_there = os.access(command.cwd / word, os.F_OK)
        if is_module or is_there or _COMMAND.fullmatch(word):
            return None
        if _SCRIPT.fullmatch(word):
            return word
    return None


def expand_all(values: Mapping[str, str]) -> dict[str, str]:
    """Expand each value by the ones before it, as the kubelet does."""
    done: dict[str, str] = {}
    for name, value in values.items():
        done[name] = expand(value, done)
    return done


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace each $(NAME) by its value; unknown names are kept, and $$ becomes $.

    >>> expand("$(RANK) of $(N), $$(RANK)", {"RANK": "1"})
    '1 of $(N), $(RANK)'
    """

    def one(found: re.Match[str]) -> str:
        name = found["name"]
        return "$" if name is None else values.get(name, found[0])

    return re.sub(r"\$\$|\$\((?P<name>[^)]+)\)", one, text)


def free_port() -> int:
    """Return a TCP port that the kernel gives to nobody else for a minute.

    It has had a connection, whose end waits in TIME_WAIT; a server may listen there nevertheless.
    """
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()  # the end that closes first is the one that waits
    return port


def end_with_parent() -> None:
    """In a child process, request SIGTERM for when this program ends, even if killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
