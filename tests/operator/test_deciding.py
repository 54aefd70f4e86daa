import pytest

from acceleratedjob.deciding import Specs
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


def test_what_cannot_be_read_is_an_error_each_time() -> None:
    specs, wrong = Specs(), job(replicas=0)
    for _ in range(2):
        with pytest.raises(InvalidSpec, match=r"spec\.replicas"):
            specs.read(wrong)
