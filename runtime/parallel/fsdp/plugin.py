"""How models are sharded: what a script says, and what the environment says where it does not.

Names and defaults are those of Accelerate 1.15 with `fsdp_version=2`. There is no FSDP1 here: what
a script says in its words is understood where FSDP2 can do it, and refused where it cannot.
"""

import contextlib
import copy
import functools
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
)
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy, transformer_auto_wrap_policy

from runtime.config.parsing import naming
from runtime.config.plugins import first
from runtime.config.settings import ShardingSettings
from runtime.parallel.fsdp.words import (
    CONFIGS,
    PRECISIONS,
    Policy,
    check_kind,
    check_offload,
    check_pattern,
    check_version,
    class_of,
    dtype_of,
    kind_of_state_dict,
    policy_named,
    precision_policy,
    reshards,
)

_FLAGS = (  # fields that the environment answers with yes or no; default: no
    "activation_checkpointing",
    "activation_checkpointing_offload",
    "cpu_ram_efficient_loading",
)
_OBSOLETE = ("backward_prefetch", "use_orig_params", "sync_module_states", "forward_prefetch")


@dataclass
class FullyShardedDataParallelPlugin:
    """How models are sharded over all processes, or over those of a ParallelismConfig.

    A field that is None is the environment's to say (`FSDP_` and its name, in capitals).

    Raises:
        ValueError: a value is none that FSDP2 has.
    """

    fsdp_version: int | None = None  # 2; 1 is read as 2, with a warning
    sharding_strategy: Any = None  # FSDP1's word for reshard_after_forward
    reshard_after_forward: Any = None  # free the gathered weights between forward and backward
    backward_prefetch: Any = None  # nothing in FSDP2
    mixed_precision_policy: Any = None  # MixedPrecisionPolicy, or `bf16`, ..., or a dict of dtypes
    auto_wrap_policy: Any = None  # TRANSFORMER_BASED_WRAP, SIZE_BASED_WRAP, NO_WRAP, or a callable
    cpu_offload: Any = None  # whether weights wait on the CPU, or an OffloadPolicy
    ignored_modules: Iterable[nn.Module] | str | None = None  # not sharded; or a regex of names
    state_dict_type: Any = None  # of checkpoints: SHARDED_STATE_DICT or FULL_STATE_DICT
    state_dict_config: Any = None
    optim_state_dict_config: Any = None
    limit_all_gathers: bool = True  # nothing in FSDP2
    use_orig_params: bool | None = None  # nothing in FSDP2, which always does
    param_init_fn: Callable[[nn.Module], None] | None = None  # nothing in FSDP2
    sync_module_states: bool | None = None  # nothing here: ranks that differ have rank 0's weights
    forward_prefetch: bool | None = None  # nothing in FSDP2
    activation_checkpointing: bool | None = None  # of each module that the wrap policy finds
    activation_checkpointing_offload: bool | None = None  # and its inputs wait on the CPU
    cpu_ram_efficient_loading: bool | None = None  # only rank 0 has read the weights
    transformer_cls_names_to_wrap: list[str] | str | None = None  # default: _no_split_modules
    min_num_params: int | None = None  # of a module that is wrapped by size

    def __post_init__(self) -> None:
        """Fill the fields that are None, and make torch's objects of them."""
        settings = ShardingSettings.from_env(os.environ)
        self._set_version(settings.version)
        self._set_strategy(settings)
        self._set_flags(settings)
        if self.cpu_offload is None:
            self.cpu_offload = bool(settings.offload_params)
        self.set_cpu_offload()
        self.validate_cpu_offload()
        self.set_state_dict_type()
        self._set_policy(settings)
        with _naming("ignored_modules", unless=self.ignored_modules):
            self.ignored_modules = first(self.ignored_modules, settings.ignored_modules)
            check_pattern(self.ignored_modules)
        if isinstance(self.mixed_precision_policy, str):
            self.set_mixed_precision(self.mixed_precision_policy, override=True)
        elif isinstance(self.mixed_precision_policy, dict):
            self.set_mixed_precision(None)
        if self.mixed_precision_policy is not None:
            self.validate_mixed_precision_policy()

    def _set_version(self, usual: int | None) -> None:
        with _naming("version", unless=self.fsdp_version):
            asked = first(self.fsdp_version or None, usual, 2)
            check_version(asked)
        self.fsdp_version = 2
        said = [name for name in _OBSOLETE if getattr(self, name) is not None]
        for name in said:
            setattr(self, name, None)
        if asked == 1:
            said.append("fsdp_version=1")
        if said:
            sentence = f"this runtime shards by FSDP2, in which these mean nothing: {said}"
            warnings.warn(sentence, stacklevel=4)

    def _set_strategy(self, settings: ShardingSettings) -> None:
        """Set reshard_after_forward; FSDP1's strategy counts where it is not given."""
        given = first(self.reshard_after_forward, self.sharding_strategy)
        fields = ("reshard_after_forward", "sharding_strategy")
        usual = next((one for one in fields if getattr(settings, one) is not None), fields[0])
        with _naming(usual, unless=given):
            self.reshard_after_forward = reshards(first(given, getattr(settings, usual), True))

    def _set_flags(self, settings: ShardingSettings) -> None:
        offload = self.activation_checkpointing_offload
        for name in _FLAGS:
            if getattr(self, name) is None:
                setattr(self, name, bool(getattr(settings, name)))
        with _naming("activation_checkpointing_offload", unless=offload):
            check_offload(self)

    def _set_policy(self, settings: ShardingSettings) -> None:
        given = self.auto_wrap_policy
        if given is not None and not isinstance(given, str):
            return
        with _naming("auto_wrap_policy", unless=given):
            self.auto_wrap_policy = policy_named(first(given, settings.auto_wrap_policy, "NO_WRAP"))
        if self.auto_wrap_policy is transformer_auto_wrap_policy:
            names = self.transformer_cls_names_to_wrap
            if isinstance(names, str):
                names = [word.strip() for word in names.split(",")]
            usual = settings.transformer_cls_to_wrap
            self.transformer_cls_names_to_wrap = names or (None if usual is None else list(usual))
        elif self.auto_wrap_policy is size_based_auto_wrap_policy and self.min_num_params is None:
            self.min_num_params = settings.min_num_params or 0

    def set_auto_wrap_policy(self, model: nn.Module) -> None:
        """Make the policy one that knows a model's classes, or the size.

        Raises:
            ValueError: a class is not in the model.
        """
        if self.auto_wrap_policy is transformer_auto_wrap_policy:
            names = self.transformer_cls_names_to_wrap
            if names is None:
                names = list(getattr(model, "_no_split_modules", None) or ())
            self.transformer_cls_names_to_wrap = names
            usual = ShardingSettings.from_env(os.environ).transformer_cls_to_wrap
            with _naming("transformer_cls_to_wrap", unless=tuple(names) != usual):
                classes = {name: class_of(model, name) for name in names}
            self.auto_wrap_policy = functools.partial(
                transformer_auto_wrap_policy, transformer_layer_cls=set(classes.values())
            )
        elif self.auto_wrap_policy is size_based_auto_wrap_policy:
            size = self.min_num_params or 0
            self.auto_wrap_policy = (
                functools.partial(size_based_auto_wrap_policy, min_num_params=size)
                if size > 0
                else None
            )

    def policy_of(self, model: nn.Module) -> Policy | None:
        """The policy for a model; this one stays, for the next model."""
        own = copy.copy(self)
        own.set_auto_wrap_policy(model)
        policy: Policy | None = own.auto_wrap_policy
        return policy

    def set_mixed_precision(
        self,
        mixed_precision: str | torch.dtype | None,
        buffer_autocast: bool = False,  # noqa: ARG002  # accelerate's; FSDP2 leaves buffers alone
        override: bool = False,
    ) -> None:
        """Compute, reduce and return in a precision, unless a policy was given.

        Args:
            mixed_precision: `bf16`, `fp16`, `fp32`, or the dtype.
            buffer_autocast: nothing in FSDP2.
            override: also if a policy was given.

        Raises:
            ValueError: the precision is unknown, or the given dict is no policy.
        """
        given = self.mixed_precision_policy
        if override or given is None:
            given = dict.fromkeys(PRECISIONS, dtype_of(mixed_precision))
        if isinstance(given, dict):
            self.mixed_precision_policy = precision_policy(given)

    def validate_mixed_precision_policy(self) -> None:
        """See that the policy is FSDP2's; ValueError: it is not."""
        check_kind("mixed_precision_policy", self.mixed_precision_policy, MixedPrecisionPolicy)

    def set_cpu_offload(self) -> None:
        """Make torch's policy of a yes or no."""
        if isinstance(self.cpu_offload, bool):
            self.cpu_offload = CPUOffloadPolicy() if self.cpu_offload else OffloadPolicy()

    def validate_cpu_offload(self) -> None:
        """See that the policy is FSDP2's; ValueError: it is not."""
        check_kind("cpu_offload", self.cpu_offload, OffloadPolicy)

    def set_state_dict_type(self, state_dict_type: Any = None) -> None:
        """Choose what checkpoints are: SHARDED_STATE_DICT or FULL_STATE_DICT.

        A script that trains with the one may take the other for what it saves at its end.

        Raises:
            ValueError: another one.
        """
        given = state_dict_type or self.state_dict_type
        usual = ShardingSettings.from_env(os.environ).state_dict_type
        with _naming("state_dict_type", unless=given):
            self.state_dict_type = kind_of_state_dict(given or usual or "SHARDED_STATE_DICT")
        model_config, optim_config = CONFIGS[self.state_dict_type]
        if state_dict_type is not None or self.state_dict_config is None:
            self.state_dict_config = model_config()
        if state_dict_type is not None or self.optim_state_dict_config is None:
            self.optim_state_dict_config = optim_config()


def _naming(field: str, *, unless: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context in which errors name the variable of a setting, unless a value was given."""
    return naming(None if unless else ShardingSettings.variable(field))
