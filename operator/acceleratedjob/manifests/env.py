"""The environment variables of the training container: the contract of operator and runtime.

They are read by `runtime.world.contract`, torchrun, Hugging Face Accelerate, and scripts that use
torch.distributed directly; tests/contract tests both sides. With one process per replica, RANK is
set. With several, the launcher (`python -m runtime.launch`, torchrun) sets the ranks, and only the
PET_ variables identify the pod: a RANK in the pod would be the same for all of its processes.
"""

from collections.abc import Mapping

from acceleratedjob.api import devices, names, template
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.sections import RuntimeSettings
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.manifests.in_place import in_place_env, restarts

Env = dict[str, str]

NODE_NAME = "ACCELERATEDJOB_NODE_NAME"
CHECKPOINT_DIR = "ACCELERATEDJOB_CHECKPOINT_DIR"  # a directory or the URL of an object store
SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108  # a mount point in the pod
CHECKPOINT_MEMORY_DIR = "ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR"

# What only the node knows: verdicts about the training name it.
_FROM_NODE: list[Manifest] = [
    {
        "name": NODE_NAME,
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
    }
]

# The variables of `spec.runtime`: Accelerate's names, or names of the same form if it has none.
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
    "fsdp": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},  # Accelerate's default is 1
}


def pod_env(spec: JobSpec, *, attempt: Attempt, index: int) -> Env:
    """Return the variables for the training container of a replica, in the manifest's order."""
    address = names.pod_address(spec.name, spec.namespace, attempt.number, 0)
    ranks = _ranks(attempt, index) if attempt.processes == 1 else {}
    return (
        _identity(spec, attempt=attempt, index=index)
        | ranks
        | {"MASTER_ADDR": address, "MASTER_PORT": str(spec.network.port)}
        | _torchrun(spec, attempt, index, address)
        | _termination(spec)
        | {"ACCELERATEDJOB_PROGRESS_PORT": str(spec.network.progress_port)}
        | {"ACCELERATEDJOB_STOP_GRACE_SECONDS": str(spec.grace_seconds)}
        | in_place_env(spec)
        | _checkpoint(spec)
        | _runtime(spec.runtime)
        | _device(spec, attempt)
    )


def _identity(spec: JobSpec, *, attempt: Attempt, index: int) -> Env:
    facts = {
        "NAME": spec.name,
        "NAMESPACE": spec.namespace,
        "UID": spec.uid,
        "ATTEMPT": attempt.number,
        "REPLICAS": attempt.size,
        "REPLICA_INDEX": index,
        "PROCESSES_PER_REPLICA": attempt.processes,
    }
    return {f"ACCELERATEDJOB_{name}": str(value) for name, value in facts.items()}


def _ranks(attempt: Attempt, index: int) -> Env:
    return {
        "RANK": str(index),
        "WORLD_SIZE": str(attempt.world_size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": str(index),
        "GROUP_WORLD_SIZE": str(attempt.size),
    }


def _torchrun(spec: JobSpec, attempt: Attempt, index: int, address: str) -> Env:
    return {
        "PET_NNODES": str(attempt.size),
        "PET_NPROC_PER_NODE": str(attempt.processes),
        "PET_NODE_RANK": str(index),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": str(spec.network.port),
    }


def _termination(spec: JobSpec) -> Env:
    """Return the variable with the path of the termination message, if the template sets one."""
    path = template.trainer(spec.template).get("terminationMessagePath")
    return {"ACCELERATEDJOB_TERMINATION_LOG": path} if isinstance(path, str) and path else {}


def _checkpoint(spec: JobSpec) -> Env:
    """Return the variables of the automatic checkpoints; continuous is the runtime's default."""
    given = spec.checkpoint
    if given is None:
        return {}
    values = {
        CHECKPOINT_DIR: given.address(spec.name, spec.uid),
        "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": given.every_steps,
        "ACCELERATEDJOB_CHECKPOINT_EVERY_SECONDS": given.every_seconds,
        "ACCELERATEDJOB_CHECKPOINT_KEEP": given.keep,
        CHECKPOINT_MEMORY_DIR: SHARED_MEMORY_PATH if given.in_memory and restarts(spec) else None,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


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


def _device(spec: JobSpec, attempt: Attempt) -> Env:
    """Return the variables that depend on the devices and the CPU limit of the container."""
    env = {}
    if not devices.may_be(spec.template):
        env["ACCELERATE_USE_CPU"] = "true"
    cores = template.limit(spec.template, "cpu")
    if cores is not None:  # by default, torch starts a thread for each core of the node
        env["OMP_NUM_THREADS"] = str(max(1, int(cores / attempt.processes)))
    return env


def merged(ours: Mapping[str, str], given: list[Manifest]) -> list[Manifest]:
    """Return the `env` of the container: ours first, so that given values may refer to $(RANK).

    If the template sets one of our variables, its value is kept. A template that sets a reserved
    variable (`template.reserved_env`) is invalid.
    """
    taken = {variable["name"] for variable in given}
    values: list[Manifest] = [{"name": name, "value": value} for name, value in ours.items()]
    kept = [one for one in (*values, *_FROM_NODE) if one["name"] not in taken]
    return [*kept, *given]
