"""What the training of a job in a store tells, and when its answers come: rules of test_machine.py.

Each attempt has lives, and each life steps, checkpoints and hangs. What is asked waits until a rule
answers it: late, after others, from an older moment, from another attempt, or not at all.
"""

import asyncio
import json
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from acceleratedjob.controller.polling.hearing import Target
from tests.operator.clockwork import Clock

TOTAL = 100  # steps
STALLS_AFTER = 60  # seconds
WHOM = st.integers(0, 7)  # of the questions there are, counted round
ANSWERS = ("as it is", "as it is", "as it was", "another attempt", "nonsense", "none")


@dataclass(frozen=True, slots=True)
class Moment:
    """What a training says at a moment.

    Attributes:
        attempt: the attempt.
        life: the life.
        step: the number of completed steps.
        saved: the step of the newest checkpoint.
        hangs: whether it says that it hangs.
    """

    attempt: int
    life: int = 0
    step: int = 0
    saved: int = 0
    hangs: bool = False

    @property
    def place(self) -> str:
        """What a verdict names, so that it is known which one was judged."""
        return f"hang of {self.attempt}/{self.life}/{self.step}"

    def answer(self) -> bytes:
        saved = {"step": self.saved, "tier": "storage", "time": "2026-01-01T00:00:00Z"}
        told: dict[str, Any] = {"attempt": self.attempt, "life": self.life, "step": self.step}
        told |= {"totalSteps": TOTAL, "stepSeconds": 1.0, "checkpoints": [saved]}
        told["goodput"] = {"productiveSeconds": self.step}
        told["failures"] = [self.failure(life) for life in range(self.life)][:-11:-1]
        told["verdicts"] = [{"kind": "hang", "text": self.place}] if self.hangs else []
        return json.dumps(told).encode()

    def failure(self, life: int) -> dict[str, Any]:
        """What has ended an earlier life."""
        return {"life": life, "rank": 0, "time": "2026-01-01T12:00:00Z", "signal": 9}


@dataclass(slots=True)
class Question:
    """A request that waits for its answer.

    Attributes:
        then: what the training was when it was asked.
        answer: where the answer is waited for.
    """

    then: Moment
    answer: "asyncio.Future[bytes]" = field(repr=False)


class Telling:
    """The trainings of all attempts of a job, and the questions that wait."""

    clock: Clock
    trainings: dict[int, Moment]  # by the attempt
    questions: list[Question]
    reached: dict[int, int]  # the furthest step of each attempt, in any life
    first_told: dict[str, float]  # when a hang was first answered, by its place
    heard_life: dict[int, int]  # the newest life of each attempt of which an answer came

    def time_passes(self, seconds: float) -> None:
        """Let time pass."""
        raise NotImplementedError

    def nothing_is_told(self) -> None:
        self.trainings, self.questions = {}, []
        self.reached, self.first_told, self.heard_life = {}, {}, {}

    def training(self, attempt: int) -> Moment:
        """An attempt goes on from the newest checkpoint of all before it."""
        saved = max((one.saved for one in self.trainings.values()), default=0)
        found = self.trainings.setdefault(attempt, Moment(attempt, step=saved, saved=saved))
        self.reached.setdefault(attempt, found.step)
        return found

    async def ask(self, target: Target) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.questions.append(Question(self.training(target.attempt), future))
        return await future

    def becomes(self, attempt: int, **facts: Any) -> None:
        made = self.trainings[attempt] = replace(self.training(attempt), **facts)
        self.reached[attempt] = max(self.reached[attempt], made.step)

    @property
    def newest(self) -> Moment | None:
        return self.trainings[max(self.trainings)] if self.trainings else None

    @rule(steps=st.integers(1, 20), saves=st.booleans())
    def it_trains(self, steps: int, saves: bool) -> None:
        one = self.newest
        if one is not None and not one.hangs:
            step = min(TOTAL, one.step + steps)
            self.becomes(one.attempt, step=step, saved=step if saves else one.saved)

    @rule()
    def its_processes_start_again_in_their_pods(self) -> None:
        one = self.newest
        if one is not None:
            self.becomes(one.attempt, life=one.life + 1, step=one.saved, hangs=False)

    @rule(steps=st.integers(1, 20))
    def it_is_heard_and_then_repeats_steps_in_a_new_life(self, steps: int) -> None:
        self.it_trains(steps, saves=False)
        self.all_are_answered_for_a_while(["as it is"])
        self.its_processes_start_again_in_their_pods()
        self.all_are_answered_for_a_while(["as it is"])

    @rule(hangs=st.booleans())
    def it_hangs_or_goes_on(self, hangs: bool) -> None:
        one = self.newest
        if one is not None:
            self.becomes(one.attempt, hangs=hangs, step=one.step + (one.hangs and not hangs))

    @rule(which=WHOM, how=st.sampled_from(ANSWERS))
    def an_answer_comes(self, which: int, how: str) -> None:
        waiting = self.questions = [one for one in self.questions if not one.answer.done()]
        if waiting:
            self.answer(waiting[which % len(waiting)], how)
            self.clock.tick(10)

    @rule(hows=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4))
    def all_are_answered_for_a_while(self, hows: list[str]) -> None:
        for how in islice(cycle(hows), 10):
            self.time_passes(5.0)
            for one in [each for each in self.questions if not each.answer.done()]:
                self.answer(one, how)
            self.clock.tick(10)

    def answer(self, question: Question, how: str) -> None:
        then = question.then
        said = then if how == "as it was" else self.trainings[then.attempt]
        if how == "another attempt":
            said = replace(said, attempt=then.attempt + 1, step=TOTAL, saved=TOTAL)
        if how == "none":
            question.answer.set_exception(OSError("no answer"))
            return
        question.answer.set_result(b"{" if how == "nonsense" else said.answer())
        if how.startswith("as it"):
            self.heard_life[said.attempt] = max(self.heard_life.get(said.attempt, 0), said.life)
            if said.hangs:
                self.first_told.setdefault(said.place, self.clock.elapsed)
