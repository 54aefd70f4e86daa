import subprocess
import sys
from pathlib import Path

import pytest

from runtime.launch import plan
from runtime.settings import Settings

RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")


@pytest.mark.parametrize(
    ("arguments", "script"),
    [
        pytest.param(["train.py", "--lr", "1"], ["train.py", "--lr", "1"], id="a script"),
        pytest.param(["-m", "my.train", "-x"], ["-m", "my.train", "-x"], id="a module"),
    ],
)
def test_one_process_is_the_script_itself(arguments: list[str], script: list[str]) -> None:
    start = plan(arguments, {"PET_NNODES": "3", "PET_NODE_RANK": "2", "PET_MASTER_ADDR": "a"})
    assert start.argv == [sys.executable, *script]
    assert [start.env[name] for name in RANKS] == ["2", "3", "0", "1", "2", "3"]
    assert start.env["MASTER_ADDR"] == "a"


def test_what_is_set_already_stays() -> None:
    assert plan(["t.py"], {"RANK": "1", "WORLD_SIZE": "4"}).env["WORLD_SIZE"] == "4"


def test_several_processes_are_torchruns_business() -> None:
    start = plan(["--nproc-per-node", "4", "t.py", "-v"], {"PET_NNODES": "2"})
    assert start.argv[1:3] == ["-m", "torch.distributed.run"]
    assert {"--nproc-per-node=4", "--nnodes=2", "--max-restarts=0"} <= set(start.argv)
    assert start.argv[-2:] == ["t.py", "-v"]


def test_the_launcher_and_its_script_start_without_torch(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os, sys; print(os.environ['RANK'], 'torch' in sys.modules)")
    command = [sys.executable, "-m", "runtime.launch", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "False"]


def test_settings_are_read() -> None:
    env = {"ACCELERATE_USE_CPU": "yes", "ACCELERATE_RNG_TYPES": "torch, cuda"}
    found = Settings.from_env(env | {"ACCELERATE_SEED": ""})
    assert found == Settings(use_cpu=True, rng_types=("torch", "cuda"))


@pytest.mark.parametrize("name", ["ACCELERATE_USE_CPU", "ACCELERATE_SEED"])
def test_a_setting_of_the_wrong_kind_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        Settings.from_env({name: "perhaps"})
