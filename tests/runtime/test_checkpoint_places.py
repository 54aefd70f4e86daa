"""Where a checkpoint may be written to, and what whoever can write there cannot make of it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.errors import CheckpointError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def accelerator() -> Accelerator:
    made = Accelerator(cpu=True)
    made.prepare(nn.Linear(1, 1, bias=False))
    return made


def fill(accelerator: Accelerator, value: float) -> None:
    with torch.no_grad():
        accelerator._models[0].weight.fill_(value)  # type: ignore[operator]


def weight(accelerator: Accelerator) -> float:
    return float(next(accelerator._models[0].parameters()).detach())


FILES = {"manifest.json", "model.safetensors", "random_states_0.pkl"}

PROGRAM = """
import os, sys, torch
from pathlib import Path
from runtime import Accelerator
accelerator = Accelerator(cpu=True)
model = accelerator.prepare(torch.nn.Linear(1, 1, bias=False))
for value in (1.0, 2.0):
    model.weight.data.fill_(value)
    accelerator.save_state(sys.argv[1])
model.weight.data.fill_(9.0)
accelerator.load_state(sys.argv[1])
print(float(model.weight), sorted(os.listdir(sys.argv[1])), os.listdir(Path(sys.argv[1]).parent))
"""


def can_mount(tmp_path: Path) -> bool:
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "x", str(tmp_path)]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def test_a_volumes_root_is_saved_to_again_and_again(tmp_path: Path) -> None:
    """As a PersistentVolumeClaim is mounted: no file can be renamed into it from beside it."""
    if not can_mount(tmp_path):
        pytest.skip("nothing can be mounted here; the next test holds the same where nothing can")
    volume = tmp_path / "volume"
    volume.mkdir()
    script = f'mount -t tmpfs x {volume} && exec {sys.executable} -c "$0" {volume}'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, PROGRAM],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert done.stdout.strip() == f"2.0 {sorted(FILES)} ['volume']", done.stderr


def test_nothing_is_made_beside_a_directory_that_is_there(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    """Beside a volume's root is another file system, which may be read-only."""
    (tmp_path / "it").mkdir()
    os.utime(tmp_path, (0, 0))
    for value in (1.0, 2.0):
        fill(accelerator, value)
        accelerator.save_state(tmp_path / "it")
    assert tmp_path.stat().st_mtime == 0
    accelerator.load_state(tmp_path / "it")
    assert {one.name for one in (tmp_path / "it").iterdir()} == FILES


