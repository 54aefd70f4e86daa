"""The product as it is shipped: images by `make image`, an operator by helm."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.charts import Release
from tests.cluster.jobs import CHART
from tests.cluster.testbed import images
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.places import PROJECT
from tests.cluster.testbed.processes import run

REGISTRY = "testbed.local/"
OPERATOR = f"{REGISTRY}acceleratedjob-operator"
RUNTIME = f"{REGISTRY}acceleratedjob-runtime"
CERTIFICATES = Path("/etc/ssl/certs")
OWNED = "deployments,pods,serviceaccounts,clusterroles,clusterrolebindings,roles,rolebindings"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds images by `make image` and buildah, without a daemon, on a small Debian."""

    folder: Path

    @property
    def engine(self) -> str:
        """Buildah, with a store of its own."""
        return f"buildah --root {self.folder}/storage --runroot {self.folder}/run"

    def prepare(self) -> None:
        """Have the base at hand, and a file for pip: an index may be behind an authority."""
        run(*self.engine.split(), "pull", "--quiet", f"docker-archive:{images.base()}")
        said = pip_settings(os.environ)
        (self.folder / "pip.conf").write_text("\n".join(("[global]", *said)), encoding="utf-8")

    def build(self, *names: str, version: str, flags: str = "") -> dict[str, Path]:
        """Build images; their archives, by name."""
        trust = (
            f"--volume {CERTIFICATES}:{CERTIFICATES}:ro --secret id=pip,src={self.folder}/pip.conf"
        )
        how = f"--isolation chroot --network host --pull=never {trust} {flags}"
        settings = {
            "ENGINE": self.engine,
            "BASE": images.BASE,
            "TORCH": images.BASE,
            "REGISTRY": REGISTRY,
            "IMAGES": " ".join(names),
            "VERSION": version,
            "IMAGE_FLAGS": how,
        }
        run(
            "make", "-C", PROJECT, "image", *(f"{name}={value}" for name, value in settings.items())
        )
        return {name: self._packed(name, version) for name in names}

    def _packed(self, name: str, version: str) -> Path:
        archive = self.folder / f"{name}-{version}.tar"
        reference = f"{REGISTRY}acceleratedjob-{name}:{version}"
        target = f"docker-archive:{archive}:{reference}"
        run(*self.engine.split(), "push", "--quiet", reference, target)
        return archive


def pip_settings(environment: Mapping[str, str]) -> Iterator[str]:
    """The lines of a pip.conf that say what this machine's variables do of indexes."""
    for name in ("cert", "index-url", "extra-index-url"):
        variable = "PIP_" + name.upper().replace("-", "_")
        if variable in environment:
            yield f"{name} = {shlex.split(environment[variable])[0]}"


@dataclass(frozen=True, slots=True)
class Shipped(Release):
    """A release that runs from images, in a namespace of its own, by whose name it goes."""

    served: str  # the namespace whose jobs it serves

    def put(self, action: str, version: str, *flags: str) -> None:
        """Install the release, or upgrade it, and wait until it is ready."""
        image = {"repository": OPERATOR, "tag": version, "pullPolicy": "Never"}
        values = {"image": image, "namespaces": [self.served]}
        place = (self.namespace, CHART, "--wait", "--timeout=240s")
        self.helm(action, *place, *flags, values=values)

    def pods(self) -> list[str]:
        """The operators' pods."""
        names = "--output=jsonpath={.items[*].metadata.name}"
        return self.kubectl("get", "pods", names).split()

    def owned(self) -> list[str]:
        """What there is of the release, in every namespace."""
        mine = f"app.kubernetes.io/instance={self.namespace}"
        flags = ("--all-namespaces", "--selector", mine, "--output=name")
        return self.cluster.kubectl("get", OWNED, *flags).split()

    def uninstall(self) -> None:
        """Uninstall the release; helm does not wait for the pods of what it deletes."""
        self.helm("uninstall", self.namespace, "--wait", "--ignore-not-found")
        self.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=240s")


@contextmanager
def installed(node: Node, name: str, version: str) -> Iterator[Shipped]:
    """A release inside the block, where none but restricted pods are let in.

    The definition of jobs is there already, for all tests; the release takes it over.
    """
    release = Shipped(node.plane.cluster, f"{name}-operator", served=name)
    for namespace in (release.namespace, name):
        release.kubectl("create", "namespace", namespace)
    release.kubectl("label", "namespace", release.namespace, RESTRICTED)
    try:
        release.put("install", version, "--take-ownership")
        yield release
    finally:
        release.uninstall()
        release.kubectl("delete", "namespace", release.namespace, name, "--wait=false")
