"""Sharded checkpoints that were forged: nothing outside is read, and no memory taken."""

import pickle
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_saver import save

from runtime.checkpoint import sharded_reader
from tests.runtime import forged
from tests.runtime.test_checkpoint_forged import child

DATA = "__0_0.distcp"
METADATA_CLASS = b"ctorch.distributed.checkpoint.metadata\nMetadata\n"
ENCODING = b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n"


def written(folder: Path) -> Path:
    """A checkpoint, and a file outside that is as good as its own."""
    with sharded_reader.said_alone():
        save({"x": torch.ones(2), "n": 5}, storage_writer=FileSystemWriter(folder))
    (folder.parent / "outside").write_bytes((folder / DATA).read_bytes())
    return folder


def changed(folder: Path, change: Callable[[Metadata], Any]) -> None:
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())  # noqa: S301  # of this test
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))


def every_place(**facts: Any) -> Callable[[Metadata], None]:
    def change(metadata: Metadata) -> None:
        for info in metadata.storage_data.values():
            info.__dict__.update(facts)

    return change


def tensor(**facts: Any) -> Callable[[Metadata], None]:
    return lambda metadata: metadata.state_dict_metadata["x"].__dict__.update(facts)


def larger(metadata: Metadata) -> None:
    known: Any = metadata.state_dict_metadata["x"]
    known.size = torch.Size([2**40])
    object.__setattr__(known.chunks[0], "sizes", torch.Size([2**40]))


def repeated(metadata: Metadata) -> None:
    """A thousand tensors that all are the same bytes."""
    (index, info), *_ = [one for one in metadata.storage_data.items() if one[0].fqn == "x"]
    for number in range(1000):
        name = f"x{number}"
        metadata.state_dict_metadata[name] = metadata.state_dict_metadata["x"]
        metadata.storage_data[type(index)(name, index.offset, 0)] = info


CHANGED: dict[str, tuple[Callable[[Metadata], Any], str]] = {
    "an absolute path": (every_place(relative_path="/etc/passwd"), "'/etc/passwd'"),
    "a path upwards": (every_place(relative_path="../outside"), "'../outside'"),
    "a path into a folder": (every_place(relative_path="a/b"), "'a/b', which is not the name"),
    "a path that is none": (every_place(relative_path=""), "refers to '', which is not the name"),
    "the folder above": (every_place(relative_path=".."), r"'\.\.', which is not the name"),
    "a path with a zero": (every_place(relative_path=DATA + "\0"), "is not the name of a file"),
    "a number for a path": (every_place(relative_path=3), "expected a str, got 3"),
    "a link to a file outside": (every_place(relative_path="link"), "'link', .* a symbolic link"),
    "a file that is not there": (every_place(relative_path="gone"), "'gone', which is missing"),
    "a place before the file": (every_place(offset=-1), "bytes -1 to"),
    "a place behind its end": (every_place(length=2**40), "must be within the file's"),
    "a way to unpack": (every_place(transform_descriptors=["zstd"]), "zstd"),
    "a tensor without parts": (tensor(chunks=[]), "has 2 elements, but its chunks have 0"),
    "a tensor larger than its parts": (tensor(size=torch.Size([2**40])), "its chunks have 2"),
    "a tensor of a negative size": (tensor(size=torch.Size([-1])), "negative sizes"),
    "a tensor of no shape": (tensor(size=3), "expected a Size"),
    "a part larger than its bytes": (larger, "but stores"),
    "many tensors of the same bytes": (repeated, "use more than the file's"),
    "no storage": (lambda m: m.__dict__.update(storage_data=None), "items"),
    "texts for storage": (lambda m: m.__dict__.update(storage_data={"a": "b"}), "_StorageInfo"),
}
RAW: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "pickle"),
    "an empty pickle": (pickle.dumps(None), "expected a Metadata, got None"),
    "a foreign pickle": (pickle.dumps({"a": 1}), "expected a Metadata"),
    "an empty Metadata": (pickle.dumps(Metadata.__new__(Metadata)), "no attribute"),
    "a text": (b"text\n", "pickle"),
    "eight bytes for a memo of 2^31 objects": (b"K\x00r\xff\xff\xff\x7f.", "memo of 2147483647"),
    "a frame of 2^60 bytes": (b"\x80\x04\x95" + bytes(7) + b"\x10N.", "truncated|frame"),
    "bytes of 2^60": (b"\x80\x05\x96" + bytes(7) + b"\x10.", "left"),
    "a text of 2^32": (b"X\xff\xff\xff\xffx.", "left"),
    "a set that is copied again and again": (
        forged.whole(
            forged.listed(
                forged.listed(*[b"N"] * 2**20) + b"q\x05",
                *[forged.called("builtins frozenset", b"h\x05")] * 2000,
            )
        ),
        "using the same bytes again",
    ),
    "a state of a class": (
        METADATA_CLASS + b"N}X\x01\x00\x00\x00aK\x01s\x86b.",
        "new state of torch.distributed.checkpoint.metadata.Metadata",
    ),
    "a state of what all share": (
        ENCODING + b"K\x00\x85R}X\x01\x00\x00\x00aK\x01sb.",
        "new state of .*_MEM_FORMAT_ENCODING",
    ),
    "a list in itself, without end": (
        b"](" * 100_000 + b"e" * 100_000 + b".",
        "recursion|expected a Metadata",
    ),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_directory_names_its_own_files_and_no_more_than_they_have(
    tmp_path: Path, kind: str
) -> None:
    folder = written(tmp_path / "c")
    (folder / "link").symlink_to(tmp_path / "outside")
    change, said = CHANGED[kind]
    changed(folder, change)
    with pytest.raises(ValueError, match=rf"c/\.metadata must be metadata .*(?:{said}).* another"):
        sharded_reader.read(folder, {"x": torch.zeros(2), "n": 0})
    with pytest.raises(ValueError, match=said):
        sharded_reader.tensors(folder)


