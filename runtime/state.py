"""The state of this process: its world, its device, and where it is in the training loop.

`PartialState`, `AcceleratorState` and `GradientState` may be made anywhere, as often as one likes:
all instances of a class are views of one state, which the first one made. This is Accelerate's
contract, and the only global state of this package.
"""

import atexit
import os
from typing import Any, ClassVar

import torch
from torch import distributed

from runtime.control import ProcessControl
from runtime.device import DistributedType, choose, place
from runtime.errors import WorldError
from runtime.settings import Settings
from runtime.world import MASTER_ADDR, MASTER_PORT, World

PRECISIONS = ("no", "fp16", "bf16")


class _Shared:
    """A class whose instances share one state."""

    _shared_state: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._shared_state = {}

    def __init__(self) -> None:
        self.__dict__ = self._shared_state

    @property
    def initialized(self) -> bool:
        """Whether the state is there."""
        return bool(self._shared_state)

    @classmethod
    def is_made(cls) -> bool:
        """Whether the state is there; does not make it."""
        return bool(cls._shared_state)

    @classmethod
    def _reset_state(cls) -> None:
        """Forget the state: the next instance makes a new one (for tests and notebooks)."""
        cls._shared_state.clear()


class PartialState(_Shared, ProcessControl):
    """The world and the device.

    Attributes:
        device: where this process computes.
        distributed_type: what kind of world it is.
        backend: of torch.distributed; None in a world of one.
        num_processes: of the world.
        process_index: this process' rank.
        local_process_index: its rank on this machine, or in this pod.
    """

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
        world, settings = World.from_env(os.environ), Settings.from_env(os.environ)
        kind = choose(cpu=cpu or bool(settings.use_cpu), distributed=world.size > 1)
        device = place(kind, world.local_rank)
        backend = kwargs.pop("backend", None) or settings.distributed_backend or kind.backend
        if world.size > 1:
            _join(world, backend, kwargs)
        alone = world.size == 1
        self.device = device
        self.distributed_type = DistributedType.NO if alone else kind.distributed_type
        self.backend = None if alone else backend
        self.num_processes = world.size
        self.process_index = world.rank
        self.local_process_index = world.local_rank
        self._local_size = world.local_size

    def __repr__(self) -> str:
        return (
            f"Distributed environment: {self.distributed_type}\n"
            f"Num processes: {self.num_processes}\nProcess index: {self.process_index}\n"
            f"Local process index: {self.local_process_index}\nDevice: {self.device}\n"
        )

    @property
    def communication_device(self) -> torch.device:
        """Where a tensor must be to be sent whatever it is: the CPU if the backend allows."""
        return torch.device("cpu") if "gloo" in (self.backend or "gloo") else self.device

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""
        if self.num_processes > 1:
            distributed.barrier()

    def destroy_process_group(self) -> None:
        """Leave the world."""
        leave()


def _join(world: World, backend: str | None, options: dict[str, Any]) -> None:
    """Make the process group, unless the script has one already."""
    if distributed.is_initialized():
        return
    try:
        distributed.init_process_group(
            backend,
            init_method=f"tcp://{_host(world.master_addr)}:{world.master_port}",
            rank=world.rank,
            world_size=world.size,
            **options,
        )
    except distributed.DistError as error:
        sentence = (
            f"rank {world.rank} of {world.size} cannot join at {MASTER_ADDR}={world.master_addr} "
            f"{MASTER_PORT}={world.master_port}: {error}. Is rank 0 running, and does its name "
            f"resolve from here?"
        )
        raise WorldError(sentence) from error
    atexit.register(leave)


def _host(address: str | None) -> str:
    """An IPv6 address stands in brackets in a URL."""
    return f"[{address}]" if address and ":" in address else str(address)


