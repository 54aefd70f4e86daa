"""Leader election: executes the steps that `lease.decide` returns.

The leader election of kubernetes.aio is not used: it compares wall clocks, lets a hanging request
outlive the renew deadline, ends on a connection error, and never releases the lease.
"""

import asyncio
import contextlib
import logging
import random
import socket
import uuid
from dataclasses import dataclass, field, replace
from typing import NoReturn

from acceleratedjob import metrics
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import utc_now
from acceleratedjob.errors import AlreadyExists, ClusterError, Conflict, NoAnswer, NotFound
from acceleratedjob.kube.client import Connection
from acceleratedjob.manager.lease import (
    API_VERSION,
    KIND,
    Lease,
    Standing,
    Step,
    Terms,
    claimed,
    decide,
    released,
)

log = logging.getLogger(__name__)

RELEASE_SECONDS = 8  # if the release takes longer, the lease expires by itself


class LeaseLost(Exception):
    """The lease is lost: another operator may write, so this process must exit immediately."""


def identity() -> str:
    """Return a unique identity of this process; it changes when the container restarts."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


@dataclass(slots=True, kw_only=True)
class Election:
    """A candidate of a leader election.

    Attributes:
        connection: a connection with its own rate limit, so that no renewal waits behind writes.
        namespace: the namespace of the lease.
        name: the name of the lease.
        terms: the durations of the election.
        me: the identity of this candidate.
        won: an event that is set once this process holds the lease.
    """

    connection: Connection
    namespace: str
    name: str
    terms: Terms
    me: str = field(default_factory=identity)
    won: asyncio.Event = field(default_factory=asyncio.Event)
    _standing: Standing = field(default_factory=Standing)
    _over: bool = False  # the lease was released: this candidate writes no more

    @property
    def leading(self) -> bool:
        """Whether a write may be sent now."""
        renewed = self._standing.renewed
        return renewed is not None and not self._over and _now() < renewed + self.terms.deadline

    async def run(self) -> NoReturn:
        """Take part until cancelled; `won` is set once this process holds the lease.

        Raises:
            LeaseLost: this process held the lease and no longer does.
        """
        while True:
            decision = decide(self.me, self.terms, self._standing, _now())
            match decision.step:
                case Step.WAIT:  # with jitter, so that candidates do not send at the same time
                    await asyncio.sleep(decision.seconds * random.uniform(0.8, 1))  # noqa: S311
                case Step.STOP:
                    raise LeaseLost(f"lease {self.namespace}/{self.name}: {decision.reason}")
                case Step.LOOK | Step.CLAIM:
                    await self._ask(decision.step)

    async def release(self) -> None:
        """Release the lease, if this process holds it, so that others need not await its expiry."""
        if self._over:
            return
        self._over, self._standing = True, replace(self._standing, renewed=None)
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._give_back()
        except (ClusterError, OSError) as error:  # TimeoutError is an OSError
            log.warning("lease=%s/%s not released: %s", self.namespace, self.name, error)

    async def _give_back(self) -> None:
        """Clear the holder of the lease, after a read: a last renewal may be stored unconfirmed."""
        while True:
            await self._look()
            lease = self._standing.lease
            if lease is None or lease.holder != self.me:
                return
            with contextlib.suppress(Conflict):
                await self._write(lease, released(lease, utc_now()))
                log.info("lease=%s/%s released", self.namespace, self.name)
                return

    async def _ask(self, step: Step) -> None:
        """Read or write the lease with one request; an error is logged, and leads to a retry."""
        sent = _now()
        self._standing = replace(self._standing, tried=sent, fresh=False)
        try:
            async with asyncio.timeout(self.terms.deadline / 2):
                await (self._look() if step is Step.LOOK else self._claim(sent))
            self._standing = replace(self._standing, fresh=step is Step.LOOK)
        except NoAnswer as error:
            self.connection.contact.lost(error)
        except (ClusterError, OSError) as error:
            log.warning(
                "lease=%s/%s %s", self.namespace, self.name, str(error) or "no answer in time"
            )

    async def _look(self) -> None:
        try:
            lease = Lease.of(await self.connection.request("GET", self._path(self.name)))
        except NotFound:
            lease = None
        self._standing = self._standing.saw(lease, _now())

    async def _claim(self, sent: float) -> None:
        lease = self._standing.lease
        try:
            made = await self._write(lease, claimed(lease, self.me, self.terms, utc_now()))
        except (AlreadyExists, Conflict, NotFound):  # the lease has changed since it was read
            return await self._look()
        self._standing = self._standing.held(Lease.of(made), sent)
        if not self.won.is_set():
            log.info("lease=%s/%s held by %s", self.namespace, self.name, self.me)
            self.won.set()
        return None

    async def _write(self, lease: Lease | None, spec: Manifest) -> Manifest:
        """Write the spec of the lease, unless the lease has changed; all other fields are kept."""
        place = {"name": self.name, "namespace": self.namespace}
        manifest = lease.manifest if lease else {"metadata": place}
        body = {**manifest, "apiVersion": API_VERSION, "kind": KIND, "spec": spec}
        method, path = ("PUT", self._path(self.name)) if lease else ("POST", self._path())
        metrics.WRITES.labels("update" if lease else "create", KIND).inc()
        made: Manifest = await self.connection.request(method, path, body)
        return made

    def _path(self, *name: str) -> str:
        collection = f"/apis/{API_VERSION}/namespaces/{self.namespace}/leases"
        return "/".join((collection, *name))


@dataclass(frozen=True, slots=True)
class Unopposed:
    """Replaces an election if leader election is disabled.

    Attributes:
        won: an event that is set once this process may write.
        leading: whether a write may be sent now.
    """

    won: asyncio.Event = field(default_factory=asyncio.Event)
    leading: bool = True

    async def run(self) -> NoReturn:
        """Lead until cancelled."""
        self.won.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def release(self) -> None:
        """Do nothing: there is no lease."""


def _now() -> float:
    return asyncio.get_running_loop().time()
