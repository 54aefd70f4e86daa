"""Arguments for the torch objects that an Accelerator creates.

Pass instances of these classes to `Accelerator(kwargs_handlers=[...])`. Fields have the names and
defaults of torch's arguments.
"""

import copy
import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

from runtime.config.arguments import must_be
from runtime.config.availability import is_present
from runtime.config.enums import DDPCommunicationHookType as Hook
from runtime.config.settings import Settings

INSTALL_FP8 = "pip install 'acceleratedjob[fp8]'"


class KwargsHandler:
    """The base class of dataclasses whose fields are arguments of a torch object."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields."""
        return copy.deepcopy(self.__dict__)

    def to_kwargs(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        default = type(self)().to_dict()
        return {name: value for name, value in self.to_dict().items() if default[name] != value}


@dataclass
class AutocastKwargs(KwargsHandler):
    """Arguments of `torch.autocast`.

    Attributes:
        enabled: whether models compute in mixed precision.
        cache_enabled: whether weights that were cast are cached until the context ends. None:
            torch's global setting, which is true unless the script has changed it.
    """

    enabled: bool = True
    cache_enabled: bool | None = None


@dataclass
class GradScalerKwargs(KwargsHandler):
    """Arguments of `torch.amp.GradScaler`, which scales losses in fp16 training.

    Attributes:
        init_scale: the first scale factor, > 0.
        growth_factor: the number that the scale is multiplied by when it grows, > 1.
        backoff_factor: the number that the scale is multiplied by after a step whose gradients are
            not finite, in (0, 1).
        growth_interval: the number of successive steps with finite gradients after which the scale
            grows, >= 1.
        enabled: whether losses are scaled.
    """

    init_scale: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    enabled: bool = True


@dataclass
class InitProcessGroupKwargs(KwargsHandler):
    """Arguments of `torch.distributed.init_process_group`.

    Attributes:
        backend: the backend of torch.distributed. The default, which is Accelerate's, stands for
            the backend of the device: `gloo` on CPUs, `cpu:gloo,cuda:nccl` on GPUs.
        init_method: the URL at which processes meet. None: `tcp://MASTER_ADDR:MASTER_PORT`.
        timeout: the time after which a collective fails. None: 10 minutes if the backend is
            `nccl`, otherwise 30 minutes, as in Accelerate; since `to_kwargs` leaves out defaults,
            torch then applies its own default.
    """

    backend: str | None = "nccl"
    init_method: str | None = None
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        """Set the default timeout."""
        if self.timeout is None:
            self.timeout = timedelta(seconds=600 if self.backend == "nccl" else 1800)


# The hooks that compress gradients, and the wrappers that cast gradients before a hook runs.
_HOOKS: dict[Hook, Callable[..., Any]] = {
    Hook.FP16: default_hooks.fp16_compress_hook,
    Hook.BF16: default_hooks.bf16_compress_hook,
    Hook.POWER_SGD: powerSGD_hook.powerSGD_hook,
    Hook.BATCHED_POWER_SGD: powerSGD_hook.batched_powerSGD_hook,
}
_WRAPPERS: dict[Hook, Callable[..., Any]] = {
    Hook.FP16: default_hooks.fp16_compress_wrapper,
    Hook.BF16: default_hooks.bf16_compress_wrapper,
}
_STATEFUL = (Hook.POWER_SGD, Hook.BATCHED_POWER_SGD)
_HOOK_FIELDS = ("comm_hook", "comm_wrapper", "comm_state_option")


@dataclass
class DistributedDataParallelKwargs(KwargsHandler):
    """Arguments of DistributedDataParallel, and the hook that compresses its gradients.

    Attributes:
        dim: the batch dimension of inputs that torch would divide among the devices of a process;
            without effect, since each process has one device.
        broadcast_buffers: whether rank 0's buffers are sent to all processes before each forward.
        bucket_cap_mb: the size of the buckets in which gradients are reduced, in MiB, > 0.
        find_unused_parameters: whether to look, in each forward, for parameters that take no part
            in the loss. Needed if there are any; costs time otherwise.
        check_reduction: without effect; torch has deprecated it.
        gradient_as_bucket_view: whether gradients are views of the buckets, which saves the memory
            of one copy of the gradients.
        static_graph: whether the set of used parameters is the same in all iterations.
        comm_hook: how gradients are compressed: NO, FP16, BF16, POWER_SGD or BATCHED_POWER_SGD.
        comm_wrapper: the type that gradients are cast to before the hook runs: NO, FP16 or BF16.
        comm_state_option: arguments of torch's `PowerSGDState`, for the PowerSGD hooks.
    """

    dim: int = 0
    broadcast_buffers: bool = True
    bucket_cap_mb: int = 25
    find_unused_parameters: bool = False
    check_reduction: bool = False
    gradient_as_bucket_view: bool = False
    static_graph: bool = False
    comm_hook: Hook = Hook.NO
    comm_wrapper: Hook = Hook.NO
    comm_state_option: dict[str, Any] = field(default_factory=dict)

    def to_dict(self, ignore_keys: tuple[str, ...] = _HOOK_FIELDS) -> dict[str, Any]:
        """Return the arguments of DistributedDataParallel.

        Args:
            ignore_keys: the fields to leave out.
        """
        return {key: value for key, value in super().to_dict().items() if key not in ignore_keys}

    def register_comm_hook(self, model: torch.nn.parallel.DistributedDataParallel) -> None:
        """Register the hook that compresses the gradients of a model, if one is chosen.

        Args:
            model: the model in DistributedDataParallel.
        """
        hook, wrapper = _HOOKS.get(self.comm_hook), _WRAPPERS.get(self.comm_wrapper)
        if hook is None:
            return
        state = None
        if self.comm_hook in _STATEFUL:
            state = powerSGD_hook.PowerSGDState(None, **self.comm_state_option)
        model.register_comm_hook(state, hook if wrapper is None else wrapper(hook))


@dataclass
class ProfileKwargs(KwargsHandler):
    """Arguments of `torch.profiler.profile`, and the directory of its traces.

    Attributes:
        activities: the activities to record, members of `torch.profiler.ProfilerActivity` such as
            `cpu` and `cuda`, in upper or lower case. None: all that torch supports here.
        schedule_option: arguments of `torch.profiler.schedule`, such as `wait`, `warmup` and
            `active`, in steps. None: every step is recorded.
        on_trace_ready: called with the profiler at the end of each cycle of the schedule.
        record_shapes: whether to record the shapes of the operators' inputs.
        profile_memory: whether to record the allocations of tensors.
        with_stack: whether to record the file and line of each operator.
        with_flops: whether to estimate the floating point operations of matrix multiplications and
            convolutions.
        with_modules: whether to record the modules that call each operator; torch does this for
            TorchScript models only.
        output_trace_dir: the directory to which each rank writes its trace, in the JSON format of
            Chrome's trace viewer. None: no trace is written.

    Raises:
        ValueError: this version of torch does not know an activity.
    """

    activities: list[str] | None = None
    schedule_option: dict[str, int] | None = None
    on_trace_ready: Callable[[torch.profiler.profile], Any] | None = None
    record_shapes: bool = False
    profile_memory: bool = False
    with_stack: bool = False
    with_flops: bool = False
    with_modules: bool = False
    output_trace_dir: str | None = None

    def build(self) -> torch.profiler.profile:
        """Create the profiler.

        Raises:
            ValueError: this version of torch does not know an activity.
        """
        options = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        del options["output_trace_dir"]
        if (wait := options.pop("schedule_option")) is not None:
            options["schedule"] = torch.profiler.schedule(**wait)
        if self.activities is not None:
            options["activities"] = [self._get_profiler_activity(name) for name in self.activities]
        return torch.profiler.profile(**options)

    def _get_profiler_activity(self, activity: str) -> torch.profiler.ProfilerActivity:
        known = torch.profiler.ProfilerActivity.__members__
        if activity.upper() not in known:
            names = [name.lower() for name in known]
            sentence = f"Invalid profiler activity: {activity}. Must be one of {names}."
            raise ValueError(sentence)
        return known[activity.upper()]


_RECIPE_FLAGS = ("pad_inner_dim", "enable_fsdp_float8_all_gather")


@dataclass
class AORecipeKwargs(KwargsHandler):
    """How torchao converts linear layers to fp8, for `mixed_precision="fp8"`.

    Attributes:
        config: a `torchao.float8.Float8LinearConfig`. None: one with the two settings below, which
            otherwise have no effect.
        module_filter_func: whether a linear layer is converted: a function of the layer and its
            name in the model. None: layers whose sizes are multiples of 16, except the first and
            the last one.
        pad_inner_dim: whether inner dimensions are padded to multiples of 16, as fp8 kernels need.
            None: ACCELERATE_FP8_PAD_INNER_DIM, or True.
        enable_fsdp_float8_all_gather: whether FSDP2 gathers weights in fp8. This runtime gathers
            them in bf16, and warns about it. None: ACCELERATE_FP8_ENABLE_FSDP_FLOAT8_ALL_GATHER,
            or True.

    Raises:
        ImportError: torchao is not installed.
        TypeError: the configuration is an object of another type.
    """

    config: Any = None
    module_filter_func: Callable[[torch.nn.Module, str], bool] | None = None
    pad_inner_dim: bool | None = None
    enable_fsdp_float8_all_gather: bool | None = None

    def __post_init__(self) -> None:
        """Create the configuration, unless it was given.

        Raises:
            ImportError: torchao is not installed.
            TypeError: the configuration is an object of another type.
        """
        if not is_present("torchao"):
            sentence = f"AORecipeKwargs requires torchao, which is not installed: {INSTALL_FP8}"
            raise ImportError(sentence)
        from torchao.float8 import Float8LinearConfig  # noqa: PLC0415  # an optional package, which imports slowly

        if self.config is None:
            self._configure(Float8LinearConfig, Settings.from_env(os.environ))
        what = "config as torchao's Float8LinearConfig"
        must_be(self.config, Float8LinearConfig, "AORecipeKwargs()", what)

    def _configure(self, kind: type, usual: Settings) -> None:
        for name in _RECIPE_FLAGS:
            if getattr(self, name) is None:
                setattr(self, name, getattr(usual, f"fp8_{name}") is not False)
        self.config = kind(**{name: getattr(self, name) for name in _RECIPE_FLAGS})

    @property
    def emulates(self) -> bool:
        """Whether fp8 is emulated in higher precision, which any device can, for tests."""
        return bool(self.config.emulate)


_FIELDS: dict[type[KwargsHandler], str] = {
    AORecipeKwargs: "ao_recipe",
    AutocastKwargs: "autocast",
    DistributedDataParallelKwargs: "ddp",
    GradScalerKwargs: "scaler",
    InitProcessGroupKwargs: "init",
    ProfileKwargs: "profile",
}


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of an Accelerator, at most one of each kind.

    Attributes:
        autocast: the arguments of torch.autocast.
        ddp: the arguments of DistributedDataParallel.
        scaler: the arguments of the gradient scaler.
        init: the arguments of init_process_group.
        profile: the arguments of the profiler.
        ao_recipe: the recipe of fp8.
    """

    autocast: AutocastKwargs | None = None
    ddp: DistributedDataParallelKwargs | None = None
    scaler: GradScalerKwargs | None = None
    init: InitProcessGroupKwargs | None = None
    profile: ProfileKwargs | None = None
    ao_recipe: AORecipeKwargs | None = None

    @classmethod
    def of(cls, handlers: Sequence[KwargsHandler]) -> "Handlers":
        """Sort handlers by their kind.

        Raises:
            ValueError: a handler is of an unknown kind, or there are two of one kind.
        """
        hint = ": write [DistributedDataParallelKwargs(...)]"
        must_be(handlers, (list, tuple), "kwargs_handlers", "a list of handlers", hint)
        found: dict[str, Any] = {}
        for handler in handlers:
            kind = type(handler)
            if kind not in _FIELDS:
                sentence = f"Unsupported kwargs handler passed: {handler}"
                raise ValueError(sentence)
            if _FIELDS[kind] in found:
                sentence = f"You can only pass one {kind} in `kwargs_handlers`."
                raise ValueError(sentence)
            found[_FIELDS[kind]] = handler
        return cls(**found)
