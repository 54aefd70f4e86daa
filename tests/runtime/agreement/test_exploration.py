"""No order of events makes the agreement fail; without any of its cures one does.

`python -m tests.runtime.agreement.explore` explores more jobs and larger ones.
"""

import pytest

from tests.runtime.agreement.cases import Case, long, quick
from tests.runtime.agreement.explore import main
from tests.runtime.agreement.explorer import Explorer, explore
from tests.runtime.agreement.flaws import FLAWS, Flaw
from tests.runtime.agreement.ranks import Mode
from tests.runtime.agreement.rules import RULES
from tests.runtime.agreement.scripts import Script, scripts

QUICK = quick()


@pytest.mark.parametrize("name", QUICK)
def test_all_ranks_act_together_or_none_does_whatever_the_order_of_events(name: str) -> None:
    found = explore(QUICK[name])
    assert found.wrong == "", "\n".join(found.trace)


def test_a_job_that_is_asked_to_stop_stops_in_some_order_and_ends_in_another() -> None:
    ends = explore(QUICK["2 ranks: plain"]).ends
    assert set(ends) == {Mode.STOPPED, Mode.ENDED}


@pytest.mark.parametrize("flaw", FLAWS, ids=[flaw.says for flaw in FLAWS])
def test_without_a_cure_there_is_an_order_of_events_that_fails(flaw: Flaw) -> None:
    found = explore(QUICK[flaw.case], flaw.rules, only_ends=flaw.only_ends)
    assert flaw.wrong in found.wrong
    assert found.trace


def test_every_flaw_of_the_first_design_has_its_job() -> None:
    numbers = {flaw.says.split()[0].rstrip("bc") for flaw in FLAWS if flaw.says[0] == "F"}
    assert numbers == {f"F{number}" for number in (*range(1, 14), 16)}


def test_of_states_that_differ_in_the_order_of_ranks_that_are_alike_one_is_explored() -> None:
    """There are as many of them as are reached if each is explored."""
    case = Case(scripts=scripts(3, lambda _: Script().barrier("b")), deaths=1, rounds=1)
    some = Explorer(case, RULES, only_ends=False)
    every = Explorer(case, RULES, only_ends=False)
    every.world.orders = []
    assert some.run(10**6).wrong == every.run(10**6).wrong == ""
    alike = [{one, some.world.ordered(one, (0, 2, 1))} for one in some.states]
    assert len(every.states) == sum(map(len, alike)) > len(alike)


def test_the_command_explores_what_it_is_told_and_says_what_it_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["2 ranks: little time"]) == 0
    assert "holds" in capsys.readouterr().out
    assert main(["2 ranks: little time", "--most", "10", "--trace"]) == 1
    assert "more than 10 states" in capsys.readouterr().out
    assert not QUICK.keys() & long().keys()
