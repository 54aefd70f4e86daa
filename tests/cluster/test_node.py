"""Jobs whose pods are real: they find each other by name, train over gloo, fail and come back."""

import json
import os
import signal

import pytest

from tests.cluster.jobs import PYTHON, TRAINING_SECONDS, Job, real_job
from tests.cluster.testbed.places import NODE_NAME, PROJECT
from tests.cluster.testbed.processes import process_with

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.usefixtures("crd", "node"),
]

SCRIPTS = PROJECT / "tests" / "cluster" / "scripts"


def process_in(namespace: str, pod: str) -> int:
    """The process id, on this machine, of a pod's training."""
    return process_with(HOSTNAME=pod, ACCELERATEDJOB_NAMESPACE=namespace)


def test_the_digits_train_in_pods_that_find_each_other_by_name(job: Job) -> None:
    job.apply(real_job(job.namespace, [PYTHON, "train.py"]))
    job.wait("condition=Complete", seconds=TRAINING_SECONDS)
    accuracy = float(job.kubectl("logs", "digits-0-0").split()[-1])
    assert accuracy >= 0.95
    assert job.get(".status.worldSize") == "2"


def test_a_process_sees_exactly_the_contract(job: Job) -> None:
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    manifest = real_job(job.namespace, ["python3", "-c", show], runtime={"seed": 7})
    job.apply(manifest)
    job.wait("condition=Complete")
    address = f"digits-0-0.digits.{job.namespace}.svc"
    uid = job.get(".metadata.uid")
    for index in range(2):
        seen = json.loads(job.kubectl("logs", f"digits-0-{index}"))
        # What the kubelet adds for every container of every pod, and what image and template say.
        others = {name for name in seen if name.startswith("KUBERNETES_")}
        others |= {"PATH", "HOME", "HOSTNAME", "OMP_NUM_THREADS"} | ({"LC_CTYPE"} & set(seen))
        assert {name: seen[name] for name in seen.keys() - others} == {
            "ACCELERATEDJOB_NAME": "digits",
            "ACCELERATEDJOB_NAMESPACE": job.namespace,
            "ACCELERATEDJOB_UID": uid,
            "ACCELERATEDJOB_ATTEMPT": "0",
            "ACCELERATEDJOB_NODE_NAME": NODE_NAME,
            "ACCELERATEDJOB_REPLICAS": "2",
            "ACCELERATEDJOB_REPLICA_INDEX": f"{index}",
            "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "1",
            "ACCELERATEDJOB_PROGRESS_PORT": "29400",
            "ACCELERATEDJOB_STOP_GRACE_SECONDS": "30",
            "ACCELERATEDJOB_IN_PLACE_RESTARTS": "3",
            "RANK": f"{index}",
            "WORLD_SIZE": "2",
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "GROUP_RANK": f"{index}",
            "GROUP_WORLD_SIZE": "2",
            "MASTER_ADDR": address,
            "MASTER_PORT": "29500",
            "PET_NNODES": "2",
            "PET_NPROC_PER_NODE": "1",
            "PET_NODE_RANK": f"{index}",
            "PET_MASTER_ADDR": address,
            "PET_MASTER_PORT": "29500",
            "ACCELERATE_SEED": "7",
            "ACCELERATE_USE_CPU": "true",
        }


LAUNCH = [PYTHON, "-m", "accelerate.commands.launch"]
WHERE = [  # as its users give them; the kubelet puts the values in
    "--num_machines=2",
    "--machine_rank=$(PET_NODE_RANK)",
    "--main_process_ip=$(MASTER_ADDR)",
    "--main_process_port=$(MASTER_PORT)",
]


