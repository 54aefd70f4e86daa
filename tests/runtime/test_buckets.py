"""What an object store may do: fail for a while or for good, list what was, and lag behind."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from runtime.checkpoint.sharing import sees_token
from runtime.checkpoint.stores.bucket import Bucket
from runtime.checkpoint.stores.opening import open_store
from runtime.checkpoint.stores.retries import Retries
from runtime.checkpoint.stores.store import Store
from runtime.errors import CheckpointError, DamagedCheckpoint
from tests.runtime.places import FILES, InBucket, checkpoint, content, expected

WRITES = {"put_file", "pipe_file", "rm_file"}


@pytest.fixture
def place(tmp_path: Path) -> Any:
    fs = fsspec.filesystem("memory")
    yield InBucket(tmp_path, fs, f"/bucket{tmp_path}")
    fs.store.clear()


class Failing:
    """A file system of which each operation fails a number of times before it succeeds."""

    def __init__(self, fs: Any, error: Exception, times: int, names: set[str]) -> None:
        self._fs, self._error, self._times, self._names = fs, error, times, names
        self.tries: dict[Any, int] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._fs, name)
        if name not in self._names:
            return method

        def fails(*args: Any, **kwargs: Any) -> Any:
            key = name, *(str(one) for one in args), *kwargs.items()
            self.tries[key] = self.tries.get(key, 0) + 1
            if self.tries[key] <= self._times:
                raise self._error
            return method(*args, **kwargs)

        return fails


def published(place: InBucket, folder: Path, *numbers: int) -> None:
    for number in numbers:
        place.store().publish(checkpoint(folder, number), number)


TEMPORARY = [TimeoutError("slow"), ConnectionResetError(), OSError(errno.EIO, "x"), RuntimeError()]


@pytest.mark.parametrize("error", TEMPORARY, ids=lambda one: type(one).__name__)
def test_a_store_that_fails_twice_is_tried_a_third_time(
    place: InBucket, tmp_path: Path, error: Exception
) -> None:
    names = WRITES | {"ls", "find", "cat_file"}
    store = place.store(keep=1, fs=Failing(place.fs, error, 2, names))
    for number in (1, 2):
        store.publish(checkpoint(tmp_path, number), number)
    assert store.newest().number == 2
    assert content(store.fetch(2, tmp_path / "into")) == expected(2)
    assert store.retain() == ["checkpoint_1"]


@pytest.mark.parametrize(
    ("error", "tries", "advice"),
    [
        (TimeoutError("slow"), 3, "see whether the store can be reached"),
        (PermissionError("no"), 1, "allow the credentials"),
        (FileNotFoundError("no bucket"), 1, "create the bucket"),
        (OSError(errno.ENOSPC, "full"), 1, "make room on the local disk"),
    ],
    ids=["unreachable", "forbidden", "no bucket", "full"],
)
def test_an_error_says_what_was_tried_where_and_what_to_do(
    place: InBucket, tmp_path: Path, error: Exception, tries: int, advice: str
) -> None:
    published(place, tmp_path, 1)
    fs = Failing(place.fs, error, 99, WRITES)
    with pytest.raises(CheckpointError) as caught:
        place.store(fs=fs).publish(checkpoint(tmp_path, 2), 2)
    said = str(caught.value)
    assert f"cannot write s3://{place.root}/checkpoint_2/.unfinished" in said
    assert ("tried once" if tries == 1 else f"tried {tries} times") in said
    assert type(error).__name__ in said
    assert advice in said
    assert max(fs.tries.values()) == tries
    assert place.store().newest().number == 1


@pytest.mark.parametrize("operation", ["newest", "retain", "next_number"])
def test_a_store_that_cannot_be_listed_is_an_error_and_not_an_empty_one(
    place: InBucket, tmp_path: Path, operation: str
) -> None:
    """A training that begins again at step 0 would be the worst of answers."""
    published(place, tmp_path, 1)
    store = place.store(keep=1, fs=Failing(place.fs, ConnectionError(), 99, {"ls"}))
    with pytest.raises(CheckpointError, match="cannot list s3://"):
        getattr(store, operation)()


def test_pauses_double() -> None:
    pauses: list[float] = []
    with pytest.raises(CheckpointError):
        Retries(4, 0.5, pauses.append).run("x", _refused)
    assert pauses == [0.5, 1.0, 2.0]


def _refused() -> None:
    raise ConnectionRefusedError


@pytest.mark.parametrize("numbers", [(0, 0.5), (-1, 0.5), (1, -0.1)])
def test_retries_are_bounded(numbers: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="1 attempt or more"):
        Retries(*numbers)


class Lagging:
    """A file system whose listings are those of an earlier time; objects are as they are."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._then: dict[str, Any] = dict(fs.store)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._fs, name)
        if name not in {"ls", "find"}:
            return method

        def then(*args: Any, **kwargs: Any) -> Any:
            now = dict(self._fs.store)
            _replace(self._fs.store, self._then)
            try:
                return method(*args, **kwargs)
            finally:
                _replace(self._fs.store, now)

        return then


def _replace(store: dict[str, Any], by: dict[str, Any]) -> None:
    store.clear()
    store.update(by)


def lagging(place: InBucket, keep: int, change: Callable[[], None]) -> Store:
    """A store whose listing knows nothing of a change."""
    fs = Lagging(place.fs)
    change()
    return place.store(keep, fs=fs)


