"""Weights & Biases."""

import importlib
import json
from typing import Any

from runtime.trackers.base import GeneralTracker, on_main_process


class WandBTracker(GeneralTracker):
    """Weights & Biases."""

    name = "wandb"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, run_name: str, **kwargs: Any) -> None:
        """Args: run_name: the project; kwargs: for wandb.init."""
        super().__init__()
        self.run_name = run_name
        self.init_kwargs = kwargs

    @property
    def tracker(self) -> Any:
        """The run."""
        return self.run

    @on_main_process
    def start(self) -> None:
        """Begin a run."""
        self.wandb = importlib.import_module("wandb")
        self.run = self.wandb.init(project=self.run_name, **self.init_kwargs)

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Keep hyperparameters."""
        self.wandb.config.update(values, allow_val_change=True)

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Keep metrics; kwargs: for the run's log."""
        self.run.log(values, step=step, **kwargs)

    @on_main_process
    def log_images(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Keep lists of images; kwargs: for the run's log."""
        for name, images in values.items():
            self.log({name: [self.wandb.Image(one) for one in images]}, step=step, **kwargs)

    @on_main_process
    def log_table(
        self,
        table_name: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep a table, given by columns and rows or as a dataframe."""
        table = self.wandb.Table(columns=columns, data=data, dataframe=dataframe)
        self.log({table_name: table}, step=step, **kwargs)

    @on_main_process
    def finish(self) -> None:
        """End the run."""
        self.run.finish()


def _tags(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        sentence = f"tags must be a JSON object of texts, got {text!r}: {error}"
        raise ValueError(sentence) from error
