"""The plugin that configures sharding with FSDP2.

Names and defaults are those of Accelerate 1.15 with `fsdp_version=2`. FSDP1 is not supported: its
settings are translated if FSDP2 has an equivalent; otherwise they are an error.
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
    check_policy,
    check_version,
    class_of,
    dtype_of,
    kind_of_state_dict,
    policy_named,
    precision_policy,
    reshards,
)

_FLAGS = (  # boolean fields that are read from the environment; False without a variable
    "activation_checkpointing",
    "activation_checkpointing_offload",
    "cpu_ram_efficient_loading",
)
_OBSOLETE = ("backward_prefetch", "use_orig_params", "sync_module_states", "forward_prefetch")


@dataclass
class FullyShardedDataParallelPlugin:
    """How models are sharded, over all processes or over the mesh of a ParallelismConfig.

    A field that is None is read from its environment variable, if it has one; without a variable
    its default is used.

    Attributes:
        fsdp_version: the version of FSDP: 2. The value 1 is read as 2, with a warning.
            Variable: FSDP_VERSION. Default: 2.
        sharding_strategy: FSDP1's name for `reshard_after_forward`: FULL_SHARD (True) or
            SHARD_GRAD_OP (False). Used if `reshard_after_forward` is None.
            Variable: FSDP_SHARDING_STRATEGY.
        reshard_after_forward: whether gathered weights are freed between forward and backward,
            which saves memory and costs a second all-gather.
            Variable: FSDP_RESHARD_AFTER_FORWARD. Default: True.
        backward_prefetch: without effect in FSDP2.
        mixed_precision_policy: the dtypes of parameters, gradient reduction and outputs: a
            `torch.distributed.fsdp.MixedPrecisionPolicy`; `bf16`, `fp16` or `fp32` for all three;
            or a dict with the keys `param_dtype`, `reduce_dtype` and `output_dtype`. Default: the
            precision of the Accelerator.
        auto_wrap_policy: which modules are sharded as separate units:
            TRANSFORMER_BASED_WRAP (by class), SIZE_BASED_WRAP (by number of elements), NO_WRAP,
            or a callable like those of `torch.distributed.fsdp.wrap`.
            Variable: FSDP_AUTO_WRAP_POLICY. Default: NO_WRAP.
        cpu_offload: whether parameters, gradients and optimizer states are kept on the CPU, or a
            `torch.distributed.fsdp.OffloadPolicy`. Variable: FSDP_OFFLOAD_PARAMS. Default: False.
        ignored_modules: the modules that are not sharded, or a regular expression that must match
            the whole names of these modules. Variable: FSDP_IGNORED_MODULES. Default: none.
        state_dict_type: how checkpoints store sharded models: SHARDED_STATE_DICT or
            FULL_STATE_DICT. Variable: FSDP_STATE_DICT_TYPE. Default: SHARDED_STATE_DICT.
        state_dict_config: torch's configuration of a model's state dict. Default: one that fits
            `state_dict_type`, and offloads to the CPU.
        optim_state_dict_config: torch's configuration of an optimizer's state dict. Default: one
            that fits `state_dict_type`, and offloads to the CPU.
        limit_all_gathers: without effect in FSDP2.
        use_orig_params: without effect; FSDP2 always keeps the names of parameters.
        param_init_fn: without effect in FSDP2.
        sync_module_states: without effect; if weights or buffers differ between ranks, all get
            those of rank 0.
        forward_prefetch: without effect in FSDP2.
        activation_checkpointing: whether the modules that `auto_wrap_policy` selects recompute
            their activations in backward. Variable: FSDP_ACTIVATION_CHECKPOINTING. Default: False.
        activation_checkpointing_offload: whether the inputs of these modules are kept on the CPU
            until then; needs `activation_checkpointing`.
            Variable: FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD. Default: False.
        cpu_ram_efficient_loading: whether only rank 0 loads the weights of a model, so that the
            other ranks need no memory for them. Variable: FSDP_CPU_RAM_EFFICIENT_LOADING.
            Default: False.
        transformer_cls_names_to_wrap: the names of the classes for TRANSFORMER_BASED_WRAP: a list,
            or a string with commas. Variable: FSDP_TRANSFORMER_CLS_TO_WRAP. Default: the model's
            `_no_split_modules`.
        min_num_params: the smallest number of parameter elements for which SIZE_BASED_WRAP shards a
            module, >= 0. Variable: FSDP_MIN_NUM_PARAMS. Default: 0, which selects no module.

    Raises:
        TypeError: `auto_wrap_policy` is neither a name nor a function.
        ValueError: FSDP2 does not support a value.
    """

    fsdp_version: int | None = None
    sharding_strategy: Any = None
    reshard_after_forward: Any = None
    backward_prefetch: Any = None
    mixed_precision_policy: Any = None
    auto_wrap_policy: Any = None
    cpu_offload: Any = None
    ignored_modules: Iterable[nn.Module] | str | None = None
    state_dict_type: Any = None
    state_dict_config: Any = None
    optim_state_dict_config: Any = None
    limit_all_gathers: bool = True
    use_orig_params: bool | None = None
    param_init_fn: Callable[[nn.Module], None] | None = None
    sync_module_states: bool | None = None
    forward_prefetch: bool | None = None
    activation_checkpointing: bool | None = None
    activation_checkpointing_offload: bool | None = None
    cpu_ram_efficient_loading: bool | None = None
    transformer_cls_names_to_wrap: list[str] | str | None = None
    min_num_params: int | None = None

    def __post_init__(self) -> None:
        """Replace None by the settings of the environment, and names by torch's objects."""
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
            sentence = f"this runtime shards with FSDP2, which ignores these arguments: {said}"
            warnings.warn(sentence, stacklevel=4)

    def _set_strategy(self, settings: ShardingSettings) -> None:
        """Set reshard_after_forward; if it is not given, FSDP1's strategy decides."""
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
            check_policy(given)
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
        """Complete the policy with the classes of a model, or with the minimum size.

        Args:
            model: the model that will be sharded.

        Raises:
            ValueError: the model has no module of a class.
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
        """Return the policy for a model; this plugin is unchanged, for the next model.

        Args:
            model: the model that will be sharded.
        """
        own = copy.copy(self)
        own.set_auto_wrap_policy(model)
        policy: Policy | None = own.auto_wrap_policy
        return policy

    def set_mixed_precision(
        self,
        mixed_precision: str | torch.dtype | None,
        buffer_autocast: bool = False,  # noqa: ARG002  # accelerate's; FSDP2 does not cast buffers
        override: bool = False,
    ) -> None:
        """Set the dtype of parameters, gradient reduction and outputs, unless a policy was given.

        Args:
            mixed_precision: `bf16`, `fp16`, `fp32`, or a dtype.
            buffer_autocast: without effect in FSDP2.
            override: whether to replace a policy that was given.

        Raises:
            ValueError: the precision is unknown, or the dict that was given is not a policy.
        """
        given = self.mixed_precision_policy
        if override or given is None:
            given = dict.fromkeys(PRECISIONS, dtype_of(mixed_precision))
        if isinstance(given, dict):
            self.mixed_precision_policy = precision_policy(given)

    def validate_mixed_precision_policy(self) -> None:
        """Check that `mixed_precision_policy` is a MixedPrecisionPolicy.

        Raises:
            ValueError: it is an object of another type.
        """
        check_kind("mixed_precision_policy", self.mixed_precision_policy, MixedPrecisionPolicy)

    def set_cpu_offload(self) -> None:
        """Replace a boolean `cpu_offload` by torch's policy."""
        if isinstance(self.cpu_offload, bool):
            self.cpu_offload = CPUOffloadPolicy() if self.cpu_offload else OffloadPolicy()

    def validate_cpu_offload(self) -> None:
        """Check that `cpu_offload` is an OffloadPolicy.

        Raises:
            ValueError: it is an object of another type.
        """
        check_kind("cpu_offload", self.cpu_offload, OffloadPolicy)

    def set_state_dict_type(self, state_dict_type: Any = None) -> None:
        """Set how checkpoints store sharded models.

        A script can change this between two checkpoints, for example before the last one.

        Args:
            state_dict_type: SHARDED_STATE_DICT or FULL_STATE_DICT; by default the one of the field
                or of the environment.

        Raises:
            ValueError: FSDP2 does not support the type.
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
