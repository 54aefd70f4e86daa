"""Writes a snapshot as metrics in Prometheus' text format.

The operator's metrics have the same prefix. Labels have values of the project only: no rank, and no
name that the script chose, because each value of a label is one more series for ever.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from itertools import chain
from statistics import median_low
from typing import Final

from runtime.control.beat import Phase
from runtime.control.progress.encoding import camel
from runtime.control.progress.interest import own_seconds
from runtime.control.progress.snapshot import CheckpointProgress, Lost, Snapshot, VerdictKind

PREFIX: Final = "accelerated_job_training_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNHEARD: Final = "unknown"  # the phase of a rank that has not been heard in this life

Single = tuple[str, str, float | None]  # name, text and value
Samples = dict[str, float | None]  # by the value of the label; None: no sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric with its samples.

    Attributes:
        name: the name without the prefix.
        text: what it is.
        samples: the values; the key is empty for a metric without a label.
        label: the name of its label.
        kind: gauge or counter.
    """

    name: str
    text: str
    samples: Samples = field(default_factory=dict)
    label: str = ""
    kind: str = "gauge"

    def lines(self) -> Iterator[str]:
        """Yield the lines of the metric; none if it has no sample."""
        known = {name: value for name, value in self.samples.items() if value is not None}
        if known:
            yield f"# HELP {PREFIX}{self.name} {self.text}"
            yield f"# TYPE {PREFIX}{self.name} {self.kind}"
        for name, value in known.items():
            label = f'{{{self.label}="{name}"}}' if self.label else ""
            yield f"{PREFIX}{self.name}{label} {_text(value)}"


def to_prometheus(snapshot: Snapshot) -> bytes:
    """Return a snapshot in Prometheus' text format; what is not known is left out."""
    return "".join(f"{line}\n" for one in _all(snapshot) for line in one.lines()).encode()


def _all(snapshot: Snapshot) -> Iterator[Metric]:
    for name, text, value in chain(_single(snapshot), _checkpoint(snapshot.checkpoint)):
        yield Metric(name=name, text=text, samples={"": value})
    phases = Counter(one.phase or UNHEARD for one in snapshot.ranks)
    kinds = Counter(one.kind for one in snapshot.verdicts)
    yield Metric(
        name="ranks",
        text="Ranks by what their main thread does.",
        samples={phase: phases[phase] for phase in (*Phase, UNHEARD)},
        label="phase",
    )
    yield Metric(
        name="verdicts",
        text="Verdicts that hold now.",
        samples={kind: kinds[kind] for kind in VerdictKind},
        label="kind",
    )
    yield Metric(
        name="lost_seconds_total",
        text="Seconds of this attempt that were lost, by cause.",
        samples={camel(one.name): getattr(snapshot.goodput.lost, one.name) for one in fields(Lost)},
        label="cause",
        kind="counter",
    )


def _single(snapshot: Snapshot) -> Iterator[Single]:
    """Yield name, text and value of the gauges without labels."""
    steps = [seconds for one in snapshot.ranks if (seconds := own_seconds(one)) is not None]
    yield "attempt", "The attempt, from 0.", snapshot.attempt
    yield "life", "The life within the attempt, from 0.", snapshot.life
    yield "epoch", "Epochs begun.", snapshot.epoch
    yield "epochs", "Epochs of the training.", snapshot.epochs
    yield "step", "Completed optimizer steps; falls if a restart goes back.", snapshot.step
    yield "steps", "Optimizer steps of the training.", snapshot.total_steps
    yield "samples", "Samples trained on since the job began.", snapshot.samples
    yield "samples_per_second", "Recent rate, without pauses.", snapshot.samples_per_second
    yield "step_seconds", "Recent duration of a step, without pauses.", snapshot.step_seconds
    yield "eta_seconds", "Estimated seconds to the end.", snapshot.eta_seconds
    yield "loss", "The last known loss.", snapshot.loss
    yield "last_step_timestamp_seconds", "The last step.", _unix(snapshot.last_step_time)
    yield "median_rank_step_seconds", "Median of the ranks' own time of a step.", _median(steps)
    yield "slowest_rank_step_seconds", "Largest own time of a step.", max(steps, default=None)
    yield "productive_seconds", "Kept steps times step time.", snapshot.goodput.productive_seconds
    yield "goodput_ratio", "Productive seconds by seconds of this attempt.", snapshot.goodput.ratio


def _checkpoint(saved: CheckpointProgress | None) -> Iterator[Single]:
    """Yield name, text and value of the gauges of the newest checkpoint."""
    if saved is not None:
        yield "checkpoint_step", "The step of the newest checkpoint.", saved.step
        yield "checkpoint_timestamp_seconds", "When it was complete.", _unix(saved.time)
        yield "checkpoint_pause_seconds", "How long the training was paused for it.", saved.seconds


def _median(values: list[float]) -> float | None:
    return median_low(values) if values else None


def _unix(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"
