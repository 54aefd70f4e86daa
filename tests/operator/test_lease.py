from datetime import UTC, datetime
from typing import Any

import pytest

from acceleratedjob.manager.lease import (
    Decision,
    Lease,
    Standing,
    Step,
    Terms,
    claimed,
    decide,
    released,
)

TERMS = Terms(duration=15, deadline=10, retry=2)
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
MINE = Lease(holder="me", duration=15, renewed="3")
THEIRS = Lease(holder="other", duration=15, renewed="3")
SHORT = Lease(holder="other", duration=5, renewed="3")
FREE = Lease(holder="", duration=1, renewed="4")


def candidate(lease: Lease | None, *, since: float, tried: float, fresh: bool = True) -> Standing:
    return Standing(lease=lease, since=since, tried=tried, fresh=fresh)


def holder(lease: Lease | None, *, tried: float, renewed: float) -> Standing:
    return Standing(lease=lease, since=tried, tried=tried, renewed=renewed)


@pytest.mark.parametrize(
    ("at", "now", "expected"),
    [
        pytest.param(Standing(), 100, Decision(Step.LOOK), id="nobody has looked yet: look"),
        pytest.param(
            candidate(None, since=100, tried=100),
            100,
            Decision(Step.CLAIM),
            id="there is no lease: make it",
        ),
        pytest.param(
            candidate(FREE, since=100, tried=100),
            100,
            Decision(Step.CLAIM),
            id="it was given back: take it at once",
        ),
        pytest.param(
            candidate(THEIRS, since=100, tried=100),
            100,
            Decision(Step.WAIT, seconds=2),
            id="another holds it, whenever it says it renewed: look again after the retry period",
        ),
        pytest.param(
            candidate(THEIRS, since=100, tried=112),
            114,
            Decision(Step.LOOK),
            id="the retry period is over: look",
        ),
        pytest.param(
            candidate(THEIRS, since=100, tried=114),
            114,
            Decision(Step.WAIT, seconds=1),
            id="it is about to run out: wait no longer than that",
        ),
        pytest.param(
            candidate(THEIRS, since=100, tried=114),
            115,
            Decision(Step.CLAIM),
            id="it has not changed for its whole duration: take it",
        ),
        pytest.param(
            candidate(SHORT, since=100, tried=104),
            105,
            Decision(Step.CLAIM),
            id="its duration is what its holder said, not what we would say",
        ),
        pytest.param(
            candidate(MINE, since=100, tried=100),
            100,
            Decision(Step.CLAIM),
            id="it is ours and we did not know, as the answer was lost: take it",
        ),
        pytest.param(
            candidate(None, since=100, tried=100, fresh=False),
            100.5,
            Decision(Step.WAIT, seconds=1.5),
            id="it could not be taken: do not try again at once",
        ),
        pytest.param(
            candidate(THEIRS, since=100, tried=116, fresh=False),
            118,
            Decision(Step.LOOK),
            id="it could not be taken, and the retry period is over: look first",
        ),
        pytest.param(
            holder(MINE, tried=100, renewed=100),
            101,
            Decision(Step.WAIT, seconds=1),
            id="it was just renewed: wait",
        ),
        pytest.param(
            holder(MINE, tried=100, renewed=100),
            102,
            Decision(Step.CLAIM),
            id="the retry period is over: renew",
        ),
        pytest.param(
            holder(MINE, tried=108, renewed=100),
            109,
            Decision(Step.WAIT, seconds=1),
            id="renewals fail, there is time for another: wait as long as ever",
        ),
        pytest.param(
            holder(MINE, tried=109, renewed=100),
            109.5,
            Decision(Step.WAIT, seconds=0.5),
            id="renewals fail and time is short: wait no longer than it lasts",
        ),
        pytest.param(
            holder(MINE, tried=108, renewed=100),
            110,
            Decision(Step.STOP, reason="it could not be renewed for 10 s"),
            id="the deadline is over: stop, before another may take it",
        ),
        pytest.param(
            holder(MINE, tried=100, renewed=100),
            200,
            Decision(Step.STOP, reason="it could not be renewed for 10 s"),
            id="this process stood still for long: stop, do not even ask",
        ),
        pytest.param(
            holder(THEIRS, tried=101, renewed=100),
            101,
            Decision(Step.STOP, reason="it is held by other"),
            id="another has taken it: stop",
        ),
        pytest.param(
            holder(FREE, tried=101, renewed=100),
            101,
            Decision(Step.STOP, reason="it is held by nobody"),
            id="somebody has emptied it: stop",
        ),
        pytest.param(
            holder(None, tried=100, renewed=100),
            102,
            Decision(Step.CLAIM),
            id="somebody has deleted it: make it again",
        ),
    ],
)
def test_what_a_participant_does_next(at: Standing, now: float, expected: Decision) -> None:
    assert decide("me", TERMS, at, now) == expected


