"""The ledger of bench/goodput keeps whole records, whatever happens to the processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.goodput.ledger import IDS, PATH, Entry, Kind, Ledger, Reader
from tests.distributed.world import ROOT

# It writes steps until it is killed, or very many, and says when it has written some.
WRITER = """
import os, signal, sys
from bench.goodput.ledger import Ledger
ledger = Ledger.begun(os.environ, int(sys.argv[1]))
for step in range(100_000):
    ledger.step(step, range(step, step + 32))
    if step == 50:
        print(flush=True)
signal.pause()
"""
ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from(Kind),
    rank=st.integers(0, 255),
    pid=st.integers(1, 2**22),
    step=st.integers(0, 2**32 - 1),
    began=st.floats(0, 1e9),
    ended=st.floats(0, 1e9),
    value=st.integers(0, 2**64 - 1),
    ids=st.lists(st.integers(0, 2**32 - 1), max_size=IDS).map(tuple),
)


@given(st.lists(ENTRIES, max_size=3), st.integers(0, 600))
def test_a_reader_returns_what_is_whole_and_the_rest_when_it_has_come(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], cut: int
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    text = b"".join(entry.packed() for entry in entries)
    reader = Reader(path)
    assert reader.new() == []
    path.write_bytes(text[:cut])
    first = reader.new()
    assert first == entries[: len(first)]
    path.write_bytes(text)
    assert first + reader.new() == entries


def test_an_entry_has_room_for_so_many_samples_only() -> None:
    with pytest.raises(ValueError, match="at most 32 samples, got 33"):
        Entry(kind=Kind.STEP, rank=0, pid=1, ended=0.0, ids=tuple(range(33)))


def test_processes_that_are_killed_leave_whole_records_that_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    env = {**os.environ, PATH: str(path), "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, rank], env=env, stdout=subprocess.PIPE)
        for rank in "01"
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    entries = Reader(path).new()
    for rank, writer in enumerate(writers):
        own = [entry for entry in entries if entry.rank == rank]
        assert own[0].kind is Kind.BORN
        assert [entry.step for entry in own[1:]] == list(range(len(own) - 1))
        assert all(entry.ids == tuple(range(entry.step, entry.step + IDS)) for entry in own[1:])
        assert {entry.pid for entry in own} == {writer.pid}
        assert len(own) > 50


def test_a_step_begins_with_the_entry_before_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", 0)
    ledger.mark_once(Kind.LOADED)
    ledger.step(0, [1])
    ledger.mark_once(Kind.LOADED)
    ledger.step(1, [2])
    loaded, first, second = Reader(tmp_path / "ledger").new()
    assert (first.began, second.began) == (loaded.ended, first.ended)
