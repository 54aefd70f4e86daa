"""Tells the coordinator of an attempt that its pods are deleted, and remembers what it answered.

A restarted operator tells it again: the coordinator takes the earliest end.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from acceleratedjob.controller.polling.asking import answer
from acceleratedjob.controller.polling.hearing import Target
from acceleratedjob.observe.observed import Notice
from acceleratedjob.observe.progress import NotProgressError

log = logging.getLogger(__name__)
SECONDS = 1.0  # for an answer: the deletion of the pods waits for it
ACCEPTED = 202
Tell = Callable[[Target, bytes], Awaitable[int]]


def request(uid: str, attempt: int, seconds: int) -> bytes:
    """Return the request to stop an attempt of a job within some seconds."""
    body = json.dumps({"uid": uid, "attempt": attempt, "secondsLeft": seconds}).encode()
    head = (
        "POST /stop HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def tell_pod(target: Target, request: bytes, seconds: float = SECONDS) -> int:
    """Send a request to a pod at its own address, and return the status of the answer."""
    return (await answer(target.address, target.port, request, seconds))[0]


async def is_taken(tell: Tell, target: Target, request: bytes) -> bool:
    """Whether a coordinator answers that all ranks will stop; False for whatever else happens."""
    try:
        return await tell(target, request) == ACCEPTED
    except (OSError, TimeoutError, NotProgressError) as error:
        log.debug("the coordinator at %s does not answer: %s", target.address, error)
        return False


@dataclass(frozen=True, slots=True)
class _Given:
    is_taken: bool
    at: float


class Notices:
    """The notices that were given to the pods of all jobs; times are monotonic."""

    def __init__(self) -> None:
        self._given: dict[str, dict[str, _Given]] = {}  # by the job and the pod

    def note(self, job: str, pod: str, now: float, *, is_taken: bool) -> None:
        """Note what a pod has answered."""
        self._given.setdefault(job, {})[pod] = _Given(is_taken, now)

    def of(self, job: str, pods: Iterable[str], now: float) -> Mapping[str, Notice]:
        """Return the notices to the pods of a job that exist, and forget the others."""
        known = self._given.get(job)
        if not known:
            return {}
        there = frozenset(pods)
        self._given[job] = known = {pod: one for pod, one in known.items() if pod in there}
        return {
            pod: Notice(is_taken=one.is_taken, ago=timedelta(seconds=now - one.at))
            for pod, one in known.items()
        }

    def forget(self, job: str) -> None:
        """Drop a job that is gone."""
        self._given.pop(job, None)
