"""The tracker for TensorBoard."""

import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

from runtime.collectives.nested import listify
from runtime.trackers.base import GeneralTracker, on_main_process


class TensorBoardTracker(GeneralTracker):
    """A tracker that writes TensorBoard event files.

    Attributes:
        run_name: the name of the run.
        logging_dir: the directory of the event files, which is named after the run.
        init_kwargs: further arguments of SummaryWriter.
    """

    name = "tensorboard"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: Any, **kwargs: Any) -> None:
        """Create the tracker.

        Args:
            run_name: the name of the run.
            logging_dir: the directory in which the run's directory is created.
            **kwargs: further arguments of SummaryWriter.
        """
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
        """Start a run."""
        tensorboard = importlib.import_module("torch.utils.tensorboard")
        self.writer = tensorboard.SummaryWriter(self.logging_dir, **self.init_kwargs)

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Log the hyperparameters of the run to TensorBoard, and write them to `hparams.yml`.

        Args:
            values: the hyperparameters by name.
        """
        self.writer.add_hparams(values, metric_dict={})
        self.writer.flush()
        folder = Path(self.logging_dir, str(time.time()))
        folder.mkdir(parents=True)
        (folder / "hparams.yml").write_text(json.dumps(values))  # JSON is valid YAML

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Log numbers, strings and dicts of numbers; other values are ignored.

        Args:
            values: the metrics by name.
            step: the number of the step.
            **kwargs: further arguments of the SummaryWriter's methods.
        """
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
        """Log batches of images.

        Args:
            values: the batches by name, as SummaryWriter.add_images takes them.
            step: the number of the step.
            **kwargs: further arguments of SummaryWriter.add_images.
        """
        for name, value in values.items():
            self.writer.add_images(name, value, global_step=step, **kwargs)

    @on_main_process
    def finish(self) -> None:
        """End the run."""
        self.writer.close()
