"""The pod's environment: what the operator sets is what the runtime reads."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.manifests import env as operator_side
from acceleratedjob.manifests.env import SHARED_MEMORY_PATH
from runtime.config.settings import LoopSettings, Settings, env_name
from runtime.errors import WorldError
from runtime.launch.plan import Pod, environments, plan
from runtime.world.contract import Job, World
from tests.attempts import env_of
from tests.operator.builders import CONTAINER, UID, spec

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "mixedPrecision": "bf16",
    "gradientAccumulationSteps": 3,
    "rngTypes": ["torch"],
    "splitBatches": True,
    "dispatchBatches": True,
    "evenBatches": False,
    "useSeedableSampler": True,
    "seed": 7,
}
EXPECTED = {
    "mixed_precision": "bf16",
    "gradient_accumulation_steps": 3,
    "rng_types": ["torch"],
    "split_batches": True,
    "dispatch_batches": True,
    "even_batches": False,
    "use_seedable_sampler": True,
    "seed": 7,
}
SCRIPT = """
import json, torch
from runtime import Accelerator
accelerator = Accelerator({})
names = ("mixed_precision", "gradient_accumulation_steps", "rng_types", "split_batches")
names += ("dispatch_batches", "even_batches", "use_seedable_sampler")
found = {{name: getattr(accelerator, name) for name in names}}
print(json.dumps(found | {{"seed": torch.initial_seed()}}))
"""


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_every_replica_reads_its_own_place(replicas: int) -> None:
    job = spec(replicas=replicas)
    worlds = [World.from_env(env_of(job, attempt=4, index=index)) for index in range(replicas)]
    assert [(world.rank, world.size) for world in worlds] == [
        (index, replicas) for index in range(replicas)
    ]
    assert {world.master_addr for world in worlds} == {"digits-4-0.digits.research.svc"}


def test_the_jobs_identity_is_read_back() -> None:
    found = Job.from_env(env_of(spec(), attempt=4, index=1))
    assert found == Job(
        name="digits",
        namespace="research",
        uid=UID,
        attempt=4,
        replicas=2,
        replica_index=1,
        processes_per_replica=1,
    )


def test_the_launcher_gives_one_process_the_ranks_that_the_operator_would() -> None:
    env = env_of(spec(), attempt=0, index=1)
    bare = {name: value for name, value in env.items() if name.startswith(("PET_", "ACCELER"))}
    (given,) = environments(pod(bare), processes=1, port=pod(bare).master_port)
    assert World.from_env(given) == World.from_env(env)


def test_several_processes_need_a_launcher_and_are_told_so() -> None:
    env = env_of(spec(processesPerReplica=2), attempt=0, index=1)
    with pytest.raises(WorldError, match=r"python -m runtime\.launch"):
        World.from_env(env)
    worlds = [
        World.from_env(given)
        for given in environments(pod(env), processes=int(pod(env).processes), port=29500)
    ]
    assert [(world.rank, world.size, world.local_rank) for world in worlds] == [
        (2, 4, 0),
        (3, 4, 1),
    ]


def pod(env: Mapping[str, str]) -> Pod:
    """What the launcher starts."""
    found = plan(["train.py"], env)
    assert isinstance(found, Pod)
    return found


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("mixedPrecision", "bf16", "bf16"),
        ("mixedPrecision", "fp8", "fp8"),
        ("gradientAccumulationSteps", 4, 4),
        ("rngTypes", ["torch", "generator"], ("torch", "generator")),
        ("splitBatches", True, True),
        ("evenBatches", False, False),
        ("useSeedableSampler", True, True),
        ("seed", 0, 0),
        ("backend", "gloo", "gloo"),
        ("dispatchBatches", True, True),
        ("sharding", "fsdp", True),
        ("sharding", "none", False),
    ],
)
def test_every_setting_of_the_spec_is_read_back(field: str, value: object, read: object) -> None:
    env = env_of(spec(runtime={field: value}), attempt=0, index=0)
    settings = Settings.from_env(env)
    other = {"backend": "distributed_backend", "sharding": "use_fsdp"}
    name = other.get(field) or next(
        name for name in operator_side.RUNTIME_ENV if name.replace("_", "") == field.lower()
    )
    assert getattr(settings, name) == read


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        pytest.param("", {}, id="the script says nothing"),
        pytest.param(
            "split_batches=False, gradient_accumulation_steps=2",
            {"split_batches": False, "gradient_accumulation_steps": 2},
            id="the script's word wins",
        ),
    ],
)
def test_an_accelerator_is_as_the_spec_says(arguments: str, changed: dict[str, object]) -> None:
    job = spec(replicas=1, runtime=SETTINGS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(arguments)],
        env=kept | {"PYTHONPATH": str(ROOT)} | env_of(job, attempt=0, index=0),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == EXPECTED | changed


@pytest.mark.parametrize(
    ("given", "read"),
    [
        pytest.param({}, {}, id="no cadence: continuous"),
        pytest.param({"continuous": True}, {}, id="continuous"),
        pytest.param({"everySteps": 7}, {"checkpoint_every_steps": 7}, id="by steps"),
        pytest.param({"everySeconds": 7}, {"checkpoint_every_seconds": 7}, id="by seconds"),
        pytest.param({"keep": 5}, {"checkpoint_keep": 5}, id="more are kept"),
        pytest.param(
            {"inMemory": True},
            {"checkpoint_memory_dir": SHARED_MEMORY_PATH},
            id="newer ones in memory",
        ),
    ],
)
def test_checkpoints_are_as_the_spec_says(given: dict[str, object], read: dict[str, Any]) -> None:
    checkpoint = {"uri": "s3://bucket", "path": "a"} | given
    job = spec(checkpoint=checkpoint, template=waits_for(90))
    expected = LoopSettings(
        checkpoint_dir="s3://bucket/a",
        stop_grace_seconds=90,
        progress_port=29400,
        in_place_restarts=3,
        **({"checkpoint_keep": 2} | read),
    )
    assert LoopSettings.from_env(env_of(job)) == expected


def test_without_restarts_in_place_no_checkpoint_is_kept_in_memory() -> None:
    job = spec(
        checkpoint={"uri": "s3://bucket", "inMemory": True}, failurePolicy={"inPlaceRestarts": 0}
    )
    assert LoopSettings.from_env(env_of(job)).checkpoint_memory_dir is None


def test_restarts_in_place_are_as_the_spec_says() -> None:
    policy = {
        "inPlaceRestarts": 2,
        "rules": [{"action": "Fail", "exitCodes": [42], "signals": [9]}],
    }
    job = spec(stallDeadlineSeconds=60, failurePolicy=policy)
    found = LoopSettings.from_env(env_of(job))
    assert (found.in_place_restarts, found.stall_deadline_seconds) == (2, 60)
    assert found.fail_exit_codes == (42, 137)


def waits_for(seconds: int) -> dict[str, object]:
    """A template with a grace period."""
    return {"spec": {"containers": [CONTAINER], "terminationGracePeriodSeconds": seconds}}


def test_no_setting_is_sent_that_nobody_reads() -> None:
    others = {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_CPU"}
    sent = {*operator_side.RUNTIME_ENV.values(), *others}
    assert sent <= {env_name(field) for field in Settings.__dataclass_fields__}
