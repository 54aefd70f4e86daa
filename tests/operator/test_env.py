from dataclasses import replace

import pytest

from acceleratedjob.api import devices
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.sections import MAX_PROCESSES
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.manifests.env import NODE_NAME, merged
from acceleratedjob.observe.observed import Observed
from acceleratedjob.planner.actions import Announce
from acceleratedjob.planner.planner import plan
from tests.attempts import env_of
from tests.operator.builders import CONTAINER, NOW, UID, spec

IDENTITY = {
    "ACCELERATEDJOB_NAME": "digits",
    "ACCELERATEDJOB_NAMESPACE": "research",
    "ACCELERATEDJOB_UID": UID,
    "ACCELERATEDJOB_ATTEMPT": "3",
    "ACCELERATEDJOB_REPLICAS": "2",
    "ACCELERATEDJOB_REPLICA_INDEX": "1",
    "ACCELERATEDJOB_PROGRESS_PORT": "29400",
    "ACCELERATEDJOB_STOP_GRACE_SECONDS": "30",
    "ACCELERATEDJOB_IN_PLACE_RESTARTS": "3",
}
ADDRESS = "digits-3-0.digits.research.svc"


def test_one_process_a_replica_has_its_rank() -> None:
    assert env_of(spec(), attempt=3, index=1) == IDENTITY | {
        "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "1",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "MASTER_ADDR": ADDRESS,
        "MASTER_PORT": "29500",
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": ADDRESS,
        "PET_MASTER_PORT": "29500",
        "ACCELERATE_USE_CPU": "true",
    }


def test_several_processes_a_replica_have_none_before_they_are_started() -> None:
    env = env_of(spec(processesPerReplica=4, network={"port": 3000}), attempt=3, index=1)
    assert env == IDENTITY | {
        "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "4",
        "MASTER_ADDR": ADDRESS,
        "MASTER_PORT": "3000",
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": ADDRESS,
        "PET_MASTER_PORT": "3000",
        "ACCELERATE_USE_CPU": "true",
    }


def limits(**amounts: str) -> dict[str, object]:
    return {"resources": {"limits": {name.replace("__", "/"): n for name, n in amounts.items()}}}


@pytest.mark.parametrize(
    ("container", "fields", "name", "value"),
    [
        pytest.param({}, {}, "OMP_NUM_THREADS", None, id="no CPU limit: torch decides"),
        pytest.param(limits(cpu="6"), {}, "OMP_NUM_THREADS", "6", id="one process has all cores"),
        pytest.param(
            limits(cpu="6"),
            {"processesPerReplica": 4},
            "OMP_NUM_THREADS",
            "1",
            id="four processes share six cores",
        ),
        pytest.param(
            limits(cpu="500m"), {}, "OMP_NUM_THREADS", "1", id="half a core is one thread"
        ),
        pytest.param(
            {"resources": {"limits": {"nvidia.com/gpu": "1"}}},
            {},
            "ACCELERATE_USE_CPU",
            None,
            id="a GPU is used",
        ),
        pytest.param(
            {}, {"runtime": {"splitBatches": True}}, "ACCELERATE_SPLIT_BATCHES", "true", id="a flag"
        ),
        pytest.param(
            {},
            {"runtime": {"rngTypes": ["torch", "cuda"]}},
            "ACCELERATE_RNG_TYPES",
            "torch,cuda",
            id="a list",
        ),
        pytest.param(
            {},
            {"network": {"progressPort": 3001}},
            "ACCELERATEDJOB_PROGRESS_PORT",
            "3001",
            id="another port",
        ),
        pytest.param({}, {}, "ACCELERATE_USE_FSDP", None, id="sharding is the script's to say"),
        pytest.param(
            {}, {"runtime": {"sharding": "none"}}, "ACCELERATE_USE_FSDP", "false", id="whole"
        ),
        pytest.param(
            {}, {"runtime": {"sharding": "fsdp"}}, "ACCELERATE_USE_FSDP", "true", id="sharded"
        ),
        pytest.param(
            {}, {"runtime": {"sharding": "fsdp"}}, "FSDP_VERSION", "2", id="by FSDP2, as here"
        ),
        pytest.param({}, {"runtime": {"seed": 0}}, "ACCELERATE_SEED", "0", id="zero is a seed"),
        pytest.param(
            {}, {"elastic": {"maxReplicas": 8}}, "PET_NNODES", "2", id="elastic: the size of now"
        ),
    ],
)
def test_what_depends_on_the_spec(
    container: dict[str, object], fields: dict[str, object], name: str, value: str | None
) -> None:
    assert env_of(spec(container, **fields), attempt=0, index=0).get(name) == value


