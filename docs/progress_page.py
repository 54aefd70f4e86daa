"""Takes the picture of docs/progress.md: the page of a made-up training, in Debian's chromium.

    python -m docs.progress_page

The training has 64 ranks, a straggler, and a restart that went back by some hundred steps.
"""

import math
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.progress import page
from runtime.control.progress.snapshot import (
    CheckpointProgress,
    Snapshot,
    Tier,
    Totals,
    Verdict,
    VerdictKind,
)
from runtime.control.progress.tracker import Tracker

PICTURE = Path(__file__).with_name("progress.png")
SIZE = "820,1490"  # pixels
BEGAN = datetime(2026, 1, 2, 9, 30, tzinfo=UTC)
RANKS, SLOW, PER_REPLICA = 64, 37, 8
EPOCHS, STEPS_PER_EPOCH, BATCH = 12, 900, 512
STEP_SECONDS = 0.36
LOST_AT, END = 700, 1800  # seconds since the attempt began
RESUMED = 4400
START_SECONDS, LOAD_SECONDS, SAVE_EVERY = 9, 40, 300


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        file.write_bytes(page.to_html(training()))
        flags = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={SIZE}"]
        command = ["chromium", *flags, f"--screenshot={PICTURE}", file.as_uri()]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # our own command


def training() -> Snapshot:
    """Return what is known of the training after half an hour."""
    tracker = Tracker(attempt=1, ranks=RANKS, now=0.0, name="llama-8b-finetune")
    tracker.plan(Totals(epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH))
    step, life, began = 3000.0, 0, 0
    for now in range(1, END):
        if now == LOST_AT:
            step, life, began = RESUMED, 1, now
            tracker.begin(life, now)
        phase = _phase(now, now - began)
        step += (phase is Phase.STEP) / STEP_SECONDS
        if now % SAVE_EVERY == 1 and now > SAVE_EVERY:
            tracker.saved(_checkpoint(int(step), now))
        for rank in range(RANKS) if now - began > START_SECONDS else ():
            tracker.hear(rank, _beat(rank, int(step), phase, now), float(now), life=life)
    tracker.judge([_verdict()], END)
    return tracker.snapshot(END, BEGAN + timedelta(seconds=END))


def _phase(now: int, since_start: int) -> Phase:
    if since_start < LOAD_SECONDS:
        return Phase.INIT
    return Phase.CHECKPOINT if now % SAVE_EVERY == 0 else Phase.STEP


def _beat(rank: int, step: int, phase: Phase, now: int) -> Beat:
    noise = math.sin(now * 12.9898) * math.sin(now * 4.1414)
    loss = 1.1 + 6.5 * math.exp(-step / 1800) + 0.05 * noise
    factor = 1.72 if rank == SLOW else 1.2 if rank % 13 == PER_REPLICA else 1 + 0.01 * noise
    return Beat(
        place=Place(step, 1 + step // STEPS_PER_EPOCH),
        phase=phase,
        phase_seconds=0.2,
        samples=step * BATCH,
        step_seconds=STEP_SECONDS,
        own_seconds=0.31 * factor,
        loss=loss,
        metrics={"learning_rate": 2.9e-4, "grad_norm": 0.8123},
    )


def _checkpoint(step: int, now: int) -> CheckpointProgress:
    tier = Tier.STORAGE if now % (2 * SAVE_EVERY) == 1 else Tier.MEMORY
    return CheckpointProgress(
        step=step, tier=tier, time=BEGAN + timedelta(seconds=now), seconds=0.4
    )


def _verdict() -> Verdict:
    text = f"rank {SLOW} needs 533 ms for its own part of a step, 1.7 x the median of 310 ms"
    return Verdict(
        kind=VerdictKind.STRAGGLER,
        text=text,
        rank=SLOW,
        replica=SLOW // PER_REPLICA,
        node="gpu-node-4",
        since=BEGAN + timedelta(seconds=1500),
    )


if __name__ == "__main__":
    main()
