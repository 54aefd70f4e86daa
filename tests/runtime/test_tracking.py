"""Each tracker writes with its own package, and what it wrote is read back."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime import Accelerator
from runtime.config.handlers import ProfileKwargs
from runtime.config.plugins import ProjectConfiguration
from runtime.tracking import GeneralTracker, filter_trackers, on_main_process

CONFIG = {"rate": 0.1, "layers": 2, "name": "small"}
LOSSES = [0.5, 0.25]


def track(accelerator: Accelerator) -> None:
    """A run with hyperparameters and a metric."""
    accelerator.init_trackers("training", CONFIG)
    for step, loss in enumerate(LOSSES):
        accelerator.log({"loss": loss}, step=step)
    accelerator.end_training()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path: Path) -> None:
    track(Accelerator(log_with="tensorboard", project_dir=str(tmp_path)))
    reading = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(str(tmp_path / "training")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [*enumerate(LOSSES)]
    (saved,) = (tmp_path / "training").rglob("hparams.yml")
    assert json.loads(saved.read_text()) == CONFIG  # JSON is YAML


@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}")
    mlflow = importlib.import_module("mlflow")
    track(Accelerator(log_with="mlflow", project_dir=str(tmp_path)))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("training").experiment_id])
    assert run.data.params == {name: str(value) for name, value in CONFIG.items()}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [*enumerate(LOSSES)]


@pytest.mark.filterwarnings("ignore")
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    accelerator = Accelerator(log_with="wandb")
    accelerator.init_trackers("training", CONFIG)
    run = accelerator.get_tracker("wandb", unwrap=True)
    for step, loss in enumerate(LOSSES):
        accelerator.log({"loss": loss}, step=step)
    assert dict(run.config) == CONFIG
    accelerator.log({"done": 1}, step=len(LOSSES))  # a step is kept when the next one comes
    assert run.summary["loss"] == LOSSES[-1]
    accelerator.end_training()
    assert [*tmp_path.rglob("run-*.wandb")]


class Kept(GeneralTracker):
    """A script's own."""

    name = "kept"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    @property
    def tracker(self) -> list[Any]:
        return self.calls

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.calls.append(values)

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.calls.append((step, values, kwargs))

    @on_main_process
    def finish(self) -> None:
        self.calls.append("finished")


def test_a_tracker_of_the_scripts_own() -> None:
    kept = Kept()
    accelerator = Accelerator(log_with=kept)
    accelerator.init_trackers("training", CONFIG)
    accelerator.log({"loss": 1.0}, step=3, log_kwargs={"kept": {"unit": "nat"}, "wandb": {}})
    assert accelerator.get_tracker("kept", unwrap=True) is kept.calls
    accelerator.end_training()
    assert kept.calls == [CONFIG, (3, {"loss": 1.0}, {"unit": "nat"}), "finished"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param("sheets", "Unsupported logging capability: sheets", id="an unknown name"),
        pytest.param("tensorboard", "requires a `logging_dir`", id="files, and no directory"),
    ],
)
def test_a_tracker_that_cannot_be_had_is_an_error(asked: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        filter_trackers(asked)


def test_a_tracker_that_is_not_running_is_an_error() -> None:
    with pytest.raises(ValueError, match="wandb is not an available tracker"):
        Accelerator().get_tracker("wandb")


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")  # some versions of torch
def test_each_rank_leaves_a_trace(tmp_path: Path) -> None:
    handler = ProfileKwargs(activities=["cpu"], output_trace_dir=str(tmp_path / "traces"))
    accelerator = Accelerator(
        kwargs_handlers=[handler], project_config=ProjectConfiguration(str(tmp_path))
    )
    with accelerator.profile() as profiler:
        torch.ones(8).sum()
    assert any(event.key == "aten::sum" for event in profiler.key_averages())
    trace = json.loads((tmp_path / "traces" / "profile_0.json").read_text())
    assert "aten::sum" in {event.get("name") for event in trace["traceEvents"]}
