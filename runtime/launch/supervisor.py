"""Supervises the training processes of a pod: starts them, passes signals on, and ends them all.

The decisions are in `endings` and `deadlines`; what is here acts on them.
"""

import contextlib
import dataclasses
import math
import os
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.config.settings import LoopSettings
from runtime.control.lives import CLEARING_SECONDS
from runtime.control.messages import Begin, Clear
from runtime.launch import deadlines, endings, plan, processes, succession
from runtime.launch.deadlines import Deadlines
from runtime.launch.endings import Ending
from runtime.launch.hosting import Control
from runtime.launch.say import say
from runtime.launch.signals import Signals
from runtime.launch.starter import Starter
from runtime.launch.succession import Succession
from runtime.world import cgroup, last_words

DECIDING_SECONDS = 5.0  # that the coordinator may take to decide about another life
FOLLOWING_SECONDS = 6.0  # that the others have to stop by themselves when one has stopped
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)  # they mean something to the script only
RECEIVED = (*ENDING, *PASSED_ON)
_POLL_SECONDS = 0.5  # how often to look for processes whose end is not reported to the launcher


@dataclass(slots=True)
class Life:
    """The training processes of one start.

    Attributes:
        started: the ranks, by process ID.
        ended: the ends, in order.
        left: what could not be killed.
        succession: what follows.
        oom_kills: how many processes of this container the kernel had killed before.
    """

    succession: Succession = field(default_factory=Succession)
    oom_kills: int = field(default_factory=cgroup.oom_kills)
    started: dict[int, str] = field(default_factory=dict)
    ended: list[Ending] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    @property
    def running(self) -> list[int]:
        """The process IDs of the training processes that have not ended."""
        over = {ending.pid for ending in self.ended}
        return [pid for pid in self.started if pid not in over]


