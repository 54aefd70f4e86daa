"""The parts of the loop: its state, its cadence, and what counts as a step or as waiting."""

import math
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from torch import nn

from runtime import Accelerator
from runtime.control.lines import LARGEST
from runtime.loop.cadence import SHORTEST, Cadence, Clock
from runtime.loop.passes import Passes
from runtime.loop.pulse import Losses
from runtime.loop.resume import Resume
from runtime.loop.state import LoopState
from runtime.preparation.prepared import Prepared
from runtime.world.steps import Steps

if TYPE_CHECKING:
    from runtime.loop.checkpoints import Checkpoints

counts = some.integers(0, LARGEST)
pairs = some.tuples(counts, counts)
states = some.builds(
    LoopState,
    **dict.fromkeys(("call", "epoch", "epochs", "begun", "step", "samples"), counts),
    passes=some.lists(pairs, max_size=3).map(tuple),
    current=some.none() | pairs,
)


@given(states)
def test_a_state_is_what_its_fact_says(state: LoopState) -> None:
    assert LoopState.of(state.fact()) == state


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"step": True},
        {"step": 1.0},
        {"step": LARGEST + 1},
        {"epoch": "1"},
        {"passes": None},
        {"passes": [[0]]},
        {"passes": [[0, -1]]},
        {"passes": {"0": 1}},
        {"passes": [[0, 1]] * (2**16 + 1)},
        {"current": [0, 1, 2]},
        {"current": "ab"},
        {"current": [0, None]},
    ],
    ids=repr,
)
def test_a_state_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must (be|have)"):
        LoopState.of(LoopState().fact() | change)


@pytest.mark.parametrize("fact", [None, [], "loop", 3, {}], ids=repr)
def test_what_is_no_state_is_refused(fact: object) -> None:
    with pytest.raises(ValueError, match=r"must (be|have)"):
        LoopState.of(fact)


@given(some.integers(1, 50), some.integers(0, 1000))
def test_checkpoints_by_steps_are_at_multiples_wherever_a_life_begins(every: int, at: int) -> None:
    following = Cadence(every_steps=every).next_step(at)
    assert following % every == 0
    assert at < following <= at + every


@given(some.floats(0, 1e3), some.floats(0, 1e3))
def test_continuous_checkpoints_cost_at_most_one_percent(last: float, pause: float) -> None:
    assert Cadence().next_time(last, pause) - last >= 99.9 * pause
    assert Cadence().next_step(3) == math.inf


@given(some.floats(1e-6, 1e3), some.floats(0.1, 1e6))
def test_where_lives_are_short_checkpoints_cost_as_much_as_the_steps_that_they_save(
    cost: float, mean_life: float
) -> None:
    """In each second: the cost of checkpoints, and half an interval of steps for each failure."""

    def loss(interval: float) -> float:
        return cost / interval + interval / 2 / mean_life

    interval = Cadence(mean_life=mean_life).next_time(0.0, cost)
    assert interval <= Cadence().next_time(0.0, cost)
    if SHORTEST < interval < Cadence().next_time(0.0, cost):
        assert loss(interval) <= min(loss(interval * 0.9), loss(interval * 1.1))


def test_one_expensive_checkpoint_does_not_put_off_the_next_one_for_long() -> None:
    """The first one allocates memory, and another one may come while the machine is busy."""
    now = 0.0
    clock = Clock(Cadence(), now=lambda: now)
    clock.begin(0)
    intervals = []
    for pause, cpu_seconds in ((0.5, 0.2), (0.02, 0.01), (0.7, 0.2), (0.02, 0.01), (0.2, 0.1)):
        clock.note(1, pause)
        intervals.append(clock.next_time(cpu_seconds) - now)
        now += intervals[-1]
    assert intervals == pytest.approx([14, 3, 3, 3, 3])
    clock.note(1, 0.2)
    assert clock.next_time(0.1) - now == pytest.approx(30)  # it is no exception


@pytest.mark.parametrize("mean_life", [0.0, -1.0, math.nan])
def test_a_mean_life_must_be_positive(mean_life: float) -> None:
    with pytest.raises(ValueError, match="mean_life must be more than 0"):
        Cadence(mean_life=mean_life)


def test_checkpoints_by_seconds_are_that_far_apart_whatever_one_costs() -> None:
    assert Cadence(every_seconds=7.5).next_time(100.0, 3.0) == 107.5
    assert Cadence(every_steps=5, every_seconds=7.5).next_time(100.0, 3.0) == 107.5
    assert Cadence(every_steps=5).next_time(100.0, 3.0) == math.inf


