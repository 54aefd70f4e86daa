"""The sections of `spec`, each a dataclass of its fields with their readers and defaults."""

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
MAX_PROCESSES = 1024  # in one pod
MAX_RULES = 32
MAX_MATCHES = 128  # entries in one list of a rule
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

    RESTART = "Restart"  # a new attempt, which counts towards maxRestarts
    RESTART_FREE = "RestartFree"  # a new attempt that does not: the job is not to blame
    FAIL = "Fail"  # the job is over


_SIZE = text(  # as in the CRD
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
    """`spec.runtime`: settings for the runtime library; None leaves a setting to the script."""

    mixed_precision: Annotated[str | None, choice("no", "fp16", "bf16")] = None
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
    """The seconds between a failure and the next attempt: initial, then doubled, at most max."""

    initial_seconds: Annotated[int, integer(minimum=0)] = 1
    max_seconds: Annotated[int, integer(minimum=0)] = 300


def _verdict(value: object, path: str) -> Verdict:
    return Verdict(choice(*Verdict)(value, path))


def _some(item: Reader) -> Reader:
    return list_of(item, at_least=1, at_most=MAX_MATCHES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRule:
    """A rule: if each of its lists contains what the failure has, its action is taken."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """`spec.failurePolicy`: what follows a failure, how often a job is restarted, and how fast."""

    max_restarts: Annotated[int, integer(minimum=0)] = 3
    backoff: Annotated[Backoff, section(Backoff)] = Backoff()
    rules: Annotated[tuple[FailureRule, ...], list_of(_rule, at_most=MAX_RULES)] = ()


def read_failure_policy(value: object, path: str) -> FailurePolicy:
    """Read a failure policy.

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
    """`spec.elastic`: the bounds of the number of replicas of a running job."""

    max_replicas: Annotated[int, integer(minimum=1, maximum=MAX_REPLICAS)]
    min_replicas: Annotated[int, integer(minimum=1, maximum=MAX_REPLICAS)] = 1


def read_elastic(value: object, path: str) -> Elastic:
    """Read the bounds.

    Raises:
        InvalidSpec: a bound is invalid, or the minimum is above the maximum.
    """
    bounds = read(Elastic, value, path)
    if bounds.min_replicas > bounds.max_replicas:
        sentence = f"must be at most maxReplicas ({bounds.max_replicas}), got {bounds.min_replicas}"
        raise InvalidSpec(f"{path}.minReplicas", sentence)
    return bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """`spec.scheduling`: the gang scheduler or the queue of the pods, and their placement."""

    gang: Annotated[str, choice(*GANGS)] = GANG_NONE
    queue: Annotated[str | None, _NAME] = None
    priority_class_name: Annotated[str | None, _NAME] = None
    exclusive_topology_key: Annotated[str | None, _LABEL_KEY] = None


def read_scheduling(value: object, path: str) -> Scheduling:
    """Read the scheduling.

    Raises:
        InvalidSpec: a field is invalid, or the queue does not fit the gang scheduler.
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
    """`spec.network`: the ports of the pods, and whether a NetworkPolicy isolates them."""

    port: Annotated[int, integer(minimum=1024, maximum=65535)] = 29500
    progress_port: Annotated[int, integer(minimum=1024, maximum=65535)] = 29400
    isolate: Annotated[bool, boolean] = False

    def port_of(self, kind: str) -> int:
        """The port that the Service or the NetworkPolicy of a job must have."""
        return self.port if kind == "Service" else self.progress_port


def read_network(value: object, path: str) -> Network:
    """Read the ports.

    Raises:
        InvalidSpec: a port is invalid, or both are the same.
    """
    network = read(Network, value, path)
    if network.port == network.progress_port:
        raise InvalidSpec(f"{path}.progressPort", f"must not be port ({network.port})")
    return network


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMemory:
    """`spec.sharedMemory`: the size of /dev/shm; None stands for half of the memory limit."""

    size_limit: Annotated[str | None, _size] = None