class Supervisor:
    """Runs the processes of a pod until all have ended."""

    def __init__(
        self,
        pod: plan.Pod,
        *,
        control: Control,
        signals: Signals,
        settings: LoopSettings,
    ) -> None:
        """Store the arguments.

        Args:
            pod: the processes to start.
            control: lives as long as the processes, gets a notice when the pod has to stop, and
                decides whether they are started again.
            signals: receives `RECEIVED`.
            settings: the settings of the loop.
        """
        self._pod, self._settings, self._grace = pod, settings, settings.grace
        self._control, self._signals = control, signals
        self._life = Life()
        self._starter = Starter(pod, settings)
        self._deadlines = Deadlines()
        self._requests, self._kills = 0, False  # SIGTERMs that deadlines have sent, and SIGKILL
        self._noticed = self._interrupted = False
        self._is_retired = False  # no other life begins here

    def run(self, number: int) -> int:
        """Run the pod, and return its exit code; nothing that it has started is left.

        Args:
            number: the number of processes.

        Raises:
            CannotStart: the program cannot be started.
        """
        processes.adopt_orphans()
        with contextlib.ExitStack() as stack:
            self._control.listen(self._signals.wake)
            more = self._control.start()
            stack.callback(self._control.close)
            stack.callback(self._kill_all)
            stack.callback(self._starter.close)
            asked = [one for one in self._signals.wait(0) if one in ENDING]
            if asked:
                return endings.SIGNAL_BASE + asked[0]
            self._live(number, more)
            while (then := self._next(self._life)) is not None:
                self._begin(then)
                self._live(number, self._control.begin(then))
            self._starter.close()
            self.end(self._life)
            if not self._life.succession.is_asked_for:
                self._retire()  # a pod that fails from now on need not wait for this one
        words = last_words.read(os.environ) or {}
        code = endings.exit_code(self._life.ended, has_stopped="stopped" in words)
        if progress := self._control.last_words():
            write = last_words.add_progress if code else last_words.write_progress
            write(os.environ, progress)
        return code

    def _live(self, number: int, more: Mapping[str, str]) -> None:
        """Start the processes of a life, and return when nothing of it runs any more."""
        life = self._life
        life.started = self._starter.start(number, more, life=life.succession.number)
        self.wait(life)
        self.end(life)

    def _next(self, life: Life) -> Begin | None:
        """Return the order to begin another life; None if there is none.

        The coordinator gives it when nothing of the old life runs in any pod.
        """
        found, began = life.succession, time.monotonic()
        while not life.left:  # what cannot be killed may still write
            self._heed(life)
            if not found.is_open or self._is_retired:
                break
            limit = DECIDING_SECONDS
            if found.is_ending:
                limit += CLEARING_SECONDS
                self._tell_cleared(found)
            if (left := began + limit - time.monotonic()) <= 0:
                break
            self._reap(life, self._signals.wait(left))
        if found.is_asked_for and found.refusal:
            say(f"the processes are not started again in place: {found.refusal}")
        return None if self._is_retired else found.then

    def _tell_cleared(self, found: Succession) -> None:
        if not found.is_cleared:
            found.is_cleared = True
            self._control.cleared(found.number)

    def _begin(self, order: Begin) -> None:
        """Forget the old life."""
        say(f"life {order.number} begins in place")
        last_words.clear(os.environ)
        self._life = Life(Succession(order.number))
        self._deadlines = Deadlines()
        self._requests, self._kills = 0, False

    def _heed(self, life: Life) -> None:
        """Act on the orders of the coordinator."""
        for order in self._control.orders():
            was_ending = life.succession.is_ending
            life.succession.heed(order)
            if isinstance(order, Clear) and life.succession.is_ending and not was_ending:
                self._clear(order)

    def _clear(self, order: Clear) -> None:
        """End the processes of a life; those that stop by themselves are given the time."""
        if order.at_once:
            limit = deadlines.for_another_life(time.monotonic(), order.why)
            self._deadlines = self._deadlines.and_also(limit)
        else:
            self._follow()

    def _ask(self, life: Life, ending: Ending) -> None:
        """Ask for another life, unless one follows already, or this pod was to end anyway."""
        found = life.succession
        if found.is_asked_for or found.is_ending or not self._settings.in_place_restarts:
            return
        if self._is_retired:
            return
        told = succession.failure(
            found.number,
            ending,
            last_words.read(os.environ),
            lacked_memory=cgroup.oom_kills() > life.oom_kills,
            fail_codes=self._settings.fail_exit_codes or (),
        )
        found.is_asked_for = self._control.fell(told)

    def _left(self, life: Life) -> list[int]:
        """Return what runs below this process, except the processes in reserve."""
        waiting = self._starter.waiting
        return [pid for pid in processes.left_behind(life.started) if pid not in waiting]

    def wait(self, life: Life) -> None:
        """Wait until all training processes of a life have ended, and act on signals."""
        while life.running and (now := time.monotonic()) < self._deadlines.give_up_at:
            self._meet_deadlines(life, now, life.running)
            self._starter.fill(now)
            next_at = min(self._deadlines.next_after(now), self._starter.fill_at)
            self._reap(life, self._signals.wait(_seconds(next_at - now)))
            self._heed(life)
        for pid in life.running:
            self._take_note(life, Ending(life.started[pid], pid, -signal.SIGKILL))

    def end(self, life: Life) -> None:
        """End all that the processes of a life have left behind."""
        now = time.monotonic()
        was_asked = any(ending.status == -signal.SIGTERM for ending in life.ended)
        rest = deadlines.of_the_rest(now, is_training=self._noticed and was_asked)
        self._deadlines = self._deadlines.and_also(rest)
        self._requests, self._kills = 0, False
        while (left := self._left(life)) and now < self._deadlines.give_up_at:
            self._meet_deadlines(life, now, left)
            self._reap(life, self._signals.wait(_POLL_SECONDS))
            now = time.monotonic()
        life.left = left
        if left:
            say(f"processes {left} cannot be killed, and are left behind")

    def _meet_deadlines(self, life: Life, now: float, targets: list[int]) -> None:
        """Send the signal that is due: SIGTERM, or SIGKILL to everything until all is dead."""
        requests = self._deadlines.requests(now)
        if self._deadlines.due(now) == signal.SIGKILL:
            if not self._kills:
                say(f"killing what still runs: {self._deadlines.why}")
            self._kills = True
            processes.send(self._left(life), signal.SIGKILL)
        elif requests > self._requests:
            processes.send(targets, signal.SIGTERM)
        self._requests = max(requests, self._requests)

    def _reap(self, life: Life, received: list[signal.Signals]) -> None:
        """Act on signals, then take note of the processes that have ended."""
        for number in received:
            self._receive(life, number)
        reaped = list(processes.reap())
        for pid, _ in reaped:
            self._starter.lose(pid)
        found = [
            Ending(life.started[pid], pid, status) for pid, status in reaped if pid in life.started
        ]
        for ending in endings.in_order(found):
            self._take_note(life, ending)

    def _take_note(self, life: Life, ending: Ending) -> None:
        is_first = ending.is_failure and endings.first_failure(life.ended) is None
        life.ended.append(ending)
        is_told = life.succession.is_ending  # why it was killed was said already
        if ending.is_failure and not is_told and (ending.signal or len(life.started) > 1):
            say(ending.sentence)
        if ending.code == endings.STOPPED and not self._noticed:
            self._follow()
            self._ask(life, ending)
        if not is_first:
            return
        why = self._deadlines.why if self._kills else None
        words = endings.last_words(ending, killed_by_us=why)
        if words:
            last_words.write(os.environ, words)
        self._deadlines = self._deadlines.and_also(deadlines.after_failure(time.monotonic()))
        self._ask(life, ending)

    def _receive(self, life: Life, number: signal.Signals) -> None:
        """Act on a signal."""
        if number == signal.SIGTERM:
            self._give_notice()
        elif number == signal.SIGINT and self._interrupted:
            self._deadlines = self._deadlines.and_also(deadlines.at_once(time.monotonic()))
        elif number in (*ENDING, *PASSED_ON):
            self._pass_on(life, number)

    def _pass_on(self, life: Life, number: signal.Signals) -> None:
        processes.send(life.running, number)
        if number in ENDING:
            self._retire()
        self._interrupted |= number == signal.SIGINT
        if number in (signal.SIGHUP, signal.SIGQUIT):
            limit = deadlines.after_passing_on(time.monotonic(), grace=self._grace)
            self._deadlines = self._deadlines.and_also(limit)

    def _give_notice(self) -> None:
        """Turn the first SIGTERM into a notice; another one changes nothing."""
        if self._noticed:
            return
        self._noticed, now = True, time.monotonic()
        self._retire()
        found = deadlines.after_notice(now, grace=self._grace)
        if not self._is_attended(found.term_at - now):
            found = dataclasses.replace(found, term_at=now)
        self._deadlines = self._deadlines.and_also(found)

    def _retire(self) -> None:
        """Begin no other life: somebody wants this pod to end, or it has."""
        if self._settings.in_place_restarts and not self._is_retired:
            self._control.retire()
        self._is_retired = True

    def _follow(self) -> None:
        """Let the others stop when one has, which may have been asked behind the launcher's back.

        They may wait for it, and hear of its end only after a timeout of half an hour.
        """
        now = time.monotonic()
        found = deadlines.after_notice(now, grace=self._grace)
        follow = dataclasses.replace(found, term_at=min(found.term_at, now + FOLLOWING_SECONDS))
        self._deadlines = self._deadlines.and_also(follow)

    def _is_attended(self, seconds_left: float) -> bool:
        try:
            return self._control.notice(seconds_left, "the pod has got SIGTERM")
        except Exception:  # noqa: BLE001  # whatever the channel does, the processes are to stop
            traceback.print_exc()
            return False

    def _kill_all(self) -> None:
        """Kill what is left; nothing is, unless an error has ended `run`."""
        if self._left(self._life):
            self._deadlines = Deadlines(0, time.monotonic(), "the launcher has failed")
            self.end(self._life)


def _seconds(left: float) -> float | None:
    return None if left == math.inf else max(0.0, left)
