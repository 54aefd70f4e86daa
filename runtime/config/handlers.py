"""What a script may say about torch's own objects that an Accelerator makes for it.

Each class has torch's names and defaults, and goes into `Accelerator(kwargs_handlers=[...])`.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

from runtime.config.enums import DDPCommunicationHookType as Hook


class KwargsHandler:
    """Arguments for something of torch's."""

    def to_dict(self) -> dict[str, Any]:
        """All of them."""
        return copy.deepcopy(self.__dict__)

    def to_kwargs(self) -> dict[str, Any]:
        """Those that differ from their defaults."""
        default = type(self)().to_dict()
        return {name: value for name, value in self.to_dict().items() if default[name] != value}


@dataclass
class AutocastKwargs(KwargsHandler):
    """For torch.autocast."""

    enabled: bool = True
    cache_enabled: bool | None = None


@dataclass
class GradScalerKwargs(KwargsHandler):
    """For torch.amp.GradScaler."""

    init_scale: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    enabled: bool = True


@dataclass
class InitProcessGroupKwargs(KwargsHandler):
    """For torch.distributed.init_process_group."""

    backend: str | None = "nccl"  # accelerate's default; it stands for the device's own backend
    init_method: str | None = None
    timeout: timedelta | None = None  # default: 10 minutes with nccl, else 30

    def __post_init__(self) -> None:
        """Fill the timeout."""
        if self.timeout is None:
            self.timeout = timedelta(seconds=600 if self.backend == "nccl" else 1800)


# How a hook compresses, and what can be put around another hook (torch's ddp_comm_hooks).
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
    """For DistributedDataParallel, and the hook that compresses its gradients."""

    dim: int = 0
    broadcast_buffers: bool = True
    bucket_cap_mb: int = 25
    find_unused_parameters: bool = False
    check_reduction: bool = False
    gradient_as_bucket_view: bool = False
    static_graph: bool = False
    comm_hook: Hook = Hook.NO
    comm_wrapper: Hook = Hook.NO  # NO, FP16 or BF16
    comm_state_option: dict[str, Any] = field(default_factory=dict)  # for PowerSGDState

    def to_dict(self, ignore_keys: tuple[str, ...] = _HOOK_FIELDS) -> dict[str, Any]:
        """All arguments of DistributedDataParallel."""
        return {key: value for key, value in super().to_dict().items() if key not in ignore_keys}

    def register_comm_hook(self, model: torch.nn.parallel.DistributedDataParallel) -> None:
        """Have a model's gradients compressed as asked for."""
        hook, wrapper = _HOOKS.get(self.comm_hook), _WRAPPERS.get(self.comm_wrapper)
        if hook is None:
            return
        state = None
        if self.comm_hook in _STATEFUL:
            state = powerSGD_hook.PowerSGDState(None, **self.comm_state_option)
        model.register_comm_hook(state, hook if wrapper is None else wrapper(hook))


@dataclass
class ProfileKwargs(KwargsHandler):
    """For torch.profiler.profile.

    Raises:
        ValueError: an activity that this torch does not know.
    """

    activities: list[str] | None = None  # names of torch.profiler.ProfilerActivity, in any case
    schedule_option: dict[str, int] | None = None  # for torch.profiler.schedule
    on_trace_ready: Callable[[torch.profiler.profile], Any] | None = None
    record_shapes: bool = False
    profile_memory: bool = False
    with_stack: bool = False
    with_flops: bool = False
    with_modules: bool = False
    output_trace_dir: str | None = None  # where each rank's trace goes, as Chrome reads it

    def build(self) -> torch.profiler.profile:
        """The profiler."""
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


_FIELDS: dict[type[KwargsHandler], str] = {
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
    """

    autocast: AutocastKwargs | None = None
    ddp: DistributedDataParallelKwargs | None = None
    scaler: GradScalerKwargs | None = None
    init: InitProcessGroupKwargs | None = None
    profile: ProfileKwargs | None = None

    @classmethod
    def of(cls, handlers: Sequence[KwargsHandler]) -> "Handlers":
        """Sort handlers by their kind.

        Raises:
            ValueError: the kind of a handler is unknown, or there are two of one kind.
        """
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
