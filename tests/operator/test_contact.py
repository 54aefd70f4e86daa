"""What an operator says while an API server does not answer: that, once, and when it does again."""

import itertools
import logging
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from acceleratedjob.errors import NoAnswer, Unreachable
from acceleratedjob.kube.client import no_answer
from acceleratedjob.kube.health import Contact
from acceleratedjob.manager.jobs import Waits
from acceleratedjob.manager.logformat import is_news

URL = "https://one:6443/api/v1/pods"
KEY = ConnectionKey("one", 6443, True, True, None, None, None)


def test_an_outage_is_told_at_its_beginning_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    contact = Contact(clock=lambda: now)
    contact.heard()
    for now in (10.0, 20.0, 30.0):
        contact.lost(NoAnswer(f"no answer at {now:g}"))
    now = 50.0
    contact.heard()
    contact.heard()
    contact.lost(NoAnswer("no answer at 50"))
    assert [record.getMessage() for record in caplog.records] == [
        "no answer at 10; retrying until it answers",
        "the API server answers again, after 40 s",
        "no answer at 50; retrying until it answers",
    ]


@pytest.mark.parametrize(
    ("error", "kind", "silent", "sentence"),
    [
        pytest.param(
            aiohttp.ClientConnectorError(KEY, OSError(111, "refused")),
            NoAnswer,
            False,
            f"no answer from {URL}: ClientConnectorError",
            id="refused: the other side has said so",
        ),
        pytest.param(
            TimeoutError(), NoAnswer, True, f"no answer from {URL}: TimeoutError", id="silence"
        ),
        pytest.param(
            aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("who?")),
            Unreachable,
            True,
            "the certificate of one:6443 must be trusted, and is not: ",
            id="a stranger: nothing that it says counts",
        ),
    ],
)
def test_what_stands_for_an_answer(
    error: BaseException, kind: type, silent: bool, sentence: str
) -> None:
    made = no_answer(URL, error)
    assert (type(made), made.silent) == (kind, silent)
    assert str(made).startswith(sentence)


@pytest.mark.parametrize(
    ("logger", "text", "expected"),
    [
        ("kopf.x", "Request attempt #1/9 failed; will retry: GET /api -> ClientOSError(1)", False),
        ("kopf.x", "Request attempt #2; TCP closed; will re-authenticate: GET /api", False),
        ("kopf.x", "Request attempt #1/9 failed; will retry: GET /api -> APIServerError(1)", True),
        ("kopf.x", "Unresolved resources cannot be served", True),
        ("acceleratedjob.x", "Request attempt #1 -> ClientOSError(1)", True),
    ],
)
def test_kopfs_tries_without_an_answer_are_no_news(logger: str, text: str, expected: bool) -> None:
    record = logging.LogRecord(logger, logging.ERROR, "", 0, text, None, None)
    assert is_news(record) is expected


def test_kopf_tries_for_ever_and_in_time_to_be_heard_of() -> None:
    waits = list(itertools.islice(Waits(longest=5), 1000))
    assert waits[:6] == [1, 1, 2, 3, 5, 5]
    assert waits[-1] == 5
    assert list(itertools.islice(Waits(longest=30), 9)) == [1, 1, 2, 3, 5, 8, 13, 21, 21]
    assert not hasattr(Waits(longest=5), "__len__"), "else kopf would take it for a number of tries"
