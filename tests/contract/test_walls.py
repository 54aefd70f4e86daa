"""Each half imports only what its images have."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        pytest.param("runtime", "torch", id="the runtime finds its world without torch"),
        pytest.param("runtime.launch", "torch", id="the launcher starts without torch"),
        pytest.param("runtime.accelerator", "kubernetes", id="training needs no Kubernetes"),
        pytest.param("runtime.accelerator", "acceleratedjob", id="nor the operator"),
        pytest.param("acceleratedjob.cli", "kopf", id="only the operator's command pays for kopf"),
        pytest.param("acceleratedjob", "acceleratedjob.client", id="the client is imported late"),
        pytest.param("acceleratedjob.client.client", "aiohttp", id="a local client needs no extra"),
        pytest.param("acceleratedjob.client.start", "acceleratedjob.api", id="a pod has no more"),
        pytest.param("acceleratedjob.manager.manager", "torch", id="the operator needs no torch"),
        pytest.param("acceleratedjob.manager.manager", "runtime", id="nor the runtime"),
    ],
)
def test_importing(module: str, forbidden: str) -> None:
    code = f"import sys, {module}; sys.exit({forbidden!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_our_folder_does_not_hide_the_standard_library() -> None:
    code = "import operator, acceleratedjob; operator.itemgetter"
    subprocess.run([sys.executable, "-c", code], check=True)
