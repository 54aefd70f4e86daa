"""Puts the code of a training into a ConfigMap: as text, or as an archive if it is more.

A ConfigMap is one object of at most 1 MiB, that its job owns: it is created and deleted as a whole.
Code that does not fit, compressed, belongs into an image.
"""

import io
import os
import re
import zipfile
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.client import functions, start
from acceleratedjob.client.functions import Function
from acceleratedjob.errors import NotShippable, shown

MAX_BYTES = 2**20  # of all values of a ConfigMap together; Kubernetes' limit
MAX_FOLDER_BYTES = 2**26  # what is read and compressed at most
START = "start.py"
MANAGED_BY = {"app.kubernetes.io/managed-by": "acceleratedjob-client"}
_LEFT_OUT = ("__pycache__",)  # beside what is hidden
_KEY = re.compile(r"[-._a-zA-Z0-9]+")  # of a ConfigMap
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip file has

Source = Function | str | os.PathLike[str]
Arguments = Mapping[str, Any] | Sequence[str | float]


@dataclass(frozen=True, slots=True)
class Code:
    """What is shipped of a training.

    Attributes:
        script: the path of the script in the folder that the pods get.
        words: the arguments of the script.
        files: the files of that folder by their path, at least the script.
        is_folder: whether the script was shipped with the folder around it.
    """

    script: str
    words: tuple[str, ...]
    files: Mapping[str, bytes]
    is_folder: bool = False


def read_code(
    source: Source,
    args: Arguments | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Code:
    """Return what is to be shipped of a function, or of a script and its folder.

    Args:
        source: a function, or the path of a script.
        args: the keyword arguments of a function, or the command-line arguments of a script.
        folder: the folder that is shipped with a script; None for the script alone.

    Raises:
        NotShippable: it cannot be shipped.
    """
    if not isinstance(source, str | os.PathLike):
        if folder is not None:
            raise NotShippable("a folder is shipped with a script, but a function was given")
        text = functions.script(source, {} if args is None else args)  # type: ignore[arg-type]
        return Code("train.py", (), {"train.py": text.encode()})
    path, words = Path(source), _words(args or ())
    if not path.is_file():
        raise NotShippable(f"the script must be a file, and {path} is not, in {Path.cwd()}")
    if folder is None:
        return Code(path.name, words, {path.name: path.read_bytes()})
    root = Path(folder).resolve()
    if not path.resolve().is_relative_to(root):
        raise NotShippable(f"the script must be in the folder {root}, and {path} is not")
    inside = path.resolve().relative_to(root).as_posix()
    files = {place.as_posix(): data for place, data in _files(root)}
    if inside not in files:
        raise NotShippable(f"hidden files are not shipped, and the script {inside} is one")
    return Code(inside, words, files, is_folder=True)


def _words(args: Any) -> tuple[str, ...]:
    """Return the command-line arguments of a script.

    Raises:
        NotShippable: they are not a list of words and numbers.
    """
    is_list = isinstance(args, Sequence) and not isinstance(args, str | bytes)
    if not is_list or not all(isinstance(one, str | int | float) for one in args):
        raise NotShippable(
            "the arguments of a script must be a list of words and numbers, such as "
            f"['--epochs', 3], got {shown(args)}"
        )
    return tuple(map(str, args))


def _files(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the files below a folder and their contents, in the order of their paths.

    Raises:
        NotShippable: they are too large to be read.
    """
    found = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(map(_is_left_out, path.relative_to(root).parts))
    ]
    total = sum(path.stat().st_size for path in found)
    if total > MAX_FOLDER_BYTES:
        sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in found}
        raise NotShippable(_too_large(f"the folder {root} has {_mib(total)}", sizes))
    yield from ((path.relative_to(root), path.read_bytes()) for path in found)


def _is_left_out(part: str) -> bool:
    return part.startswith(".") or part in _LEFT_OUT


def config_map(code: Code, packages: Sequence[str], *, job: str, name: str) -> Manifest:
    """Return the ConfigMap of a training, without its owner and its namespace.

    Args:
        code: the code.
        packages: the packages to install, as pip takes them.
        job: the name of the job.
        name: the name of the ConfigMap.

    Raises:
        NotShippable: the code is too large.
    """
    text = {START: Path(start.__file__).read_text(encoding="utf-8")}
    if packages:
        text[start.PACKAGES] = "".join(f"{one}\n" for one in packages)
    plain = _plain(code)
    room = MAX_BYTES - sum(len(one.encode()) for one in text.values())
    binary: dict[str, str] = {}
    if plain is not None and len(plain.encode()) <= room:
        text[code.script] = plain
    else:
        archive = _archive(code.files)
        if len(archive) > room:
            sizes = {path: len(data) for path, data in code.files.items()}
            raise NotShippable(_too_large(f"the code has {_mib(len(archive))}, compressed", sizes))
        binary[start.ARCHIVE] = b64encode(archive).decode()
    labels = names.job_labels(job) | MANAGED_BY
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "immutable": True,
        "data": text,
        **({"binaryData": binary} if binary else {}),
    }


def _plain(code: Code) -> str | None:
    """Return the script as text; None if there is more than a text of a valid name."""
    taken = (START, start.PACKAGES, start.ARCHIVE)
    if code.is_folder or code.script in taken or not _KEY.fullmatch(code.script):
        return None
    try:
        return code.files[code.script].decode()
    except UnicodeDecodeError:
        return None


def _archive(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file, the same for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _too_large(what: str, sizes: Mapping[str, int]) -> str:
    largest = sorted(sizes.items(), key=lambda one: -one[1])[:3]
    named = ", ".join(f"{path} ({_mib(size)})" for path, size in largest)
    return (
        f"{what}, but a ConfigMap holds {_mib(MAX_BYTES)}: build an image that contains it, or "
        f"leave something out; the largest files are {named}"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
