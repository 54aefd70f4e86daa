"""What must hold in each state of a job, and in each step."""

from runtime.control.agreement.coordinator import Coordinator, Stage
from runtime.control.agreement.member import Order
from runtime.control.agreement.messages import Action, Decide
from tests.runtime.agreement.cases import Fault
from tests.runtime.agreement.ranks import GONE, Mode, Rank
from tests.runtime.agreement.scripts import Boundary
from tests.runtime.agreement.world import State, World


class Properties:
    """What must hold; each method returns what does not, or nothing."""

    def __init__(self, world: World) -> None:
        self.world, self.case, self.rules = world, world.case, world.rules
        self.first = world.first()
        self.is_smooth = world.case.is_smooth

    def wrong_state(self, state: State) -> str:
        """What does not hold in a state."""
        ranks = self.world.ranks_of(state)
        modes = {one.mode for one in ranks}
        if Mode.FAILED in modes and not self._has_spent(state, Fault.DEATH, Fault.LOSS):
            return "a rank failed, and no process had died"
        if Mode.ACT in modes or Mode.STOPPED in modes:
            return self._wrong_acts(ranks)
        return self._forgotten(state, ranks) if self.case.cuts else ""

    def wrong_end(self, state: State) -> str:
        """What does not hold in a state that takes no step."""
        ranks = self.world.ranks_of(state)
        if all(one.mode in GONE for one in ranks):
            return ""
        where = (f"{i} {one.mode}, {self._op(i, one)}" for i, one in enumerate(ranks))
        return f"deadlock: {'; '.join(where)}"

    def wrong_step(self, before: State, after: State) -> str:
        """What does not hold between two states: without faults only an end cancels a round."""
        if not self.is_smooth or before[self.world.chief] == after[self.world.chief]:
            return ""
        old, new = self.world.chief_of(before), self.world.chief_of(after)
        if not old or not new or new.cancelled <= old.cancelled:
            return ""
        if old.stage is Stage.ASKED:
            return "" if new.is_over else "a round was cancelled, and nothing was wrong"
        return "a target that all could reach was missed" if self._all_can_reach(old) else ""

    def _has_spent(self, state: State, *faults: Fault) -> bool:
        return any(self.world.has(self.first, one) > self.world.has(state, one) for one in faults)

    def _op(self, i: int, rank: Rank) -> str:
        ops = self.case.scripts[i]
        return str(ops[rank.at]) if rank.at < len(ops) else "at its end"

    def _all_can_reach(self, chief: Coordinator) -> bool:
        assert isinstance(chief.word, Decide)
        target = chief.word.place
        return all(
            any(
                self.rules.is_clean(at) and self.rules.place(at) > target
                for at in script
                if isinstance(at, Boundary)
            )
            for script in self.case.scripts
        )

    def _wrong_acts(self, ranks: list[Rank]) -> str:
        acting = [
            (rank, self.case.scripts[i][rank.at])
            for i, rank in enumerate(ranks)
            if rank.mode in (Mode.ACT, Mode.STOPPED)
        ]
        for rank, at in acting:
            assert isinstance(at, Boundary)
            if rank.order is not Order.LEAVE and (wrong := self._unclean(at)):
                return f"a rank saves at {at}, {wrong}"
        if len({at.place for _, at in acting if isinstance(at, Boundary)}) > 1:
            return "ranks act at different places"
        if len({rank.order for rank, _ in acting}) > 1:
            return "ranks do different things"
        modes = {one.mode for one in ranks}
        return "a rank has stopped, and another has ended" if _both(modes) else ""

    def _unclean(self, at: Boundary) -> str:
        if at.is_pass_end:
            return "and the pass goes on without a batch"
        if at.is_accumulating:
            return "and gradients are lost"
        if at.is_evaluation:
            return "and what ran before the evaluation runs twice"
        if at.is_joined:
            return "and another rank needs it in the join"
        return "and batches were not trained on" if at.ahead != self.rules.depth(at) else ""

    def _forgotten(self, state: State, ranks: list[Rank]) -> str:
        """On a link where nothing is under way both ends know the same."""
        chief = self.world.chief_of(state)
        if not chief or chief.is_over or not all(one.is_linked for one in ranks):
            return ""
        if any(state[where] for where in (*self.world.up, *self.world.down)):
            return ""
        if chief.stage is Stage.SAVING and all(one.member.saved == chief.round for one in ranks):
            return "all have saved, and the coordinator waits"
        wishes = {one.member.wish.action for one in ranks if one.member.wish}
        known = {Action.STOP: {Action.STOP}, Action.SAVE: {Action.SAVE, Action.STOP}}
        if any(chief.wanted not in known[wish] for wish in wishes):
            return "a rank wants something that the coordinator does not know of"
        return ""


def _both(modes: set[Mode]) -> bool:
    return Mode.STOPPED in modes and Mode.ENDED in modes
