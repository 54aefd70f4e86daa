"""Keeps the lives of an attempt: their state machine, with a clock.

`now` is always a monotonic time in seconds. Nothing here waits.
"""

import math
import signal
from collections.abc import Callable

from runtime.control import lives
from runtime.control.identity import Identity, random_name
from runtime.control.lives import Lives, Restarts, Sent, Standing
from runtime.control.messages import MAX_SENTENCE, Cleared, Fell
from runtime.control.verdicts.summary import Summary
from runtime.world.last_words import HANGS


class Keeper:
    """Decides with the launchers of all pods whether another life begins.

    Attributes:
        state: what is known of the lives.
        expires: when all launchers must have ended their processes; infinite for never.
    """

    def __init__(
        self, identity: Identity, restarts: Restarts, on_begin: Callable[[float], None]
    ) -> None:
        """Begin with the first life.

        Args:
            identity: the job, and the name of the first life.
            restarts: what another life may follow.
            on_begin: called with the time when another life begins, before anybody hears of it.
        """
        self.state = Lives(
            pods=math.ceil(identity.size / identity.processes),
            budget=restarts.most,
            life=identity.life,
            name=random_name,
        )
        self.expires = math.inf
        self._restarts, self._on_begin = restarts, on_begin

    def attend(self, replica: int, now: float) -> Sent:
        """Let a launcher in; return what is to be sent."""
        return self._take(lives.attend(self.state, replica), now)

    def leave(self, replica: int) -> None:
        """Note that a launcher is not connected any more."""
        self.state, _ = lives.leave(self.state, replica)

    def fall(self, failure: Fell, now: float, *, has_stepped: bool, stops: bool) -> Sent:
        """Take a failure, as `lives.fall` does; return what is to be sent."""
        step = lives.fall(self.state, failure, has_stepped=has_stepped, stops=stops)
        return self._take(step, now)

    def clear(self, replica: int, said: Cleared, now: float) -> Sent:
        """Note that nothing of a life runs in a pod any more; return what is to be sent."""
        return self._take(lives.clear(self.state, replica, said), now)

    def retire(self, replica: int, now: float) -> Sent:
        """Note that a pod was asked to stop; return what is to be sent."""
        return self._take(lives.retire(self.state, replica), now)

    def tick(self, now: float) -> Sent:
        """Give up what takes too long; return what is to be sent."""
        return self._take(lives.expire(self.state), now) if now >= self.expires else ()

    def failure_of(self, hang: Summary | None) -> Fell | None:
        """Return the failure that a hang is; None if it does not end a life.

        It is as if the rank that the others wait for were killed.
        """
        is_running = self.state.standing is Standing.RUNNING
        if hang is None or not is_running or not self._restarts.ends_hangs:
            return None
        return Fell(
            number=self.state.number,
            rank=hang.rank,
            status=-signal.SIGKILL,
            exception=HANGS,
            message=hang.message[:MAX_SENTENCE],
        )

    def _take(self, step: tuple[Lives, Sent], now: float) -> Sent:
        before, (self.state, sent) = self.state, step
        if self.state.standing is not Standing.CLEARING:
            self.expires = math.inf
        elif before.standing is not Standing.CLEARING:
            self.expires = now + lives.CLEARING_SECONDS
        if self.state.number > before.number:
            self._on_begin(now)
        return sent
