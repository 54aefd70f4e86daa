"""Finds and validates the kubeconfig and its context.

The client library also reads the kubeconfig. It is validated here first, so that errors say what
must hold, what was found, and in which file: the library raises a TypeError for most mistakes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from acceleratedjob.api.names import View
from acceleratedjob.errors import Unreachable
from acceleratedjob.kube.in_cluster import OWN_NAMESPACE, own_namespace

USUAL = "~/.kube/config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """A valid context of a kubeconfig.

    Attributes:
        files: the path of the kubeconfig; several paths are separated as in $PATH.
        context: the name of the context.
        namespace: the default namespace of the context.
        command: the command that prints the credentials; empty if there is none.
    """

    files: str
    context: str
    namespace: str
    command: str


def find(files: str | None, context: str | None) -> Kubeconfig:
    """Find a context in the given files, or else in the files that kubectl would use.

    Raises:
        Unreachable: the context cannot be used.
    """
    where = files or os.environ.get("KUBECONFIG") or USUAL
    told = [_read(each) for each in _present(where)]
    currents = (each.get("current-context") for each in told)
    name = context or next(filter(None, currents), None)
    if not name:
        raise Unreachable(f"{where} must have a current-context, and has none: set --context")
    chosen = _named(told, "contexts", str(name), where)
    cluster = _named(told, "clusters", str(chosen.get("cluster") or ""), where)
    address = urlsplit(str(cluster.get("server") or ""))
    if address.scheme not in ("http", "https") or not address.hostname:
        found = cluster.get("server")
        raise Unreachable(f"{where}: a cluster's server must be a URL, got {found!r}")
    user: View = {}
    if chosen.get("user") or address.scheme == "https":
        user = _named(told, "users", str(chosen.get("user") or ""), where)
    return Kubeconfig(
        files=where,
        context=str(name),
        namespace=str(chosen.get("namespace") or "default"),
        command=str(_mapping(user.get("exec")).get("command") or ""),
    )


def contexts(files: str | None = None) -> dict[str, str]:
    """Return the default namespace of each context, by its name; empty if it has none.

    Raises:
        Unreachable: a kubeconfig cannot be read.
    """
    told = map(_read, _present(files or os.environ.get("KUBECONFIG") or USUAL))
    entries = (one for each in told for one in _entries(each.get("contexts")))
    return {
        str(one["name"]): str(_mapping(one.get("context")).get("namespace") or "")
        for one in entries
    }


def _present(where: str) -> list[Path]:
    """Return the files that exist; as for kubectl, not all of several need to exist."""
    files = [Path(each).expanduser() for each in where.split(os.pathsep) if each]
    present = [each for each in files if os.path.exists(each)]  # noqa: PTH110  # never raises
    if not present:
        raise Unreachable(
            f"a kubeconfig must exist, and {where} does not: set --kubeconfig or $KUBECONFIG"
        )
    return present


def _read(file: Path) -> View:
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreachable(f"kubeconfig {file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Unreachable(f"kubeconfig {file} must be YAML, and is not: {reason}") from error
    if not isinstance(told, dict):
        raise Unreachable(
            f"kubeconfig {file} must have clusters, contexts and users, and has none of them"
        )
    return told


def _named(told: Iterable[View], section: str, name: str, where: str) -> View:
    """Return the first entry with a name in a section, in any of the files."""
    entries = [one for each in told for one in _entries(each.get(section))]
    for one in entries:
        if one["name"] == name:
            return _mapping(one.get(section.removesuffix("s")))
    names = ", ".join(sorted({str(one["name"]) for one in entries})) or "none"
    kind = section.removesuffix("s")
    raise Unreachable(f"{where} must have the {kind} {name!r}; its {section} are: {names}")


def _entries(section: Any) -> list[View]:
    entries = section if isinstance(section, list) else []
    return [one for one in entries if isinstance(one, dict) and "name" in one]


def _mapping(found: Any) -> View:
    return found if isinstance(found, dict) else {}


def usual_namespace(kubeconfig: str | None, context: str | None) -> str:
    """Return the namespace that kubectl would use: that of the context, or that of the pod.

    Raises:
        Unreachable: the context cannot be used.
    """
    if kubeconfig is None and context is None and OWN_NAMESPACE.exists():
        return own_namespace()
    return find(kubeconfig, context).namespace
