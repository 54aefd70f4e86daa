"""What a rank is doing, as its main thread writes it and its control thread reads it.

Everything here is called at each boundary, so it must cost next to nothing.
"""

import math
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from numbers import Real

import torch

from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.world.roll_call import Collective

_STEPS = 50  # durations of which the median is said
_STEP = Phase.STEP  # Python 3.11 takes longer to find it in the class than a boundary should


class Pulse:
    """What a rank is doing.

    Attributes:
        phase: what the main thread is doing.
        samples: the number of samples of all ranks that were trained on.
        metrics: the numbers that the script has logged last.
    """

    def __init__(self) -> None:
        """Begin before the first batch."""
        self.phase = Phase.INIT
        self.samples = 0
        self.metrics: Mapping[str, float] = {}
        self.losses = Losses()
        self._since = time.monotonic()
        self._main = threading.main_thread().ident or 0
        self._at = (0, 0)  # the frame and instruction of the main thread at the last beat
        self._ticks = 0
        self._waited_before = 0.0  # seconds in collectives when the phase began
        # The last steps: their seconds, and how many of these were spent in collectives.
        self._steps: deque[tuple[float, float]] = deque(maxlen=_STEPS)

    def enter(self, phase: Phase) -> None:
        """Note that the main thread begins something, or has passed a boundary."""
        self.phase = phase
        self._since, self._waited_before = time.monotonic(), Collective.seconds

    def step(self, samples: int) -> None:
        """Note at a boundary that a step is complete, and the next one begins.

        Args:
            samples: the number of samples of all ranks in its batch.
        """
        self.samples += samples
        now, waited = time.monotonic(), Collective.seconds
        if self.phase is _STEP:
            self._steps.append((now - self._since, waited - self._waited_before))
        self.phase, self._since, self._waited_before = _STEP, now, waited
        if self.losses.are_under_way:
            self.losses.boundary()

    def log(self, values: Mapping[str, object]) -> None:
        """Note the finite numbers among the values that the script has logged."""
        numbers = {
            str(name): float(value) for name, value in values.items() if isinstance(value, Real)
        }
        self.metrics = {name: one for name, one in numbers.items() if math.isfinite(one)}

    def beat(self, place: Place) -> Beat:
        """Return what is said of this rank now; called by the control thread.

        Args:
            place: the place at the last boundary.
        """
        self.losses.wanted.set()
        self._count_tick()
        steps = list(self._steps)
        return Beat(
            place=place,
            phase=self.phase,
            phase_seconds=max(0.0, time.monotonic() - self._since),
            ticks=self._ticks,
            samples=self.samples,
            step_seconds=_median([seconds for seconds, _ in steps]),
            own_seconds=_median([max(0.0, seconds - waited) for seconds, waited in steps]),
            loss=self.metrics.get("loss", self.losses.last),
            metrics=self.metrics,
        )

    def _count_tick(self) -> None:
        """Count this beat if the main thread has run Python code since the last one."""
        frame = sys._current_frames().get(self._main)  # noqa: SLF001  # documented, for such a use
        at = (id(frame), frame.f_lasti) if frame is not None else (0, 0)
        self._ticks += at != self._at
        self._at = at


class Losses:
    """Reads the loss of some steps without waiting for the device.

    At one boundary the copy to the host is begun, and at a later one it is read.

    Attributes:
        wanted: set when the control thread wants a newer loss.
        are_under_way: whether there is something to do at the next boundary.
        last: the last loss that was read; None before the first.
    """

    def __init__(self) -> None:
        """Begin without a loss."""
        self.wanted = threading.Event()
        self.are_under_way = False
        self.last: float | None = None
        self._newest: torch.Tensor | None = None
        self._copy: torch.Tensor | None = None
        self._done: torch.Event | None = None

    def note(self, loss: torch.Tensor) -> None:
        """Keep the loss of a batch if one is wanted; nothing is computed."""
        if self.wanted.is_set():
            self._newest, self.are_under_way = loss.detach(), True

    def boundary(self) -> None:
        """Begin to copy the loss that was kept, or read one that has been copied."""
        if self._copy is not None:
            if self._done is None or self._done.query():
                loss = float(self._copy)
                self.last = loss if math.isfinite(loss) else None
                self._copy = self._done = None
        elif self._newest is not None:
            self._begin(self._newest)
            self._newest = None
        self.are_under_way = self._copy is not None

    def _begin(self, loss: torch.Tensor) -> None:
        if loss.numel() != 1:
            return
        self.wanted.clear()
        self._copy = loss.to("cpu", non_blocking=True)
        if loss.device.type != "cpu":
            self._done = torch.Event(loss.device)
            self._done.record()


def _median(seconds: list[float]) -> float | None:
    return statistics.median(seconds) if seconds else None
