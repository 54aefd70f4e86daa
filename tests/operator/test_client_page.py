"""What docs/client.md shows, done as it stands there."""

from pathlib import Path
from typing import Any

import pytest

from acceleratedjob import Client
from acceleratedjob.api import names
from acceleratedjob.cluster import Changed, Ref
from tests.cells import run_cells
from tests.contract.documents import read, snippets
from tests.operator.clientserver import ClientServer

pytestmark = pytest.mark.slow

COMPLETE = {"type": "Complete", "status": "True", "reason": "Succeeded", "message": "All is done"}


async def succeed(server: ClientServer) -> None:
    """Let each job succeed, as an operator whose pods are fast."""
    async for change in server.cluster.watch(names.KIND):
        if isinstance(change, Changed) and "status" not in change.object:
            status = {"phase": "Succeeded", "conditions": [COMPLETE]}
            server.cluster.change(Ref.of(change.object), lambda one: one.update(status=status))  # noqa: B023  # called at once


def test_the_page_of_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "project").mkdir()
    for script in ("train.py", "project/train.py"):
        (tmp_path / script).write_text("print('trained')")
    monkeypatch.chdir(tmp_path)
    server = ClientServer()
    with server.kubeconfig(tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        server.start(succeed(server))
        scope: dict[str, Any] = run_cells(snippets(read("docs/client.md"), "python"))
        client = Client()
        assert [one.phase for one in client.list()] == ["Succeeded"] * 4
        client.close()
    assert scope["state"].name == "digits"
    assert capsys.readouterr().out.splitlines()[0] == "Succeeded"
