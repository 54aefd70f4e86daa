"""The checksums of a checkpoint's files are those of their bytes, and no file is read for them."""

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.checkpoint import checksums, manifest
from runtime.checkpoint.checksums import Checksums, HashedFile
from runtime.checkpoint.formats import Part

SMALL = 64  # bytes of a block in these tests


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and large writes that are small, so that a small file has several."""
    monkeypatch.setattr(checksums, "BLOCK", SMALL)
    monkeypatch.setattr(manifest, "BLOCK", SMALL)
    monkeypatch.setattr(checksums, "_LARGE", SMALL // 2)


@pytest.mark.usefixtures("small_blocks")
def test_however_a_file_is_divided_its_checksums_are_the_same(tmp_path: Path) -> None:
    content = os.urandom(SMALL * 3)

    @given(st.integers(0, SMALL * 3), st.lists(st.integers(0, SMALL * 3), max_size=5))
    def same(size: int, cuts: list[int]) -> None:
        places = [0, *sorted(min(one, size) for one in cuts), size]
        found = Checksums()
        with HashedFile(tmp_path / "file") as file:
            for start, end in itertools.pairwise(places):
                found.add(content[start:end])
                assert file.write(content[start:end]) == end - start
        assert (tmp_path / "file").read_bytes() == content[:size]
        read = manifest.checked(tmp_path / "file", durable=False)
        assert found.entry() == file.entry() == read

    same()


TENSORS: dict[str, Any] = {
    "several dtypes": {"b": torch.ones(3, dtype=torch.bool), "a": torch.arange(5.0)},
    "bfloat16": {"x": torch.randn(33).bfloat16(), "y": torch.arange(3, dtype=torch.int8)},
    "strided": {"x": torch.arange(12.0).reshape(3, 4).t()},
    "shared": {"x": (base := torch.arange(12.0)), "y": base[3:5], "z": base},
    "complex": {"x": torch.randn(3, dtype=torch.complex64).conj()},
    "empty": {"x": torch.empty(0), "y": torch.tensor(3.0)},
    "none": {},
    "larger than a block": {"x": torch.randn(100), "y": torch.randn(7)},
    "float8": {"x": torch.randn(9).to(torch.float8_e4m3fn), "z": torch.randn(2).double()},
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("is_safe", [True, False])
@pytest.mark.parametrize("state", TENSORS.values(), ids=TENSORS)
def test_a_file_has_the_checksums_that_its_write_returned(
    tmp_path: Path, state: dict[str, Any], *, is_safe: bool
) -> None:
    entry = Part("it", state, is_safe).write(tmp_path)
    assert entry == manifest.checked(tmp_path / "it", durable=False)


class Reads:
    """An audit hook that counts which files are opened to be read."""

    opened: list[str] | None = None

    @classmethod
    def install(cls) -> None:
        sys.addaudithook(cls._see)

    @classmethod
    def _see(cls, event: str, args: tuple[Any, ...]) -> None:
        if cls.opened is not None and event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            cls.opened.append(str(args[0]))


def test_no_file_is_read_back_but_the_header_of_safetensors(tmp_path: Path) -> None:
    Reads.install()
    state = {"x": torch.zeros(10**5)}
    before = _read_characters()
    Reads.opened = []
    try:
        for is_safe in (False, True):
            Part(f"it{is_safe}", state, is_safe).write(tmp_path, durable=True)
        opened = [one for one in Reads.opened if one.startswith(str(tmp_path))]
    finally:
        Reads.opened = None
    assert _read_characters() - before < state["x"].nbytes
    assert {Path(one).name for one in opened} == {"itTrue"}


def _read_characters() -> int:
    """The bytes that this process has read, on Linux; 0 elsewhere."""
    path = Path("/proc/self/io")
    lines = path.read_text().splitlines() if path.exists() else ["rchar: 0"]
    return int(lines[0].split()[1])


def test_a_failing_write_is_the_operating_systems_error(tmp_path: Path) -> None:
    """Not one of torch, which closes its archive in spite of it."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        Part("full", {"x": torch.zeros(10**6)}).write(tmp_path)


def test_whatever_bit_of_a_manifest_changes_nothing_else_is_read_from_it() -> None:
    """What it says beside its files, such as the step of a loop, has no file to be compared to."""
    facts = {"loop": {"step": 16, "passes": [[0, 1]]}, "files": {}}
    whole = manifest.text(facts)
    assert manifest.parse(whole, "here") == facts
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = manifest.parse(bytes(changed), "here")
        except ValueError:
            continue
        assert {name: found.get(name) for name in facts} == facts


def test_a_manifest_without_a_checksum_of_its_own_is_read() -> None:
    assert manifest.parse(b'{"loop": 3, "files": {}}', "here") == {"loop": 3, "files": {}}
