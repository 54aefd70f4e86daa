"""Numbered checkpoints in a directory, in fsspec's memory and on a real S3 server: one contract."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from obstore.fsspec import FsspecStore

from runtime.checkpoint.manifest import LIMIT, name_of
from runtime.checkpoint.stores.store import Skipped, Store
from runtime.errors import CheckpointError, DamagedCheckpoint
from tests.runtime.places import (
    EMPTY,
    FILES,
    Died,
    InBucket,
    InVolume,
    Life,
    Place,
    checkpoint,
    content,
    expected,
)


@pytest.fixture(scope="session")
def server(s3: dict[str, Any]) -> Any:
    fs = FsspecStore("s3", **s3)
    fs.pipe_file("bucket/exists", b"")  # this server makes buckets when they are written to
    return fs


KINDS = ["volume", "memory", "s3"]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return made(request, tmp_path)


def made(request: pytest.FixtureRequest, folder: Path, kind: str | None = None) -> Place:
    kind = kind or request.param
    if kind == "volume":
        return InVolume(folder)
    if kind == "memory":
        return InBucket(folder, fsspec.filesystem("memory"), f"/bucket{folder}")
    return InBucket(folder, request.getfixturevalue("server"), f"bucket{folder}")


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()


def published(place: Place, folder: Path, *numbers: int) -> None:
    for number in numbers:
        place.store().publish(checkpoint(folder, number), number)


def test_what_is_published_is_fetched(place: Place, tmp_path: Path) -> None:
    store = place.store()
    assert store.newest().number is None
    assert store.next_number() == 0
    published(place, tmp_path, 0, 7)
    assert store.newest().number == 7
    assert store.next_number() == 8
    for number in (0, 7):
        fetched = store.fetch(number, tmp_path / "into")
        assert fetched.name == name_of(number)
        assert content(fetched) == expected(number)


def test_a_checkpoint_that_is_saved_where_it_is_staged_is_published(
    place: Place, tmp_path: Path
) -> None:
    store = place.store()
    staged = store.stage(3)
    checkpoint(tmp_path, 3).rename(_with_parent(staged))
    store.publish(staged, 3)
    assert content(store.fetch(3, tmp_path / "into")) == expected(3)
    if isinstance(place, InBucket):  # its local copy is not needed any more
        assert not staged.exists()


def _with_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def deaths(place: Place, folder: Path, life: Life) -> None:
    """A writer that has two checkpoints, publishes a third and removes the first."""
    local = checkpoint(folder, 3)
    with place.dying(life, keep=2) as store:
        store.publish(local, 3)
        store.retain()


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_death_at_any_operation_a_checkpoint_is_valid_and_the_rest_goes(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    whole = Life()
    _with_two(made(request, tmp_path / "whole", kind), tmp_path / "whole", whole)
    assert whole.done > 10
    for last in range(whole.done):
        folder = tmp_path / str(last)
        place = made(request, folder, kind)
        with pytest.raises(Died):
            _with_two(place, folder, Life(last))
        after = place.store(keep=2)
        newest = after.newest()
        assert newest.number in (2, 3)
        assert _damaged(after) == []
        assert content(after.fetch(newest.number, folder / "into")) == expected(newest.number)
        after.publish(checkpoint(folder, 4), 4)
        after.retain()
        assert _numbers(place.names()) == {newest.number, 4}
        own = {f"checkpoint_{newest.number}/.unfinished"}  # of a writer that died behind the commit
        assert len(place.names() - own) == 2 * (len(FILES) + 1)


def _damaged(store: Store) -> list[int]:
    """The complete checkpoints that are none."""
    complete = [one.number for one in store.storage.list() if one.is_complete]
    return [one for one in complete if store.storage.damage(one, reads=True) is not None]


def _with_two(place: Place, folder: Path, life: Life) -> None:
    published(place, folder, 1, 2)
    deaths(place, folder, life)


def _numbers(names: set[str]) -> set[int]:
    return {int(one.split("/")[0].removeprefix("checkpoint_")) for one in names}


def test_foreign_files_are_neither_taken_nor_removed(place: Place, tmp_path: Path) -> None:
    foreign = {
        "notes.txt",
        "checkpoint_9",
        "checkpoint_best/manifest.json",
        "checkpoint_007/manifest.json",
        "checkpoint_2/notes.txt",
        "checkpoint_-1/manifest.json",
        f"checkpoint_{10**30}/manifest.json",
        "backup/checkpoint_8/manifest.json",
    }
    for name in foreign:
        place.put(name, b"{}")
    published(place, tmp_path, 3, 4)
    store = place.store(keep=1)
    assert store.newest().number == 4
    assert store.retain() == ["checkpoint_3"]
    kept = {f"checkpoint_4/{name}" for name in (*FILES, "manifest.json")}
    assert place.names() == foreign | kept


def _entry(size: int) -> dict[str, Any]:
    return {"bytes": size, "crc32": [0] if size else []}


MANIFESTS = {
    "that is no JSON": b"{",
    "that is empty": b"",
    "that is a list": b"[]",
    "of deep brackets": b"[" * 100_000,
    "that is huge": b" " * (LIMIT + 1),
    "that names a file above": json.dumps({"files": {"../x": _entry(0)}}).encode(),
    "that names an absolute path": json.dumps({"files": {"/etc/passwd": _entry(0)}}).encode(),
    "with a file that is missing": json.dumps({"files": {"other": _entry(3)}}).encode(),
    "with a negative size": json.dumps({"files": {"model.safetensors": _entry(-1)}}).encode(),
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_a_checkpoint_is_skipped_with_a_manifest(place: Place, tmp_path: Path, text: bytes) -> None:
    published(place, tmp_path, 1, 2)
    place.put("checkpoint_2/manifest.json", text)
    store = place.store(keep=1)
    newest = store.newest()
    assert newest.number == 1
    assert [one.name for one in newest.skipped] == ["checkpoint_2"]
    assert re.search(r"checkpoint_2/(manifest\.json|other is missing)", newest.skipped[0].reason)
    with pytest.raises(DamagedCheckpoint):
        store.fetch(2, tmp_path / "into")
    assert not (tmp_path / "into" / "checkpoint_2").exists()
    assert store.retain() == []  # the last valid one would go


@pytest.mark.parametrize("how", ["truncated", "missing"])
@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]])
def test_a_torn_checkpoint_is_skipped_and_the_last_valid_one_stays(
    place: Place, tmp_path: Path, name: str, how: str
) -> None:
    published(place, tmp_path, 1, 2, 3)
    for number in (2, 3):
        path = f"checkpoint_{number}/{name}"
        if how == "missing":
            place.drop(path)
        else:
            place.put(path, place.get(path)[:-1])
    store = place.store(keep=2)
    newest = store.newest()
    assert newest.number == 1
    assert [one.name for one in newest.skipped] == ["checkpoint_3", "checkpoint_2"]
    assert all(name in one.reason for one in newest.skipped)
    assert store.retain() == []
    published(place, tmp_path, 4)
    assert store.retain() == ["checkpoint_1", "checkpoint_2"]
    assert store.newest().number == 4


def test_a_changed_bit_is_found_before_the_checkpoint_is_used(place: Place, tmp_path: Path) -> None:
    published(place, tmp_path, 1, 2)
    place.put("checkpoint_2/model.safetensors", b"Weights2")
    store = place.store()
    newest = store.newest()
    if newest.number == 2:  # a bucket's bytes are compared when they are read
        with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors has changed since"):
            store.fetch(2, tmp_path / "into")
        assert list((tmp_path / "into").iterdir()) == []
        newest = store.newest(below=2)
    assert newest.number == 1
    assert content(store.fetch(1, tmp_path / "into")) == expected(1)


def test_what_dead_writers_left_goes_if_it_is_older_than_the_newest_valid_one(
    place: Place, tmp_path: Path
) -> None:
    published(place, tmp_path, 2, 4)
    for number in (1, 3, 5):
        place.leave_unfinished(number)
    store = place.store(keep=5)
    assert store.newest().number == 4
    assert store.next_number() == 6
    assert store.retain() == ["checkpoint_1", "checkpoint_3"]
    assert {one for one in place.names() if "checkpoint_5" in one}
    assert store.newest().number == 4


def test_a_checkpoint_that_is_being_written_is_not_removed(place: Place, tmp_path: Path) -> None:
    published(place, tmp_path, 4)
    place.leave_unfinished(3)
    store = place.store(keep=1)
    with store._writing(3):
        assert store.retain() == []
    assert store.retain() == ["checkpoint_3"]


def test_a_damaged_checkpoint_is_replaced_and_so_is_one_beside_others(
    place: Place, tmp_path: Path
) -> None:
    published(place, tmp_path, 1, 2)
    place.put("checkpoint_2/model.safetensors", b"torn")
    store = place.store()
    for _ in range(2):
        store.publish(checkpoint(tmp_path, 2), 2)
        assert content(store.fetch(2, tmp_path / "into")) == expected(2)
    assert store.newest().skipped == ()


def test_the_only_valid_checkpoint_is_never_absent_while_it_is_replaced(
    place: Place, tmp_path: Path
) -> None:
    published(place, tmp_path, 2)
    store = place.store()
    other = checkpoint(tmp_path, 2, {"model.safetensors": b"other"})
    if store.storage.replaces:
        store.publish(other, 2)
        assert content(store.fetch(2, tmp_path / "into")) == {"model.safetensors": b"other2"}
    else:
        with pytest.raises(CheckpointError, match="only undamaged checkpoint"):
            store.publish(other, 2)
        assert content(store.fetch(2, tmp_path / "into")) == expected(2)


def test_a_local_checkpoint_that_is_damaged_is_not_published(place: Place, tmp_path: Path) -> None:
    local = checkpoint(tmp_path, 1)
    (local / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        place.store().publish(local, 1)
    assert place.store().newest().number is None


@pytest.mark.parametrize("keep", [1, 2, 3, None])
def test_the_newest_are_kept(place: Place, tmp_path: Path, keep: int | None) -> None:
    published(place, tmp_path, 1, 2, 10)
    store = place.store(keep)
    removed = store.retain()
    assert removed == [name_of(one) for one in [1, 2, 10][: 3 - (keep or 3)]]
    assert _numbers(place.names()) == set([1, 2, 10][-(keep or 3) :])


def test_a_skipped_checkpoint_is_named_with_its_reason(place: Place, tmp_path: Path) -> None:
    published(place, tmp_path, 1, 2)
    place.drop(f"checkpoint_2/{EMPTY}")
    (skipped,) = place.store().newest().skipped
    assert isinstance(skipped, Skipped)
    assert place.store().storage.name in skipped.reason
    assert EMPTY in skipped.reason


@pytest.mark.parametrize("keep", [0, -1])
def test_less_than_one_checkpoint_cannot_be_kept(place: Place, keep: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        place.store(keep)


def test_when_a_checkpoint_was_written_is_told_in_seconds(place: Place, tmp_path: Path) -> None:
    before = time.time()
    published(place, tmp_path, 7)
    written = place.store().storage.written(7)
    assert written is not None
    assert before - 2 < written < time.time() + 2  # whole seconds, and another machine's clock
    assert place.store().storage.written(8) is None
