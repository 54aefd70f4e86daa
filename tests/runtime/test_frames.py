"""The text of `faulthandler` is read strictly, whatever it contains."""

import faulthandler
import sys
import tempfile
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.control import frames
from runtime.control.frames import Frame, Thread, grouped, of_script, parse

TEXT = """\
Thread 0x00007f148ffff6c0 [loader] (most recent call first):
  Garbage-collecting
  File "/app/a "b", line 7.py", line 19 in show
  ...

Current thread 0x0000000000000b80 (most recent call first):
  File "/app/train.py", line 23 in <module>
  File "???", line ??? in broken

Current thread's C stack trace (most recent call first):
  Binary file "/usr/bin/python", at _Py_DumpStack+0x38 [0x5]
"""


def test_what_faulthandler_writes_is_read() -> None:
    assert parse(TEXT) == (
        Thread(0x7F148FFFF6C0, (Frame('/app/a "b", line 7.py', 19, "show"),)),
        Thread(0xB80, (Frame("/app/train.py", 23, "<module>"),)),
    )


def test_this_pythons_faulthandler_is_read() -> None:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        threads = {one.ident: one.stack for one in parse(file.read())}
    written = threads[threading.get_ident()]
    told = frames.of(sys._getframe())
    assert written[1:] == told[1:]  # the first line is another one
    assert len(told) > 10


@settings(max_examples=40)
@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for thread in parse(TEXT + text) + parse(text):
        assert len(thread.stack) <= frames.MAX_FRAMES


def test_what_is_read_is_bounded() -> None:
    thread = "Thread 0x1 (most recent call first):\n" + '  File "a", line 1 in f\n' * 300
    assert [len(one.stack) for one in parse(thread * 300)] == [100] * 100
    [long] = parse(f'Thread 0x1 (most recent call first):\n  File "{"a" * 9999}", line 1 in f')
    assert len(long.stack[0].file) == frames.MAX_NAME


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("a", -1, "at least 0"),
        ("a" * 501, 1, "at most 500 ASCII"),
        ("a\x1b[2J", 1, "ASCII"),
        ("a\nb", 1, "ASCII"),
    ],
)
def test_a_frame_is_checked(file: str, line: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frame(file, line, "f")


@given(st.text())
def test_names_are_printable(name: str) -> None:
    Frame(frames._name(name), 1, "f")


STDLIB = Frame(threading.__file__, 3, "acquire")
TORCH = Frame("/venv/lib/python3.11/site-packages/torch/nn/module.py", 4, "forward")
RUNTIME = Frame(frames.__file__, 5, "backward")
SCRIPT = Frame("/app/train.py", 6, "main")
CALLER = Frame("/app/run.py", 7, "<module>")


@pytest.mark.parametrize(
    ("stack", "line"),
    [
        pytest.param((STDLIB, TORCH, RUNTIME, SCRIPT, CALLER), SCRIPT, id="the innermost own line"),
        pytest.param((STDLIB, TORCH), STDLIB, id="the innermost of all if none is the script's"),
        pytest.param((), None, id="none without a stack"),
    ],
)
def test_the_line_to_show_is(stack: tuple[Frame, ...], line: Frame | None) -> None:
    assert of_script(stack) == line


@given(
    st.dictionaries(st.integers(0, 40), st.sampled_from([(SCRIPT,), (CALLER,), (TORCH, SCRIPT)]))
)
def test_equal_stacks_are_one_group(stacks: dict[int, tuple[Frame, ...]]) -> None:
    groups = grouped(stacks)
    assert {member: group.stack for group in groups for member in group.members} == stacks
    assert len({group.stack for group in groups}) == len(groups)
    sizes = [len(group.members) for group in groups]
    assert sizes == sorted(sizes, reverse=True)
