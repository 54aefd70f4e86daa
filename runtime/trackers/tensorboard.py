"""TensorBoard."""

import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

from runtime.collectives.nested import listify
from runtime.trackers.base import GeneralTracker, on_main_process


class TensorBoardTracker(GeneralTracker):
    """TensorBoard's event files, in a folder of the run's name."""

    name = "tensorboard"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: Any, **kwargs: Any) -> None:
        """Args: logging_dir: where the run's folder is made; kwargs: for SummaryWriter."""
        super().__init__()
        self.run_name = run_name
        self.logging_dir = os.fspath(Path(logging_dir, run_name))
        self.init_kwargs = kwargs

    @property
    def tracker(self) -> Any:
        """The SummaryWriter."""
        return self.writer

    @on_main_process
    def start(self) -> None:
        """Begin a run."""
        tensorboard = importlib.import_module("torch.utils.tensorboard")
        self.writer = tensorboard.SummaryWriter(self.logging_dir, **self.init_kwargs)

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Keep hyperparameters, for TensorBoard and as a file."""
        self.writer.add_hparams(values, metric_dict={})
        self.writer.flush()
        folder = Path(self.logging_dir, str(time.time()))
        folder.mkdir(parents=True)
        (folder / "hparams.yml").write_text(json.dumps(values))  # which is YAML, too

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Keep numbers, texts and dicts of numbers; kwargs: for the writer's methods."""
        for name, value in listify(values).items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, global_step=step, **kwargs)
            elif isinstance(value, str):
                self.writer.add_text(name, value, global_step=step, **kwargs)
            elif isinstance(value, dict):
                self.writer.add_scalars(name, value, global_step=step, **kwargs)
        self.writer.flush()

    @on_main_process
    def log_images(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Keep batches of images; kwargs: for add_images."""
        for name, value in values.items():
            self.writer.add_images(name, value, global_step=step, **kwargs)

    @on_main_process
    def finish(self) -> None:
        """End the run."""
        self.writer.close()
