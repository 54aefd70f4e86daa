"""All that the processes of a local pod have written is shown, whoever else has the pipe open."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from io import FileIO

import pytest

from acceleratedjob.lines import Line
from acceleratedjob.local.output import CHUNK_BYTES, Output


@pytest.fixture
def pipe() -> Iterator[tuple[FileIO, int]]:
    """A pipe whose write end stays open."""
    reads, writes = os.pipe()
    yield os.fdopen(reads, "rb", buffering=0), writes
    os.close(writes)


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        pytest.param(b"a\nb", ["a", "b"], id="with a line that has not ended"),
        pytest.param(b"a" * (CHUNK_BYTES - 1) + b"\n", ["a" * (CHUNK_BYTES - 1)], id="a full pipe"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_what_is_in_the_pipe_is_shown_at_the_end_even_if_there_was_no_time_to_read_it(
    pipe: tuple[FileIO, int], written: bytes, lines: list[str]
) -> None:
    shown: list[Line] = []

    async def scenario() -> None:
        output = Output(pipe[0], shown.extend)
        os.write(pipe[1], written)
        output.finish()
        assert not output.closed.done()

    asyncio.run(scenario())
    assert [one.text for one in shown if one.is_finished] == lines
    assert pipe[0].closed


def test_it_is_read_until_all_have_closed_the_pipe() -> None:
    shown: list[Line] = []

    async def scenario() -> None:
        reads, writes = os.pipe()
        output = Output(os.fdopen(reads, "rb", buffering=0), shown.extend)
        os.write(writes, b"a\nb")
        os.close(writes)
        await output.closed
        output.finish()

    asyncio.run(scenario())
    assert [one.text for one in shown if one.is_finished] == ["a", "b"]


def test_it_is_read_though_it_cannot_be_shown(pipe: tuple[FileIO, int]) -> None:
    def fail(_: Sequence[Line]) -> None:
        raise BrokenPipeError

    async def scenario() -> None:
        output = Output(pipe[0], fail)
        for _ in range(2):  # the second time, there is room only if the first was read
            await written(pipe[1], b"a" * CHUNK_BYTES)
        output.finish()
        with pytest.raises(BrokenPipeError):
            output.failed.result()

    asyncio.run(scenario())


async def written(file: int, data: bytes) -> None:
    """Write all of the data, as soon as there is room for it."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    os.set_blocking(file, False)
    rest = [data]

    def write() -> None:
        rest[0] = rest[0][os.write(file, rest[0]) :]
        if not rest[0]:
            done.set()

    loop.add_writer(file, write)
    await done.wait()
    loop.remove_writer(file)
