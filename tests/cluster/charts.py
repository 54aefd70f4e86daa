"""The chart as helm renders, lints and installs it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.jobs import CHART
from tests.cluster.testbed import binaries
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import run

Objects = list[dict[str, Any]]
Right = tuple[str, str, str]  # (group, resource or resource/name, verb)
Rights = set[Right]

RELEASE = "aj"
FULL_NAME = "aj-acceleratedjob"
PERMISSIONS = CHART.parents[1] / "docs/permissions.md"
KUBERNETES = ("--kube-version", "1.34.0")
MONITORING = ("--api-versions", "monitoring.coreos.com/v1")


def helm(*arguments: str | Path, values: dict[str, Any] | None = None) -> str:
    """Run helm, with values as a file."""
    flags = ("--values", "-") if values is not None else ()
    return run(binaries.program("helm"), *arguments, *flags, stdin=json.dumps(values or {}))


def render(*flags: str, **values: Any) -> Objects:
    """The chart's objects with some values set."""
    place = ("--namespace", "system")
    text = helm("template", RELEASE, CHART, *place, *KUBERNETES, *flags, values=values)
    return [each for each in yaml.safe_load_all(text) if each is not None]


def is_hook(entry: dict[str, Any]) -> bool:
    """Whether an object is there for `helm test` only."""
    return "helm.sh/hook" in entry["metadata"].get("annotations", {})


def found(objects: Objects, kind: str, name: str = "") -> Objects:
    """The objects of a kind, and of a name if one is given; those of `helm test` are left out."""
    return [
        entry
        for entry in objects
        if entry["kind"] == kind and name in ("", entry["metadata"]["name"]) and not is_hook(entry)
    ]


def only(objects: Objects, kind: str, name: str = "") -> dict[str, Any]:
    """The one object of a kind."""
    (entry,) = found(objects, kind, name)
    return entry


def pod_of(objects: Objects) -> dict[str, Any]:
    """The template of the operator's pods."""
    template: dict[str, Any] = only(objects, "Deployment")["spec"]["template"]
    return template


def rights(role: dict[str, Any]) -> Rights:
    """What a role allows, one verb of one resource each."""
    return {
        (group, "/".join((resource, *rule.get("resourceNames", ()))), verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def documented() -> dict[Right, str]:
    """The rights in the table of docs/permissions.md, and what is broken without each."""
    row = r"^\| `(.*?)` \| `(\S+?)` \| `(\w+)` \| (.*) \|$"
    rows = re.findall(row, PERMISSIONS.read_text(), re.MULTILINE)
    return {(group.replace('""', ""), resource, verb): told for group, resource, verb, told in rows}


@dataclass(frozen=True, slots=True)
class Release:
    """A release of the chart in a namespace of a cluster."""

    cluster: Cluster
    namespace: str

    def helm(self, *arguments: str | Path, values: dict[str, Any] | None = None) -> str:
        """Run helm on the release's cluster and namespace."""
        place = ("--kubeconfig", self.cluster.kubeconfig, "--namespace", self.namespace)
        return helm(*arguments, *place, values=values)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the release's namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def token(self, account: str) -> str:
        """A token of a service account, good for an hour."""
        return self.kubectl("create", "token", account).strip()

    def kubeconfig(self, account: str, path: Path) -> Path:
        """A kubeconfig of a service account."""
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--output=json"))
        config["users"][0]["user"] = {"token": self.token(account)}
        path.touch(mode=0o600)
        path.write_text(json.dumps(config), encoding="utf-8")
        return path
