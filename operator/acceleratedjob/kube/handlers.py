"""Kopf watches the AcceleratedJobs and tells the reconcilers; it writes nothing to them.

Only `on.event` is used: no finalizer, no annotation, no state of kopf's on the resource, so that an
operator may be killed, upgraded or removed at any time and a job can always be deleted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from acceleratedjob import api
from acceleratedjob.reconciler import Reconciler

TOKEN_LIFE = timedelta(minutes=5)  # a projected token is replaced within its hour


@dataclass(frozen=True, slots=True)
class Handlers:
    """What kopf calls."""

    configuration: Configuration
    reconcilers: Mapping[str | None, Reconciler]  # by namespace; None serves all

    def registry(self) -> kopf.OperatorRegistry:
        """A registry of its own: importing this module changes nothing global."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self.log_in)
        kopf.on.event(api.GROUP, api.VERSION, api.PLURAL, registry=registry)(self.see)
        return registry

    async def see(self, *, type: str, event: Any, namespace: str | None, **_: Any) -> None:  # noqa: A002  # kopf's name
        """A job was added, changed or removed."""
        reconciler = self.reconcilers.get(namespace) or self.reconcilers[None]
        job = dict(event["object"])
        if type == "DELETED":
            reconciler.forget(job["metadata"]["uid"])
        else:
            reconciler.see(job)

    async def log_in(self, **_: Any) -> kopf.ConnectionInfo:
        """The same server and user as the reconcilers' own connection."""
        configuration = self.configuration
        token = await configuration.get_api_key_with_prefix("BearerToken")
        scheme, _space, secret = (token or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme.capitalize() or None,
            token=secret or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
            expiration=datetime.now(UTC) + TOKEN_LIFE if secret else None,
        )


def settings() -> kopf.OperatorSettings:
    """Make kopf a plain watcher."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False  # events are written by the plan, once for each decision
    made.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    made.peering.standalone = True
    made.watching.server_timeout = 290
    made.watching.connect_timeout = 10
    return made
