"""The settings of tensor and context parallelism beyond their sizes."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.config.arguments import must_be
from runtime.config.parsing import naming
from runtime.config.plugins import first
from runtime.config.settings import LayoutSettings

GATHERING = "allgather"
_COMMUNICATION = (GATHERING, "alltoall")


@dataclass
class TorchTensorParallelConfig:
    """How models are divided by tensor parallelism.

    Attributes:
        enable_async_tp: without effect, as in Accelerate; a warning says so.
        plan: the name of a module, in which `*` stands for one part of a dotted name, -> a
            `ParallelStyle` of `torch.distributed.tensor.parallel`, or its name in transformers:
            `colwise`, `rowwise`, `colwise_gather_output` or `embedding_rowwise`. None: the model's
            own plan, `_tp_plan`.

    Raises:
        TypeError: the plan is not a dict.
    """

    enable_async_tp: bool = False
    plan: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the plan, and warn about an option without effect.

        Raises:
            TypeError: the plan is not a dict.
        """
        kinds = (Mapping, type(None))
        must_be(self.plan, kinds, "TorchTensorParallelConfig()", "plan as a dict")
        if self.enable_async_tp:
            sentence = "Async tensor parallelism is currently not supported, ignoring this option."
            warnings.warn(sentence, stacklevel=3)


@dataclass
class TorchContextParallelConfig:
    """How the parts of a sequence are exchanged.

    Attributes:
        cp_comm_strategy: `allgather` or `alltoall`, which an Accelerator refuses. None:
            PARALLELISM_CONFIG_CP_COMM_STRATEGY, or `allgather`.

    Raises:
        ValueError: the strategy is unknown.
    """

    cp_comm_strategy: str | None = None

    def __post_init__(self) -> None:
        """Replace None by the setting of the environment, and check the strategy."""
        usual = LayoutSettings.from_env(os.environ).cp_comm_strategy
        is_usual = self.cp_comm_strategy is None and usual is not None
        self.cp_comm_strategy = first(self.cp_comm_strategy, usual, GATHERING)
        with naming(LayoutSettings.variable("cp_comm_strategy") if is_usual else None):
            if self.cp_comm_strategy not in _COMMUNICATION:
                sentence = (
                    f"Invalid cp_comm_strategy: {self.cp_comm_strategy}. Must be one of "
                    "'allgather' or 'alltoall'."
                )
                raise ValueError(sentence)
