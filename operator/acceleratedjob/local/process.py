"""Translates the training container of a pod into a process on this machine.

Host names that only a cluster resolves become the loopback address, and ports become free ports.
All other environment variables are the same as in a cluster. Volumes, secrets, resources and other
containers are ignored.
"""

import ctypes
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from acceleratedjob.api.names import CONTROLLER, View
from acceleratedjob.api.sections import Scheduling
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.template import reserved_env, trainer, trainer_index
from acceleratedjob.errors import InvalidSpec

LOOPBACK = "127.0.0.1"
_ADDRESSES = ("MASTER_ADDR", "PET_MASTER_ADDR")
_PORTS = ("MASTER_PORT", "PET_MASTER_PORT")
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
    if spec.network.isolate:
        yield "spec.network.isolate is ignored: the processes use the loopback interface"


def command(pod: View, *, port: int, workdir: Path, inherited: Mapping[str, str]) -> Command:
    """Return the command of the training container of a pod.

    Args:
        pod: the manifest of the pod.
        port: a free port of this machine, the same for all pods of an attempt.
        workdir: the working directory; that of the container is a path in its image.
        inherited: the environment of this program; it may set variables that the container takes
            from a Secret or a ConfigMap.
    """
    container = trainer(pod)
    given = {entry["name"]: entry.get("value") for entry in container.get("env") or ()}
    contract = {name: value for name, value in given.items() if value is not None}
    contract |= {name: LOOPBACK for name in _ADDRESSES if name in contract}
    contract |= {name: str(port) for name in _PORTS if name in contract}
    kept = {name: value for name, value in inherited.items() if reserved_env(name) is None}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    env = kept | {"PATH": path, "PYTHONUNBUFFERED": "1"} | expand_all(contract)
    words = [*container["command"], *(container.get("args") or ())]
    return Command([expand(word, env) for word in words], env, workdir)


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
    """Return a free TCP port."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        port: int = sock.getsockname()[1]
        return port


def end_with_parent() -> None:
    """In a child process, request SIGTERM for when this program ends, even if killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
