"""The state of this process: its world, its device, and the precision that it computes in."""

import os
from typing import Any

import torch
from torch import distributed

from runtime.config import left_out
from runtime.config.enums import DistributedType
from runtime.config.parsing import naming
from runtime.config.precision import choose_precision
from runtime.config.settings import Settings, env_name
from runtime.world import last_words, roll_call
from runtime.world.device import choose, named, place
from runtime.world.process_group import check_backend, join, joined_world, leave, set_timeout
from runtime.world.roles import ProcessControl
from runtime.world.shared import Shared


def is_initialized() -> bool:
    """Whether an Accelerator has made the state."""
    return AcceleratorState.is_made()


class PartialState(Shared, ProcessControl):
    """The world and the device.

    Attributes:
        device: where this process computes.
        distributed_type: what kind of world it is.
        backend: of torch.distributed; None in a world of one.
        num_processes: of the world.
        process_index: this process' rank.
        local_process_index: its rank on this machine, or in this pod.
        debug: whether shapes are compared before collectives.
        fork_launched: whether a notebook's launcher has started this process.
    """

    _known_attrs = (
        *("_cpu", "_mixed_precision", "_shared_state", "backend", "debug", "device"),
        *("distributed_type", "fork_launched", "local_process_index", "num_processes"),
        "process_index",
    )

    device: torch.device
    distributed_type: DistributedType
    backend: str | None
    num_processes: int
    process_index: int
    local_process_index: int

    def __init__(self, cpu: bool = False, **kwargs: Any) -> None:
        """Join the world, the first time.

        Args:
            cpu: compute on the CPU whatever else there is.
            **kwargs: for torch.distributed.init_process_group: `backend`, `timeout`.

        Raises:
            WorldError: the environment contradicts itself, or rank 0 cannot be reached.
        """
        super().__init__()
        if self.initialized:
            return
        last_words.install(os.environ)
        world, settings = joined_world(), Settings.from_env(os.environ)
        kind = choose(cpu=cpu or bool(settings.use_cpu), distributed=world.size > 1)
        wanted, asked = settings.torch_device, kwargs.pop("backend", None)
        with naming(env_name("torch_device") if wanted else None):
            device = named(wanted) if wanted else place(kind, world.local_rank)
        if asked is None and settings.distributed_backend is not None and world.size > 1:
            with naming(env_name("distributed_backend")):
                check_backend(settings.distributed_backend)
        backend = asked or settings.distributed_backend or kind.backend
        if world.size > 1:
            join(world, backend, kwargs)
            if settings.collective_timeout is not None and "timeout" not in kwargs:
                set_timeout(settings.collective_timeout)
        alone = world.size == 1
        self.device = device
        self.distributed_type = DistributedType.NO if alone else kind.distributed_type
        self.backend = None if alone else backend
        self.num_processes = world.size
        self.process_index = world.rank
        self.local_process_index = world.local_rank
        self.debug = bool(settings.debug_mode)
        self.fork_launched = bool(settings.fork_launched)
        self._cpu = cpu

    def __repr__(self) -> str:
        backend = f"  Backend: {self.backend}" if self.backend else ""
        return (
            f"Distributed environment: {self.distributed_type}{backend}\n"
            f"Num processes: {self.num_processes}\nProcess index: {self.process_index}\n"
            f"Local process index: {self.local_process_index}\nDevice: {self.device}\n"
        )

    @property
    def default_device(self) -> torch.device:
        """The device that a process alone would compute on."""
        return torch.device(choose(cpu=False, distributed=False).name)

    def set_device(self) -> None:
        """Do nothing: the device is set when the world is joined."""

    @property
    def communication_device(self) -> torch.device:
        """Where a tensor must be to be sent whatever it is: the CPU if the backend allows."""
        return torch.device("cpu") if "gloo" in (self.backend or "gloo") else self.device

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""
        if self.num_processes > 1:
            on_cpu = self.device.type == "cpu"
            with roll_call.Collective("wait_for_everyone"):
                distributed.barrier(device_ids=None if on_cpu else [self.device.index])

    def destroy_process_group(self, group: Any = None) -> None:
        """Leave the world, or a group; a notebook's process leaves the world at its end only."""
        if group is None and not self.fork_launched:
            leave()
        elif group is not None:
            distributed.destroy_process_group(group)