@pytest.mark.parametrize(
    ("processes", "start", "script"),
    [
        pytest.param(1, [PYTHON], "torch_distributed.py", id="plain torch, one process each"),
        pytest.param(
            2,
            [PYTHON, "-m", "torch.distributed.run"],
            "torch_distributed.py",
            id="torchrun, two processes each",
        ),
        pytest.param(1, [PYTHON], "with_accelerate.py", id="accelerate, one process each"),
        pytest.param(
            2,
            [PYTHON, "-m", "runtime.launch"],
            "with_accelerate.py",
            id="accelerate, two processes each by our launcher",
        ),
        pytest.param(
            1,
            [*LAUNCH, "--cpu"],
            "with_accelerate.py",
            id="accelerate launch, one process each",
        ),
        pytest.param(
            2,
            [*LAUNCH, "--multi_gpu", "--num_processes=4", *WHERE],
            "with_accelerate.py",
            id="accelerate launch, two processes each",
        ),
    ],
)
def test_others_scripts_find_the_same_world(
    job: Job, processes: int, start: list[str], script: str
) -> None:
    world = 2 * processes
    command = [*start, str(SCRIPTS / script), str(world)]
    job.apply(real_job(job.namespace, command, processesPerReplica=processes))
    job.wait("condition=Complete", seconds=TRAINING_SECONDS)
    assert job.get(".status.failures") == ""
    told = "".join(job.kubectl("logs", f"digits-0-{index}") for index in range(2))
    assert sorted(line for line in told.splitlines() if line.startswith("rank ")) == [
        f"rank {rank} of {world}" for rank in range(world)
    ]


@pytest.mark.parametrize(
    ("container", "told"),
    [
        pytest.param({"image": "none.local/such:1"}, "(ErrImageNeverPull)", id="no such image"),
        pytest.param({"command": ["no-such-program"]}, "(StartError)", id="no such program"),
    ],
)
def test_what_can_never_start_fails_the_job_at_once(
    job: Job, container: dict[str, object], told: str
) -> None:
    manifest = real_job(job.namespace, ["python3", "-c", "pass"])
    manifest["spec"]["template"]["spec"]["containers"][0] |= container
    job.apply(manifest)
    job.wait("condition=Failed")
    failed = json.loads(job.get(".status.conditions[?(@.type=='Failed')]"))
    assert failed["reason"] == "CannotStart"
    assert told in failed["message"]
    assert job.get(".status.restarts") == "0"


def test_a_process_that_stops_when_asked_to_is_not_to_blame(job: Job) -> None:
    script = (
        "import os, signal, sys, time\n"
        "def stop(*_):\n"
        "    with open('/dev/termination-log', 'w') as file:\n"
        '        file.write(\'{"stopped": {"step": 7}}\')  # as the runtime does\n'
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open('/run/ready', 'w').close()\n"
        "os.environ['ACCELERATEDJOB_ATTEMPT'] == '0' and time.sleep(300)"
    )
    policy = {"maxRestarts": 0, "backoff": {"initialSeconds": 0}}
    manifest = real_job(job.namespace, ["python3", "-c", script], failurePolicy=policy)
    (trainer,) = manifest["spec"]["template"]["spec"]["containers"]
    ready = {"exec": {"command": ["test", "-e", "/run/ready"]}, "periodSeconds": 1}
    trainer["readinessProbe"] = ready
    job.apply(manifest)
    job.wait("jsonpath={.status.phase}=Running")
    os.kill(process_in(job.namespace, "digits-0-1"), signal.SIGTERM)
    job.wait("condition=Complete")
    assert (job.get(".status.restarts"), job.get(".status.attempt")) == ("0", "1")
    failure = json.loads(job.get(".status.failures[0]"))
    assert (failure["exitCode"], failure["step"]) == (143, 7)


def test_a_killed_process_brings_one_new_attempt_of_the_whole_gang(job: Job) -> None:
    at_once = {"backoff": {"initialSeconds": 0}}
    job.apply(real_job(job.namespace, [PYTHON, "train.py"], failurePolicy=at_once))
    job.wait("jsonpath={.status.phase}=Running")
    os.kill(process_in(job.namespace, "digits-0-1"), signal.SIGKILL)
    job.wait("condition=Complete", seconds=TRAINING_SECONDS)
    assert job.names("pods") == ["digits-1-0", "digits-1-1"], job.get(".status.failures")
    assert job.get(".status.restarts") == "1"
    failure = json.loads(job.get(".status.failures[0]"))
    assert (failure["replica"], failure["exitCode"]) == (1, 137)
