"""What a dispatcher sends: plain values and tensors travel without a pickle."""

import json
import pickle
from collections import OrderedDict, namedtuple
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from runtime.data.dispatch import messages, wire
from runtime.data.dispatch.messages import Step


class Row(NamedTuple):
    """A script's own namedtuple."""

    x: Any
    y: Any


class Own:
    """A script's own class."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own)

    __hash__ = None  # type: ignore[assignment]


def sent(batch: Any) -> tuple[bytes, Any]:
    """The header of a message, and what it says."""
    message = messages.Buffer().filled(batch, Step([batch], is_last=True, real=3, padding_ranks=1))
    header = int(message[:16].view(torch.int64)[1])
    part = messages.decoded(message.clone())
    assert (part.real, part.padding_ranks, part.is_last) == (3, 1, True)
    return bytes(message[16 : 16 + header].tolist()), part.batch


PLAIN: dict[str, Any] = {
    "numbers": [0, -1, 2**70, 1.5, -0.0, float("inf"), 1e-310, 2j, True, False, None],
    "texts and bytes": ["", "é\n\0", "\ud800", b"", bytes(range(256))],
    "containers in one another": ([1, (2, [])], {"a": {1: "b", None: ()}, (1, 2): [3]}),
    "an ordered dict": OrderedDict(b=1, a=2),
    "a list that looks as what is sent": [["list", 1], ["namedtuple", "os", "system", "x"]],
    "a namedtuple of the script's": [Row(1, "a"), Row(x=Row(1, 2), y=[])],
    "a shape": torch.Size([2, 3]),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_values_arrive_as_they_were_and_without_a_pickle(kind: str) -> None:
    header, batch = sent(PLAIN[kind])
    assert json.loads(header[1:])
    assert repr(batch) == repr(PLAIN[kind])


def test_tensors_of_all_dtypes_arrive_without_a_pickle() -> None:
    dtypes = [torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.complex64]
    batch = Row([torch.ones(2, 3).to(one) for one in dtypes], {"e": torch.zeros(0, 4)})
    header, got = sent(batch)
    assert json.loads(header[1:])
    assert repr(got) == repr(batch)


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param([Own(), torch.ones(2)], id="a script's own class"),
        pytest.param({"a": np.float32(1.5)}, id="a number of numpy's"),
        pytest.param({1, 2}, id="a set"),
        pytest.param(10**5000, id="an int that is too long for a text"),
    ],
)
def test_other_types_arrive_by_a_pickle(batch: Any) -> None:
    header, got = sent(batch)
    assert pickle.loads(header[1:])  # noqa: S301  # of this test
    assert (got[0] == batch[0]) if isinstance(batch, list) else (got == batch)


def test_a_namedtuple_that_no_module_has_is_an_error_where_it_is_sent() -> None:
    local = namedtuple("local", "a")  # noqa: PYI024  # as scripts make them
    with pytest.raises(pickle.PicklingError):
        wire.encoded(local(1))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (["namedtuple", "os", "mkdir", "was_executed"], "has no such class"),
        (["namedtuple", "builtins", "tuple", 1], "has no such class"),
        (["namedtuple", "antigravity", "fly"], "has no such class"),
        (["eval", "1"], "values of known types, got 'eval'"),
    ],
)
def test_a_message_that_was_forged_makes_and_imports_nothing(said: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        wire.decoded(b"J" + json.dumps(said).encode())
