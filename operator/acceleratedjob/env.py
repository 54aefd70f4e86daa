"""The contract with the pod: which environment variables the training container gets.

The same contract is read by `runtime.world` in the pod, by torchrun, by Hugging Face Accelerate
and by plain torch.distributed scripts; tests/contract holds the two sides together. With one
process a replica the process has its rank here. With several, ranks are given by what starts the
processes (`python -m runtime.launch`, torchrun), and only the PET_ variables say which pod this is:
a rank set here would be the same for all processes of a pod.
"""

from collections.abc import Mapping

from acceleratedjob import api, devices, template
from acceleratedjob.api import Manifest
from acceleratedjob.sections import RuntimeSettings
from acceleratedjob.spec import JobSpec

Env = dict[str, str]

# spec.runtime's fields: Accelerate's own names where it has one, else names of the same form.
RUNTIME_ENV = {
    "mixed_precision": "ACCELERATE_MIXED_PRECISION",
    "gradient_accumulation_steps": "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "rng_types": "ACCELERATE_RNG_TYPES",
    "split_batches": "ACCELERATE_SPLIT_BATCHES",
    "dispatch_batches": "ACCELERATE_DISPATCH_BATCHES",
    "even_batches": "ACCELERATE_EVEN_BATCHES",
    "use_seedable_sampler": "ACCELERATE_USE_SEEDABLE_SAMPLER",
    "seed": "ACCELERATE_SEED",
    "backend": "ACCELERATE_DISTRIBUTED_BACKEND",
}


_SHARDING: dict[str | None, Env] = {
    "none": {"ACCELERATE_USE_FSDP": "false"},
    "fsdp": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},  # accelerate's own default is 1
}


def pod_env(spec: JobSpec, *, attempt: int, index: int) -> Env:
    """Every variable for one replica's training container, in the order of the manifest."""
    address = api.pod_address(spec.name, spec.namespace, attempt, 0)
    ranks = _ranks(spec, index) if spec.processes == 1 else {}
    return (
        _identity(spec, attempt=attempt, index=index)
        | ranks
        | {"MASTER_ADDR": address, "MASTER_PORT": str(spec.network.port)}
        | _torchrun(spec, index, address)
        | _termination(spec)
        | {"ACCELERATEDJOB_PROGRESS_PORT": str(spec.network.progress_port)}
        | _runtime(spec.runtime)
        | _device(spec)
    )


def _identity(spec: JobSpec, *, attempt: int, index: int) -> Env:
    facts = {
        "NAME": spec.name,
        "NAMESPACE": spec.namespace,
        "UID": spec.uid,
        "ATTEMPT": attempt,
        "REPLICAS": spec.size,
        "REPLICA_INDEX": index,
        "PROCESSES_PER_REPLICA": spec.processes,
    }
    return {f"ACCELERATEDJOB_{name}": str(value) for name, value in facts.items()}


def _ranks(spec: JobSpec, index: int) -> Env:
    return {
        "RANK": str(index),
        "WORLD_SIZE": str(spec.world_size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": str(index),
        "GROUP_WORLD_SIZE": str(spec.size),
    }


def _torchrun(spec: JobSpec, index: int, address: str) -> Env:
    return {
        "PET_NNODES": str(spec.size),
        "PET_NPROC_PER_NODE": str(spec.processes),
        "PET_NODE_RANK": str(index),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": str(spec.network.port),
    }


def _termination(spec: JobSpec) -> Env:
    """Where a process leaves its last words, if the author has moved the place."""
    path = template.trainer(spec.template).get("terminationMessagePath")
    return {"ACCELERATEDJOB_TERMINATION_LOG": path} if isinstance(path, str) and path else {}


def _runtime(settings: RuntimeSettings) -> Env:
    values = ((name, getattr(settings, field)) for field, name in RUNTIME_ENV.items())
    env = {name: _text(value) for name, value in values if value is not None}
    return env | _SHARDING.get(settings.sharding, {})


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _device(spec: JobSpec) -> Env:
    """Hints that depend on what the container may use."""
    env = {}
    if not devices.may_be(spec.template):
        env["ACCELERATE_USE_CPU"] = "true"
    cores = template.limit(spec.template, "cpu")
    if cores is not None:  # torch would start a thread for each core of the node
        env["OMP_NUM_THREADS"] = str(max(1, int(cores / spec.processes)))
    return env


def merged(ours: Mapping[str, str], given: list[Manifest]) -> list[Manifest]:
    """The container's `env`: ours first, so that the author's may refer to it as $(RANK).

    A name that the author sets as well is the author's; the reserved ones were refused before
    (`template.RESERVED_ENV`).
    """
    taken = {variable["name"] for variable in given}
    kept: list[Manifest] = [
        {"name": name, "value": value} for name, value in ours.items() if name not in taken
    ]
    return [*kept, *given]