@pytest.mark.parametrize("kind", RAW)
def test_what_is_no_metadata_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path / "c")
    content, said = RAW[kind]
    (folder / ".metadata").write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)c/\.metadata must be meta.*(?:{said}).* another"):
        sharded_reader.names(folder)


def test_what_is_not_forged_is_read(tmp_path: Path) -> None:
    state: dict[str, Any] = {"x": torch.zeros(2), "n": 0}
    sharded_reader.read(written(tmp_path / "c"), state)
    assert state["x"].tolist() == [1, 1]
    assert state["n"] == 5


BOMB = forged.file(forged.called("builtins bytearray", forged.number(2**36))).getvalue()


@pytest.mark.parametrize("name", ["x", "n"], ids=["a tensor", "an object"])
def test_what_is_in_a_data_file_takes_no_memory_that_is_not_in_it(
    tmp_path: Path, name: str
) -> None:
    folder = written(tmp_path / "c")

    def change(metadata: Metadata) -> None:
        for index, info in metadata.storage_data.items():
            if index.fqn == name:
                (folder / "forged").write_bytes(BOMB)
                info.__dict__.update(relative_path="forged", offset=0, length=len(BOMB))

    changed(folder, change)
    with pytest.raises(ValueError, match="bytearray of a number"):
        sharded_reader.read(folder, {"x": torch.zeros(2), "n": 0})


def try_all(folder: str) -> None:
    """What the child does: it prints by how much its memory has grown."""
    target = written(Path(folder) / "c")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content, _ in RAW.values():
        (target / ".metadata").write_bytes(content)
        with pytest.raises(ValueError, match="metadata must be metadata"):
            sharded_reader.names(target)
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}\n")


def test_metadata_takes_no_memory_that_is_not_in_it(tmp_path: Path) -> None:
    program = f"from tests.runtime.test_fsdp_forged import try_all; try_all({str(tmp_path)!r})"
    done = child("-c", program)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 2**19  # KiB
