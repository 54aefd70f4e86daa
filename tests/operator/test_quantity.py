"""Quantities: Kubernetes' own form, read in a time that no text makes long."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from acceleratedjob.api.quantity import MAX_LENGTH, parse
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.errors import InvalidSpec, shown
from tests.attempts import pod_of
from tests.operator.builders import job

DIGITS = "1" * 20_000
HOSTILE = {
    "an exponent whose number has a million digits": "1e999999",
    "an exponent beyond what a Decimal has": "1e99999999",
    "a negative one": "1e-99999999",
    "an exponent of 20,000 digits": f"1e{DIGITS}",
    "20,000 digits": DIGITS,
    "20,000 digits and then something else": f"{DIGITS}!",
    "20,000 digits after a point": f"0.{DIGITS}!",
    "a float that is as large": 1e308,
    "an integer that is as large": 10**4000,
    "an integer of more digits than Python writes": 16**5000,
    "digits that only Unicode has": "\N{ARABIC-INDIC DIGIT ONE}",
    "a megabyte": "x" * 10**6,
    "not a number": float("nan"),
    "a list": [[1]],
    "a truth": True,
}


@contextmanager
def at_once() -> Iterator[None]:
    """Check that the block takes less than a second of CPU; a number of 10^6 digits takes more."""
    gc.disable()  # what other tests have left is not to be looked through meanwhile
    began = time.thread_time()
    try:
        yield
    finally:
        gc.enable()
    assert time.thread_time() - began < 1


def in_limits(value: Any, resource: str = "cpu") -> Any:
    """A job whose training container has a limit."""
    return job({"resources": {"limits": {resource: value}}})


PLACES: dict[str, Callable[[Any], Any]] = {
    "cpu": in_limits,
    "memory": lambda value: in_limits(value, "memory"),
    "a device": lambda value: in_limits(value, "nvidia.com/gpu"),
    "shared memory": lambda value: job(sharedMemory={"sizeLimit": value}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_quantity_is_refused_at_once_in_few_words(value: Any, place: str) -> None:
    made = PLACES[place](value)
    with at_once(), pytest.raises(InvalidSpec) as error:
        JobSpec.from_manifest(made)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("value", ["1" * MAX_LENGTH, "1e99", "9" * 60 + "Ei", "1e-99", "1E+5"])
@pytest.mark.parametrize("resource", ["cpu", "memory", "example.com/thing"])
def test_what_is_within_the_bounds_makes_a_pod_at_once(value: str, resource: str) -> None:
    with at_once():
        spec = JobSpec.from_manifest(in_limits(value, resource))
        assert pod_of(spec, attempt=0, index=0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("500m", "0.5"), ("1.5", "1.5"), (".5", "0.5"), ("5.", "5"), ("+1", "1"), ("-1", "-1")),
        *(("8Gi", 8 * 2**30), ("2k", 2000), ("1e3", 1000), ("1E3", 1000), ("1e-3", "0.001")),
        *(("1E", 10**18), (2, 2), (1.5, "1.5"), ("100n", "1e-7")),
    ],
)
def test_a_quantity_is_what_kubernetes_takes_it_for(text: Any, value: Any) -> None:
    assert parse(text) == Decimal(value)


def test_a_value_is_shown_in_few_characters() -> None:
    for value in (*HOSTILE.values(), [[[[[1]]]]], {"a": "x" * 10**6}, None):
        assert len(shown(value)) <= 300
