"""The coordinator without sockets: its state machine, with clocks, beats and deadlines.

`now` is always a monotonic time in seconds. Nothing here waits.
"""

import math
from collections.abc import Callable

from runtime.control.agreement import coordinator as machine
from runtime.control.agreement.coordinator import Coordinator, Sent, Step
from runtime.control.agreement.messages import Action, Go, Up, Wish
from runtime.control.agreement.timers import Timeouts, Timer, backoff
from runtime.control.beat import Beat
from runtime.control.messages import Checkpointed
from runtime.control.progress.snapshot import Tier

_PATIENCE = 30.0  # seconds that a stop or save waits for connections before this is said


class Rounds:
    """Runs the agreements of one life.

    Attributes:
        state: what the coordinator knows.
        beats: the last beat of each rank, and when it came.
        is_noticed: whether the host of the coordinator has asked the ranks to stop.
    """

    def __init__(self, size: int, timeouts: Timeouts | None = None) -> None:
        """Begin without a connection.

        Args:
            size: the number of ranks, >= 1.
            timeouts: how long each timer runs.
        """
        self.state = Coordinator(size)
        self.beats: dict[int, tuple[Beat, float]] = {}
        self._timeouts = timeouts or Timeouts()
        self.is_noticed = False
        self._deadline = math.inf  # when the first rank is killed
        self._save_seconds = 0.0  # how long the last one on storage took
        self._timer: Timer | None = None
        self._expires = math.inf
        self._not_before = -math.inf  # when the next round may begin
        self._complete_at = math.inf  # when all ranks were connected, or none was waited for

    def connect(self, rank: int, now: float) -> Sent:
        """Note that a rank has connected; return what is to be sent."""
        return self._step(lambda state: machine.connect(state, rank), now)

    def disconnect(self, rank: int, now: float) -> Sent:
        """Note that a rank has no connection any more; return what is to be sent."""
        self.beats.pop(rank, None)
        return self._step(lambda state: machine.disconnect(state, rank), now)

    def notice(self, seconds_left: float, now: float) -> Sent:
        """Take a request to stop from the host of the coordinator; return what is to be sent."""
        self.is_noticed = True
        return self.receive(0, Wish(Action.STOP, seconds_left), now)

    def receive(self, rank: int, message: Up | Beat | Checkpointed, now: float) -> Sent:
        """Take a message of a rank; return what is to be sent."""
        if isinstance(message, Beat):
            self.beats[rank] = message, now
            return self.tick(now)
        if isinstance(message, Checkpointed):
            if message.tier is Tier.STORAGE:  # where the last one before a stop goes
                self._save_seconds = message.seconds
            return ()
        if isinstance(message, Wish) and message.seconds_left is not None:
            self._deadline = min(self._deadline, now + message.seconds_left)
            self._timer = None  # its end may be earlier now
        has_time = self._deadline - now > self._save_seconds
        return self._step(
            lambda state: machine.receive(state, rank, message, has_time_to_save=has_time), now
        )

    def tick(self, now: float) -> Sent:
        """Let timers go off, and begin a round if there is something to agree on."""
        if self._timer is not None and now >= self._expires:
            timer = self._timer
            return self._step(lambda state: machine.expire(state, timer), now)
        return self._ask(now)

    def seconds_to_tick(self, now: float) -> float:
        """Return the time after which `tick` must be called; infinity if nothing is awaited."""
        if self._timer is not None:
            return max(0.0, self._expires - now)
        return max(0.0, self._not_before - now) if self.state.may_ask else math.inf

    @property
    def will_stop(self) -> bool:
        """Whether all ranks are leaving, or are connected, so that they can agree on it."""
        state = self.state
        if self.will_leave:
            return True
        return state.connected == state.everyone and not state.ended

    @property
    def will_leave(self) -> bool:
        """Whether all ranks are leaving."""
        word = self.state.word
        return isinstance(word, Go) and word.action is not Action.SAVE

    def absent(self, now: float) -> frozenset[int]:
        """Return the ranks that have no connection, if all have been waited for too long."""
        is_waiting = self.state.wanted is not None and not self.state.is_over
        missing = self.state.everyone - self.state.connected if is_waiting else frozenset()
        self._complete_at = min(self._complete_at, now) if missing else now
        return missing if now - self._complete_at > _PATIENCE else frozenset()

    def _all_beat(self, now: float) -> bool:
        fresh = (now - at <= self._timeouts.fresh for _, at in self.beats.values())
        return len(self.beats) == self.state.size and all(fresh)

    def _step(self, step: Callable[[Coordinator], Step], now: float) -> Sent:
        before = self.state
        self.state, sent = step(before)
        if self.state.cancelled > before.cancelled:
            self._not_before = now + backoff(self.state.cancelled)
        self._set_timer(now)
        return sent or self._ask(now)

    def _ask(self, now: float) -> Sent:
        """Begin a round if something is wanted, and all ranks can be asked."""
        may = self.state.may_ask and now >= self._not_before and self._all_beat(now)
        return self._step(machine.ask, now) if may else ()

    def _set_timer(self, now: float) -> None:
        timer = self.state.timer
        if timer == self._timer:
            return
        left = None if math.isinf(self._deadline) else self._deadline - now
        self._timer = timer
        self._expires = (
            math.inf if timer is None else now + self._timeouts.seconds(timer.wait, left)
        )
