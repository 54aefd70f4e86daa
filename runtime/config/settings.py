"""The environment variables that set defaults; what a script sets itself wins.

The names are Accelerate's where it has one. The operator sets those of `Settings` from
spec.runtime, and ACCELERATE_USE_CPU when the pod requests no accelerator.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from runtime.config.enums import RNGType
from runtime.config.parsing import str_to_bool, whole_number

_SEEDS = 2**32  # numpy's generator takes a seed below it
_NAMES = {"fork_launched": "FORK_LAUNCHED"}  # Accelerate's name, without a prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """Settings from environment variables that begin alike.

    A variable is the prefix and the name of its field, in capitals. A field is None if its variable
    is missing or empty.
    """

    PREFIX: ClassVar[str]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the environment.

        Raises:
            ValueError: a value is not of its kind; the message names the variable.
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


def _read_by(read: Callable[[str, str], Any]) -> Any:
    """A field that is read in another way than its type says."""
    return field(default=None, metadata={"read": read})


_at_least_0 = functools.partial(_whole_number, at_least=0)
_at_least_1 = functools.partial(_whole_number, at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Variables):
    """The defaults that a job sets for all scripts.

    Attributes:
        mixed_precision: `no`, `fp16` or `bf16`.
        gradient_accumulation_steps: the number of batches for each optimizer step, >= 1.
        use_cpu: whether to compute on the CPU even if there is an accelerator.
        rng_types: the random generators that are synchronized at the start of each epoch.
        split_batches: whether the script's batch size is divided among the processes.
        dispatch_batches: whether rank 0 reads the batches for all.
        even_batches: whether the last batches are filled, so that all processes have as many.
        use_seedable_sampler: whether the order depends on the seed and the epoch only.
        seed: the seed of all generators, set by the first Accelerator; in [0, 2**32).
        distributed_backend: the backend of the process group; default: the device's own.
        collective_timeout: the seconds after which a collective fails, >= 1.
        torch_device: the device; default: the one that is found.
        fork_launched: whether a notebook's launcher has started this process.
        debug_mode: whether shapes are compared before each collective.
        bypass_device_map: whether models that `device_map` has placed may be trained.
        init_include_buffers: whether models without memory have none for buffers either.
        log_level: the level of loggers made by get_logger.
        use_fsdp: whether models are sharded.
        use_parallelism_config: whether the variables of `LayoutSettings` apply.
        dynamo_backend: the backend of torch.compile.
        dynamo_mode: the mode of torch.compile.
        dynamo_use_fullgraph: whether a whole model must be one graph.
        dynamo_use_dynamic: whether shapes may vary without compiling again.
        dynamo_use_regional_compilation: whether repeated blocks are compiled once.
    """

    PREFIX = "ACCELERATE_"

    mixed_precision: str | None = None
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
        reshard_after_forward: whether weights are freed between forward and backward; also in
            FSDP1's words.
        sharding_strategy: the same, in FSDP1's words.
        offload_params: whether weights wait on the CPU.
        activation_checkpointing: whether activations are recomputed.
        activation_checkpointing_offload: whether the inputs of recomputed blocks wait on the CPU.
        cpu_ram_efficient_loading: whether only rank 0 has read the weights.
        auto_wrap_policy: which modules are sharded as units.
        transformer_cls_to_wrap: the classes of such modules.
        min_num_params: the parameters of the smallest module that is such a unit, >= 0.
        ignored_modules: a regular expression of the names of modules that are not sharded.
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
        dp_replicate_size: the number of copies of a model, >= 1.
        dp_shard_size: the number of shards of each copy, >= 1.
        cp_size: the size of context parallelism, >= 1.
        sp_size: the size of sequence parallelism, >= 1.
        tp_size: the size of tensor parallelism, >= 1.
        cp_backend: what implements context parallelism.
        sp_backend: what implements sequence parallelism.
    """

    PREFIX = "PARALLELISM_CONFIG_"

    dp_replicate_size: int | None = _read_by(_at_least_1)
    dp_shard_size: int | None = _read_by(_at_least_1)
    cp_size: int | None = _read_by(_at_least_1)
    sp_size: int | None = _read_by(_at_least_1)
    tp_size: int | None = _read_by(_at_least_1)
    cp_backend: str | None = None
    sp_backend: str | None = None


def env_name(name: str) -> str:
    """Return the variable of one of the `Settings`.

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
