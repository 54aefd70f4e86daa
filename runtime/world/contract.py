"""Reads the rank and the world size of this process from the environment, without torch.

The variables are a contract with torchrun and with the operator, which sets them in
`acceleratedjob.manifests.env`. A job that declares several processes while the environment
describes one is an error: each process would train alone, and nothing but the loss would show it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.config.parsing import whole_number
from runtime.errors import WorldError

# Variables that torch reads and torchrun sets.
RANK = "RANK"
WORLD_SIZE = "WORLD_SIZE"
LOCAL_RANK = "LOCAL_RANK"
LOCAL_WORLD_SIZE = "LOCAL_WORLD_SIZE"
GROUP_RANK = "GROUP_RANK"
GROUP_WORLD_SIZE = "GROUP_WORLD_SIZE"
MASTER_ADDR = "MASTER_ADDR"
MASTER_PORT = "MASTER_PORT"
# Variables that describe the job, set by the operator.
REPLICAS = "ACCELERATEDJOB_REPLICAS"
PROCESSES_PER_REPLICA = "ACCELERATEDJOB_PROCESSES_PER_REPLICA"
NAME = "ACCELERATEDJOB_NAME"
NAMESPACE = "ACCELERATEDJOB_NAMESPACE"
UID = "ACCELERATEDJOB_UID"
ATTEMPT = "ACCELERATEDJOB_ATTEMPT"
REPLICA_INDEX = "ACCELERATEDJOB_REPLICA_INDEX"
NODE_NAME = "ACCELERATEDJOB_NODE_NAME"  # of the pod; the downward API knows it
# Variables that the launcher of replica 0 sets for its processes.
COORDINATOR_PORT = "ACCELERATEDJOB_COORDINATOR_PORT"
LIFE = "ACCELERATEDJOB_LIFE"
MEAN_LIFE = "ACCELERATEDJOB_MEAN_LIFE_SECONDS"  # of the lives that have failed, if one has
OF_JOB = (
    *(REPLICAS, PROCESSES_PER_REPLICA, NAME, NAMESPACE, UID, ATTEMPT, REPLICA_INDEX, NODE_NAME),
    *(COORDINATOR_PORT, LIFE, MEAN_LIFE),
)

_LAUNCH = "start the script with `python -m runtime.launch SCRIPT`, or with torchrun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The AcceleratedJob that this process belongs to.

    Attributes:
        name: the name of the job.
        namespace: the Kubernetes namespace of the job.
        uid: the UID of the job object.
        attempt: the number of the attempt, from 0; it grows by 1 when all pods are replaced.
        replicas: the number of pods.
        replica_index: the index of this pod, in [0, replicas).
        processes_per_replica: the number of processes in each pod.
    """

    name: str
    namespace: str
    uid: str
    attempt: int
    replicas: int
    replica_index: int
    processes_per_replica: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Job | None":
        """Return the job that the environment describes; None outside of a job.

        Args:
            env: the environment variables.

        Raises:
            WorldError: the value of a variable is not a whole number.
        """
        if REPLICAS not in env:
            return None
        return cls(
            name=env.get(NAME, ""),
            namespace=env.get(NAMESPACE, ""),
            uid=env.get(UID, ""),
            attempt=_number(env, ATTEMPT, 0),
            replicas=_number(env, REPLICAS, 1),
            replica_index=_number(env, REPLICA_INDEX, 0),
            processes_per_replica=_number(env, PROCESSES_PER_REPLICA, 1),
        )

    @property
    def world_size(self) -> int:
        """The number of processes that the job declares."""
        return self.replicas * self.processes_per_replica


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The rank of this process and the size of its world.

    Attributes:
        rank: the rank of this process, in [0, size).
        size: the world size, >= 1.
        local_rank: the rank among the processes of this pod or machine, in [0, local_size).
        local_size: the number of processes in this pod or machine, >= 1.
        master_addr: the host name or IP address of rank 0; required if there are several
            processes.
        master_port: the port of rank 0; required if there are several processes.

    Raises:
        WorldError: a rank is not below the size that limits it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    master_addr: str | None = None
    master_port: int | None = None

    def __post_init__(self) -> None:
        """Check the ranks."""
        _check_range(RANK, self.rank, WORLD_SIZE, self.size)
        _check_range(LOCAL_RANK, self.local_rank, LOCAL_WORLD_SIZE, self.local_size)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "World":
        """Return the world that the environment describes.

        Without RANK and WORLD_SIZE this is a world of one process. Without LOCAL_RANK this is the
        only process of its pod.

        Args:
            env: the environment variables.

        Raises:
            WorldError: a required variable is missing, a value is not a whole number, or the world
                is not the one that the job declares.
        """
        job = Job.from_env(env)
        if RANK not in env and WORLD_SIZE not in env:
            _check_declared(job, None)
            return cls()
        for present, absent in ((RANK, WORLD_SIZE), (WORLD_SIZE, RANK)):
            if absent not in env:
                sentence = f"{present} is set and {absent} is not; {_LAUNCH}"
                raise WorldError(sentence)
        world = cls(
            rank=_number(env, RANK, 0),
            size=_number(env, WORLD_SIZE, 1),
            local_rank=_local_rank(env, job),
            local_size=_number(env, LOCAL_WORLD_SIZE, _number(env, LOCAL_RANK, 0) + 1),
            master_addr=env.get(MASTER_ADDR),
            master_port=_number(env, MASTER_PORT, 0) or None,
        )
        _check_declared(job, world)
        _check_address(world)
        return world


def _check_address(world: World) -> None:
    if world.size > 1 and (world.master_addr is None or world.master_port is None):
        missing = MASTER_ADDR if world.master_addr is None else MASTER_PORT
        sentence = f"{missing} must be set for {world.size} processes to find rank 0; {_LAUNCH}"
        raise WorldError(sentence)


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    try:
        return whole_number(name, env.get(name) or str(default))
    except ValueError as error:
        raise WorldError(str(error)) from error


def _local_rank(env: Mapping[str, str], job: Job | None) -> int:
    if LOCAL_RANK not in env and job is not None and job.processes_per_replica > 1:
        sentence = (
            f"{LOCAL_RANK} must be set, because {PROCESSES_PER_REPLICA} is "
            f"{job.processes_per_replica}; {_LAUNCH}"
        )
        raise WorldError(sentence)
    return _number(env, LOCAL_RANK, 0)


def _check_range(name: str, value: int, size_name: str, size: int) -> None:
    if not 0 <= value < size:
        sentence = f"{name} must be in [0, {size_name}), got {name}={value} {size_name}={size}"
        raise WorldError(sentence)


def _check_declared(job: Job | None, world: World | None) -> None:
    """Check that the world has as many processes as the job declares."""
    if job is None:
        return
    declared = (
        f"{REPLICAS} is {job.replicas} and {PROCESSES_PER_REPLICA} {job.processes_per_replica}"
    )
    if world is None and job.world_size > 1:
        sentence = f"{declared}, but {RANK} is not set, so this would train alone; {_LAUNCH}"
        raise WorldError(sentence)
    if world is not None and world.size != job.world_size:
        sentence = f"{declared}, but {WORLD_SIZE} is {world.size}; {_LAUNCH} in every pod"
        raise WorldError(sentence)
