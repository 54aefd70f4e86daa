"""From the reports of all ranks: who is suspected, why, and how it is said."""

import json
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.control import frames
from runtime.control.beat import Phase
from runtime.control.frames import Frame
from runtime.control.verdicts import culprit, report
from runtime.control.verdicts.culprit import Evidence, Finding
from runtime.control.verdicts.life import Home, Life
from runtime.control.verdicts.report import Position, Report
from runtime.control.verdicts.verdict import Verdict

SCRIPT = Frame("/app/train.py", 12, "main")
DATA = Frame("/app/data.py", 88, "read_shard")
TORCH = "/venv/lib/python3.11/site-packages/torch"
ALL_REDUCE = Frame(f"{TORCH}/distributed/distributed_c10d.py", 3000, "all_reduce")
BACKWARD = Frame(f"{TORCH}/autograd/graph.py", 1113, "_engine_run_backward")


def at(number: int, *, waits: bool = False, group: str = "0", name: str = "all_reduce") -> Position:
    return Position(
        group=group, number=number, operation=name, is_waiting=waits, is_of_all=group == "0"
    )


def where(*stack: Frame, positions: Collection[Position] = (), inside: str = "") -> Report:
    return Report(stack=stack, positions=tuple(positions), inside=inside)


WAITS = where(ALL_REDUCE, SCRIPT, positions=[at(7, waits=True)])
IN_BACKWARD = where(BACKWARD, SCRIPT)
IN_COLLECTIVE = where(ALL_REDUCE, SCRIPT)
IN_SCRIPT = where(SCRIPT)
READS = where(DATA, SCRIPT)
NONE = Report()
STOPPED = Report(excuse="it is stopped by a signal")

CASES: dict[str, tuple[list[Report], set[int], Evidence, tuple[int, ...], str]] = {
    "a rank that has not entered the collective of the others": (
        [WAITS, where(DATA, positions=[at(6)]), WAITS],
        set(),
        Evidence.ABSENT,
        (1,),
        "all_reduce, collective 7",
    ),
    "the same with two ranks, where the culprit works in torch, too": (
        [where(BACKWARD, positions=[at(6)]), WAITS],
        set(),
        Evidence.ABSENT,
        (0,),
        "all_reduce, collective 7",
    ),
    "a rank that holds the interpreter lock, so that its collectives are unknown": (
        [WAITS, where(SCRIPT), WAITS],
        set(),
        Evidence.ABSENT,
        (1,),
        "all_reduce, collective 7",
    ),
    "of two that are absent the one that itself waits for nobody": (
        [
            where(ALL_REDUCE, positions=[at(7, waits=True)]),
            where(ALL_REDUCE, positions=[at(6), at(3, waits=True, group="odd")]),
            where(ALL_REDUCE, positions=[at(7, waits=True)]),
            where(SCRIPT, positions=[at(6), at(2, group="odd")]),
        ],
        set(),
        Evidence.ABSENT,
        (3,),
        "all_reduce, collective 7",
    ),
    "a stopped rank that holds up the sender of a broadcast, behind which another one waits": (
        [
            where(ALL_REDUCE, SCRIPT, positions=[at(6, waits=True, name="broadcast")]),
            WAITS,
            STOPPED,
        ],
        set(),
        Evidence.SILENT,
        (2,),
        "broadcast, collective 6",
    ),
    "the same with a rank that is silent for another reason": (
        [
            where(ALL_REDUCE, SCRIPT, positions=[at(6, waits=True, name="broadcast")]),
            WAITS,
            NONE,
        ],
        set(),
        Evidence.SILENT,
        (2,),
        "broadcast, collective 6",
    ),
    "ranks that wait for each other in two groups": (
        [
            where(ALL_REDUCE, positions=[at(7, waits=True), at(2, group="b")]),
            where(ALL_REDUCE, positions=[at(6), at(3, waits=True, group="b")]),
        ],
        set(),
        Evidence.ABSENT,
        (0, 1),
        "all_reduce, collective 7",
    ),
    "of two ranks that compute layers together, the one that the other waits for": (
        [
            where(ALL_REDUCE, positions=[at(5, waits=True, group="tp 0"), at(2, group="dp 0")]),
            where(DATA, positions=[at(4, group="tp 0"), at(2, group="dp 1")]),
            where(ALL_REDUCE, positions=[at(5, group="tp 1"), at(3, waits=True, group="dp 0")]),
            where(ALL_REDUCE, positions=[at(5, group="tp 1"), at(3, waits=True, group="dp 1")]),
        ],
        set(),
        Evidence.ABSENT,
        (1,),
        "all_reduce, collective 3 of group dp 1",
    ),
    "a rank outside of a group is not absent from it": (
        [
            where(ALL_REDUCE, positions=[at(3, waits=True, group="pair")]),
            where(DATA, positions=[at(2, group="pair")]),
            where(SCRIPT, positions=[at(6)]),
        ],
        set(),
        Evidence.ABSENT,
        (1,),
        "all_reduce, collective 3 of group pair",
    ),
    "a stopped rank, although another one waits at a line of the script": (
        [IN_SCRIPT, STOPPED, IN_COLLECTIVE],
        set(),
        Evidence.SILENT,
        (1,),
        "/app/train.py:12 (main)",
    ),
    "without a flight recorder the rank outside of collectives": (
        [READS, IN_COLLECTIVE],
        set(),
        Evidence.OUTSIDE,
        (0,),
        "/app/train.py:12 (main)",
    ),
    "the operation of the library is a collective": (
        [where(SCRIPT, inside="gather, its collective 4"), where(SCRIPT)],
        set(),
        Evidence.OUTSIDE,
        (1,),
        "gather, its collective 4",
    ),
    "a rank in the script, while the other is in a backward pass": (
        [IN_BACKWARD, READS],
        set(),
        Evidence.OUTSIDE,
        (1,),
        "/app/train.py:12 (main)",
    ),
    "a rank in a backward pass, while the other is in a collective": (
        [IN_BACKWARD, IN_COLLECTIVE],
        set(),
        Evidence.OUTSIDE,
        (0,),
        "/app/train.py:12 (main)",
    ),
    "a rank that is not connected, while all others wait": (
        [WAITS, NONE],
        set(),
        Evidence.SILENT,
        (1,),
        "all_reduce, collective 7",
    ),
    "a rank that has ended, while all others wait": (
        [WAITS, WAITS],
        {2},
        Evidence.ENDED,
        (2,),
        "all_reduce, collective 7",
    ),
    "a rank that has ended is innocent if another one hangs": (
        [WAITS, READS],
        {2},
        Evidence.ABSENT,
        (1,),
        "all_reduce, collective 7",
    ),
    "the rank whose stack differs": (
        [IN_SCRIPT, IN_SCRIPT, READS],
        set(),
        Evidence.OUTLIER,
        (2,),
        "/app/train.py:12 (main)",
    ),
    "nobody in particular if all are at one place": (
        [READS, READS],
        set(),
        Evidence.ALL,
        (0, 1),
        "/app/data.py:88 (read_shard)",
    ),
    "nobody in particular if there is no majority": (
        [IN_SCRIPT, READS],
        set(),
        Evidence.ALL,
        (0, 1),
        "/app/train.py:12 (main)",
    ),
}


