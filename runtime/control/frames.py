"""Stacks as values: read from the text of `faulthandler`, compared, and grouped.

The text comes from another process, so it is bounded, and lines that are unknown are skipped.
"""

import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

MAX_FRAMES = 100  # of a thread; `faulthandler` writes no more either
MAX_THREADS = 100
MAX_NAME = 500  # characters; `faulthandler` cuts longer names
_THREAD = re.compile(
    r"(?:Current thread|Thread) 0x([0-9a-fA-F]{1,16})\b.* \(most recent call first\):"
)
_FRAME = re.compile(r'  File "(.*)", line (\d{1,9}) in (.*)')
_UNPRINTABLE = re.compile(r"[^ -~]")
_INSTALLED = ("/site-packages/", "/dist-packages/")  # parts of paths that are not the script's
_STDLIB = sysconfig.get_paths()["stdlib"]
_RUNTIME = str(Path(__file__).parents[1])


@dataclass(frozen=True, slots=True, order=True)
class Frame:
    """A line that a thread is in.

    Attributes:
        file: the path of the source file; characters outside of ASCII are escaped.
        line: the line number, >= 0; 0 if it is unknown.
        function: the name of the function.

    Raises:
        ValueError: the line number is negative, or a name is longer than `MAX_NAME` characters or
            not printable ASCII.
    """

    file: str
    line: int
    function: str

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.line < 0:
            raise ValueError(f"the line of a frame must be at least 0, got {self.line}")
        names = (self.file, self.function)
        if not all(len(name) <= MAX_NAME and _UNPRINTABLE.search(name) is None for name in names):
            raise ValueError(f"the names of a frame must have at most {MAX_NAME} ASCII characters")

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"

    @property
    def is_of_script(self) -> bool:
        """Whether the file is neither of Python, nor of an installed package, nor of this one."""
        file = self.file
        is_installed = any(part in file for part in _INSTALLED)
        return not (is_installed or file.startswith((_STDLIB, _RUNTIME, "<frozen", "<string>")))


Stack = tuple[Frame, ...]  # the most recent call first


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread and its stack.

    Attributes:
        ident: the number that `threading.Thread.ident` has for it.
        stack: its frames, the most recent call first.
    """

    ident: int
    stack: Stack


def parse(text: str) -> tuple[Thread, ...]:
    """Read the text that `faulthandler` writes for all threads; unknown lines are skipped.

    Args:
        text: the text; what is beyond `MAX_THREADS` and `MAX_FRAMES` is left out.
    """
    found: list[tuple[int, list[Frame]]] = []
    for line in text.splitlines():
        if (thread := _THREAD.fullmatch(line)) is not None:
            if len(found) == MAX_THREADS:
                break
            found.append((int(thread[1], 16), []))
        elif found and len(found[-1][1]) < MAX_FRAMES:
            found[-1][1].extend(_frames(line))
    return tuple(Thread(ident, tuple(frames)) for ident, frames in found)


def _frames(line: str) -> Iterator[Frame]:
    """Yield the frame of a line, if it has one."""
    if (frame := _FRAME.fullmatch(line)) is not None:
        yield Frame(_name(frame[1]), int(frame[2]), _name(frame[3]))


def of(frame: FrameType | None) -> Stack:
    """Return the stack of a live frame, in the spelling of `faulthandler`."""
    found: list[Frame] = []
    while frame is not None and len(found) < MAX_FRAMES:
        code = frame.f_code
        found.append(Frame(_name(code.co_filename), frame.f_lineno or 0, _name(code.co_name)))
        frame = frame.f_back
    return tuple(found)


def printable(text: str) -> str:
    """Return a text with everything but printable ASCII escaped, as `faulthandler` does."""
    escaped = text.encode("ascii", "backslashreplace").decode("ascii")
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped)


def _name(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= MAX_NAME else shown[: MAX_NAME - 3] + "..."


def of_script(stack: Sequence[Frame]) -> Frame | None:
    """Return the innermost line of the script; without one the innermost line of all, if any."""
    return next((frame for frame in stack if frame.is_of_script), next(iter(stack), None))


@dataclass(frozen=True, slots=True)
class Group:
    """Ranks or processes with equal stacks.

    Attributes:
        members: their numbers, ascending.
        stack: their stack.
    """

    members: tuple[int, ...]
    stack: Stack


def grouped(stacks: Mapping[int, Stack]) -> tuple[Group, ...]:
    """Return the groups of equal stacks, the largest first.

    Args:
        stacks: the number of a rank or process -> its stack.
    """
    members: dict[Stack, list[int]] = {}
    for number in sorted(stacks):
        members.setdefault(stacks[number], []).append(number)
    groups = [Group(tuple(numbers), stack) for stack, numbers in members.items()]
    return tuple(sorted(groups, key=lambda group: (-len(group.members), group.members)))
