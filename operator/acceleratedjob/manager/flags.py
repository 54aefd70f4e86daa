"""The values of the flags of `acceleratedjob operator`, which `cli.operator` parses."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acceleratedjob.api.names import COMPONENT
from acceleratedjob.kube.in_cluster import own_namespace
from acceleratedjob.kube.limits import Limit
from acceleratedjob.manager.lease import Terms

LEVELS = ("debug", "info", "warning", "error")
_MAX_NAME = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The validated flags.

    Attributes:
        kubeconfig: the path of the kubeconfig; None for the service account or the default path.
        context: the context of the kubeconfig; None for the current context.
        namespaces: the namespaces to serve; empty for all.
        http_port: the port of the HTTP server; None for no server.
        watch_silence: the seconds without data after which a watch is considered dead.
        limit: the limits for requests to the API server.
        log_format: `text` or `json`.
        log_level: one of LEVELS.
        leader_elect: whether a leader is elected.
        lease_name: the name of the Lease.
        lease_namespace: the namespace of the Lease.
        terms: the durations of the leader election.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()
    http_port: int | None = None
    watch_silence: float = 90.0
    limit: Limit = field(default_factory=Limit)
    log_format: str = "text"
    log_level: str = "info"
    leader_elect: bool = False
    lease_name: str
    lease_namespace: str
    terms: Terms

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """Validate parsed flags.

        Args:
            given: the value of each flag, by its name with underscores.

        Raises:
            ValueError: two flags contradict each other.
        """
        namespaces = tuple(sorted(set(given["namespace"])))
        kept = ("kubeconfig", "context", "http_port", "watch_silence", "log_format", "log_level")
        return cls(
            **{name: given[name] for name in (*kept, "leader_elect")},
            namespaces=namespaces,
            limit=Limit(
                per_second=given["api_qps"],
                burst=given["api_burst"],
                in_flight=given["api_in_flight"],
            ),
            lease_name=given["lease_name"] or lease_name(namespaces),
            lease_namespace=given["lease_namespace"] or own_namespace(),
            terms=Terms(
                duration=given["lease_duration"],
                deadline=given["renew_deadline"],
                retry=given["retry_period"],
            ),
        )


def lease_name(namespaces: tuple[str, ...]) -> str:
    """Return the default name of the lease, which differs for each set of namespaces.

    >>> lease_name(()), lease_name(("blue", "red"))
    ('acceleratedjob-operator', 'acceleratedjob-operator.blue.red')
    """
    name = ".".join((COMPONENT, *namespaces))
    if len(name) <= _MAX_NAME:
        return name
    return f"{COMPONENT}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"
