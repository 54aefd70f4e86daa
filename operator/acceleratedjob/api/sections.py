"""The sections of `spec`: a dataclass each, with the readers and defaults of its fields."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from acceleratedjob.api.schema import Reader, boolean, choice, integer, list_of, read, section, text
from acceleratedjob.api.template import read_quantity
from acceleratedjob.errors import InvalidSpec, shown

RNG_TYPES = (  # accelerate 1.15, utils/dataclasses.py, RNGType
    *("torch", "cuda", "mlu", "musa", "npu", "xla", "xpu", "generator", "hpu", "sdaa", "neuron"),
)
BACKENDS = ("gloo", "nccl", "mpi", "xccl", "hccl", "ccl")
MAX_REPLICAS = 10_000
MAX_PROCESSES = 1024  # per pod
MAX_RULES = 32
MAX_MATCHES = 128  # entries per list of a rule
MAX_IN_PLACE = 100  # restarts in place of an attempt
_GENERATORS = list_of(choice(*RNG_TYPES), at_most=len(RNG_TYPES))
_WORD = text(r"[A-Za-z0-9]([-A-Za-z0-9._/]*[A-Za-z0-9])?", "a word such as OOMKilled", at_most=255)
_NAME = text(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "a lowercase DNS name", at_most=63)
_LABEL_KEY = text(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?",
    "a node label's key, such as topology.kubernetes.io/zone",
    at_most=63,
)
GANGS = GANG_NONE, GANG_VOLCANO, GANG_COSCHEDULING, GANG_KUEUE = (
    *("none", "volcano", "coscheduling", "kueue"),
)
WITH_POD_GROUP = (GANG_VOLCANO, GANG_COSCHEDULING)


class Verdict(StrEnum):
    """What follows a failed attempt."""

    RESTART = "Restart"  # a new attempt that counts towards maxRestarts
    RESTART_FREE = "RestartFree"  # a new attempt that does not count towards maxRestarts
    FAIL = "Fail"  # the job fails


_SIZE = text(  # the same pattern as in the CRD
    r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]{1,2})?",
    "a size like 8Gi",
    at_most=32,
)


def _size(value: object, path: str) -> str:
    amount = read_quantity(_SIZE(value, path), path)
    if amount <= 0:
        raise InvalidSpec(path, f"must be above 0, got {shown(value)}")
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """`spec.runtime`: settings for the runtime library; None leaves a setting to the script.

    Attributes:
        mixed_precision: the precision that models compute in; fp8 needs torchao in the image.
        gradient_accumulation_steps: the number of batches per optimizer step.
        rng_types: the random generators that are synchronized at the start of an epoch.
        split_batches: whether a batch of the data loader is split among the ranks.
        dispatch_batches: whether rank 0 reads the batches of all ranks.
        even_batches: whether all ranks get the same number of samples.
        use_seedable_sampler: whether the order of each epoch depends only on the seed.
        seed: the seed of the random generators.
        backend: the backend of the process group.
        sharding: how the model is sharded; `none` replicates it.
    """

    mixed_precision: Annotated[str | None, choice("no", "fp16", "bf16", "fp8")] = None
    gradient_accumulation_steps: Annotated[int | None, integer(minimum=1)] = None
    rng_types: Annotated[tuple[str, ...] | None, _GENERATORS] = None
    split_batches: Annotated[bool | None, boolean] = None
    dispatch_batches: Annotated[bool | None, boolean] = None
    even_batches: Annotated[bool | None, boolean] = None
    use_seedable_sampler: Annotated[bool | None, boolean] = None
    seed: Annotated[int | None, integer(minimum=0, maximum=2**32 - 1)] = None
    backend: Annotated[str | None, choice(*BACKENDS)] = None
    sharding: Annotated[str | None, choice("none", "fsdp")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """`spec.failurePolicy.backoff`: the time between a failure and the next attempt.

    Attributes:
        initial_seconds: the backoff after the first failure; it doubles with each further failure.
        max_seconds: the maximum backoff.
    """

    initial_seconds: Annotated[int, integer(minimum=0)] = 1
    max_seconds: Annotated[int, integer(minimum=0)] = 300


def _verdict(value: object, path: str) -> Verdict:
    return Verdict(choice(*Verdict)(value, path))


def _some(item: Reader) -> Reader:
    return list_of(item, at_least=1, at_most=MAX_MATCHES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRule:
    """A rule of `spec.failurePolicy.rules`; it matches if each non-empty list matches the failure.

    Attributes:
        action: what follows a failure that matches.
        exit_codes: the exit codes that match.
        signals: the numbers of the signals that match.
        reasons: the reasons that match.
        pod_conditions: the types of pod conditions that match, if they are True.
        replica_indexes: the indices of the replicas whose failures match.
    """

    action: Annotated[Verdict, _verdict]
    exit_codes: Annotated[tuple[int, ...], _some(integer(minimum=1, maximum=255))] = ()
    signals: Annotated[tuple[int, ...], _some(integer(minimum=1, maximum=64))] = ()
    reasons: Annotated[tuple[str, ...], _some(_WORD)] = ()
    pod_conditions: Annotated[tuple[str, ...], _some(_WORD)] = ()
    replica_indexes: Annotated[tuple[int, ...], _some(integer(minimum=0))] = ()


def _rule(value: object, path: str) -> FailureRule:
    rule = read(FailureRule, value, path)
    if rule == FailureRule(action=rule.action):
        sentence = "must have one of exitCodes, signals, reasons, podConditions, replicaIndexes"
        raise InvalidSpec(path, sentence)
    return rule


TOTAL = "Total"  # all restarts that are not free count towards maxRestarts
WITHOUT_PROGRESS = "WithoutProgress"  # only those of attempts that have written no newer checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """`spec.failurePolicy`: what follows a failure.

    Attributes:
        max_restarts: the maximum number of counted restarts.
        count_restarts: which restarts are counted.
        in_place_restarts: the maximum number of restarts in place, for each attempt.
        backoff: the time between a failure and the next attempt.
        rules: the rules, which are tried in order before the default rules.
    """

    max_restarts: Annotated[int, integer(minimum=0)] = 3
    count_restarts: Annotated[str, choice(TOTAL, WITHOUT_PROGRESS)] = TOTAL
    in_place_restarts: Annotated[int, integer(minimum=0, maximum=MAX_IN_PLACE)] = 3
    backoff: Annotated[Backoff, section(Backoff)] = Backoff()
    rules: Annotated[tuple[FailureRule, ...], list_of(_rule, at_most=MAX_RULES)] = ()


def read_failure_policy(value: object, path: str) -> FailurePolicy:
    """Read `spec.failurePolicy`.

    Raises:
        InvalidSpec: a field is invalid, or the maximum backoff is below the initial one.
    """
    policy = read(FailurePolicy, value, path)
    backoff = policy.backoff
    if backoff.initial_seconds > backoff.max_seconds:
        sentence = (
            f"must be at most maxSeconds ({backoff.max_seconds}), got {backoff.initial_seconds}"
        )
        raise InvalidSpec(f"{path}.backoff.initialSeconds", sentence)
    return policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Elastic:
    """`spec.elastic`: the range of the number of replicas of a running job.

    Attributes:
        max_replicas: the maximum number of replicas.
        min_replicas: the minimum number of replicas.
    """

    max_replicas: Annotated[int, integer(minimum=1, maximum=MAX_REPLICAS)]
    min_replicas: Annotated[int, integer(minimum=1, maximum=MAX_REPLICAS)] = 1


def read_elastic(value: object, path: str) -> Elastic:
    """Read `spec.elastic`.

    Raises:
        InvalidSpec: a field is invalid, or the minimum is above the maximum.
    """
    bounds = read(Elastic, value, path)
    if bounds.min_replicas > bounds.max_replicas:
        sentence = f"must be at most maxReplicas ({bounds.max_replicas}), got {bounds.min_replicas}"
        raise InvalidSpec(f"{path}.minReplicas", sentence)
    return bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """`spec.scheduling`: the gang scheduler or the queue of the pods, and their placement.

    Attributes:
        gang: the gang scheduler.
        queue: the queue of Volcano or Kueue.
        priority_class_name: the priority class of the pods.
        exclusive_topology_key: the node label whose domain the job has for itself.
    """

    gang: Annotated[str, choice(*GANGS)] = GANG_NONE
    queue: Annotated[str | None, _NAME] = None
    priority_class_name: Annotated[str | None, _NAME] = None
    exclusive_topology_key: Annotated[str | None, _LABEL_KEY] = None


def read_scheduling(value: object, path: str) -> Scheduling:
    """Read `spec.scheduling`.

    Raises:
        InvalidSpec: a field is invalid, or the gang scheduler lacks a queue or has none.
    """
    scheduling = read(Scheduling, value, path)
    if scheduling.gang == GANG_KUEUE and scheduling.queue is None:
        raise InvalidSpec(f"{path}.queue", "is required with gang kueue")
    if scheduling.gang not in (GANG_KUEUE, GANG_VOLCANO) and scheduling.queue is not None:
        sentence = f"needs gang volcano or kueue, got {scheduling.gang}"
        raise InvalidSpec(f"{path}.queue", sentence)
    return scheduling


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`spec.network`: the ports of the pods, and whether a NetworkPolicy isolates them.

    Attributes:
        port: the port at which the main process listens for the other processes.
        progress_port: the port from which the operator reads the progress.
        isolate: whether a NetworkPolicy isolates the pods.
    """

    port: Annotated[int, integer(minimum=1024, maximum=65535)] = 29500
    progress_port: Annotated[int, integer(minimum=1024, maximum=65535)] = 29400
    isolate: Annotated[bool, boolean] = False

    def port_of(self, kind: str) -> int:
        """Return the port that the Service or the NetworkPolicy of a job must have."""
        return self.port if kind == "Service" else self.progress_port


def read_network(value: object, path: str) -> Network:
    """Read `spec.network`.

    Raises:
        InvalidSpec: a port is invalid, or both are the same.
    """
    network = read(Network, value, path)
    if network.port == network.progress_port:
        raise InvalidSpec(f"{path}.progressPort", f"must not be port ({network.port})")
    return network


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMemory:
    """`spec.sharedMemory`: the size of /dev/shm.

    Attributes:
        size_limit: the size, as a quantity; None for half of the memory limit.
    """

    size_limit: Annotated[str | None, _size] = None
