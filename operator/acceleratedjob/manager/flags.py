"""The flags of `acceleratedjob operator`. Imports no client library: every command adds them."""

import argparse
import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Any

from acceleratedjob.api.names import COMPONENT
from acceleratedjob.kube.in_cluster import own_namespace
from acceleratedjob.kube.ratelimit import BURST, IN_FLIGHT, PER_SECOND, Limit
from acceleratedjob.manager.lease import Terms

LEVELS = ("debug", "info", "warning", "error")
_MAX_NAME = 253
_UNITS = {"ms": 0.001, "s": 1, "m": 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The parsed flags.

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
    def of(cls, given: argparse.Namespace) -> "Options":
        """Validate parsed arguments.

        Raises:
            ValueError: two flags contradict each other.
        """
        namespaces = tuple(sorted(set(given.namespace)))
        return cls(
            kubeconfig=given.kubeconfig,
            context=given.context,
            namespaces=namespaces,
            http_port=given.http_port,
            watch_silence=given.watch_silence,
            limit=Limit(
                per_second=given.api_qps, burst=given.api_burst, in_flight=given.api_in_flight
            ),
            log_format=given.log_format,
            log_level=given.log_level,
            leader_elect=given.leader_elect,
            lease_name=given.lease_name or lease_name(namespaces),
            lease_namespace=given.lease_namespace or own_namespace(),
            terms=Terms(
                duration=given.lease_duration,
                deadline=given.renew_deadline,
                retry=given.retry_period,
            ),
        )


def seconds(text: str) -> float:
    """Parse a duration, in the format of Kubernetes' flags; returns seconds.

    >>> [seconds(text) for text in ("15s", "1m", "500ms", "2.5")]
    [15.0, 60.0, 0.5, 2.5]
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a duration such as 15s, got {text!r}")
    return float(found[1]) * _UNITS[found[2] or "s"]


def lease_name(namespaces: tuple[str, ...]) -> str:
    """Return the default name of the lease, which differs for each set of namespaces.

    >>> lease_name(()), lease_name(("blue", "red"))
    ('acceleratedjob-operator', 'acceleratedjob-operator.blue.red')
    """
    name = ".".join((COMPONENT, *namespaces))
    if len(name) <= _MAX_NAME:
        return name
    return f"{COMPONENT}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add all flags of the operator to a parser."""
    _add_place(parser)
    _add_limit(parser.add_argument_group("requests"))
    _add_observation(parser)
    _add_election(parser.add_argument_group("leader election"))


def _add_place(parser: Any) -> None:
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NS",
        help="a namespace to serve; may be repeated (default: all namespaces)",
    )
    parser.add_argument(
        "--kubeconfig",
        default=os.environ.get("KUBECONFIG"),
        metavar="FILE",
        help="path to the kubeconfig (default: $KUBECONFIG, then ~/.kube/config)",
    )
    parser.add_argument(
        "--context", metavar="NAME", help="context of the kubeconfig (default: the current context)"
    )


def _add_limit(group: Any) -> None:
    texts = {
        "--api-qps": (
            float,
            PER_SECOND,
            "maximum requests per second to the API server, on average",
        ),
        "--api-burst": (int, BURST, "maximum burst of requests"),
        "--api-in-flight": (int, IN_FLIGHT, "maximum concurrent requests"),
    }
    for flag, (kind, default, text) in texts.items():
        shown = f"{text} (default: {default:g})"
        group.add_argument(flag, type=kind, default=default, metavar="N", help=shown)


def _add_observation(parser: Any) -> None:
    parser.add_argument(
        "--http-port",
        type=int,
        metavar="PORT",
        help="port that serves /healthz, /readyz and /metrics (default: none)",
    )
    _add_duration(
        parser, "--watch-silence", 90, "time without data from a watch after which /healthz fails"
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="format of the log (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="log level (default: %(default)s)"
    )


def _add_election(group: Any) -> None:
    group.add_argument(
        "--leader-elect",
        action="store_true",
        help="elect a leader by a Lease, so that several operators can run",
    )
    group.add_argument(
        "--lease-name",
        metavar="NAME",
        help="name of the Lease (default: acceleratedjob-operator, and the served namespaces)",
    )
    group.add_argument(
        "--lease-namespace", metavar="NS", help="namespace of the Lease (default: that of the pod)"
    )
    _add_duration(
        group,
        "--lease-duration",
        15,
        "time without a renewal after which others may take the Lease",
    )
    _add_duration(
        group, "--renew-deadline", 10, "time without a renewal after which the leader exits"
    )
    _add_duration(group, "--retry-period", 2, "time between attempts to acquire or renew the Lease")


def _add_duration(parser: Any, flag: str, default: float, text: str) -> None:
    metavar, shown = "SECONDS", f"{text} (default: {default:g}s)"
    parser.add_argument(flag, type=seconds, default=default, metavar=metavar, help=shown)