class Job:
    """Passes of an epoch, told as a loop tells them."""

    def __init__(self, **begun: Any) -> None:
        self.steps = Steps()
        self.passes = Passes(self.steps, **begun)

    def batches(self, index: int | None, count: int, *, trains: bool = True) -> bool:
        """Read a whole pass."""
        self.steps.boundary()
        if not self.passes.enter(index):
            return False
        for _ in range(count):
            if trains:
                self.step()
            self.ask()
        self.passes.leave()
        return True

    def ask(self, batch: Any = None) -> None:
        """Ask the loader for a batch."""
        if not self.steps.has_stepped:
            self.passes.boundary(batch)
        self.steps.boundary()

    def step(self, *, in_pass: bool = True) -> None:
        """Train on a batch."""
        self.steps.backward()
        self.steps.step(in_pass=in_pass)


class TestPasses:
    """The passes of an epoch."""

    def test_those_that_have_trained_are_done(self) -> None:
        job = Job()
        job.batches(0, 2)
        job.batches(1, 2, trains=False)
        job.batches(0, 2, trains=False)
        job.batches(0, 1)
        assert job.passes.done() == ((0, 0), (0, 2))

    def test_those_that_are_done_are_not_read_again_and_others_are(self) -> None:
        job = Job(done=[(0, 0), (0, 2)], resumed=(1, 0))
        read = [job.batches(index, 1, trains=False) for index in (0, 0, 0, 0, None)]
        assert read == [False, True, False, True, True]
        assert job.passes.enter(1)
        assert job.passes.is_resumed

    def test_steps_outside_of_passes_and_on_unknown_loaders_cannot_be_resumed(self) -> None:
        job = Job()
        job.batches(None, 1, trains=False)
        job.passes.enter(0)
        assert job.passes.can_resume
        job.step(in_pass=False)
        assert not job.passes.can_resume
        other = Job()
        other.batches(None, 1)
        other.passes.enter(0)
        assert not other.passes.can_resume

    @pytest.mark.parametrize("depth", [0, 1, 3])
    def test_what_the_script_holds_is_read_ahead(self, depth: int) -> None:
        job = Job()
        job.passes.enter(0)
        held = [torch.zeros(1)]
        for _ in range(depth):
            job.ask(held[-1])
            held.append(torch.zeros(1))
        for _ in range(3):
            job.step()
            job.ask(held[-1])
        assert job.passes.ahead == depth

    def test_what_the_script_has_left_out_is_not(self) -> None:
        job = Job()
        job.passes.enter(0)
        job.ask({"x": [torch.zeros(1)]})
        job.step()
        job.ask(torch.zeros(1))
        assert job.passes.ahead == 0

    def test_what_has_no_tensors_may_be_held(self) -> None:
        job = Job()
        job.passes.enter(0)
        job.ask("text")
        job.step()
        assert job.passes.ahead == 1


def test_steps_of_several_optimizers_for_a_batch_count_once() -> None:
    steps = Steps()
    for _ in range(3):
        steps.boundary()
        for _ in range(2):
            steps.step(in_pass=True)
    assert (steps.completed, steps.outside) == (3, 0)
    steps.step(in_pass=False)
    steps.step(in_pass=False)
    assert (steps.completed, steps.outside) == (5, 2)


class Gradients:
    """An optimizer of a model, whose steps the loop watches."""

    def __init__(self) -> None:
        self.accelerator = Accelerator(cpu=True)
        self.accelerator.epochs(1)
        model = nn.Linear(1, 1)
        plain: Any = torch.optim.SGD(model.parameters(), lr=0.1)
        self.model, self.optimizer = self.accelerator.prepare(model, plain)

    def backward(self, factor: float = 1.0) -> None:
        """Add to the gradients."""
        self.accelerator.backward(self.model(torch.ones(1, 1)).sum() * factor)

    @property
    def wait(self) -> bool:
        """Whether they wait, at a boundary."""
        found: bool = self.optimizer.has_waiting_gradients()
        self.accelerator.gradient_state.steps.boundary()
        return found