def test_a_listing_that_lags_behind_a_commit_removes_nothing_newer(
    place: InBucket, tmp_path: Path
) -> None:
    published(place, tmp_path, 1, 2)
    store = lagging(place, 1, lambda: published(place, tmp_path, 3))
    assert store.newest().number == 2
    assert store.retain() == ["checkpoint_1"]
    assert place.store().newest().number == 3


def test_a_checkpoint_that_is_only_listed_does_not_let_the_last_one_go(
    place: InBucket, tmp_path: Path
) -> None:
    """Another has removed it."""
    published(place, tmp_path, 1, 2)
    store = lagging(place, 1, lambda: place.store().storage.remove(2))
    assert store.newest().number == 1
    assert store.retain() == []
    assert content(store.fetch(1, tmp_path / "into")) == expected(1)
    with pytest.raises(DamagedCheckpoint, match=r"checkpoint_2/manifest\.json"):
        store.fetch(2, tmp_path / "into")


def test_publishing_relies_on_no_listing(place: InBucket, tmp_path: Path) -> None:
    published(place, tmp_path, 1)
    store = lagging(place, 2, lambda: None)
    for number in (2, 3):
        store.publish(checkpoint(tmp_path, number), number)
    assert place.store().newest().number == 3
    assert place.store().newest().skipped == ()


def test_what_was_fetched_is_used_again_if_it_is_the_same(place: InBucket, tmp_path: Path) -> None:
    published(place, tmp_path, 1)
    fs = Failing(place.fs, TimeoutError(), 0, {"cat_file"})
    store = place.store(fs=fs)
    fetched = store.fetch(1, tmp_path / "into")
    assert store.fetch(1, tmp_path / "into") == fetched
    assert content(fetched) == expected(1)
    read = [str(one[1]).rpartition("/")[2] for one in fs.tries]
    names = {one.rpartition("/")[2] for one in expected(1) if expected(1)[one]}
    assert sorted(read) == sorted({*names, "manifest.json"})
    assert {fs.tries[key] for key in fs.tries if "manifest" not in str(key)} == {1}
    (fetched / "model.safetensors").write_bytes(b"changed")
    assert content(store.fetch(1, tmp_path / "into")) == expected(1)


def test_nothing_is_fetched_through_a_link(place: InBucket, tmp_path: Path) -> None:
    published(place, tmp_path, 1)
    (tmp_path / "home").mkdir()
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "checkpoint_1").symlink_to(tmp_path / "home")
    with pytest.raises(CheckpointError, match="is a link to"):
        place.store().fetch(1, tmp_path / "into")
    assert list((tmp_path / "home").iterdir()) == []


def test_a_staged_checkpoint_takes_the_place_of_one_whose_upload_has_failed(
    place: InBucket, tmp_path: Path
) -> None:
    store = place.store(fs=Failing(place.fs, PermissionError(), 99, WRITES))
    staged = store.stage(1)
    staged.parent.mkdir()
    checkpoint(tmp_path, 1).rename(staged)
    with pytest.raises(CheckpointError):
        store.publish(staged, 1)
    assert staged.exists()
    assert store.stage(2).parent == staged.parent
    assert list(staged.parent.iterdir()) == []


def test_a_url_opens_a_bucket_whose_staging_directory_goes_with_it(tmp_path: Path) -> None:
    store = open_store("memory://job/run", keep=1)
    assert isinstance(store.storage, Bucket)
    staged = store.stage(1)
    checkpoint(tmp_path, 1).rename(staged)
    store.publish(staged, 1)
    assert open_store("memory://job/run/").newest().number == 1
    assert len(fsspec.filesystem("memory").find("/job/run")) == len(FILES) + 1
    del store
    assert not staged.parent.exists()
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_path_opens_a_directory(tmp_path: Path, form: str) -> None:
    store = open_store(form.format(tmp_path / "checkpoints"))
    store.publish(checkpoint(tmp_path, 1), 1)
    assert store.fetch(1, tmp_path / "unused") == tmp_path / "checkpoints" / "checkpoint_1"
    assert not (tmp_path / "unused").exists()


def test_a_url_that_has_lost_a_slash_is_no_directory() -> None:
    with pytest.raises(CheckpointError, match=r"^s3:/bucket/x must have two slashes"):
        open_store(Path("s3://bucket/x"))


@pytest.mark.parametrize("url", ["nowhere://bucket/x", "gs://bucket/x"])
def test_a_url_that_cannot_be_opened_says_what_to_install(url: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{url} cannot be opened: .*acceleratedjob\[object"):
        open_store(url)


@pytest.mark.parametrize(("appears", "is_seen"), [(0, True), (3, True), (11, False)])
def test_a_file_is_looked_for_as_long_as_a_file_server_may_lag(
    tmp_path: Path, appears: int, *, is_seen: bool
) -> None:
    """The clock is the number of pauses, of which there are ten."""
    pauses = 0

    def sleep(_: float = 0) -> None:
        nonlocal pauses
        pauses += 1
        if pauses >= appears:
            (tmp_path / ".shared").write_text("token")

    (tmp_path / ".shared").write_text("token" if not appears else "of an earlier start")
    found = sees_token(tmp_path, "token", 10, clock=lambda: float(pauses), sleep=sleep)
    assert found == is_seen
