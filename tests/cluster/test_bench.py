"""The operator's benchmark runs, next to an Indexed Job, on control planes of its own."""

import dataclasses

import pytest

from bench.operator.__main__ import chosen, measured
from bench.operator.ways import INDEXED_JOB, OPERATOR

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.mark.usefixtures("programs")
def test_a_quick_burst_is_measured_of_all_ways() -> None:
    (line,) = chosen(["burst-64x8"])
    failures: list[str] = []
    # Enough pods for each controller to use more CPU than the 10 ms in which it is counted.
    line = dataclasses.replace(line, ways=(OPERATOR, INDEXED_JOB), quick={"jobs": 8, "pods": 8})
    results = measured(line, 1, failures, is_quick=True)
    assert failures == []
    assert [one.way for one in results] == ["operator", "indexed job"]
    pods = line.quick["jobs"] * line.quick["pods"]
    for one in results:
        (facts,) = one.facts
        assert facts["pods"] == pods
        assert all(facts[name] > 0 for name in ("seconds", "rate", "cpu", "memory", "bytes"))
        assert facts["writes"] >= line.quick["pods"]
