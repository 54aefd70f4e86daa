"""A checkpoint is read from storage once, and a directory that is not shared is found out."""

import functools
import os
import socket
from typing import Any

import pytest

from tests.distributed.spreading import FILES, WORLDS
from tests.distributed.world import told_by

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]
STATE = sum(FILES.values())


@functools.cache
def found() -> dict[str, list[dict[str, Any]]]:
    """One run for all tests: what each rank of each world has found."""
    read: dict[str, list[dict[str, Any]]] = told_by("spreading.py")
    return read


def machines(name: str) -> list[int]:
    """The machine of each rank."""
    local = WORLDS[name]
    return [local[: rank + 1].count(0) - 1 for rank in range(len(local))]


@pytest.mark.parametrize("name", WORLDS)
def test_each_machine_has_the_checkpoint_and_only_the_first_opens_storage(name: str) -> None:
    for machine, rank in zip(machines(name), found()[name], strict=True):
        assert rank["whole"]["problem"] is None
        assert rank["whole"]["names"] == sorted(FILES)
        assert rank["whole"]["opens storage"] == rank["whole"]["is own"] == (machine == 0)
        assert rank["whole"]["left"] == (machine == 0)


@pytest.mark.parametrize("name", WORLDS)
def test_what_is_read_from_storage_is_the_state_once_whatever_the_world(name: str) -> None:
    """Loading it on the first machine reads it once more."""
    read = [rank["whole"]["read"] for rank in found()[name]]
    assert STATE <= read[0] <= sum(read) <= 1.1 * STATE


@pytest.mark.parametrize("name", WORLDS)
def test_a_changed_byte_is_an_error_on_all_ranks(name: str) -> None:
    (said,) = {rank["damaged"]["error"] for rank in found()[name]}
    assert said.startswith("DamagedCheckpoint: ")
    assert "model.safetensors has changed" in said


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("no room", "needs a local directory"),
        ("no room for the manifest", "manifest.json: [Errno 27] File too large"),
    ],
)
@pytest.mark.parametrize("name", [name for name in WORLDS if max(machines(name))])
def test_a_machine_without_room_is_an_error_on_all_ranks(
    name: str, case: str, sentence: str
) -> None:
    (said,) = {rank[case]["error"] for rank in found()[name]}
    assert said.startswith("CheckpointError: ")
    assert sentence in said


@pytest.mark.parametrize("name", WORLDS)
def test_a_directory_that_all_see_is_shared_and_nothing_is_left_in_it(name: str) -> None:
    for rank in found()[name]:
        assert rank["shared"] is None
        assert rank["left"] == []


@pytest.mark.parametrize("name", WORLDS)
def test_a_directory_that_is_not_shared_is_named_with_those_who_do_not_see_it(name: str) -> None:
    ranks = found()[name]
    if len(ranks) == 1:
        assert ranks[0]["not shared"] is None
        return
    for rank in ranks:
        said = rank["not shared"]
        assert "must be the same directory for all processes" in said
        others = " ".join(str(one) for one in range(1, len(ranks)))
        assert f"not seen by: host {socket.gethostname()}, rank" in said
        assert f" {others}. Mount one ReadWriteMany volume" in said


@pytest.mark.parametrize("name", WORLDS)
def test_a_path_that_is_no_directory_is_said_by_all(name: str) -> None:
    for rank in found()[name]:
        assert "must be a directory that rank 0 can write to" in rank["a file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that may not write")
@pytest.mark.parametrize("case", ["last cannot write", "cannot write on its machine"])
@pytest.mark.parametrize("name", WORLDS)
def test_a_rank_that_cannot_write_is_named_by_all_with_the_reason(name: str, case: str) -> None:
    ranks = found()[name]
    (said,) = {rank[case] for rank in ranks}
    if len(ranks) == 1:
        assert said is None
        return
    last = f"host {socket.gethostname()}, rank {len(ranks) - 1}: Permission denied. Mount"
    assert "must be a directory that all ranks can write to, but some cannot: " in said
    assert f"some cannot: {last}" in said
