"""A variable that looks like one of the runtime's, and has no effect, is said at the start."""

import os

import pytest

from acceleratedjob.manifests import env as operator_side
from runtime import Accelerator
from runtime.loop.misspelt import KNOWN, misspelt
from tests.attempts import env_of
from tests.contract.manifests import TEMPLATE
from tests.operator.builders import spec

DIRECTORY = "ACCELERATEDJOB_CHECKPOINT_DIR"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ACCELERATEDJOB_CHECKPOINT_DIRECTORY", "did you mean ACCELERATEDJOB_CHECKPOINT_DIR?"),
        ("ACCELERATEDJOB_CHECKPOINTS_DIR", "did you mean ACCELERATEDJOB_CHECKPOINT_DIR?"),
        ("ACCELERATEDJOB_CHECKPOINT_EVERY_STEP", "mean ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS?"),
        ("ACCELERATEDJOB_STOP_GRACE", "did you mean ACCELERATEDJOB_STOP_GRACE_SECONDS?"),
        ("ACCELERATEDJOB_DIVERGENCE_STEPS", "mean ACCELERATEDJOB_DIVERGENCE_EVERY_STEPS?"),
        ("ACCELERATEDJOB_REPLICA", "did you mean ACCELERATEDJOB_REPLICAS?"),
        ("ACCELERATEDJOB_CHECKPOINT_COMPRESSION_LEVEL", "known are ACCELERATEDJOB_CHECKPOINT_D"),
    ],
)
def test_a_misspelt_name_is_said_with_the_one_that_was_meant(name: str, meant: str) -> None:
    (sentence,) = misspelt({name: "1", "PATH": "/bin", DIRECTORY: "/run"})
    assert sentence.startswith(f"{name} has no effect; ")
    assert meant in sentence


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_name_is_none(name: str) -> None:
    assert list(misspelt({name: "1"})) == []


def test_what_the_operator_sets_is_known() -> None:
    env = env_of(spec(checkpoint=TEMPLATE | {"everySteps": 2, "keep": 3}), attempt=0, index=1)
    assert operator_side.CHECKPOINT_DIR in env
    assert {name for name in env if name.startswith("ACCELERATEDJOB_")} <= set(KNOWN)


@pytest.mark.parametrize(
    "name",
    [
        *("ACCELERATEDJOB_SERVICE_HOST", "ACCELERATEDJOB_PORT", "ACCELERATEDJOB_PORT_443_TCP"),
        *("ACCELERATEDJOB_OPERATOR_METRICS_PORT_8080_TCP_ADDR", "ACCELERATEDJOB_TESTBED_BIN"),
    ],
)
def test_a_variable_that_others_set_is_no_misspelt_one(name: str) -> None:
    assert list(misspelt({name: "1"})) == []


def test_an_accelerator_says_it_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert DIRECTORY not in os.environ
    monkeypatch.setenv(f"{DIRECTORY}ECTORY", "/run")
    Accelerator(cpu=True)
    assert capsys.readouterr().err == (
        f"runtime: {DIRECTORY}ECTORY has no effect; did you mean {DIRECTORY}?\n"
    )