@pytest.mark.parametrize(
    ("asked", "processes", "on_cpu"),
    [
        pytest.param({}, 1, True, id="nothing"),
        pytest.param({"cpu": "64", "memory": "1Ti"}, 1, True, id="a large node's CPU"),
        pytest.param({"nvidia.com/gpu": "8"}, 8, False, id="GPUs"),
        pytest.param({"nvidia.com/gpu": 0}, 1, True, id="no GPU, in so many words"),
        pytest.param({"nvidia.com/gpu.shared": 2}, 2, False, id="shares of a GPU"),
        pytest.param({"nvidia.com/mig-1g.5gb": 2}, 2, False, id="slices of a GPU"),
        pytest.param(
            {"nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-2g.10gb": 1}, 3, False, id="two kinds"
        ),
        pytest.param({"nvidia.com/gpu": 1, "nvidia.com/gpumem": 3000}, 1, False, id="its memory"),
        pytest.param({"amd.com/gpu": 4}, 4, False, id="AMD"),
        pytest.param({"amd.com/cpx_nps4": 8}, 8, False, id="AMD's partitions"),
        pytest.param({"gpu.intel.com/i915": 2}, 2, False, id="Intel"),
        pytest.param({"gpu.intel.com/xe": 2}, 2, False, id="Intel's newer driver"),
        pytest.param(
            {"gpu.intel.com/xe": 1, "gpu.intel.com/millicores": 500}, 1, False, id="a part of one"
        ),
        pytest.param({"habana.ai/gaudi": 8}, 8, False, id="Gaudi"),
        pytest.param({"huawei.com/Ascend910": 8}, 8, False, id="Ascend"),
        pytest.param(
            {"huawei.com/Ascend910B3": 1, "huawei.com/Ascend910B3-memory": 4096}, 1, False, id="NPU"
        ),
        pytest.param({"cambricon.com/mlu": 2}, 2, False, id="Cambricon"),
        pytest.param({"mthreads.com/gpu": 2}, 2, False, id="Moore Threads"),
        pytest.param({"google.com/tpu": 4}, 1, False, id="a TPU's chips are one process's"),
        pytest.param({"aws.amazon.com/neuron": 4}, 1, False, id="a Neuron chip has many cores"),
    ],
)
def test_auto_is_a_process_for_each_device(
    asked: dict[str, object], processes: int, on_cpu: bool
) -> None:
    job = spec({"resources": {"limits": asked}})
    env = env_of(job, attempt=0, index=0)
    assert (job.processes, Attempt.full(job).world_size) == (processes, 2 * processes)
    assert env["PET_NPROC_PER_NODE"] == str(processes)
    assert ("ACCELERATE_USE_CPU" in env) == on_cpu
    assert replace(job, processes_per_replica=3).processes == 3


@pytest.mark.parametrize(
    ("limits", "fields", "most"),
    [
        pytest.param({devices.NVIDIA: 2}, {}, 2, id="GPUs"),
        pytest.param({devices.AMD: 4}, {}, 4, id="AMD's"),
        pytest.param({devices.NVIDIA: 2}, {"runtime": {"backend": "nccl"}}, 2, id="NCCL by name"),
        pytest.param(
            {devices.NVIDIA: 2}, {"runtime": {"backend": "gloo"}}, None, id="gloo shares GPUs"
        ),
        pytest.param({"nvidia.com/gpu.shared": 2}, {}, None, id="shares may be of one GPU"),
        pytest.param({"habana.ai/gaudi": 2}, {}, None, id="other devices are not judged"),
        pytest.param({devices.NVIDIA: 2, "example.com/npu": 8}, {}, None, id="others beside them"),
        pytest.param({devices.NVIDIA: 0}, {}, None, id="no GPU: it computes on the CPU"),
    ],
)
def test_there_are_no_more_processes_than_gpus(
    limits: dict[str, int], fields: dict[str, object], most: int | None
) -> None:
    def with_processes(count: int) -> JobSpec:
        return spec({"resources": {"limits": limits}}, processesPerReplica=count, **fields)

    if most is None:
        assert with_processes(MAX_PROCESSES).processes == MAX_PROCESSES
        return
    assert with_processes(most).processes == most
    with pytest.raises(InvalidSpec, match=f"in the limits, {most}, got {most + 1}: NCCL"):
        with_processes(most + 1)