class Ledger:
    """An optimizer of three parameters, and which of them have gradients that wait.

    Attributes:
        added: the indices of parameters whose gradients wait.
        has_cleared_unused: whether the script has cleared gradients that waited.
    """

    EVENTS: ClassVar[dict[str, tuple[int, ...]]] = {
        "step": (),
        "clear by the optimizer": (),
        "clear by the model": (),
        "boundary": (),
        "boundary with a question": (),
        "backward of all": (0, 1, 2),
        "backward of the last": (2,),
        "backward past the Accelerator": (0, 2),
    }

    def __init__(self) -> None:
        self.accelerator = Accelerator(cpu=True)
        self.accelerator.free_memory()
        self.accelerator.epochs(1)
        weights = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(3))
        plain: Any = torch.optim.SGD(weights.parameters(), lr=0.1)
        self.weights, self.optimizer = self.accelerator.prepare(weights, plain)
        self.added: set[int] = set()
        self.has_cleared_unused = False

    def tell(self, event: str) -> None:
        """Let something happen."""
        if added := self.EVENTS[event]:
            loss = sum((self.weights[one].sum() for one in added), torch.zeros(()))
            (torch.Tensor.backward if "past" in event else self.accelerator.backward)(loss)
            self.added |= set(added)
        elif event.startswith("clear"):
            (self.optimizer if "optimizer" in event else self.weights).zero_grad()
            self.has_cleared_unused |= bool(self.added)
            self.added.clear()
        elif event == "step":
            self.optimizer.step()
            self.added.clear()
        else:
            assert "question" not in event or self.waits in {True, False}
            self.accelerator.gradient_state.steps.boundary()

    @property
    def waits(self) -> bool:
        """Whether the optimizer finds gradients that wait."""
        found: bool = self.optimizer.has_waiting_gradients()
        return found


class TestGradientsWait:
    """Gradients that would be lost."""

    def test_from_a_backward_to_the_step(self) -> None:
        one = Gradients()
        found = [one.wait]
        one.backward()
        found.append(one.wait)
        one.optimizer.step()
        found.append(one.wait)
        assert found == [False, True, False]

    def test_if_a_backward_has_followed_on_the_step(self) -> None:
        one = Gradients()
        one.backward()
        one.optimizer.step()
        one.backward()
        assert one.wait

    def test_if_the_model_has_cleared_those_of_the_step_itself(self) -> None:
        one = Gradients()
        for _ in range(3):
            one.backward()
            one.optimizer.step()
            one.model.zero_grad()
            one.backward()
            assert one.wait

    def test_not_if_they_are_zero(self) -> None:
        one = Gradients()
        one.backward(0.0)
        assert not one.wait

    def test_not_because_another_model_is_trained_for_long(self) -> None:
        one = Gradients()
        one.backward()
        one.optimizer.step()
        assert not one.wait
        other = nn.Linear(1, 1)
        for _ in range(3):
            one.accelerator.backward(other(torch.ones(1, 1)).sum())
            assert not one.wait

    def test_not_if_the_script_clears_them_before_it_uses_them(self) -> None:
        one = Gradients()
        found = []
        for _ in range(3):
            one.optimizer.zero_grad()
            one.backward()
            one.optimizer.step()
            one.backward(2.0)  # as that of a GAN's generator
            found.append(one.wait)
        assert found == [True, False, False]

    @pytest.mark.parametrize("number", [1, 2, 3, 10])
    @pytest.mark.parametrize("at", [0, -1])
    def test_of_the_first_or_the_last_parameter_alone(self, number: int, at: int) -> None:
        """Looking at all would prolong each step; a head and an embedding are at these ends."""
        accelerator = Accelerator(cpu=True)
        accelerator.epochs(1)
        weights = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(number))
        plain: Any = torch.optim.SGD(weights.parameters(), lr=0.1)
        weights, optimizer = accelerator.prepare(weights, plain)
        sum(one.sum() for one in weights).backward()
        optimizer.step()
        assert not optimizer.has_waiting_gradients()
        weights[at].sum().backward()
        assert optimizer.has_waiting_gradients()

    @pytest.mark.parametrize("freezes", ["before", "after"])
    def test_of_the_few_parameters_that_are_trained(self, freezes: str) -> None:
        """An adapter is trained beside many frozen parameters, perhaps only from some step on."""
        accelerator = Accelerator(cpu=True)
        accelerator.epochs(1)
        weights = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(64))
        plain: Any = torch.optim.SGD(weights.parameters(), lr=0.1)
        weights, optimizer = accelerator.prepare(weights, plain)
        for step in range(2):
            for index, one in enumerate(weights):
                one.requires_grad_(index == 5 or (freezes == "after" and not step))
            optimizer.zero_grad()
            sum(one.sum() for one in weights).backward()
            optimizer.step()
            assert not optimizer.has_waiting_gradients()
        weights[5].sum().backward()
        assert optimizer.has_waiting_gradients()

    @given(some.lists(some.sampled_from(sorted(Ledger.EVENTS)), max_size=10))
    @settings(max_examples=200, deadline=None)
    def test_exactly_if_something_was_added_since_the_step_and_not_cleared(
        self, events: list[str]
    ) -> None:
        ledger = Ledger()
        for event in events:
            ledger.tell(event)
        assume(not ledger.has_cleared_unused)  # as above: what is cleared unused does not wait
        assert ledger.waits == bool(ledger.added)


