"""Runs modules of the runtime in the pods of a job, with the rights of the user."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.api.status import Status
from acceleratedjob.api.template import trainer
from acceleratedjob.commands.session import Session
from acceleratedjob.errors import ClusterError
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.exec import Output, run_in_pod
from acceleratedjob.observe.containers import trainer_name

_PYTHON = re.compile(r"(.*/)?python[\d.]*")
_NO_MODULE = re.compile(r"No module named '?runtime")
_CANNOT_BE_FOUND = (126, 127)  # exit codes of a shell


@dataclass(frozen=True, slots=True, order=True)
class RunningPod:
    """A pod whose training container runs.

    Attributes:
        index: the index of its replica.
        name: its name.
        container: the name of the training container.
        pythons: the interpreters to try, the most likely one first.
        is_shared: whether its containers see the processes of each other.
    """

    index: int
    name: str
    container: str
    pythons: tuple[str, ...]
    is_shared: bool = False


def running(pods: Iterable[View], *, uid: str, attempt: int) -> list[RunningPod]:
    """Return the pods of an attempt of a job whose training container runs, by their index.

    Args:
        pods: pods of the namespace.
        uid: the uid of the job.
        attempt: the number of the attempt.
    """
    found = []
    for pod in pods:
        place = names.parse_pod_name(pod["metadata"]["name"])
        is_ours = names.owner_uid(pod) == uid and place is not None and place[0] == attempt
        if place is not None and is_ours and _runs(pod):
            found.append(
                RunningPod(
                    index=place[1],
                    name=pod["metadata"]["name"],
                    container=trainer_name(pod),
                    pythons=_pythons(pod),
                    is_shared=bool(pod["spec"].get("shareProcessNamespace")),
                )
            )
    return sorted(found)


def _runs(pod: View) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    named = (one for one in statuses if one["name"] == trainer_name(pod))
    return any("running" in (one.get("state") or {}) for one in named)


def _pythons(pod: View) -> tuple[str, ...]:
    """Return the interpreters of a container: the one that it was started with comes first."""
    words: Sequence[str] = trainer(pod).get("command") or ()
    own = [word for word in words[:1] if _PYTHON.fullmatch(word)]
    return tuple(dict.fromkeys([*own, "python", "python3"]))


async def running_pods(session: Session, job: View) -> list[RunningPod]:
    """Return the running pods of the current attempt of a job."""
    status, connection = Status.from_manifest(job), session.cluster.connection
    params = {"labelSelector": f"{names.JOB_NAME_LABEL}={session.name}"}
    path = collection("Pod", session.namespace)
    answer = await connection.request("GET", path, params=params)
    uid = job["metadata"]["uid"]
    return running(answer["items"], uid=uid, attempt=status.attempt)


async def run_module(session: Session, pod: RunningPod, *arguments: str) -> str:
    """Run a module of the runtime in a pod, and return its output.

    Args:
        session: the job.
        pod: the pod.
        *arguments: the name of the module, and its arguments.

    Raises:
        ClusterError: the user may not do so, or the module does not run there.
    """
    output = Output(None, "", "")
    for python in pod.pythons:
        command = (python, "-m", *arguments)
        connection = session.cluster.connection
        output = await run_in_pod(connection, session.namespace, pod.name, pod.container, command)
        if output.code is not None and output.code not in _CANNOT_BE_FOUND:
            break
    if output.code == 0:
        return output.out
    raise ClusterError(f"pod {pod.name}: {_problem(output, pod, arguments[0])}")


def _problem(output: Output, pod: RunningPod, module: str) -> str:
    said = (output.err or output.out).strip()
    if output.code is None or output.code in _CANNOT_BE_FOUND:
        return f"container {pod.container} has no {' or '.join(pod.pythons)}: {said}"
    if _NO_MODULE.search(said):
        return f"its image has no {module}: install acceleratedjob, or a newer version of it"
    return said.rpartition("\n")[2] or f"python -m {module} has exited with {output.code}"
