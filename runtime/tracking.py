"""The names of Accelerate's `tracking`: experiment trackers."""

from runtime.config import left_out
from runtime.trackers.base import GeneralTracker, on_main_process
from runtime.trackers.choose import (
    LOGGER_TYPE_TO_CLASS,
    filter_trackers,
    get_available_trackers,
    register_tracker_class,
)
from runtime.trackers.mlflow import MLflowTracker
from runtime.trackers.tensorboard import TensorBoardTracker
from runtime.trackers.wandb import WandBTracker

__all__ = [
    "LOGGER_TYPE_TO_CLASS",
    "GeneralTracker",
    "MLflowTracker",
    "TensorBoardTracker",
    "WandBTracker",
    "filter_trackers",
    "get_available_trackers",
    "on_main_process",
    "register_tracker_class",
]


__getattr__ = left_out.stand_ins(__name__, __all__)
