"""The tracker for Weights & Biases."""

import importlib
from typing import Any

from runtime.trackers.base import GeneralTracker, on_main_process


class WandBTracker(GeneralTracker):
    """A tracker that logs to a Weights & Biases run.

    Attributes:
        run_name: the name of the project.
        init_kwargs: further arguments of wandb.init.
    """

    name = "wandb"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, run_name: str, **kwargs: Any) -> None:
        """Create the tracker.

        Args:
            run_name: the name of the project.
            **kwargs: further arguments of wandb.init.
        """
        super().__init__()
        self.run_name = run_name
        self.init_kwargs = kwargs

    @property
    def tracker(self) -> Any:
        """The wandb run."""
        return self.run

    @on_main_process
    def start(self) -> None:
        """Start a run."""
        self.wandb = importlib.import_module("wandb")
        self.run = self.wandb.init(project=self.run_name, **self.init_kwargs)

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Log the hyperparameters of the run.

        Args:
            values: the hyperparameters by name.
        """
        self.wandb.config.update(values, allow_val_change=True)

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Log metrics.

        Args:
            values: the metrics by name.
            step: the number of the step.
            **kwargs: further arguments of the run's method `log`.
        """
        self.run.log(values, step=step, **kwargs)

    @on_main_process
    def log_images(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Log lists of images.

        Args:
            values: the lists of images by name.
            step: the number of the step.
            **kwargs: further arguments of the run's method `log`.
        """
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
        """Log a table, given either by columns and rows or as a dataframe.

        Args:
            table_name: the name of the table.
            columns: the names of the columns.
            data: the rows.
            dataframe: the dataframe.
            step: the number of the step.
            **kwargs: further arguments of the run's method `log`.
        """
        table = self.wandb.Table(columns=columns, data=data, dataframe=dataframe)
        self.log({table_name: table}, step=step, **kwargs)

    @on_main_process
    def finish(self) -> None:
        """End the run."""
        self.run.finish()
