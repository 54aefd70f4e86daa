import pytest

from acceleratedjob.api.spec import JobSpec
from acceleratedjob.controller.specs import Specs
from acceleratedjob.errors import InvalidSpec
from tests.operator.builders import UID, job


def test_each_generation_of_a_job_is_read_once() -> None:
    specs, first = Specs(), job()
    made = specs.read(first)
    assert specs.read(job()) is made
    changed = job(replicas=5)
    changed["metadata"]["generation"] = 2
    assert specs.read(changed).replicas == 5
    specs.forget(UID)
    assert specs.read(first) is not made


def test_the_specs_that_were_asked_for_last_are_kept() -> None:
    specs = Specs(kept=2)

    def read(uid: str) -> JobSpec:
        made = job()
        made["metadata"]["uid"] = uid
        return specs.read(made)

    first, second = read("1"), read("2")
    assert read("1") is first
    read("3")
    assert read("1") is first
    assert read("2") is not second


def test_what_cannot_be_read_is_an_error_each_time() -> None:
    specs, wrong = Specs(), job(replicas=0)
    for _ in range(2):
        with pytest.raises(InvalidSpec, match=r"spec\.replicas"):
            specs.read(wrong)
