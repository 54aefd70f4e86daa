"""TensorBoard, Weights & Biases, MLflow: each an extra, imported when it starts and not before."""

import importlib
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

from runtime.environment import naming, parse_flag_from_env
from runtime.nested import listify
from runtime.tracker import GeneralTracker, on_main_process


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
