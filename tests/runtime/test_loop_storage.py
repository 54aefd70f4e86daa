"""What the directory of automatic checkpoints may be, and what is said about it."""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from obstore.fsspec import register
from torch import nn

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.config.plugins import ProjectConfiguration
from runtime.errors import CheckpointError
from tests.runtime.loops import Life, Rows, lived, one_pass, plain, shuffled, steps
from tests.runtime.places import InBucket, InVolume, Place, checkpoint

DIRECTORY = "ACCELERATEDJOB_CHECKPOINT_DIR"
IS_ROOT = os.geteuid() == 0
KINDS = ["directory", "memory", "s3"]


@pytest.fixture(autouse=True)
def each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DIRECTORY, str(tmp_path / "a" / "b"))
    return tmp_path / "a" / "b"


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """The place that the environment names."""
    if request.param == "directory":
        found: Place = InVolume(tmp_path)
        monkeypatch.setenv(DIRECTORY, str(found.root))
        yield found
        return
    if request.param == "s3":
        use_s3(request.getfixturevalue("s3"), monkeypatch)
    fs = fsspec.filesystem(request.param)
    fs.pipe_file("bucket/exists", b"")
    monkeypatch.setenv(DIRECTORY, f"{request.param}://bucket{tmp_path}")
    yield InBucket(tmp_path, fs, f"{'/' * (request.param == 'memory')}bucket{tmp_path}")
    fsspec.filesystem("memory").store.clear()
    monkeypatch.undo()
    fsspec.filesystem(request.param).clear_instance_cache()