@pytest.mark.parametrize("name", [".", "..", "new", "new/", "./new", "sub/../new", "~/new"])
def test_a_directory_may_be_named_in_any_way(
    tmp_path: Path, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    for value in (1.0, 2.0):
        fill(accelerator, value)
        accelerator.save_state(name)
    fill(accelerator, 9.0)
    accelerator.load_state(name)
    assert weight(accelerator) == 2.0
    place = Path(name).expanduser()
    others = {".": {"sub"}, "..": {"here"}}.get(name, set())
    assert {one.name for one in place.iterdir()} == FILES | others


@pytest.mark.parametrize("is_there", [False, True])
def test_hooks_see_the_checkpoints_own_name(
    tmp_path: Path, accelerator: Accelerator, *, is_there: bool
) -> None:
    """Scripts read the step out of it."""
    seen = []

    def hook(_models: Any, _weights: Any, output_dir: str) -> None:
        seen.append(Path(output_dir).name)
        Path(output_dir, "of hook").mkdir()
        Path(output_dir, "of hook", "file").write_text("x")

    accelerator.register_save_state_pre_hook(hook)
    if is_there:
        (tmp_path / "checkpoint-500").mkdir()
    saved = accelerator.save_state(tmp_path / "checkpoint-500")
    assert seen == ["checkpoint-500"]
    assert (saved / "of hook" / "file").read_text() == "x"
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint-500"]


def test_a_save_that_fails_leaves_an_older_one_and_nothing_else(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    saved = accelerator.save_state(tmp_path / "it")
    accelerator.register_for_checkpointing(Unsaveable())
    with pytest.raises(CheckpointError):
        accelerator.save_state(saved)
    assert {one.name for one in saved.iterdir()} == FILES
    assert manifest.damage(saved) is None


class Unsaveable:
    """A registered object that cannot be pickled."""

    def state_dict(self) -> Any:
        return lambda: None

    def load_state_dict(self, state: Any) -> None:
        """Nothing is kept."""


class Attack:
    """A directory that somebody else has prepared, and a file outside that is to stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.home, self.folder = folder / "home", folder / "shared"
        self.home.mkdir()
        self.folder.mkdir()
        (self.home / ".bashrc").write_text("mine")
        self.it = self.folder / "it"

    def whole(self, folder: Path, *names: str, is_listed: bool = True) -> None:
        """A checkpoint that looks as if its save had been cut short."""
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("evil")
        entries = {name: manifest.checked(folder / name) for name in names if is_listed}
        (folder / "manifest.json").write_text(json.dumps({"files": entries}))

    def assert_failed(self) -> None:
        assert {one.name: one.read_text() for one in self.home.iterdir()} == {".bashrc": "mine"}


def through_its_target(attack: Attack) -> None:
    """The checkpoint is a link to the home, with files to be moved there beside it."""
    attack.whole(attack.folder / "it.whole", ".bashrc")
    attack.it.symlink_to(attack.home)


def through_a_part(attack: Attack) -> None:
    """A directory of the checkpoint is a link to the home."""
    attack.whole(attack.it / ".whole", "sub/.bashrc")
    (attack.it / "sub").symlink_to(attack.home)


def through_what_is_moved(attack: Attack) -> None:
    """What is to be moved is a link to a directory with a file for the home."""
    attack.whole(attack.folder / "elsewhere", ".bashrc")
    attack.it.mkdir()
    (attack.it / ".whole").symlink_to(attack.folder / "elsewhere")


def through_the_old_manifest(attack: Attack) -> None:
    """The manifest of what is replaced lists a file of the home, by a link, to be removed."""
    attack.whole(attack.it, "sub/.bashrc")
    shutil.rmtree(attack.it / "sub")
    (attack.it / "sub").symlink_to(attack.home)


def through_where_it_is_written(attack: Attack) -> None:
    """What is written goes into the home."""
    attack.it.mkdir()
    (attack.it / ".unfinished").symlink_to(attack.home)


def without_a_manifest(attack: Attack) -> None:
    """Files to be moved that no manifest lists; they are of nobody's save."""
    attack.whole(attack.it / ".whole", "notes.txt", is_listed=False)
    (attack.it / "notes.txt").write_text("mine")


ATTACKS = [
    through_its_target,
    through_a_part,
    through_what_is_moved,
    through_the_old_manifest,
    through_where_it_is_written,
    without_a_manifest,
]


@pytest.mark.parametrize("by", ["save_state", "load_state"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_prepared_directory_changes_nothing_outside(
    tmp_path: Path, accelerator: Accelerator, attack: Any, by: str
) -> None:
    """Whether it is refused or done, no file elsewhere is written, moved or removed."""
    made = Attack(tmp_path)
    attack(made)
    with contextlib.suppress(ValueError, OSError, CheckpointError):
        getattr(accelerator, by)(made.it)
    made.assert_failed()
    if (made.it / "notes.txt").exists():
        assert (made.it / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one is not without_a_manifest])
def test_a_link_at_or_below_a_checkpoint_is_refused_by_name(
    tmp_path: Path, accelerator: Accelerator, attack: Any
) -> None:
    made = Attack(tmp_path)
    attack(made)
    with pytest.raises((ValueError, CheckpointError), match=r"must be a directory, but is a link"):
        accelerator.save_state(made.it)
    made.assert_failed()


def test_a_file_that_is_a_link_is_refused(tmp_path: Path, accelerator: Accelerator) -> None:
    made = Attack(tmp_path)
    made.it.mkdir()
    (made.it / "model.safetensors").symlink_to(made.home / ".bashrc")
    with pytest.raises(CheckpointError, match=r"model\.safetensors must be a file .* is a link to"):
        accelerator.save_state(made.it)
    made.assert_failed()
    assert [one.name for one in made.it.iterdir()] == ["model.safetensors"]


def test_what_is_to_be_moved_must_be_as_its_manifest_says(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    saved = accelerator.save_state(tmp_path / "it")
    made = Attack(tmp_path)
    made.whole(saved / ".whole", "model.safetensors")
    (saved / ".whole" / "model.safetensors").write_text("evil and more")
    with pytest.raises(ValueError, match=r"must be left by an interrupted save, but its"):
        accelerator.load_state(saved)
    shutil.rmtree(saved / ".whole")
    accelerator.load_state(saved)


def test_directories_above_a_checkpoint_may_be_links(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "mnt")
    for value in (1.0, 2.0):
        fill(accelerator, value)
        accelerator.save_state(tmp_path / "data" / "it")
    fill(accelerator, 9.0)
    accelerator.load_state(tmp_path / "data" / "it")
    assert weight(accelerator) == 2.0
    assert {one.name for one in (tmp_path / "mnt" / "it").iterdir()} == FILES


def test_a_checkpoint_is_loaded_through_a_link(tmp_path: Path, accelerator: Accelerator) -> None:
    """As `latest` is one to the newest; reading writes nothing."""
    fill(accelerator, 1.0)
    accelerator.save_state(tmp_path / "it")
    (tmp_path / "latest").symlink_to("it")
    fill(accelerator, 9.0)
    accelerator.load_state(tmp_path / "latest")
    assert weight(accelerator) == 1.0


def test_a_model_is_not_written_through_a_link(tmp_path: Path, accelerator: Accelerator) -> None:
    """Files of a cache of models are links to what other models share."""
    made = Attack(tmp_path)
    (made.folder / "model.safetensors").symlink_to(made.home / ".bashrc")
    accelerator.save_model(accelerator._models[0], made.folder)
    made.assert_failed()
    assert not (made.folder / "model.safetensors").is_symlink()