@pytest.mark.parametrize(
    ("seen", "since"),
    [
        pytest.param(THEIRS, 100, id="the same renewal: its age counts on"),
        pytest.param(
            Lease(holder="other", duration=15, renewed="3", manifest={"labels": {}}),
            100,
            id="a label was added: that is no renewal",
        ),
        pytest.param(
            Lease(holder="other", duration=15, renewed="4"), 107, id="renewed: young again"
        ),
        pytest.param(
            Lease(holder="third", duration=15, renewed="3"), 107, id="another's: young again"
        ),
        pytest.param(None, 107, id="deleted"),
    ],
)
def test_age_is_counted_from_the_first_sight_of_a_renewal(seen: Lease | None, since: float) -> None:
    at = candidate(THEIRS, since=100, tried=106)
    assert at.saw(seen, 107).since == since


def test_no_two_hold_it_at_the_same_time_whatever_their_clocks_show() -> None:
    """The holder stops before the earliest moment at which a candidate may take it.

    A renewal is sent, and stored some time later; the candidate first sees it later still.
    """
    for stored in (0.0, 0.5, 3.0):
        for seen in (stored, stored + 2):
            holding = holder(MINE, tried=0, renewed=0)
            waiting = candidate(THEIRS, since=seen, tried=seen)
            moments = [tenth / 10 for tenth in range(400)]
            ends = next(t for t in moments if decide("me", TERMS, holding, t).step is Step.STOP)
            begins = next(
                t
                for t in moments
                if t >= seen and decide("you", TERMS, waiting, t).step is Step.CLAIM
            )
            assert ends < begins


def spec(**fields: Any) -> dict[str, Any]:
    return {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-02T03:04:05.000006Z",
        "renewTime": "2026-01-02T03:04:05.000006Z",
        "leaseTransitions": 0,
    } | fields


def of(**fields: Any) -> Lease:
    return Lease.of({"spec": spec(**fields)})


@pytest.mark.parametrize(
    ("lease", "expected"),
    [
        pytest.param(None, spec(), id="the first ever"),
        pytest.param(Lease.of({}), spec(leaseTransitions=1), id="a lease that says nothing"),
        pytest.param(
            of(acquireTime="earlier", leaseTransitions=4),
            spec(acquireTime="earlier", leaseTransitions=4),
            id="renewed: held since then",
        ),
        pytest.param(
            of(holderIdentity="other", acquireTime="earlier", leaseTransitions=4),
            spec(leaseTransitions=5),
            id="taken over: one transition more",
        ),
    ],
)
def test_what_is_claimed(lease: Lease | None, expected: dict[str, Any]) -> None:
    assert claimed(lease, "me", TERMS, NOW) == expected


def test_a_lease_given_back_names_no_holder() -> None:
    given = released(of(acquireTime="earlier"), NOW)
    assert given == spec(acquireTime="earlier", holderIdentity="", leaseDurationSeconds=1)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"duration": 10}, id="no time between giving up and being taken over"),
        pytest.param({"deadline": 2}, id="no time for a second try"),
        pytest.param({"retry": 0}, id="without a pause"),
        pytest.param({"duration": 15.5}, id="a duration that the API cannot say"),
    ],
)
def test_terms_that_cannot_hold_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Terms(**wrong)
