"""The tracker for MLflow."""

import importlib
import os
import warnings
from typing import Any

from runtime.config.parsing import naming, parse_flag_from_env
from runtime.trackers.base import GeneralTracker, on_main_process, tags_of


class MLflowTracker(GeneralTracker):
    """A tracker that logs to an MLflow run.

    Attributes:
        experiment_name: the name of the experiment; None for MLflow's default.
        logging_dir: the artifact location of an experiment that `start` creates.
        run_options: the arguments of mlflow.start_run.
    """

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
        """Create the tracker.

        The variables MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID, MLFLOW_TAGS and MLFLOW_NESTED_RUN take
        precedence over arguments.

        Args:
            experiment_name: the name of the experiment.
            logging_dir: the artifact location of the experiment if it is created.
            run_id: the ID of a run to continue; None starts a new run.
            tags: the tags of the run, as a dict or a JSON object.
            nested_run: whether the run is nested in the active run.
            run_name: the name of the run.
            description: the description of the run.

        Raises:
            ValueError: the tags are not JSON.
        """
        super().__init__()
        if "MLFLOW_NESTED_RUN" in os.environ:
            nested_run = parse_flag_from_env("MLFLOW_NESTED_RUN")
        self.experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment_name)
        self.logging_dir = logging_dir
        source = "MLFLOW_TAGS" if "MLFLOW_TAGS" in os.environ else None
        tags = tags if source is None else os.environ[source]
        with naming(source):
            tags = tags_of(tags) if isinstance(tags, str) else tags
        self.run_options = {
            "run_id": os.environ.get("MLFLOW_RUN_ID", run_id),
            "run_name": run_name,
            "nested": nested_run,
            "tags": tags,
            "description": description,
        }

    @property
    def tracker(self) -> Any:
        """The active mlflow run."""
        return self.active_run

    @on_main_process
    def start(self) -> None:
        """Start a run in the experiment, which is created if it does not exist."""
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
        """Log the hyperparameters of the run; warn about values too long for MLflow and skip them.

        Args:
            values: the hyperparameters by name.
        """
        limits = importlib.import_module("mlflow.utils.validation")
        short = {
            name: value
            for name, value in values.items()
            if len(str(value)) <= limits.MAX_PARAM_VAL_LENGTH
        }
        for name in values.keys() - short.keys():
            warnings.warn(f"{name} is too long for MLflow and is not logged", stacklevel=3)
        items, size = list(short.items()), limits.MAX_PARAMS_TAGS_PER_BATCH
        for start in range(0, len(items), size):
            self.mlflow.log_params(dict(items[start : start + size]))

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Log metrics; warn about values that are not numbers and skip them.

        Args:
            values: the metrics by name.
            step: the number of the step.
            **kwargs: further arguments of mlflow.log_metrics.
        """
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name in values.keys() - numbers.keys():
            warnings.warn(f"{name} is not a number and is not logged to MLflow", stacklevel=3)
        self.mlflow.log_metrics(numbers, step=step, **kwargs)

    @on_main_process
    def log_figure(self, figure: Any, artifact_file: str, **save_kwargs: Any) -> None:
        """Log a figure as an artifact.

        Args:
            figure: a matplotlib or plotly figure.
            artifact_file: the path of the artifact in the run.
            **save_kwargs: further arguments of mlflow.log_figure.
        """
        self.mlflow.log_figure(figure=figure, artifact_file=artifact_file, **save_kwargs)

    @on_main_process
    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Log all files of a directory as artifacts.

        Args:
            local_dir: the directory.
            artifact_path: the directory of the artifacts in the run.
        """
        self.mlflow.log_artifacts(local_dir=local_dir, artifact_path=artifact_path)

    @on_main_process
    def log_artifact(self, local_path: str, artifact_path: str | None = None) -> None:
        """Log a file as an artifact.

        Args:
            local_path: the path of the file.
            artifact_path: the directory of the artifact in the run.
        """
        self.mlflow.log_artifact(local_path=local_path, artifact_path=artifact_path)

    @on_main_process
    def finish(self) -> None:
        """End the run."""
        self.mlflow.end_run()
