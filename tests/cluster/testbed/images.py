"""Images for a node without a registry: a small Debian, packed as `docker save` would."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.cluster.testbed.binaries import made_once
from tests.cluster.testbed.places import cache
from tests.cluster.testbed.processes import run

BASE = "testbed.local/base:1"
_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base() -> Path:
    """The archive of `BASE`, made by debootstrap on first use; takes a minute and the network."""
    recipe = hashlib.sha256(f"{BASE} {_SUITE} {_PACKAGES}".encode()).hexdigest()[:16]
    return made_once(cache() / "images" / recipe / "base.tar", _bootstrap)


def _bootstrap(target: Path) -> None:
    with TemporaryDirectory(dir=target.parent) as scratch:
        root = Path(scratch, "root")
        run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, root)
        layer = Path(scratch, "layer.tar")
        left_out = ("--exclude=./var/cache/apt", "--exclude=./dev/*")
        run("tar", "-C", root, "-cf", layer, *left_out, "--numeric-owner", ".")
        pack(target, BASE, layer)


def pack(target: Path, reference: str, layer: Path) -> None:
    """Write one layer as an archive that `ctr images import` and `buildah pull` take.

    Its command sleeps, so that the image also serves as a pod's sandbox.
    """
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "config": {"Cmd": ["sleep", "infinity"], "Env": [_PATH]},
    }
    body = json.dumps(config).encode()
    name = f"{hashlib.sha256(body).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        _add(archive, name, body)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        archive.add(layer, "layer.tar")


def added(archive: Path) -> dict[str, str]:
    """Path -> SHA-256, of each file that an image has beyond its base, which is one layer.

    A file of the base that is taken away is one named `.wh.` and its name.
    """
    found = {}
    with tarfile.open(archive) as image:
        (manifest,) = json.loads(_content(image, image.getmember("manifest.json")))
        for name in manifest["Layers"][1:]:
            with tarfile.open(fileobj=image.extractfile(name)) as layer:
                for entry in filter(tarfile.TarInfo.isreg, layer):
                    found[entry.name] = hashlib.sha256(_content(layer, entry)).hexdigest()
    return found


def configuration(archive: Path) -> dict[str, Any]:
    """An image's configuration: user, environment, labels."""
    with tarfile.open(archive) as image:
        (manifest,) = json.loads(_content(image, image.getmember("manifest.json")))
        told = json.loads(_content(image, image.getmember(manifest["Config"])))
    run_with: dict[str, Any] = told["config"]
    return run_with


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    if file is None:
        raise ValueError(f"{entry.name} of the archive must be a file")
    return file.read()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