class AcceleratorState(Shared):
    """The process' state, and what the first Accelerator was asked for.

    Attributes:
        mixed_precision: `no`, `fp16` or `bf16`.
        dynamo_plugin: how models are compiled.
        fsdp_plugin: how models are sharded; None: they are not.
        parallelism_config: how the world is laid out; None: for data parallelism alone.
    """

    _known_attrs = (
        *PartialState._known_attrs,  # noqa: SLF001  # its sister's
        *("deepspeed_plugin", "fsdp_plugin", "megatron_lm_plugin", "dynamo_plugin"),
        *("is_fsdp2", "mixed_precision"),
    )

    mixed_precision: str

    def __init__(
        self,
        mixed_precision: str | None = None,
        cpu: bool = False,
        dynamo_plugin: Any = None,
        deepspeed_plugin: Any = None,
        fsdp_plugin: Any = None,
        torch_tp_plugin: Any = None,
        megatron_lm_plugin: Any = None,
        parallelism_config: Any = None,
        _from_accelerator: bool = False,
        **kwargs: Any,
    ) -> None:
        """Make the state, the first time; later only what agrees with it is taken.

        Raises:
            ValueError: it asks for something else than the first one, or for what cannot be had;
                or no Accelerator was made yet.
            NotImplementedError: a plugin for an engine that this runtime leaves out.
        """
        super().__init__()
        left_out.refuse(
            {
                "DeepSpeed": deepspeed_plugin,
                "Megatron-LM": megatron_lm_plugin,
                "TorchTensorParallelPlugin (deprecated in Accelerate)": torch_tp_plugin,
            }
        )
        wanted = None if mixed_precision is None else str(mixed_precision).lower()
        if self.initialized:
            self._check_same(wanted, cpu)
            if not PartialState.is_made():  # it alone was forgotten
                self._partial = PartialState(cpu, **kwargs)
            return
        if not _from_accelerator:
            sentence = (
                "Please make sure to properly initialize your accelerator via "
                "`accelerator = Accelerator()` before using any functionality of this library."
            )
            raise ValueError(sentence)
        partial = PartialState(cpu, **kwargs)
        self.mixed_precision = choose_precision(wanted, partial.device)
        self.dynamo_plugin = dynamo_plugin
        self.fsdp_plugin = fsdp_plugin
        self.parallelism_config = parallelism_config
        self.device_mesh = None
        self._partial = partial
        self._lay_out()

    def _lay_out(self) -> None:
        """Make the mesh, and have models sharded, as was asked; a world of one has neither."""
        partial, plugin, layout = self._partial, self.fsdp_plugin, self.parallelism_config
        if layout is not None:
            layout.check(world_size=partial.num_processes, shards=plugin is not None)
        if not partial.use_distributed:
            return
        if layout is not None:
            self.device_mesh = layout.get_device_mesh(partial.device.type)
        if plugin is not None:
            self._whole_type = partial.distributed_type
            partial.distributed_type = DistributedType.FSDP
            if self.mixed_precision != "no":
                plugin.set_mixed_precision(self.mixed_precision)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the process' state."""
        if name.startswith("__") or "_partial" not in self._shared_state:
            self._refuse(name)
        try:
            return getattr(self._shared_state["_partial"], name)
        except AttributeError:
            self._refuse(name)

    def __repr__(self) -> str:
        return f"{self._partial!r}\nMixed precision type: {self.mixed_precision}\n"

    def destroy_process_group(self, group: Any = None) -> None:
        """Leave the world, or a group; also after this state was forgotten."""
        PartialState().destroy_process_group(group)

    @property
    def deepspeed_plugin(self) -> None:
        """None: there is no DeepSpeed here."""

    @property
    def is_fsdp2(self) -> bool:
        """Whether models are sharded."""
        return bool(self.distributed_type == DistributedType.FSDP)

    def _check_same(self, mixed_precision: str | None, cpu: bool) -> None:
        flag = f"mixed_precision={mixed_precision!r}"
        if cpu and self.device.type != "cpu":
            flag = "cpu=True"
        elif mixed_precision in (None, self.mixed_precision):
            return
        sentence = (
            "AcceleratorState has already been initialized and cannot be changed, restart your "
            f"runtime completely and pass `{flag}` to `Accelerator()`. It has "
            f"mixed_precision={self.mixed_precision!r} and computes on {self.device}."
        )
        raise ValueError(sentence)

    @classmethod
    def _reset_state(cls, reset_partial_state: bool = False) -> None:
        """Forget the state, and the world as well if asked."""
        if "_whole_type" in cls._shared_state:  # the next Accelerator may not shard
            cls._shared_state["_partial"].distributed_type = cls._shared_state["_whole_type"]
        super()._reset_state()
        if reset_partial_state:
            PartialState._reset_state()  # noqa: SLF001  # its sister's