def use_s3(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `s3://` be the server."""
    register("s3")
    for name, value in {**options["config"], "allow_http": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}".upper(), value)


def script(life: Life, own: Path | None = None) -> None:
    accelerator = life.accelerator()
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, loader = accelerator.prepare(model, optimizer, shuffled(Rows(24)))
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, loader)
        if own is not None:
            accelerator.save_state(own)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_training_goes_on_with_the_same_bits_wherever_its_checkpoints_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.delenv(DIRECTORY)
        whole = lived(plain_epochs)
    assert lived(plain_epochs, 4) == whole[:4]
    assert lived(plain_epochs, 5) == whole[3:8]
    assert lived(plain_epochs) == whole[7:]
    assert place.store().newest().number == 18


def plain_epochs(life: Life) -> None:
    plain(life, shuffled())


def test_the_place_is_made_when_the_first_checkpoint_is_written(place: Place) -> None:
    lived(script, 1)
    assert place.names() == set()
    lived(script)
    assert place.store().numbers() == [11, 12]


def test_one_checkpoint_is_kept_if_that_is_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_KEEP", "1")
    lived(script)
    assert place.store().numbers() == [12]


def damaged(place: Place, number: int) -> None:
    name = f"checkpoint_{number}/model.safetensors"
    place.put(name, place.get(name)[:-2] + b"??")


def test_a_damaged_checkpoint_is_skipped_and_said_in_the_same_line(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lived(script, 8)
    damaged(place, 7)
    assert steps(lived(script))[0] == 7
    begun, line = capsys.readouterr().err.splitlines()
    assert f"no checkpoint in {os.environ[DIRECTORY]}: beginning at step 0" in begun
    assert "resumed from" in line
    assert "checkpoint_6: step 6, epoch 1; skipped" in line
    assert "checkpoint_7" in line.split("skipped")[1]


def test_if_all_are_damaged_the_training_begins_and_says_so(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lived(script, 4)
    for number in place.store().numbers():
        damaged(place, number)
    assert steps(lived(script, 2)) == [1, 2]
    assert "beginning at step 0; skipped " in capsys.readouterr().err


def test_what_is_written_after_a_damaged_checkpoint_counts_more_than_that(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_KEEP", "1")
    lived(script, 8)
    damaged(place, 7)
    assert steps(lived(script, 3)) == [1, 2, 3]
    assert steps(lived(script, 1)) == [3]
    assert place.store().numbers() == [9]


def test_a_checkpoint_whose_manifest_is_damaged_is_skipped(place: Place) -> None:
    lived(script, 8)
    place.put("checkpoint_7/manifest.json", b"{")
    assert steps(lived(script, 1)) == [7]


def test_a_manifest_that_no_loop_has_written_is_an_error(place: Place) -> None:
    lived(script, 4)
    for number in place.store().numbers():
        name = f"checkpoint_{number}/{manifest.MANIFEST}"
        facts = json.loads(place.get(name).replace(b'"epoch"', b'"epok"'))
        del facts["crc32"]  # what has another one is damaged, and is skipped
        place.put(name, manifest.text(facts))
    with pytest.raises(ValueError, match="epoch must be a whole number"):
        lived(script)


def test_checkpoints_that_are_not_automatic_are_neither_loaded_nor_replaced_nor_removed(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.store().publish(checkpoint(tmp_path, 8), 8)
    lived(script, 9)
    capsys.readouterr()
    assert steps(lived(script))[0] == 9
    assert "step 8, epoch 1" in capsys.readouterr().err
    numbers = place.store().numbers()
    assert numbers[0] == 8
    assert len(numbers) == 3
    assert place.get("checkpoint_8/model.safetensors") == b"weights8"


def test_save_state_may_use_the_same_directory(folder: Path) -> None:
    own = folder / "checkpoint_8"
    lived(lambda life: script(life, own), 9)
    assert steps(lived(script))[0] == 9
    assert "loop" not in (manifest.read(own) or {})


def test_foreign_files_and_links_stay_and_are_not_followed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint_x").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "checkpoint_99").symlink_to(tmp_path / "elsewhere")
    (folder / "checkpoint_12").symlink_to(tmp_path / "elsewhere")
    lived(script)
    assert names(folder) == [
        *("checkpoint_11", "checkpoint_12", "checkpoint_13", "checkpoint_99", "checkpoint_x"),
        "notes.txt",
    ]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def failing(place: Place) -> Callable[[], None]:
    """Make the place one that cannot be written to; how to undo it."""
    if isinstance(place, InVolume):
        place.root.write_text("a file")
        return place.root.unlink
    undo = pytest.MonkeyPatch()

    def fails(*_: Any, **__: Any) -> None:
        raise PermissionError("no")

    undo.setattr(place.fs, "put_file", fails)
    return undo.undo


def test_errors_of_writing_are_said_and_the_next_checkpoint_is_tried(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    undo = failing(place)

    def mended(life: Life) -> None:
        note = life.note

        def noted(kind: str, *values: Any) -> None:
            if values[0] == 4:
                life.end_of_write()
                undo()
            note(kind, *values)

        life.note = noted  # type: ignore[method-assign]
        script(life)

    assert steps(lived(mended)) == [*range(1, 13)]
    _, *lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("the training goes on, although" in line for line in lines)
    assert all(os.environ[DIRECTORY] in line for line in lines)
    assert place.store().numbers() == [11, 12]


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_directory_that_is_read_only_does_not_end_the_training(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    assert steps(lived(script)) == [*range(1, 13)]


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount")
def test_a_full_disk_does_not_end_the_training_and_keeps_the_last_checkpoint(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a container without the right to mount")
    try:
        assert steps(lived(script)) == [*range(1, 13)]
        assert "could not be written" in capsys.readouterr().err
        valid = [one for one in manifest.checkpoints_in(folder) if not manifest.damage(one)]
        assert valid
        assert steps(lived(script))[:1] == [manifest.number(valid[-1]) + 1]
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_checkpoint_that_vanishes_is_no_error(place: Place) -> None:
    lived(script, 4)
    for name in place.names():
        place.drop(name)
    assert steps(lived(script)) == [*range(1, 13)]


def test_a_missing_package_is_an_error_before_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DIRECTORY, "gs://bucket/job")
    with pytest.raises(CheckpointError, match=r"gs://bucket/job cannot be opened: .*gcsfs"):
        Accelerator(cpu=True)


def test_an_object_store_is_not_one_of_each_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY, "memory://bucket/job")
    project = ProjectConfiguration(save_on_each_node=True)
    with pytest.raises(ValueError, match=r"memory://bucket/job is the same for all"):
        Accelerator(cpu=True, project_config=project)


def test_nothing_is_left_on_the_local_disk(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    lived(script, 4)
    lived(script, 4)
    gc.collect()
    left = [one for one in (tmp_path / "temporary").rglob("*") if one.is_file()]
    assert left == []
    assert place.store().newest().number == 6


class Counting:
    """Counts the bytes that are read from fsspec's memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        fs = type(fsspec.filesystem("memory"))
        before = fs.cat_file

        def cat_file(own: Any, path: str, **options: Any) -> bytes:
            found: bytes = before(own, path, **options)
            self.read += len(found)
            return found

        monkeypatch.setattr(fs, "cat_file", cat_file)


@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_a_resume_reads_an_object_store_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    lived(large, 3)
    number = place.store().newest().number
    state = sum(
        len(place.get(one)) for one in place.names() if one.startswith(f"checkpoint_{number}/")
    )
    counting = Counting(monkeypatch)
    lived(large, 1)
    assert state <= counting.read < 1.1 * state


def large(life: Life) -> None:
    """A model that is larger than its manifest."""
    accelerator = life.accelerator()
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 2**17), nn.Linear(2**17, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, loader = accelerator.prepare(model, optimizer, shuffled(Rows(24)))
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, loader)


def test_importing_the_loop_starts_no_thread_and_installs_no_handler() -> None:
    code = "import runtime.loop.loop, threading, signal; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"
