"""Messages come back from JSON as they were; anything else is refused with a sentence."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.control.agreement.messages import (
    KINDS,
    LONGEST,
    Action,
    Answer,
    Ask,
    Bye,
    Cancel,
    Decide,
    Go,
    Here,
    Late,
    Message,
    Saved,
    Wish,
    decode,
    encode,
)
from runtime.control.lines import LARGEST
from runtime.control.place import Place

PLACE = {"steps": 3, "epochs": 1}
ROUNDS = st.integers(1, LARGEST)
PLACES = st.builds(Place, st.integers(0, LARGEST), st.integers(0, LARGEST))
SECONDS = st.none() | st.floats(0, 1e9) | st.integers(0, 10**9)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=LONGEST)
MESSAGES = st.one_of(
    st.builds(Wish, st.sampled_from([Action.STOP, Action.SAVE]), SECONDS, TEXTS),
    *(st.builds(kind, ROUNDS, PLACES) for kind in (Answer, Here)),
    st.builds(Decide, ROUNDS, PLACES),
    *(st.builds(kind, ROUNDS) for kind in (Late, Saved, Ask, Cancel)),
    st.builds(Go, ROUNDS, st.sampled_from(Action)),
    st.just(Bye()),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = ("round", "place", "action", "seconds_left", "why", "steps")


@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    read = decode(json.loads(json.dumps(encode(message), allow_nan=False)))
    assert read == message
    assert type(read) is type(message)


@given(MESSAGES)
def test_a_message_fits_into_a_line_of_64_kib(message: Message) -> None:
    assert len(json.dumps(encode(message))) < 64 * 1024


@given(JSON)
def test_any_json_is_a_message_or_an_error_with_a_sentence(found: object) -> None:
    check(found)


@given(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(list(KINDS))},
        optional=dict.fromkeys(FIELDS, JSON | st.just(PLACE) | st.just("stop") | st.just(1)),
    )
)
def test_any_fields_are_a_message_or_an_error_with_a_sentence(found: object) -> None:
    check(found)


@given(MESSAGES, st.sampled_from(FIELDS), JSON)
def test_a_message_with_a_field_changed_is_a_message_or_an_error(
    message: Message, name: str, value: object
) -> None:
    check({**encode(message), name: value})


def check(found: object) -> None:
    try:
        message = decode(found)
    except ValueError as error:
        says = str(error)
    else:
        assert type(message) in KINDS.values()
        assert encode(message) == found
        return
    assert "must" in says
    assert len(says) < 500


REFUSED: list[tuple[object, str]] = [
    ([], "a message must be a JSON object, got []"),
    ({}, "kind must be one of wish, answer"),
    ({"kind": "hello"}, "kind must be one of wish, answer"),
    ({"kind": ["ask"]}, "kind must be one of wish, answer"),
    ({"kind": "ask"}, "a message of kind ask must have round, got []"),
    ({"kind": "bye", "round": 1}, "a message of kind bye must have no fields, got ['round']"),
    ({"kind": "ask", "round": 0}, "round must be an integer from 1 to 2^53 - 1, got 0"),
    ({"kind": "ask", "round": True}, "round must be an integer from 1 to 2^53 - 1, got True"),
    ({"kind": "ask", "round": 1.0}, "round must be an integer from 1 to 2^53 - 1, got 1.0"),
    ({"kind": "ask", "round": "1"}, "round must be an integer from 1 to 2^53 - 1, got '1'"),
    ({"kind": "ask", "round": 2**53}, "round must be an integer from 1 to 2^53 - 1, got 9007"),
    (
        {"kind": "ask", "round": 10**5000},
        "round must be an integer from 1 to 2^53 - 1, got a value of type int",
    ),
    ({"kind": "answer", "round": 1, "place": [3, 1]}, "place must be a JSON object"),
    (
        {"kind": "answer", "round": 1, "place": {"steps": 3}},
        "place must have epochs, steps, got ['steps']",
    ),
    (
        {"kind": "answer", "round": 1, "place": {"steps": -1, "epochs": 0}},
        "steps must be an integer from 0 to 2^53 - 1, got -1",
    ),
    (
        {"kind": "answer", "round": 1, "place": {"steps": 1, "epochs": 2**53}},
        "epochs must be an integer from 0 to 2^53 - 1, got 9007199254740992",
    ),
    (
        {"kind": "answer", "round": 1, "place": {"steps": 1, "epochs": False}},
        "epochs must be an integer from 0 to 2^53 - 1, got False",
    ),
    (
        {"kind": "go", "round": 1, "action": "halt"},
        "action must be one of save, stop, leave, got 'halt'",
    ),
    (
        {"kind": "wish", "action": "leave", "seconds_left": None, "why": ""},
        "action must be one of stop, save, got",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": -1.0, "why": ""},
        "seconds_left must be a finite number of at least 0, or null, got -1.0",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": math.inf, "why": ""},
        "seconds_left must be a finite number of at least 0, or null, got inf",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": math.nan, "why": ""},
        "seconds_left must be a finite number of at least 0, or null, got nan",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": True, "why": ""},
        "seconds_left must be a finite number of at least 0, or null, got True",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": 10**400, "why": ""},
        "seconds_left must be a finite number of at least 0, or null, got 1",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": None, "why": "two\nlines"},
        "why must be at most 1000 printable characters, got 'two",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": None, "why": "\ud800"},
        "why must be at most 1000 printable characters, got",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": None, "why": "x" * 1001},
        "why must be at most 1000 printable characters, got 'xxx",
    ),
    (
        {"kind": "wish", "action": "stop", "seconds_left": None, "why": None},
        "why must be at most 1000 printable characters, got None",
    ),
]


@pytest.mark.parametrize(("found", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_is_not_a_message_is_refused_with_what_was_expected_and_found(
    found: object, says: str
) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        decode(found)
    assert str(refused.value).startswith(says)


def test_a_message_is_checked_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="round must be"):
        Ask(0)
    with pytest.raises(ValueError, match="place must be a Place"):
        Here(1, (1, 0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="action must be one of save, stop, leave"):
        Go(1, "stop")  # type: ignore[arg-type]


def test_messages_of_different_kinds_differ() -> None:
    assert len({Late(1), Saved(1), Ask(1), Cancel(1)}) == 4