class TestTheLossThatIsShown:
    """It is looked at only if somebody has asked, and read at a later boundary."""

    def test_is_the_next_one_after_it_was_asked_for(self) -> None:
        losses, found = Losses(), []
        for step in range(6):
            if step in {2, 5}:
                losses.wanted.set()
            losses.note(torch.tensor(float(step)))
            losses.boundary()
            found.append(losses.last)
        assert found == [None, None, None, 2.0, 2.0, 2.0]
        losses.boundary()
        assert losses.last == 5.0
        assert not losses.wanted.is_set()

    def test_is_none_if_it_is_no_number(self) -> None:
        losses = Losses()
        losses.wanted.set()
        for value in (torch.tensor(float("nan")), torch.ones(2)):
            losses.note(value)
            losses.boundary()
            losses.boundary()
            assert losses.last is None

    def test_keeps_no_graph(self) -> None:
        losses = Losses()
        losses.wanted.set()
        weight = nn.Parameter(torch.ones(1))
        kept = weakref.ref(graph := (weight * 2).sum())
        losses.note(graph)
        del graph
        assert kept() is None


class Saved:
    """Automatic checkpoints of which there is one for each call of `epochs` up to the newest."""

    has_registered = False
    heads: Mapping[int, Any] = {}

    def __init__(self, newest: LoopState, damaged: int | None) -> None:
        self.newest, self.damaged = newest, damaged
        self.restorer = self

    def find(self) -> LoopState:
        return self.newest

    def load(self, call: int) -> LoopState | None:
        if call == self.damaged:
            return None
        return self.newest if call == self.newest.call else LoopState(call=call, epoch=4, epochs=4)

    def reload(self) -> None:
        raise AssertionError("nothing has changed")


@pytest.mark.parametrize(
    ("call", "total", "damaged", "first", "step", "is_pending"),
    [
        pytest.param(1, 4, None, 2, 7, True, id="the call of the checkpoint goes on in its epoch"),
        pytest.param(1, 2, None, 2, 7, False, id="no epoch of a call that is now shorter is left"),
        pytest.param(1, 1, None, 1, 7, False, id="nor is one if it had begun more than there are"),
        pytest.param(0, 4, None, 4, 0, False, id="an earlier call is over, with its own state"),
        pytest.param(0, 4, 0, 4, None, False, id="so it is if its checkpoint is damaged"),
        pytest.param(1, 4, 1, 4, None, False, id="so is the newest call if its own is damaged"),
        pytest.param(2, 4, None, 0, None, False, id="a later call begins, and loads nothing"),
    ],
)
def test_a_call_of_epochs_begins_where_its_checkpoint_was_taken(  # a table
    call: int, total: int, damaged: int | None, first: int, step: int | None, is_pending: bool
) -> None:
    saved = Saved(LoopState(call=1, epoch=2, epochs=4, step=7), damaged)
    resume = Resume(Prepared(), cast("Checkpoints", saved))
    resume.find()
    epoch, state = resume.first(call, total)
    assert (epoch, None if state is None else state.step) == (first, step)
    assert (resume.pending is not None) is is_pending


def test_without_checkpoints_each_call_of_epochs_begins_at_its_first() -> None:
    resume = Resume(Prepared(), None)
    resume.find()
    assert resume.first(0, 4) == (0, None)


def test_a_script_must_not_load_before_it_has_reached_the_place_of_its_checkpoint() -> None:
    saved = Saved(LoopState(epochs=4, epoch=2, step=7, current=(0, 0)), None)
    resume = Resume(Prepared(), cast("Checkpoints", saved))
    resume.find()
    resume.must_not_be_pending()
    resume.first(0, 4)
    with pytest.raises(RuntimeError, match="load_state must not be called"):
        resume.must_not_be_pending()
    passes = resume.begin_epoch(Steps())
    passes.enter(0)
    assert passes.is_resumed
    resume.end_epoch()
    resume.must_not_be_pending()
