"""The environment variables that set defaults; arguments in the script have priority.

Names are those of Accelerate where it has such a variable. The operator sets those of `Settings`
from `spec.runtime`, and ACCELERATE_USE_CPU if the pod requests no accelerator.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from runtime.config.enums import RNGType
from runtime.config.parsing import str_to_bool, whole_number

_GRACE = 30.0  # seconds; Kubernetes' default
_SEEDS = 2**32  # numpy's seeds must be less
_FP8_BACKENDS = ("AO", "NO")  # NO: none is asked for
_NAMES = {"fork_launched": "FORK_LAUNCHED"}  # the name in Accelerate has no prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """Settings from environment variables with a common prefix.

    The variable of a field is the prefix, followed by the name of the field in capitals. A field is
    None if its variable is missing or empty.
    """

    PREFIX: ClassVar[str]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the environment.

        Raises:
            ValueError: a value cannot be read; the message names the variable.
        """
        values: dict[str, Any] = {}
        for one in fields(cls):
            name = cls.variable(one.name)
            if env.get(name):
                read = one.metadata.get("read") or _READERS[one.type]
                values[one.name] = read(name, env[name])
        return cls(**values)

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the variable of a field.

        >>> Settings.variable("use_cpu"), LayoutSettings.variable("tp_size")
        ('ACCELERATE_USE_CPU', 'PARALLELISM_CONFIG_TP_SIZE')
        """
        return _NAMES.get(name, f"{cls.PREFIX}{name.upper()}")


def _whole_number(name: str, text: str, *, at_least: int | None = None) -> int:
    return whole_number(name, text, at_least)


def _seed(name: str, text: str) -> int:
    number = whole_number(name, text)
    if not 0 <= number < _SEEDS:
        sentence = f"{name} must be at least 0 and less than 2**32, got {text!r}"
        raise ValueError(sentence)
    return number


def _words(_name: str, text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _rng_types(name: str, text: str) -> tuple[str, ...]:
    words = _words(name, text)
    if not all(word in RNGType for word in words):
        sentence = f"{name} must list some of {', '.join(RNGType.list())}, got {text!r}"
        raise ValueError(sentence)
    return words


def _torchao(name: str, text: str) -> str:
    if text.upper() not in _FP8_BACKENDS:
        sentence = f"{name} must be AO, for torchao, the only backend of this runtime, got {text!r}"
        raise ValueError(sentence)
    return text.upper()


def _read_by(read: Callable[[str, str], Any]) -> Any:
    """Declare a field with its own reader, instead of the one of its type."""
    return field(default=None, metadata={"read": read})


def _directory(name: str, text: str) -> str:
    if "://" in text:
        sentence = f"{name} must be a directory of this machine, such as /dev/shm/job, got {text!r}"
        raise ValueError(sentence)
    return text


def _exit_codes(name: str, text: str) -> tuple[int, ...]:
    return tuple(_whole_number(name, one.strip(), at_least=0) for one in text.split(","))


_at_least_0 = functools.partial(_whole_number, at_least=0)
_at_least_1 = functools.partial(_whole_number, at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Variables):
    """The defaults that a job sets for all scripts.

    Attributes:
        mixed_precision: the precision that models compute in: `no`, `fp16`, `bf16` or `fp8`.
        fp8_backend: the library that computes in fp8: `AO`, which is torchao.
        fp8_pad_inner_dim: whether torchao pads inner dimensions to multiples of 16.
        fp8_enable_fsdp_float8_all_gather: whether FSDP2 gathers weights in fp8; this runtime
            gathers them in bf16.
        gradient_accumulation_steps: the number of batches for each optimizer step, >= 1.
        use_cpu: whether to compute on the CPU even if there is an accelerator.
        rng_types: the random generators that are synchronized at the start of each epoch.
        split_batches: whether the script's batch size is divided among the processes.
        dispatch_batches: whether rank 0 reads the batches for all processes.
        even_batches: whether the last global batch is filled with the first samples, so that all
            processes have the same number of batches.
        use_seedable_sampler: whether a random order depends on the seed and the epoch only.
        seed: the seed of all generators, set by the first Accelerator; in [0, 2**32).
        distributed_backend: the backend of the process group; by default that of the device.
        collective_timeout: the time after which a collective fails, in seconds, >= 1.
        torch_device: the device, such as `cuda:1`; by default the first kind that is available.
        fork_launched: whether a notebook's launcher has started this process.
        debug_mode: whether shapes are compared before each collective.
        bypass_device_map: whether several processes may train a model that `device_map` has placed
            on several devices.
        init_include_buffers: whether `init_empty_weights` puts buffers on the meta device, too.
        log_level: the level of loggers that `get_logger` returns.
        use_fsdp: whether models are sharded with FSDP2.
        use_parallelism_config: whether the PARALLELISM_CONFIG_ variables apply.
        dynamo_backend: the backend of torch.compile; `no` turns compilation off.
        dynamo_mode: the mode of torch.compile.
        dynamo_use_fullgraph: whether a model must be compiled into a single graph.
        dynamo_use_dynamic: whether kernels are compiled for variable shapes.
        dynamo_use_regional_compilation: whether repeated blocks are compiled instead of the whole
            model.
    """

    PREFIX = "ACCELERATE_"

    mixed_precision: str | None = None
    fp8_backend: str | None = _read_by(_torchao)
    fp8_pad_inner_dim: bool | None = None
    fp8_enable_fsdp_float8_all_gather: bool | None = None
    gradient_accumulation_steps: int | None = _read_by(_at_least_1)
    use_cpu: bool | None = None
    rng_types: tuple[str, ...] | None = _read_by(_rng_types)
    split_batches: bool | None = None
    dispatch_batches: bool | None = None
    even_batches: bool | None = None
    use_seedable_sampler: bool | None = None
    seed: int | None = _read_by(_seed)
    distributed_backend: str | None = None
    collective_timeout: int | None = _read_by(_at_least_1)
    torch_device: str | None = None
    fork_launched: bool | None = None
    debug_mode: bool | None = None
    bypass_device_map: bool | None = None
    init_include_buffers: bool | None = None
    log_level: str | None = None
    use_fsdp: bool | None = None
    use_parallelism_config: bool | None = None
    dynamo_backend: str | None = None
    dynamo_mode: str | None = None
    dynamo_use_fullgraph: bool | None = None
    dynamo_use_dynamic: bool | None = None
    dynamo_use_regional_compilation: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardingSettings(Variables):
    """The defaults of a FullyShardedDataParallelPlugin, whose fields describe them.

    Attributes:
        version: the version of FSDP.
        reshard_after_forward: whether gathered weights are freed between forward and backward; or
            a sharding strategy of FSDP1.
        sharding_strategy: a sharding strategy of FSDP1, if `reshard_after_forward` is not set.
        offload_params: whether parameters, gradients and optimizer states are kept on the CPU.
        activation_checkpointing: whether activations are recomputed in backward.
        activation_checkpointing_offload: whether the inputs of recomputed modules are kept on the
            CPU.
        cpu_ram_efficient_loading: whether only rank 0 loads the weights of a model.
        auto_wrap_policy: which modules are sharded as separate units.
        transformer_cls_to_wrap: the names of the classes of these modules, separated by commas.
        min_num_params: the smallest number of parameter elements of such a module, >= 0.
        ignored_modules: a regular expression that matches the names of modules that are not
            sharded.
        state_dict_type: how checkpoints store sharded models.
    """

    PREFIX = "FSDP_"

    version: int | None = None
    reshard_after_forward: str | None = None
    sharding_strategy: str | None = None
    offload_params: bool | None = None
    activation_checkpointing: bool | None = None
    activation_checkpointing_offload: bool | None = None
    cpu_ram_efficient_loading: bool | None = None
    auto_wrap_policy: str | None = None
    transformer_cls_to_wrap: tuple[str, ...] | None = _read_by(_words)
    min_num_params: int | None = _read_by(_at_least_0)
    ignored_modules: str | None = None
    state_dict_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSettings(Variables):
    """The defaults of a ParallelismConfig.

    Attributes:
        dp_replicate_size: the number of replicas of a model, >= 1.
        dp_shard_size: the number of shards of each replica, >= 1.
        cp_size: the number of processes that share the sequences of a batch, >= 1.
        sp_size: the size of sequence parallelism, which is not supported: 1.
        tp_size: the number of processes that compute each layer together, >= 1.
        cp_backend: the implementation of context parallelism.
        cp_comm_strategy: how context parallelism exchanges the parts of a sequence.
        sp_backend: the implementation of sequence parallelism.
    """

    PREFIX = "PARALLELISM_CONFIG_"

    dp_replicate_size: int | None = _read_by(_at_least_1)
    dp_shard_size: int | None = _read_by(_at_least_1)
    cp_size: int | None = _read_by(_at_least_1)
    sp_size: int | None = _read_by(_at_least_1)
    tp_size: int | None = _read_by(_at_least_1)
    cp_backend: str | None = None
    cp_comm_strategy: str | None = None
    sp_backend: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings(Variables):
    """The settings of the fault-tolerant loop.

    Attributes:
        checkpoint_dir: the directory of automatic checkpoints, or a URL of an object store;
            without it there are none.
        checkpoint_memory_dir: a directory in memory for more of them, such as one in /dev/shm; it
            counts only with `checkpoint_dir`.
        checkpoint_every_steps: the number of optimizer steps between two of them, >= 1.
        checkpoint_every_seconds: the time between two of them, in seconds, >= 1. If neither is set,
            the next one begins when the last one is complete, as long as this costs less than 1 %.
        checkpoint_keep: the number of automatic checkpoints to keep, >= 1; default: 2.
        stop_grace_seconds: the time between a request to stop and the kill of the processes, in
            seconds; default: 30, as in Kubernetes.
        divergence_every_steps: the number of optimizer steps between two comparisons of the
            tensors of all ranks, >= 1; without it they are not compared.
        progress_port: the port of the coordinator, on which progress is served.
        in_place_restarts: how many times the launchers may start the processes of all pods again,
            >= 0; default: 0.
        standby: whether a process in reserve waits for each restart in place; default: true.
        stall_deadline_seconds: the time after which a training that hangs is ended, in seconds,
            >= 1; without it, it is not.
        fail_exit_codes: the exit codes after which the processes are not started again in place.
    """

    PREFIX = "ACCELERATEDJOB_"

    checkpoint_dir: str | None = None
    checkpoint_memory_dir: str | None = _read_by(_directory)
    checkpoint_every_steps: int | None = _read_by(_at_least_1)
    checkpoint_every_seconds: int | None = _read_by(_at_least_1)
    checkpoint_keep: int | None = _read_by(_at_least_1)
    stop_grace_seconds: int | None = _read_by(_at_least_0)
    divergence_every_steps: int | None = _read_by(_at_least_1)
    progress_port: int | None = _read_by(_at_least_0)
    in_place_restarts: int | None = _read_by(_at_least_0)
    standby: bool | None = None
    stall_deadline_seconds: int | None = _read_by(_at_least_1)
    fail_exit_codes: tuple[int, ...] | None = _read_by(_exit_codes)

    @property
    def useless(self) -> tuple[str, ...]:
        """The variables that were set in vain, because no directory for checkpoints is."""
        if self.checkpoint_dir is not None:
            return ()
        names = [one.name for one in fields(self) if one.name.startswith("checkpoint_")]
        return tuple(self.variable(one) for one in names if getattr(self, one) is not None)

    @property
    def grace(self) -> float:
        """The time between a request to stop and the kill of the processes, in seconds."""
        return _GRACE if self.stop_grace_seconds is None else float(self.stop_grace_seconds)


def env_name(name: str) -> str:
    """Return the variable of a field of `Settings`.

    >>> env_name("use_cpu")
    'ACCELERATE_USE_CPU'
    """
    return Settings.variable(name)


def _text(_name: str, text: str) -> str:
    return text


def _boolean(name: str, text: str) -> bool:
    try:
        return bool(str_to_bool(text))
    except ValueError as error:
        sentence = f"{name} must be true or false, got {text!r}"
        raise ValueError(sentence) from error


_READERS: dict[Any, Callable[[str, str], Any]] = {
    str | None: _text,
    bool | None: _boolean,
    int | None: _whole_number,
}