@pytest.mark.parametrize(
    ("reports", "ended", "why", "suspects", "waits_in"), CASES.values(), ids=CASES
)
def test_who_is_suspected(
    reports: list[Report], ended: set[int], why: Evidence, suspects: tuple[int, ...], waits_in: str
) -> None:
    assert culprit.find(dict(enumerate(reports)), ended) == Finding(why, suspects, waits_in)


def test_somebody_must_be_running() -> None:
    with pytest.raises(ValueError, match="at least one rank"):
        culprit.find({})


KNOWN = st.sampled_from([WAITS, IN_BACKWARD, IN_COLLECTIVE, IN_SCRIPT, READS, NONE, STOPPED])


@given(st.lists(KNOWN, min_size=1, max_size=6), st.sets(st.integers(6, 8)))
def test_somebody_is_always_suspected(reports: list[Report], ended: set[int]) -> None:
    """And never a rank that waits in the last collective while another one does not."""
    found = culprit.find(dict(enumerate(reports)), ended)
    assert found.suspects
    assert set(found.suspects) <= {*range(len(reports)), *ended}
    if found.evidence is not Evidence.ALL:
        assert all(reports[rank] is not WAITS for rank in found.suspects if rank < len(reports))


@pytest.mark.parametrize(
    "file",
    [
        f"{TORCH}/_dynamo/convert_frame.py",
        f"{TORCH}/_inductor/compile_fx.py",
        f"{TORCH}/serialization.py",
        f"{TORCH}/distributed/checkpoint/filesystem.py",
        "/venv/lib/python3.11/site-packages/safetensors/torch.py",
        "/venv/lib/python3.11/site-packages/runtime/checkpoint/writer.py",
    ],
)
def test_who_compiles_or_saves_works(file: str) -> None:
    inner = Frame("/usr/lib/python3.11/subprocess.py", 3, "wait")
    reports = {0: IN_SCRIPT, 3: where(inner, Frame(file, 9, "f"), SCRIPT), 4: WAITS}
    assert culprit.are_working(reports) == (3,)


@pytest.mark.parametrize(
    "file", [f"{TORCH}/distributed/checkpoint/utils.py", "/app/runtime/checkpoint/checkpointer.py"]
)
def test_who_waits_for_others_while_it_saves_does_not_work(file: str) -> None:
    assert culprit.are_working({0: where(ALL_REDUCE, Frame(file, 9, "f"), SCRIPT)}) == ()


