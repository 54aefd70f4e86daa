"""What the job tells every script by ACCELERATE_ variables; what the script says itself wins.

The names are Accelerate's where it has one. The operator sets them from spec.runtime, and
ACCELERATE_USE_CPU when the pod asks for no accelerator.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from runtime.config.enums import RNGType
from runtime.config.parsing import str_to_bool, whole_number

_SEEDS = 2**32  # what numpy's generator can be seeded with
_NAMES = {"fork_launched": "FORK_LAUNCHED"}  # accelerate names it so


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults of the environment; None where it says nothing."""

    mixed_precision: str | None = None
    gradient_accumulation_steps: int | None = None
    use_cpu: bool | None = None  # compute on the CPU whatever else there is
    rng_types: tuple[str, ...] | None = None
    split_batches: bool | None = None
    dispatch_batches: bool | None = None
    even_batches: bool | None = None
    use_seedable_sampler: bool | None = None
    seed: int | None = None  # of all generators, set once by the first Accelerator
    distributed_backend: str | None = None  # instead of the device's own: gloo, nccl, ...
    collective_timeout: int | None = None  # seconds, > 0; then one that is waited in fails
    torch_device: str | None = None  # instead of the one that would be found
    fork_launched: bool | None = None  # a notebook's launcher has started this process
    debug_mode: bool | None = None  # compare shapes before each collective
    bypass_device_map: bool | None = None  # train what `device_map` has placed all the same
    init_include_buffers: bool | None = None  # models without memory have none for buffers either
    log_level: str | None = None  # of loggers made by get_logger
    use_fsdp: bool | None = None
    use_parallelism_config: bool | None = None
    dynamo_backend: str | None = None
    dynamo_mode: str | None = None
    dynamo_use_fullgraph: bool | None = None
    dynamo_use_dynamic: bool | None = None
    dynamo_use_regional_compilation: bool | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read the environment.

        Raises:
            ValueError: a value is not of its kind; the message names the variable.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            name = env_name(field.name)
            if env.get(name):
                read = _STRICTER.get(field.name) or _READERS[field.type]
                values[field.name] = read(name, env[name])
        return cls(**values)


def env_name(field: str) -> str:
    """The variable of a setting.

    >>> env_name("use_cpu")
    'ACCELERATE_USE_CPU'
    """
    return _NAMES.get(field, f"ACCELERATE_{field.upper()}")


def _text(_name: str, text: str) -> str:
    return text


def _boolean(name: str, text: str) -> bool:
    try:
        return bool(str_to_bool(text))
    except ValueError as error:
        sentence = f"{name} must be true or false, got {text!r}"
        raise ValueError(sentence) from error


_positive = functools.partial(whole_number, at_least=1)


def _seed(name: str, text: str) -> int:
    number = whole_number(name, text)
    if not 0 <= number < _SEEDS:
        sentence = f"{name} must be at least 0 and less than 2**32, got {text!r}"
        raise ValueError(sentence)
    return number


def _rng_types(name: str, text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not all(word in RNGType for word in words):
        sentence = f"{name} must list some of {', '.join(RNGType.list())}, got {text!r}"
        raise ValueError(sentence)
    return words


_READERS: dict[Any, Callable[[str, str], Any]] = {
    str | None: _text,
    bool | None: _boolean,
    int | None: whole_number,
}
_STRICTER: dict[str, Callable[[str, str], Any]] = {
    "collective_timeout": _positive,
    "gradient_accumulation_steps": _positive,
    "rng_types": _rng_types,
    "seed": _seed,
}
