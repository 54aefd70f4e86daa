"""What the pods of a client see on this machine, and what they make of pip's report."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.client.start import requirement
from acceleratedjob.local.volumes import make_volumes

SHIPPED: Manifest = {
    "metadata": {"namespace": "research", "name": "code"},
    "data": {"a.py": "é"},
    "binaryData": {"b": b64encode(b"\xff").decode()},
}
CODE = {"name": "code", "configMap": {"name": "code"}}
WORK: Manifest = {"name": "work", "emptyDir": {}}


def pod(*volumes: Manifest, namespace: str = "research") -> Manifest:
    """A pod that mounts its volumes."""
    mounts = [{"name": one["name"], "mountPath": f"/{one['name']}"} for one in volumes]
    container = {"name": "trainer", "volumeMounts": mounts}
    spec = {"containers": [container], "volumes": list(volumes)}
    return {"metadata": {"namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    ("found", "mounted"),
    [
        pytest.param(pod(CODE, WORK), ["/code", "/work"], id="code, and an empty folder"),
        pytest.param(pod(WORK), [], id="a pod without code has no volumes here"),
        pytest.param(pod(CODE, namespace="other"), [], id="a ConfigMap of another namespace"),
        pytest.param(
            pod({"name": "code", "configMap": {"name": "x"}}, WORK), [], id="one that is not there"
        ),
        pytest.param(
            pod(CODE, {"name": "shm", "emptyDir": {"medium": "Memory"}}), ["/code"], id="memory"
        ),
        pytest.param(
            pod(CODE, {"name": "data", "hostPath": {"path": "/data"}}), ["/code"], id="another kind"
        ),
        pytest.param(pod(CODE, {"name": "e", "emptyDir": None}), ["/code", "/e"], id="no fields"),
    ],
)
def test_which_volumes_there_are(tmp_path: Path, found: Manifest, mounted: list[str]) -> None:
    folders = make_volumes(found, [SHIPPED], tmp_path)
    assert list(folders) == mounted
    assert all(folder.is_dir() for folder in folders.values())
    if "/code" in folders:
        assert (folders["/code"] / "a.py").read_text(encoding="utf-8") == "é"
        assert (folders["/code"] / "b").read_bytes() == b"\xff"


def entry(*, is_direct: bool, **info: Any) -> Manifest:
    """An entry of the report of `pip install --report`."""
    metadata = {"name": "einops", "version": "0.8.1"}
    return {"metadata": metadata, "is_direct": is_direct, "download_info": info}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        pytest.param(
            entry(is_direct=False, url="https://x/e.whl"), "einops==0.8.1", id="from an index"
        ),
        pytest.param(
            entry(is_direct=True, url="https://x/e.whl"), "einops @ https://x/e.whl", id="a URL"
        ),
        pytest.param(
            entry(
                is_direct=True,
                url="https://x/e.git",
                vcs_info={"vcs": "git", "commit_id": "abc", "requested_revision": "main"},
            ),
            "einops @ git+https://x/e.git@abc",
            id="the commit of a repository",
        ),
    ],
)
def test_what_pip_found_is_what_is_installed(found: Manifest, wanted: str) -> None:
    assert requirement(found) == wanted