def verdict_on(*reports: Report, ended: Collection[int] = ()) -> Verdict:
    said = dict(enumerate(reports))
    homes = {0: Home(0), 1: Home(1, "n7")}
    return Verdict.of(Life(2, 1), culprit.find(said, ended), said, homes, (Phase.DATA, 41.04))


SENTENCES = {
    "with replica, node and line": (
        verdict_on(WAITS, where(DATA, positions=[at(6)]), WAITS),
        (
            "the training hangs: rank 1 (replica 1, node n7) has not entered the collective that "
            "others wait in; it is at /app/data.py:88 (read_shard), phase data, for 41 s; 2 other "
            "ranks wait in all_reduce, collective 7"
        ),
    ),
    "without a line": (
        verdict_on(STOPPED, IN_COLLECTIVE),
        (
            "the training hangs: rank 0 (replica 0) did not say where it is; it is stopped by a "
            "signal, phase data, for 41 s; 1 other rank waits in /app/train.py:12 (main)"
        ),
    ),
    "of one that has ended": (
        verdict_on(WAITS, ended=[1]),
        (
            "the training hangs: rank 1 (replica 1, node n7) has ended, while all others wait; 1 "
            "other rank waits in all_reduce, collective 7"
        ),
    ),
    "of all": (
        verdict_on(READS, READS, READS),
        (
            "the training hangs: rank 0 (replica 0) stands, as all ranks do; it is at "
            "/app/data.py:88 (read_shard), phase data, for 41 s; also suspected: rank 1, 2"
        ),
    ),
}


@pytest.mark.parametrize(("verdict", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_a_verdict_is_one_sentence(verdict: Verdict, sentence: str) -> None:
    assert str(verdict) == sentence


def test_a_verdict_is_json() -> None:
    told = json.loads(json.dumps(verdict_on(WAITS, where(DATA, positions=[at(6)])).as_dict()))
    assert told.pop("message").startswith("the training hangs: rank 1")
    assert told == {
        "kind": "hang",
        "attempt": 2,
        "life": 1,
        "evidence": "absent",
        "rank": 1,
        "suspects": [1],
        "replica": 1,
        "node": "n7",
        "file": "/app/data.py",
        "line": 88,
        "function": "read_shard",
        "phase": "data",
        "seconds": 41.0,
        "waiting": 1,
        "waitsIn": "all_reduce, collective 7",
    }


def test_a_verdict_on_a_thousand_ranks_stays_short() -> None:
    told = verdict_on(*[READS] * 1000)
    assert "also suspected: rank 1, 2, 3, 4, 5, 6, 7, 8 and 991 more" in str(told)
    assert len(json.dumps(told.as_dict())) < 2000


names = st.text(max_size=300).map(frames.printable)
stacks = st.lists(
    st.builds(Frame, names.map(lambda name: name[:500]), st.integers(0, 10**9), names), max_size=60
)
positions = st.lists(
    st.builds(
        Position,
        group=names.map(lambda name: name[:200]),
        number=st.integers(0, 2**63),
        operation=names.map(lambda name: name[:200]),
        is_waiting=st.booleans(),
        is_of_all=st.booleans(),
    ),
    max_size=12,
)


@given(stacks, names, positions, names)
def test_a_report_survives_the_channel(
    stack: list[Frame], inside: str, known: list[Position], excuse: str
) -> None:
    made = Report.of(tuple(stack), inside=inside, positions=known, excuse=excuse)
    line = json.dumps(made.as_dict())
    assert report.read(json.loads(line)) == made


def test_the_longest_report_fits_into_a_line_of_the_channel() -> None:
    stack = (Frame('"' * 500, 10**9, '"' * 500),) * 100
    group = Position(group='"' * 200, number=2**63, operation='"' * 200, is_waiting=False)
    made = Report.of(stack, inside='"' * 999, positions=[group] * 100, excuse='"' * 999)
    assert len(json.dumps(made.as_dict())) < 60 << 10


GOOD = where(SCRIPT, positions=[at(3)]).as_dict()


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        GOOD | {"more": 1},
        GOOD | {"stack": {}},
        GOOD | {"stack": [["a", 1]]},
        GOOD | {"stack": [["a", True, "f"]]},
        GOOD | {"stack": [["a", -1, "f"]]},
        GOOD | {"stack": [["a\u001b", 1, "f"]]},
        GOOD | {"stack": [["a", 1, "f"]] * 33},
        GOOD | {"excuse": 3},
        GOOD | {"inside": "a\nb"},
        GOOD | {"excuse": "a" * 201},
        GOOD | {"positions": [["0", 1, "x", 1, True]]},
        GOOD | {"positions": [["0", -1, "x", True, True]]},
        GOOD | {"positions": [["0", 1, "x", True, True]] * 9},
    ],
    ids=lambda told: str(told)[:60],
)
def test_what_is_no_report_is_refused(told: object) -> None:
    with pytest.raises(ValueError, match=r"must|at most|may have"):
        report.read(told)
    assert report.read(GOOD) == where(SCRIPT, positions=[at(3)])