def leave() -> None:
    """Destroy the process group if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


class AcceleratorState(_Shared):
    """The process' state and what the Accelerator was asked for.

    Attributes:
        mixed_precision: `no`, `fp16` or `bf16`.
    """

    mixed_precision: str

    def __init__(self, mixed_precision: str | None = None, cpu: bool = False) -> None:
        """Make the state, the first time.

        Args:
            mixed_precision: None for what the environment says, and else `no`.
            cpu: compute on the CPU whatever else there is.

        Raises:
            ValueError: no such precision, another one than before, or not on this device.
        """
        super().__init__()
        if self.initialized:
            self._check_same(mixed_precision, cpu)
            return
        wanted = mixed_precision or Settings.from_env(os.environ).mixed_precision or "no"
        if wanted not in PRECISIONS:
            sentence = f"mixed_precision must be one of {', '.join(PRECISIONS)}, got {wanted!r}"
            raise ValueError(sentence)
        state = PartialState(cpu=cpu)
        if wanted == "fp16" and state.device.type == "cpu":
            sentence = "mixed_precision fp16 needs an accelerator, and this is a cpu; use bf16"
            raise ValueError(sentence)
        self._partial = state
        self.mixed_precision = wanted

    def __getattr__(self, name: str) -> Any:
        """Everything else is the process' state."""
        if name.startswith("__") or "_partial" not in self._shared_state:
            raise AttributeError(name)
        return getattr(self._shared_state["_partial"], name)

    def _check_same(self, mixed_precision: str | None, cpu: bool) -> None:
        if cpu and self.device.type != "cpu":
            sentence = f"the device is {self.device} since the first Accelerator; cpu=True is late"
            raise ValueError(sentence)
        if mixed_precision not in (None, self.mixed_precision):
            sentence = (
                f"mixed_precision is {self.mixed_precision} since the first Accelerator, "
                f"and cannot become {mixed_precision}"
            )
            raise ValueError(sentence)

    @classmethod
    def _reset_state(cls, reset_partial_state: bool = False) -> None:
        """Forget the state, and the world as well if asked."""
        super()._reset_state()
        if reset_partial_state:
            PartialState._reset_state()  # noqa: SLF001  # its sister's


class GradientState(_Shared):
    """Where the training loop is: in which data loader, and whether gradients are synchronised.

    Attributes:
        sync_gradients: whether this batch ends an accumulation: gradients are reduced, the
            optimizer steps.
        num_steps: batches that an accumulation has.
        dataloader_references: prepared data loaders that are being iterated, outermost first.
    """

    sync_gradients: bool
    num_steps: int
    dataloader_references: list[Any]

    def __init__(self, num_steps: int | None = None) -> None:
        """Make the state, the first time; `num_steps` changes it at any time.

        Raises:
            ValueError: no batch at all for a step.
        """
        if num_steps is not None and num_steps < 1:
            sentence = f"gradient_accumulation_steps must be at least 1, got {num_steps}"
            raise ValueError(sentence)
        super().__init__()
        if not self.initialized:
            self.sync_gradients = True
            self.num_steps = 1
            self.dataloader_references = []
        if num_steps is not None:
            self.num_steps = num_steps

    @property
    def active_dataloader(self) -> Any:
        """The innermost data loader that is being iterated; None outside of all."""
        return self.dataloader_references[-1] if self.dataloader_references else None

    @property
    def in_dataloader(self) -> bool:
        """Whether a prepared data loader is being iterated."""
        return bool(self.dataloader_references)

    @property
    def end_of_dataloader(self) -> bool:
        """Whether the active data loader has given its last batch."""
        loader = self.active_dataloader
        return loader is not None and loader.end_of_dataloader

    @property
    def remainder(self) -> int:
        """Real samples in the active loader's last global batch; 0: it is whole, -1: unknown."""
        loader = self.active_dataloader
        return -1 if loader is None else loader.remainder

    def _add_dataloader(self, dataloader: Any) -> None:
        self.dataloader_references.append(dataloader)

    def _remove_dataloader(self, dataloader: Any) -> None:
        """The loader is left; that may be after the state was forgotten."""
        references = self._shared_state.get("dataloader_references", [])
        if dataloader in references:
            references.remove(dataloader)

    def _set_sync_gradients(self, sync_gradients: bool) -> None:
        self.sync_gradients = sync_gradients