def pod_of(container: Manifest | None = None, **pod: object) -> Manifest:
    return {"spec": {"containers": [CONTAINER | (container or {})]} | pod}


@pytest.mark.parametrize(
    ("template", "found"),
    [
        pytest.param(
            pod_of({"resources": {"limits": {"nvidia.com/gpu": 4, "cpu": 8}}}),
            "4 of nvidia.com/gpu",
            id="devices are counted",
        ),
        pytest.param(
            pod_of(
                {"resources": {"claims": [{"name": "gpus"}]}},
                resourceClaims=[{"name": "gpus", "resourceClaimTemplateName": "four-gpus"}],
            ),
            "the claim gpus",
            id="a claim may be any number of devices",
        ),
        pytest.param(
            pod_of(runtimeClassName="nvidia"),
            "the runtime class nvidia",
            id="a runtime class may bring all of the node's",
        ),
        pytest.param(
            pod_of({"securityContext": {"privileged": True}}),
            "a privileged container",
            id="a privileged container sees all of the node's",
        ),
        pytest.param(
            pod_of(volumes=[{"name": "dri", "hostPath": {"path": "/dev/dri"}}]),
            "the node's /dev/dri",
            id="devices may be mounted",
        ),
        pytest.param(
            pod_of({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}),
            "the variable NVIDIA_VISIBLE_DEVICES",
            id="a variable asks the container runtime for them",
        ),
        pytest.param(
            pod_of({"resources": {"limits": {"example.com/npu": 2}}}),
            "2 of example.com/npu",
            id="a vendor that is not known may make them",
        ),
        pytest.param(
            pod_of({"resources": {"limits": {"hugepages-2Mi": "1Gi"}}}),
            "no device",
            id="memory is none",
        ),
        pytest.param(
            pod_of(volumes=[{"name": "d", "hostPath": {"path": "/devices"}}]),
            "no device",
            id="nor is a folder",
        ),
        pytest.param(
            pod_of({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}]}),
            "no device",
            id="nor is what a variable forbids",
        ),
    ],
)
def test_only_what_cannot_have_a_device_is_kept_to_the_cpu(template: Manifest, found: str) -> None:
    job = spec(template=template)
    assert devices.found(template).startswith(found)
    assert ("ACCELERATE_USE_CPU" in env_of(job, attempt=0, index=0)) == (found == "no device")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({}, True, id="auto that cannot count"),
        pytest.param({"processesPerReplica": 4}, False, id="a number that is given"),
    ],
)
def test_what_auto_cannot_count_is_told_when_the_job_begins(fields: Manifest, told: bool) -> None:
    job = spec(template=pod_of(runtimeClassName="nvidia"), **fields)
    steps = plan(job, Observed(), NOW).steps
    events = [step for group in steps for step in group if isinstance(step, Announce)]
    assert [event.reason for event in events] == ["DevicesNotCounted"] * told
    assert all("the runtime class nvidia" in event.message for event in events)


def test_the_authors_variables_come_last_and_may_refer_to_ours() -> None:
    given = [{"name": "LOG", "value": "rank-$(RANK)"}, {"name": "ACCELERATE_SEED", "value": "7"}]
    assert merged({"RANK": "1", "ACCELERATE_SEED": "0"}, given) == [
        {"name": "RANK", "value": "1"},
        {
            "name": NODE_NAME,
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
        },
        *given,
    ]
