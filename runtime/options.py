"""What an Accelerator was asked for, as its properties."""

import contextlib
from typing import Any, NoReturn

from torch import nn

from runtime.config.enums import DistributedType, FP8BackendType
from runtime.config.plugins import DataLoaderConfiguration, ProjectConfiguration
from runtime.world.roles import StateView

_SINGLE = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.FSDP, DistributedType.XLA)


class Options(StateView):
    """Mixed into the Accelerator."""

    dataloader_config: DataLoaderConfiguration
    project_configuration: ProjectConfiguration

    @property
    def project_dir(self) -> Any:
        """Where checkpoints go."""
        return self.project_configuration.project_dir

    @property
    def logging_dir(self) -> Any:
        """Where trackers write."""
        return self.project_configuration.logging_dir

    @property
    def save_iteration(self) -> int:
        """The next checkpoint's number."""
        return self.project_configuration.iteration

    @property
    def split_batches(self) -> bool:
        """Whether the script's batch size is that of all processes together."""
        return self.dataloader_config.split_batches

    @property
    def dispatch_batches(self) -> bool | None:
        """Whether rank 0 reads for all."""
        return self.dataloader_config.dispatch_batches

    @property
    def even_batches(self) -> bool:
        """Whether the last batches are filled, so that all processes have as many."""
        return self.dataloader_config.even_batches

    @even_batches.setter
    def even_batches(self, even_batches: bool) -> None:
        self.dataloader_config.even_batches = even_batches

    @property
    def use_seedable_sampler(self) -> bool:
        """Whether orders are drawn from seed and epoch alone."""
        return self.dataloader_config.use_seedable_sampler

    @property
    def non_blocking(self) -> bool:
        """Whether batches are copied to the device without waiting."""
        return self.dataloader_config.non_blocking

    @property
    def use_stateful_dataloader(self) -> bool:
        """What the configuration says; each prepared loader has its state."""
        return self.dataloader_config.use_stateful_dataloader

    @property
    def mixed_precision(self) -> str:
        """`no`, `fp16` or `bf16`."""
        return str(self.state.mixed_precision)

    @property
    def multi_device(self) -> bool:
        """Whether several accelerators train a model that each of them has as a whole."""
        return self.use_distributed and self.distributed_type not in _SINGLE

    @property
    def should_save_model(self) -> bool:
        """Whether this process writes a model that all have."""
        return self.is_local_main_process

    @property
    def fp8_backend(self) -> FP8BackendType:
        """NO: there is no fp8 here."""
        return FP8BackendType.NO

    @property
    def deepspeed_plugin(self) -> None:
        """None: there is no DeepSpeed here."""

    @property
    def pipeline_parallel_rank(self) -> NoReturn:
        """Refused, as by Accelerate.

        Raises:
            NotImplementedError: always.
        """
        sentence = "pipeline parallelism is not supported by this runtime"
        raise NotImplementedError(sentence)

    @property
    def context_parallel_rank(self) -> NoReturn:
        """Refused, as by Accelerate.

        Raises:
            NotImplementedError: always.
        """
        sentence = "context parallelism is not supported by this runtime"
        raise NotImplementedError(sentence)

    def maybe_context_parallel(
        self,
        buffers: list[Any] | None = None,  # noqa: ARG002  # accelerate's signature
        buffer_seq_dims: list[int] | None = None,  # noqa: ARG002
        no_restore_buffers: set[Any] | None = None,  # noqa: ARG002
    ) -> contextlib.AbstractContextManager[None]:
        """Change nothing: sequences are not divided here."""
        return contextlib.nullcontext()

    def verify_device_map(self, model: nn.Module) -> bool:
        """Whether parts of a model were put on several devices by Hugging Face's `device_map`."""
        return any(len(getattr(one, "hf_device_map", None) or ()) > 1 for one in model.modules())
