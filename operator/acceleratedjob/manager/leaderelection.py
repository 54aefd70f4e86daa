"""Leader election: executes the steps that `lease.decide` returns.

kubernetes.aio has a leader election, too. It compares wall clocks, lets a hanging request outlive
the renew deadline, ends on a connection error, and never releases the lease.
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

RELEASE_SECONDS = 3  # then the lease runs out by itself


class LeaseLost(Exception):
    """Another operator may write from now on: this process must exit immediately."""


def identity() -> str:
    """A unique identity of this process; a restarted container gets another one."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


@dataclass(slots=True, kw_only=True)
class Election:
    """One candidate."""

    connection: Connection  # not shared with writes that renewals would have to wait behind
    namespace: str
    name: str
    terms: Terms
    me: str = field(default_factory=identity)
    won: asyncio.Event = field(default_factory=asyncio.Event)
    _standing: Standing = field(default_factory=Standing)
    _over: bool = False  # this participant takes part no more

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
                case Step.WAIT:  # not all participants at the same moment
                    await asyncio.sleep(decision.seconds * random.uniform(0.8, 1))  # noqa: S311
                case Step.STOP:
                    raise LeaseLost(f"lease {self.namespace}/{self.name}: {decision.reason}")
                case Step.LOOK | Step.CLAIM:
                    await self._ask(decision.step)

    async def release(self) -> None:
        """Release the lease, if this process holds it, so that others need not wait for its end."""
        if self._over:
            return
        self._over, self._standing = True, replace(self._standing, renewed=None)
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._give_back()
        except (ClusterError, OSError) as error:  # TimeoutError is an OSError
            log.warning("lease=%s/%s not given back: %s", self.namespace, self.name, error)

    async def _give_back(self) -> None:
        """Clear our identity from the lease; a last claim may be stored without our knowledge."""
        while True:
            await self._look()
            lease = self._standing.lease
            if lease is None or lease.holder != self.me:
                return
            with contextlib.suppress(Conflict):
                await self._write(lease, released(lease, utc_now()))
                log.info("lease=%s/%s given back", self.namespace, self.name)
                return

    async def _ask(self, step: Step) -> None:
        """Send one request; after one without a response, the next uses a new connection."""
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
        except (AlreadyExists, Conflict, NotFound):  # it has changed since it was seen
            return await self._look()
        self._standing = self._standing.held(Lease.of(made), sent)
        if not self.won.is_set():
            log.info("lease=%s/%s held by %s", self.namespace, self.name, self.me)
            self.won.set()
        return None

    async def _write(self, lease: Lease | None, spec: Manifest) -> Manifest:
        """Write the spec of the lease, unless the lease has changed; labels of others are kept."""
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
    """Takes the place of an election where leader election is disabled."""

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
