"""`as_accelerate` and `--as-accelerate`: who imports `accelerate` gets this library."""

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from runtime.alias.packages import accelerate as package
from runtime.alias.path import FOLDER, with_alias
from runtime.config import left_out
from runtime.launch.plan import plan

ROOT = Path(__file__).parents[2]
SITE = Path(sysconfig.get_path("purelib"))
BEGIN = "import runtime; runtime.as_accelerate()\n"


def run(script: str, **variables: str) -> str:
    """What a script writes, which fails with what it has written."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, *(["-S"] if "PYTHONPATH" in variables else []), "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, [FOLDER], id="no path"),
        pytest.param("", [FOLDER], id="an empty path is not the working directory"),
        pytest.param("a:b", [FOLDER, "a", "b"], id="before all others"),
        pytest.param(":a", [FOLDER, "", "a"], id="an empty part is the working directory"),
        pytest.param(f"a:{FOLDER}", [FOLDER, "a"], id="once"),
        pytest.param(FOLDER, [FOLDER], id="it alone"),
    ],
)
def test_the_path_of_new_processes(before: str | None, after: list[str]) -> None:
    assert with_alias(before).split(os.pathsep) == after


@pytest.mark.parametrize("more", [[], ["--max-restarts=1"]], ids=["launcher", "torchrun"])
def test_the_launcher_sets_the_path_of_all_processes(more: list[str]) -> None:
    env = {"PYTHONPATH": "mine"}
    assert plan([*more, "train.py"], env).env == env
    path = with_alias("mine")
    assert plan(["--as-accelerate", *more, "train.py"], env).env == {"PYTHONPATH": path}


def test_its_version_is_that_of_the_accelerate_that_tests_compare_with() -> None:
    (folder,) = Path(FOLDER).glob("*.dist-info")
    assert folder.name == f"accelerate-{package.__version__}.dist-info"
    assert PathDistribution(folder).version == package.__version__
    assert Distribution.from_name("accelerate").version == package.__version__


MODULES = (
    BEGIN
    + """
import importlib, importlib.util, sys
import accelerate, accelerate.utils.operations
from accelerate import Accelerator, data_loader
from accelerate.hooks import ModelHook
import runtime.utils.operations
assert accelerate.utils is runtime.utils and data_loader is runtime.data_loader
assert accelerate.utils.operations is runtime.utils.operations
assert runtime.utils.operations.__spec__.name == "runtime.utils.operations"
assert Accelerator is runtime.Accelerator
assert importlib.util.find_spec("accelerate.utils.xyzzy") is None
try:
    accelerate.Acelerator
except AttributeError as error:
    print(error)
runtime.as_accelerate()
"""
)


def test_modules_and_names_are_the_same_objects() -> None:
    assert run(MODULES) == (
        "module 'accelerate' has no attribute 'Acelerator'; did you mean 'Accelerator'?\n"
    )


def test_a_module_is_no_program() -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", "train.py"]
    env = os.environ | {"PYTHONPATH": with_alias(str(ROOT))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "accelerate.commands.launch is here a module of runtime" in done.stderr
    assert "start a script by `python -m runtime.launch --as-accelerate SCRIPT`" in done.stderr
    assert "Traceback" not in done.stderr


CHILDREN = (
    BEGIN
    + """
import multiprocessing, subprocess, sys

def file(*ignored):
    import accelerate
    return accelerate.__file__

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(pool.apply(file))
    program = "import accelerate; print(accelerate.__file__)"
    subprocess.run([sys.executable, "-c", program], check=True)
"""
)


@pytest.mark.parametrize("said", [BEGIN, ""], ids=["by the script", "by the launcher"])
def test_processes_that_a_script_starts_get_it_too(said: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CHILDREN.replace(BEGIN, said))
    start = [sys.executable, *([] if said else ["-m", "runtime.launch", "--as-accelerate"])]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*start, script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [f"{FOLDER}/accelerate/__init__.py"] * 4


FOUND = """
import importlib.metadata, importlib.util, sys
{begin}
assert (importlib.util.find_spec("accelerate") is not None) == {found}
from transformers.utils import is_accelerate_available
assert is_accelerate_available() == {found}
if {found}:
    import accelerate
    assert importlib.metadata.version("accelerate") == accelerate.__version__
    assert importlib.metadata.packages_distributions()["accelerate"][0] == "accelerate"
    assert not [name for name in sys.modules if name.startswith("torch.")]
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "accelerate"))
"""


@pytest.fixture(scope="module")
def without_accelerate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of an environment like this one in which Accelerate is not installed."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("site")
    for entry in SITE.iterdir():
        if not entry.name.startswith(("accelerate", "_")) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return os.pathsep.join([str(ROOT), str(folder)])


@pytest.mark.parametrize("found", [True, False], ids=["with", "without"])
def test_where_accelerate_is_not_installed_libraries_find_it(
    found: bool, without_accelerate: str
) -> None:
    script = FOUND.format(begin=BEGIN if found else "", found=found)
    loaded = run(script, PYTHONPATH=without_accelerate)
    assert loaded.split() == (["accelerate"] if found else [])


def test_an_installed_accelerate_is_not_loaded() -> None:
    pytest.importorskip("transformers")
    assert run(FOUND.format(begin=BEGIN, found=True)).split() == ["accelerate"]


def test_it_must_come_before_an_import_of_accelerate() -> None:
    script = "import accelerate, runtime\ntry: runtime.as_accelerate()\n"
    said = run(script + "except ImportError as error: print(error)")
    assert f"{SITE}/accelerate/__init__.py is imported already" in said
    assert "call it in the first lines of the script" in said


@pytest.mark.parametrize("name", left_out.NAMES)
def test_what_is_left_out_says_what_to_do_when_it_is_used(name: str) -> None:
    part = left_out.NAMES[name]
    with pytest.raises(NotImplementedError) as error:
        left_out.stand_in(name)(1, of=2)
    assert str(error.value).startswith(f"{name} is not supported by this runtime, which does not ")
    assert part.name in str(error.value)
    assert str(error.value).endswith(part.instead)


def test_each_name_is_left_out_for_one_reason() -> None:
    assert len(left_out.NAMES) == sum(len(part.names) for part in left_out.PARTS)
