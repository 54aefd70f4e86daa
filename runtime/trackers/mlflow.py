"""MLflow."""

import importlib
import os
import warnings
from typing import Any

from runtime.config.parsing import naming, parse_flag_from_env
from runtime.trackers.base import GeneralTracker, on_main_process
from runtime.trackers.wandb import _tags


class MLflowTracker(GeneralTracker):
    """MLflow."""

    name = "mlflow"
    requires_logging_directory = False

    def __init__(
        self,
        experiment_name: str | None = None,
        logging_dir: Any = None,
        run_id: str | None = None,
        tags: dict[str, Any] | str | None = None,
        nested_run: bool | None = False,
        run_name: str | None = None,
        description: str | None = None,
    ) -> None:
        """Args: for mlflow.start_run; MLFLOW_EXPERIMENT_NAME, _RUN_ID, _TAGS, _NESTED_RUN win."""
        super().__init__()
        if "MLFLOW_NESTED_RUN" in os.environ:
            nested_run = parse_flag_from_env("MLFLOW_NESTED_RUN")
        self.experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment_name)
        self.logging_dir = logging_dir
        source = "MLFLOW_TAGS" if "MLFLOW_TAGS" in os.environ else None
        tags = tags if source is None else os.environ[source]
        with naming(source):
            tags = _tags(tags) if isinstance(tags, str) else tags
        self.run_options = {
            "run_id": os.environ.get("MLFLOW_RUN_ID", run_id),
            "run_name": run_name,
            "nested": nested_run,
            "tags": tags,
            "description": description,
        }

    @property
    def tracker(self) -> Any:
        """The run."""
        return self.active_run

    @on_main_process
    def start(self) -> None:
        """Begin a run in the experiment of that name, which is made if there is none."""
        self.mlflow = importlib.import_module("mlflow")
        known = self.mlflow.get_experiment_by_name(self.experiment_name)
        experiment = (
            self.mlflow.create_experiment(self.experiment_name, self.logging_dir)
            if known is None
            else known.experiment_id
        )
        self.active_run = self.mlflow.start_run(experiment_id=experiment, **self.run_options)

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Keep hyperparameters; those that are too long for MLflow are left out, with a warning."""
        limits = importlib.import_module("mlflow.utils.validation")
        short = {
            name: value
            for name, value in values.items()
            if len(str(value)) <= limits.MAX_PARAM_VAL_LENGTH
        }
        for name in values.keys() - short.keys():
            warnings.warn(f"{name} is too long for MLflow, and left out", stacklevel=3)
        items, size = list(short.items()), limits.MAX_PARAMS_TAGS_PER_BATCH
        for start in range(0, len(items), size):
            self.mlflow.log_params(dict(items[start : start + size]))

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Keep numbers; anything else is left out, with a warning."""
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name in values.keys() - numbers.keys():
            warnings.warn(f"{name} is no number, which MLflow wants; left out", stacklevel=3)
        self.mlflow.log_metrics(numbers, step=step, **kwargs)

    @on_main_process
    def log_figure(self, figure: Any, artifact_file: str, **save_kwargs: Any) -> None:
        """Keep a figure."""
        self.mlflow.log_figure(figure=figure, artifact_file=artifact_file, **save_kwargs)

    @on_main_process
    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Keep all files of a directory."""
        self.mlflow.log_artifacts(local_dir=local_dir, artifact_path=artifact_path)

    @on_main_process
    def log_artifact(self, local_path: str, artifact_path: str | None = None) -> None:
        """Keep a file."""
        self.mlflow.log_artifact(local_path=local_path, artifact_path=artifact_path)

    @on_main_process
    def finish(self) -> None:
        """End the run."""
        self.mlflow.end_run()
