import subprocess
import sys

from runtime.env import report


def told(env: dict[str, str]) -> dict[str, str]:
    return dict(report(env, devices=False))


def test_the_world_and_its_variables_are_told_and_no_secret() -> None:
    found = told({"RANK": "0", "WORLD_SIZE": "1", "NCCL_DEBUG": "INFO", "TOKEN": "secret"})
    assert found["world"].startswith("World(rank=0, size=1")
    assert found["NCCL_DEBUG"] == "INFO"
    assert "TOKEN" not in found


def test_a_wrong_world_is_told_as_such() -> None:
    assert told({"RANK": "0"})["world"].startswith("WRONG: RANK is set and WORLD_SIZE is not")


def test_it_runs_without_torch() -> None:
    ask = "import sys, runtime.env as env; list(env.report({}, devices=False))"
    check = f"{ask}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False"]


def test_devices_are_torchs_answer() -> None:
    assert dict(report({}, devices=True))["device"]
