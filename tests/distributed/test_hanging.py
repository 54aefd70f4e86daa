"""In a world of real processes the rank that the others wait for is named, with its line."""

import json
import os
from pathlib import Path

import pytest

from tests.distributed.world import SCRIPT, forked

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.xdist_group("gloo")]

PROGRAM = Path(__file__).with_name("hanging.py")
CASES = [  # the world size, what the culprit does, its rank, and the evidence
    (2, "sleeps", 1, "absent"),
    (3, "is_stopped", 0, "silent"),
    (2, "waits_for_its_own_lock", 0, "absent"),
    (3, "loops_in_c", 2, "absent"),
    (2, "reads_slowly", 1, "absent"),
]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, object]]:
    """The verdict on each world."""
    cases = [f"{size}:{kind}:{rank}" for size, kind, rank, _ in CASES]
    (done,) = forked(([str(PROGRAM), *cases], os.environ | SCRIPT))
    assert done.code == 0, done.err[-5000:]
    told = [json.loads(line) for line in done.out.splitlines()]
    return {one["case"]: one for one in told}


@pytest.mark.parametrize(("size", "kind", "rank", "why"), CASES)
def test_the_rank_that_hangs_is_named(
    verdicts: dict[str, dict[str, object]], size: int, kind: str, rank: int, why: str
) -> None:
    verdict = verdicts[f"{size}:{kind}:{rank}"]
    assert (verdict["rank"], verdict["suspects"], verdict["evidence"]) == (rank, [rank], why)
    assert (verdict["replica"], verdict["node"]) == (rank, f"node-{rank}")
    is_line_known = kind != "is_stopped"
    assert verdict["function"] == (kind if is_line_known else None)
    assert verdict["file"] == (str(PROGRAM) if is_line_known else None)
    assert verdict["waiting"] == size - 1
    assert str(verdict["waitsIn"]).startswith("all_reduce, collective ")
    expected = "stopped by a signal" if kind == "is_stopped" else "hanging.py:"
    assert expected in str(verdict["message"])
