"""Files of torch.save whose pickle is written opcode by opcode, as an attacker would write it."""

import io
import pickletools
import struct
import zipfile

import torch

_STORAGE = 64  # bytes of the one storage


def number(value: int) -> bytes:
    """Any size that the opcode can say."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def content(value: bytes) -> bytes:
    """Bytes, as protocol 2 writes them."""
    return called("_codecs encode", text(value.decode("latin1")), text("latin1"))


def items(*values: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def listed(*values: bytes) -> bytes:
    return b"](" + b"".join(values) + b"e"


def mapped(*values: bytes) -> bytes:
    """A dict of keys and values, one after the other."""
    return b"}(" + b"".join(values) + b"u"


def named(name: str) -> bytes:
    """A class or function, by `module name`."""
    module, _, attribute = name.rpartition(" ")
    return f"c{module}\n{attribute}\n".encode()


def called(name: str, *arguments: bytes) -> bytes:
    return named(name) + items(*arguments) + b"R"


def new(name: str, *arguments: bytes) -> bytes:
    return named(name) + items(*arguments) + b"\x81"


def built(value: bytes, state: bytes) -> bytes:
    return value + state + b"b"


def stored(numbers: int = _STORAGE, kind: str = "ByteStorage") -> bytes:
    """The storage that the file has."""
    who = items(text("storage"), named(f"torch {kind}"), text("0"), text("cpu"), number(numbers))
    return who + b"Q"


def dtype(code: str = "f8", order: str = "<", flags: int = 0, size: int = -1) -> bytes:
    """One that is genuine but for what is said."""
    began = called("numpy dtype", text(code), b"\x89", b"\x88")
    return built(began, dtype_state(order, flags, size))


def dtype_state(order: str = "<", flags: int = 0, size: int = -1) -> bytes:
    return items(number(3), text(order), b"NNN", number(size), number(-1), number(flags))


def array(shape: bytes, of: bytes, raw: bytes) -> bytes:
    """One that is genuine but for what is said."""
    began = called(
        "numpy._core.multiarray _reconstruct",
        named("numpy ndarray"),
        items(number(0)),
        content(b"b"),
    )
    return built(began, items(number(1), shape, of, b"\x89", raw))


def file(pickled: bytes) -> io.BytesIO:
    """What torch.save writes, with another pickle, and a storage of 64 bytes."""
    genuine, forged = io.BytesIO(), io.BytesIO()
    torch.save(torch.zeros(_STORAGE, dtype=torch.uint8), genuine)
    with zipfile.ZipFile(genuine) as source, zipfile.ZipFile(forged, "w") as target:
        for one in source.infolist():
            is_pickle = one.filename.endswith("data.pkl")
            target.writestr(one.filename, whole(pickled) if is_pickle else source.read(one))
    forged.seek(0)
    return forged


def whole(pickled: bytes) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + pickled + b"."


def old(pickled: bytes) -> io.BytesIO:
    """What torch.save wrote before it wrote zip files, with another pickle, and no storage."""
    genuine = io.BytesIO()
    torch.save(0, genuine, _use_new_zipfile_serialization=False)
    ends = [genuine.tell()]
    genuine.seek(0)
    while genuine.tell() < ends[0]:
        for _ in pickletools.genops(genuine):
            pass
        ends.append(genuine.tell())
    head = genuine.getvalue()[: ends[3]]
    return io.BytesIO(head + whole(pickled) + whole(b"]"))
