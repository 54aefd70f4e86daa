"""How deep and how large a job may be: decided in a bounded time, and said of the job itself."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from acceleratedjob.api import bounds
from acceleratedjob.api.bounds import MAX_DEPTH, MAX_VALUES, UNREADABLE, bounded, excess
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.controller.cache import Cache
from acceleratedjob.errors import InvalidSpec
from tests.operator.builders import job

DEEP = f"must be nested at most {MAX_DEPTH} levels deep, and is nested deeper"
LARGE = f"must have at most {MAX_VALUES} values, and has more"


def nested(depth: int, inside: Any = 1) -> Any:
    """Lists and mappings in turn, so many inside of each other."""
    value = inside
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value


def endless() -> list[Any]:
    """A list that contains itself, as YAML can have it."""
    value: list[Any] = []
    value.append(value)
    return value


def laughs() -> Any:
    """A list of lists of the same lists: few objects, and 10^9 values when all are counted."""
    value: Any = [0] * 10
    for _ in range(8):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param("x" * 10**6, None, id="a long text"),
        pytest.param(10**400, None, id="a long number"),
        pytest.param(nested(MAX_DEPTH - 1), None, id="as deep as may be"),
        pytest.param(nested(MAX_DEPTH + 1), DEEP, id="one level deeper"),
        pytest.param(nested(10_000), DEEP, id="as deep as an API server takes"),
        pytest.param(endless(), DEEP, id="without end"),
        pytest.param([0] * MAX_VALUES, None, id="as many as may be"),
        pytest.param([0] * (MAX_VALUES + 1), LARGE, id="one more"),
        pytest.param([[]] * 500_000, LARGE, id="half a million lists"),
        pytest.param({f"{n}": {} for n in range(100_000)}, LARGE, id="a hundred thousand mappings"),
        pytest.param(laughs(), LARGE, id="a billion laughs"),
    ],
)
def test_what_is_beyond_the_bounds_is_found_in_a_bounded_time(
    value: Any, sentence: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more values are looked at than there may be."""
    inner, count = bounds._inner, 0

    def counted(*given: Any) -> Iterator[Any]:
        nonlocal count
        for each in inner(*given):
            count += 1
            yield each

    monkeypatch.setattr(bounds, "_inner", counted)
    assert excess(value) == sentence
    assert count <= MAX_VALUES + 1


def test_the_largest_pods_that_are_of_use_are_within_the_bounds() -> None:
    secrets = [
        {"name": f"V{i}", "valueFrom": {"secretKeyRef": {"name": "a", "key": f"k{i}"}}}
        for i in range(60)
    ]
    many = [{"name": f"c{i}", "image": "a", "env": secrets} for i in range(100)]
    template = {"metadata": {"annotations": {"last-applied": "x" * 200_000}}}
    JobSpec.from_manifest(job(template=template | {"spec": {"containers": many}}))


def with_volume(value: Any) -> Manifest:
    """A job with something in a part of its template that the operator does not read."""
    made = job()
    made["spec"]["template"]["spec"]["volumes"] = [{"x": value}]
    return made


@pytest.mark.parametrize(
    ("value", "sentence"), [(nested(MAX_DEPTH), DEEP), ([0] * MAX_VALUES, LARGE)]
)
def test_a_job_beyond_the_bounds_is_refused_for_its_spec(value: Any, sentence: str) -> None:
    made = with_volume(value)
    for manifest in (made, bounded(made)):
        with pytest.raises(InvalidSpec) as error:
            JobSpec.from_manifest(manifest)
        assert (error.value.field, error.value.message) == ("spec", sentence)


def test_a_job_within_the_bounds_stays_as_it_is() -> None:
    made = with_volume(nested(40))
    assert bounded(made) is made
    JobSpec.from_manifest(made)


def test_of_a_job_beyond_the_bounds_little_is_kept() -> None:
    made = with_volume([[]] * 500_000)
    made["metadata"] |= {"resourceVersion": "5", "managedFields": [0] * 10_000}
    made |= {"status": {"phase": "Failed"}}
    cache = Cache()
    cache.keep_job(made)
    (kept,) = cache.jobs.values()
    assert kept[UNREADABLE] == LARGE
    assert len(json.dumps(kept)) < 500
    assert (kept["metadata"]["name"], kept["status"]["phase"]) == ("digits", "Failed")
    forged = made | {"status": {"x": nested(4_000)}}
    assert "status" not in bounded(forged)
