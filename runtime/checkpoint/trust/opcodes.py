"""Checks a pickle's opcodes before it is unpickled, so that its size bounds the memory it needs.

A small pickle can make the unpickler allocate much memory: by a memo index, a length, a number that
is passed to a constructor, or one string that is decoded again and again. `scan` simulates the
pickle's stack without creating any object, and refuses such pickles. It does not decide which
classes a pickle may refer to.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from runtime.checkpoint.trust.constructors import (
    ENCODE,
    Global,
    Held,
    Made,
    Unreadable,
    check,
    check_state,
    size_of,
)

# The items and characters that all arguments of calls may have: _FREE + _TIMES * bytes of pickle.
_FREE = 2**26
_TIMES = 16
_SPREAD = 2**28  # elements that the tensors of a file may have beyond those in their storages


class _File:
    """A file that refuses to read more bytes than are left."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file = file
        self.left = left

    def read(self, n: int) -> bytes:
        if not 0 <= n <= self.left:
            sentence = f"an object of {n} bytes, but only {self.left} are left"
            raise Unreadable(sentence)
        self.left -= n
        return self._file.read(n)

    def readline(self) -> bytes:
        line = self._file.readline(self.left)
        self.left -= len(line)
        return line


def scan(file: BinaryIO, size: int) -> set[str]:
    """Check one pickle and leave the file at its end.

    Args:
        file: a file, positioned at the beginning of the pickle.
        size: the number of bytes that are left in the file.

    Returns:
        The dotted names of all classes and functions that the pickle refers to.

    Raises:
        Unreadable: the bytes are not a pickle, or it would need far more memory than its size.
    """
    machine = _Machine(size)
    try:
        for opcode, arg, _ in pickletools.genops(_File(file, size)):  # type: ignore[arg-type]
            machine.step(opcode, arg)
    except Unreadable as error:
        sentence = f"a pickle must not need far more memory than its size, but asks for {error}"
        raise Unreadable(sentence) from error
    except (ValueError, LookupError, UnicodeError, AttributeError, TypeError) as error:
        sentence = f"it must be a complete pickle: {error}"
        raise Unreadable(sentence) from error
    return machine.names


class _Machine:
    """Simulates the stack and the memo of an unpickler."""

    def __init__(self, size: int) -> None:
        self.names: set[str] = set()
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the parts of the stack below each mark
        self._memo: dict[int, Any] = {}
        self._size = size
        self._left = _FREE + _TIMES * size
        self._spread = 0  # elements of tensors beyond those in their storages
        steps: dict[Callable[[Any, Any], None], tuple[str, ...]] = {
            self._put: ("PUT", "BINPUT", "LONG_BINPUT"),
            self._memoize: ("MEMOIZE",),
            self._get: ("GET", "BINGET", "LONG_BINGET"),
            self._mark: ("MARK",),
            self._grow: ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"),
            self._call: ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "INST", "OBJ"),
            self._name: ("GLOBAL", "STACK_GLOBAL"),
            self._pop: ("POP",),
            self._dup: ("DUP",),
        }
        self._steps = {name: step for step, names in steps.items() for name in names}

    def step(self, opcode: pickletools.OpcodeInfo, arg: Any) -> None:
        """Simulate one opcode."""
        if (step := self._steps.get(opcode.name)) is not None:
            step(opcode, arg)
        elif (make := _MAKES.get(opcode.name)) is not None:
            made = make(self._taken(opcode))
            self._stack.append(made)
        elif opcode.stack_after:
            self._stack.append(arg)  # a number or string
        else:
            self._taken(opcode)

    def _put(self, _: Any, arg: int) -> None:
        if arg > self._size:
            sentence = f"a memo of {arg} objects for a pickle of {self._size} bytes"
            raise Unreadable(sentence)
        self._memo[arg] = self._stack[-1]

    def _memoize(self, _: Any, __: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, _: Any, arg: int) -> None:
        self._stack.append(self._memo[arg])

    def _mark(self, _: Any, __: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop(self, _: Any, __: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._stack = self._below.pop()

    def _dup(self, _: Any, __: Any) -> None:
        self._stack.append(self._stack[-1])

    def _grow(self, opcode: pickletools.OpcodeInfo, _: Any) -> None:
        taken = self._taken(opcode)
        if isinstance(taken[0], Held):
            taken[0].size += len(taken) - 1
        self._stack.append(taken[0])

    def _name(self, opcode: pickletools.OpcodeInfo, arg: Any) -> None:
        name = Global(".".join(self._taken(opcode)) if arg is None else arg.replace(" ", ".", 1))
        self.names.add(name)
        self._stack.append(name)

    def _taken(self, opcode: pickletools.OpcodeInfo) -> list[Any]:
        """Remove the arguments of an opcode from the stack, and return them in order."""
        count, has_mark = _TAKES[opcode.name]
        above: list[Any] = []
        if has_mark:
            above, self._stack = self._stack, self._below.pop()
        if count > len(self._stack):
            sentence = f"{opcode.name} takes more objects than are on the stack"
            raise IndexError(sentence)
        start = len(self._stack) - count
        taken = self._stack[start:] + above
        del self._stack[start:]
        return taken

    def _call(self, opcode: pickletools.OpcodeInfo, arg: Any) -> None:
        """Simulate a call, and check that it allocates no more than its arguments have.

        Raises:
            Unreadable: the calls of the pickle would allocate too much.
        """
        taken = self._taken(opcode)
        function = taken.pop(0) if arg is None else Global(arg.replace(" ", ".", 1))
        is_tuple = not _TAKES[opcode.name][1] and type(taken[0]) is tuple
        given: Sequence[Any] = taken[0] if is_tuple else taken
        used = sum([size_of(one) for one in given])
        is_built = opcode.name == "BUILD"
        if is_built:
            check_state(function, given)
        elif type(function) is Global:
            self._spread += check(function, given)
        self._left -= used
        if self._left < 0 or self._spread > _SPREAD:
            sentence = "many times its size, by using the same bytes again"
            raise Unreadable(sentence)
        # Encoded bytes have the length of their text, which represents them.
        made = given[0] if function == ENCODE else Made(used, function)
        self._stack.append(function if is_built else made)


def _takes(opcode: pickletools.OpcodeInfo) -> tuple[int, bool]:
    """Return how many objects an opcode takes, and whether it also takes those above a mark."""
    before = opcode.stack_before
    has_mark = pickletools.markobject in before
    return len(before) - has_mark - (pickletools.stackslice in before), has_mark


_TAKES = {one.name: _takes(one) for one in pickletools.opcodes}


def _held(taken: list[Any]) -> Held:
    return Held(len(taken))


def _other(taken: list[Any]) -> Any:
    return taken[0] if taken else Made()


_MAKES: Mapping[str, Callable[[list[Any]], Any]] = {
    **dict.fromkeys(("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), tuple),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "LIST", "DICT", "FROZENSET"), _held),
    **dict.fromkeys(("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"), _other),
    **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE"), lambda _: ""),  # count as 0 items
    "READONLY_BUFFER": _other,
}
