"""From an API server's answer to the error that says what may be done about it."""

import json

import pytest

from acceleratedjob.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    NotFound,
    Refused,
    Unavailable,
)
from acceleratedjob.kube.errors import error_from


def told(message: str, reason: str = "") -> bytes:
    """A Status object, as the API server writes it."""
    return json.dumps({"kind": "Status", "message": message, "reason": reason}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        pytest.param(404, told('pods "a" not found'), NotFound, id="there is none"),
        pytest.param(410, told("too old resource version"), NotFound, id="there was one"),
        pytest.param(409, told("it exists", "AlreadyExists"), AlreadyExists, id="a taken name"),
        pytest.param(409, told("modified", "Conflict"), Conflict, id="another wrote first"),
        pytest.param(429, told("slow down"), Unavailable, id="too many requests"),
        pytest.param(500, told("etcd"), Unavailable, id="the server's own trouble"),
        pytest.param(401, told("Unauthorized"), Unavailable, id="a token that has just expired"),
        pytest.param(503, b"<html>a proxy", Unavailable, id="a proxy's page"),
        pytest.param(502, b"[1]", Unavailable, id="JSON that is no object"),
    ],
)
def test_an_answer_becomes_the_error_of_its_kind(
    status: int, body: bytes, error: type[ClusterError]
) -> None:
    found = error_from(status, body, {})
    assert type(found) is error
    assert f"({status})" in str(found)


@pytest.mark.parametrize(
    ("status", "message", "final"),
    [
        pytest.param(422, "spec.x: Invalid value", True, id="an invalid object stays invalid"),
        pytest.param(400, "unknown field", True, id="so does one that cannot be read"),
        pytest.param(413, "too large", True, id="and one that is too large"),
        pytest.param(403, "denied by policy: no root", True, id="a policy's verdict is final"),
        pytest.param(403, "exceeded quota: few", False, id="a quota may be raised"),
        pytest.param(
            403, "error looking up service account a/b", False, id="an account may be made later"
        ),
        pytest.param(
            403,
            'pods "a-0-0" is forbidden: no PriorityClass with name high was found',
            False,
            id="a priority class may be made later",
        ),
        pytest.param(
            403,
            'pods "a-0-0" is forbidden: pod rejected: RuntimeClass "nvidia" not found',
            False,
            id="a runtime class may be made later",
        ),
        pytest.param(
            403,
            'pods "a-0-0" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers '
            "to a resource you can't set finalizers on: , <nil>",
            False,
            id="the right to block a deletion may be given",
        ),
        pytest.param(
            500, "etcdserver: request is too large", True, id="no try makes an object smaller"
        ),
        pytest.param(
            500,
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max "
            "(2100000 vs. 2097152)",
            True,
            id="nor one that is larger still",
        ),
        pytest.param(403, 'User "x" cannot create pods', False, id="rights may be given"),
    ],
)
def test_a_refusal_says_whether_to_ask_again(status: int, message: str, final: bool) -> None:
    found = error_from(status, told(message), {})
    assert isinstance(found, Refused)
    assert found.final is final
    assert message in str(found)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0)]
)
def test_the_server_says_when_to_come_back(header: str, seconds: float) -> None:
    found = error_from(429, told("later"), {"Retry-After": header})
    assert isinstance(found, Unavailable)
    assert found.retry_after == seconds


@pytest.mark.parametrize(
    ("causes", "message", "field"),
    [
        pytest.param(
            [{"field": "spec.containers[0].image", "reason": "FieldValueRequired"}],
            "Pod is invalid",
            "spec.containers[0].image",
            id="a validation names it",
        ),
        pytest.param(
            None,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of "
            "type string",
            "spec.containers.image",
            id="so does what cannot be read",
        ),
        pytest.param(
            None,
            'strict decoding error: unknown field "spec.containers[0].imagee"',
            "spec.containers[0].imagee",
            id="and what nobody knows",
        ),
        pytest.param(None, "the request is too large", "", id="nothing is named"),
    ],
)
def test_the_field_at_fault(causes: list[object] | None, message: str, field: str) -> None:
    body = {"message": message, "details": {"causes": causes}}
    found = error_from(422, json.dumps(body).encode(), {})
    assert isinstance(found, Refused)
    assert found.field == field
