"""Files that were forged opcode by opcode: no dtype of objects, no memory beyond the file."""

import collections
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from runtime.checkpoint import formats
from tests.runtime import forged
from tests.runtime.forged import array, built, called, content, dtype, items, new, number, text

ROOT = Path(__file__).parents[2]
EIGHT = content(b"\x41" * 8)
TWO = items(number(2))


def child(*command: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'operator'}"}
    return subprocess.run(
        [sys.executable, *command],
        env=env,
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        timeout=850,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "what",
    [
        pytest.param("table", id="each allowed name, called, made and set with odd things"),
        pytest.param("drawn", id="calls of allowed names in one another"),
    ],
)
def test_no_opcodes_crash_a_process_or_make_objects_of_bytes(what: str) -> None:
    done = child("-m", "tests.runtime.fuzzing", what)
    assert done.returncode == 0, done.stderr[-2000:]


FORGED = {
    "a dtype of objects": (dtype("O8", "|", 0x3F), "numbers, times, bytes or strings, got 'O8'"),
    "objects by flags": (dtype("i8", "<", 0x3F), "must agree with"),
    "a text of negative length": (dtype("U3", "<", 8, -4), "must agree with"),
    "a text of another length": (dtype("U3", "<", 8, 2**30), "must agree with"),
    "fields": (dtype("V8", "|"), "numbers, times, bytes or strings"),
    "an alignment of its own": (called("numpy dtype", text("f8"), b"\x88", b"\x88"), "numbers"),
    "no state at all": (forged.built(dtype(), b"N"), "must agree with"),
    "a state twice, the second of objects": (
        forged.built(dtype(), forged.dtype_state("|", 0x3F)),
        "must agree with",
    ),
    "an array of objects": (array(TWO, text("O"), EIGHT), "a dtype and bytes, got"),
    "an array longer than its bytes": (array(TWO, dtype(), EIGHT), "must not have 8 bytes"),
    "an array shorter than its bytes": (array(TWO, dtype("i1"), EIGHT), "must not have 8 bytes"),
    "an array of a negative length": (
        array(items(number(-1)), dtype(), EIGHT),
        "a dtype and bytes, got",
    ),
    "an array of pointers to what is in the file": (
        array(items(number(1)), dtype(), forged.listed(b"]")),
        "a dtype and bytes, got",
    ),
    "texts without letters, without end": (
        array(items(number(2**60)), dtype("U0", "<", 8, 0), content(b"")),
        "must not have 0 bytes",
    ),
    "a number of objects": (
        called("numpy._core.multiarray scalar", text("O"), EIGHT),
        "a dtype and bytes, got",
    ),
    "an array that never gets its bytes": (
        forged.listed(
            called(
                "numpy._core.multiarray _reconstruct",
                forged.named("numpy ndarray"),
                items(number(0)),
                content(b"b"),
            )
        ),
        "its state was never set",
    ),
    "a subclass of arrays": (
        called(
            "numpy._core.multiarray _reconstruct",
            forged.named("numpy dtype"),
            items(number(0)),
            content(b"b"),
        ),
        "created as numpy's pickles do",
    ),
    "one of numpy's own classes": (forged.named("numpy.dtypes ObjectDType"), "ObjectDType"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_numpy_would_not_have_written_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    pickled, said = FORGED[kind]
    path = tmp_path / "custom_checkpoint_0.pkl"
    path.write_bytes(forged.file(pickled).getvalue())
    with pytest.raises(pickle.UnpicklingError, match=f"(?s)custom_checkpoint_0.pkl .*{said}"):
        formats.load(path)


VALUES: dict[str, Any] = {
    "numbers of every kind": [np.arange(3).astype(code) for code in "?bhilBHILefdFD"],
    "by rows and by columns": [np.ones((2, 3)), np.asfortranarray(np.arange(6.0).reshape(2, 3))],
    "without a dimension, and without items": [np.array(3), np.zeros((0, 3)), np.zeros((2, 0))],
    "of the other byte order": [np.arange(3, dtype=">i4"), np.float64(1).astype(">f8")],
    "texts and bytes": [
        np.array(["a", "bcd"]),
        np.array([b"x", b"yz"]),
        np.str_("xy"),
        np.str_(""),
    ],
    "times": [
        np.array(["2026-01-02"], "M8[D]"),
        np.array([3], "m8[25s]"),
        np.datetime64("2026-01-02T03:04", "ns"),
        np.timedelta64(3),
    ],
    "numbers alone": [np.float32(1.5), np.int8(-3), np.bool_(True), np.complex64(1j)],
    "dtypes": {np.dtype("f4"): np.dtype(">i8"), "texts": np.dtype("U3"), "ms": np.dtype("M8[ms]")},
    "deep in containers": collections.OrderedDict(a=({"b": [(np.ones(2),)]}, frozenset((1, 2)))),
    "a state of numpy's generators": np.random.default_rng(3).bit_generator.state,
    "the state of numpy's old generator": np.random.RandomState(3).get_state(),
}


@pytest.mark.parametrize("older", [False, True], ids=["numpy 2", "numpy 1"])
@pytest.mark.parametrize("kind", VALUES)
def test_what_numpy_has_written_comes_back_as_it_was(kind: str, *, older: bool) -> None:
    loaded = formats.load(saved(VALUES[kind], "numpy.core." if older else "numpy._core."))
    assert repr(loaded) == repr(VALUES[kind])
    for one, other in zip(arrays_in(loaded), arrays_in(VALUES[kind]), strict=True):
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        assert one.tobytes("A") == other.tobytes("A")
        assert one.flags.writeable == other.flags.writeable
        assert one.flags.f_contiguous == other.flags.f_contiguous


def saved(value: Any, core: str) -> io.BytesIO:
    """As an older or a newer numpy writes it."""
    genuine, file = io.BytesIO(), io.BytesIO()
    torch.save(value, genuine)
    with zipfile.ZipFile(genuine) as source, zipfile.ZipFile(file, "w") as target:
        for one in source.infolist():
            target.writestr(one.filename, source.read(one).replace(b"numpy._core.", core.encode()))
    file.seek(0)
    return file


def arrays_in(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | frozenset):
        return [found for one in value for found in arrays_in(one)]
    return [value] if isinstance(value, np.ndarray | np.generic) else []


def test_one_array_in_two_places_stays_one() -> None:
    one = np.ones(2)
    file = io.BytesIO()
    torch.save({"a": one, "b": [one]}, file)
    file.seek(0)
    loaded = formats.load(file)
    assert loaded["a"] is loaded["b"][0]


class Meter:
    """A class of a script's own."""

    def __init__(self) -> None:
        self.sums = [np.ones(2)]


class Row(NamedTuple):
    """Another one."""

    values: Any


def test_arrays_are_numpys_in_objects_that_a_script_has_allowed() -> None:
    file = io.BytesIO()
    torch.save([Meter(), Row(np.ones(2))], file)
    file.seek(0)
    with torch.serialization.safe_globals([Meter, Row]):
        meter, row = formats.load(file)
    assert type(meter.sums[0]) is type(row.values) is np.ndarray


def test_numpys_own_is_not_used_though_another_library_has_allowed_it() -> None:
    core = np._core.multiarray  # type: ignore[attr-defined]
    theirs = [np.dtype, np.ndarray, type(np.dtype("i8")), core._reconstruct, core.scalar]
    with torch.serialization.safe_globals(theirs):
        assert repr(formats.load(saved([np.ones(2)], "numpy._core."))) == repr([np.ones(2)])
        for pickled in (dtype("i8", "|", 0x3F), forged.named("numpy.dtypes Int64DType")):
            with pytest.raises(pickle.UnpicklingError):
                formats.load(forged.file(pickled))
        assert set(torch.serialization.get_safe_globals()) >= set(theirs)


HUGE = number(2**36)
LARGE = number(2**28)  # torch has no memory for more, which would be an error as well
TENSOR = called(
    "torch._utils _rebuild_tensor_v2",
    forged.stored(),
    number(0),
    items(HUGE),
    items(number(0)),
    b"\x89",
    called("collections OrderedDict"),
)
BOMBS = {
    "a memo of 2^31 objects": b"K\x00r\xff\xff\xff\x7f",
    "bytes of a number": called("builtins bytearray", HUGE),
    "bytes of a number, by another name": called("__builtin__ bytearray", HUGE),
    "bytes of a number, by a function that calls another": called(
        "torch._tensor _rebuild_from_type_v2",
        forged.named("builtins bytearray"),
        forged.named("torch Tensor"),
        items(HUGE),
        b"}",
    ),
    "a list of a range": called("builtins list", called("builtins range", HUGE)),
    "a count of a range": called("collections Counter", called("builtins range", HUGE)),
    "a new tensor": called("torch Tensor", LARGE),
    "a new tensor without its constructor": forged.new("torch Tensor", LARGE),
    "a new storage": called("torch.storage UntypedStorage", LARGE),
    "one number of a storage, 2^36 times": TENSOR,
    "a set of that": called("builtins set", TENSOR),
    "a text that is encoded again and again": forged.listed(
        text("x" * 2**20) + b"q\x05", *[called("_codecs encode", b"h\x05", text("latin1"))] * 2000
    ),
    "a text in the longest encoding": called(
        "_codecs encode", text("x" * 2**20), text("unicode_escape")
    ),
    "a list that is copied again and again": forged.listed(
        forged.listed(*[b"N"] * 2**20) + b"q\x05", *[called("builtins list", b"h\x05")] * 2000
    ),
    "an array of the same bytes again and again": forged.listed(
        content(b"x" * 2**20) + b"q\x05",
        *[array(items(number(2**20)), dtype("i1"), b"h\x05")] * 2000,
    ),
    "a file in memory of the same bytes again and again": forged.listed(
        content(b"x" * 2**20) + b"q\x05",
        *[built(new("_io BytesIO"), items(b"h\x05", number(0), b"N"))] * 2000,
    ),
    "a file in memory at a position beyond its end": built(
        new("_io BytesIO"), items(content(b"x"), number(2**40), b"N")
    ),
}


def zip_bomb(_: Path) -> io.BytesIO:
    """A record of a gigabyte that is packed into a megabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a/data.pkl", forged.whole(text("x" * 2**30)))
        target.writestr("a/version", "3")
    file.seek(0)
    return file


def try_all() -> None:
    """What the child does: it prints what has not been refused, and by how much memory grew."""
    import resource  # noqa: PLC0415  # of the child

    bombs = {name: forged.file(bomb) for name, bomb in BOMBS.items()}
    olds = {f"{name}, in the old format": forged.old(bomb) for name, bomb in BOMBS.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, bomb in (bombs | olds).items():
        try:
            formats.load(bomb)
        except pickle.UnpicklingError:
            continue
        sys.stdout.write(f"taken: {name}\n")
    sys.stdout.write(f"grown: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}\n")


def test_a_file_takes_no_memory_that_is_not_in_it() -> None:
    done = child("-c", "from tests.runtime.test_checkpoint_forged import try_all; try_all()")
    assert done.returncode == 0, done.stderr[-2000:]
    *taken, grown = done.stdout.splitlines()
    assert taken == []
    assert int(grown.removeprefix("grown:")) < 2**19  # KiB; some bombs are as large as that allows


def test_a_packed_record_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with pytest.raises(pickle.UnpicklingError, match="2 are compressed"):
        formats.load(zip_bomb(tmp_path))


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda _: b"", id="nothing"),
        pytest.param(lambda _: pickle.dumps({"a": 1}), id="a pickle of Python's"),
        pytest.param(lambda _: b"PK\x03\x04" + bytes(100), id="the beginning of a zip file"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="the first half"),
        pytest.param(lambda _: b"text\n", id="a text"),
        pytest.param(lambda _: forged.file(b"").getvalue(), id="a pickle of nothing"),
        pytest.param(lambda _: forged.file(b"R").getvalue(), id="a call on an empty stack"),
        pytest.param(lambda _: forged.file(b"h\x07").getvalue(), id="what no memo has"),
    ],
)
def test_what_is_no_checkpoint_is_one_kind_of_error_that_names_the_file(
    tmp_path: Path, written: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "optimizer.bin"
    torch.save({"state": {}}, path)
    path.write_bytes(written(path.read_bytes()))
    with pytest.raises(pickle.UnpicklingError, match=r"optimizer\.bin cannot be read: .*another"):
        formats.load(path)
