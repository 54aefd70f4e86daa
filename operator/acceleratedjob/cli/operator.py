"""The command `operator`, and its flags."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import click

from acceleratedjob.cli.command import Command
from acceleratedjob.cli.parameters import Duration, Function
from acceleratedjob.commands.errors import Misuse
from acceleratedjob.kube.limits import BURST, IN_FLIGHT, PER_SECOND
from acceleratedjob.manager.flags import LEVELS, Options
from acceleratedjob.manager.lease import Terms

_TERMS = Terms()


def _duration(flag: str, default: float, text: str) -> Callable[[Function], Function]:
    return click.option(
        flag,
        type=Duration(),
        default=default,
        metavar="DURATION",
        help=f"{text} (default: {default:g}s)",
    )


def _number(flag: str, kind: Any, default: float, text: str) -> Callable[[Function], Function]:
    shown = f"{text} (default: {default:g})"
    return click.option(flag, type=kind, default=default, metavar="N", help=shown)


@click.command(
    cls=Command,
    short_help="run the operator",
    examples=(
        ("operator --leader-elect", "Run an operator beside others, of which one is active"),
        ("operator --namespace red --namespace blue", "Serve two namespaces"),
    ),
)
@click.option(
    "--namespace",
    multiple=True,
    metavar="NS",
    help="A namespace to serve; may be repeated. (default: all namespaces)",
)
@click.option(
    "--kubeconfig",
    envvar="KUBECONFIG",
    metavar="FILE",
    help="Path of the kubeconfig. (default: $KUBECONFIG, then ~/.kube/config)",
)
@click.option(
    "--context", metavar="NAME", help="Context of the kubeconfig. (default: the current one)"
)
@_number(
    "--api-qps", float, PER_SECOND, "Maximum requests per second to the API server, on average."
)
@_number("--api-burst", int, BURST, "Maximum burst of requests.")
@_number("--api-in-flight", int, IN_FLIGHT, "Maximum concurrent requests.")
@click.option(
    "--http-port",
    type=int,
    metavar="PORT",
    help="Port that serves /healthz, /readyz and /metrics. (default: none)",
)
@_duration("--watch-silence", 90, "Time without data from a watch after which /healthz fails.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the log.",
)
@click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="Log level."
)
@click.option(
    "--leader-elect",
    is_flag=True,
    help="Elect a leader by a Lease, so that several operators can run.",
)
@click.option(
    "--lease-name",
    metavar="NAME",
    help="Name of the Lease. (default: acceleratedjob-operator, and the served namespaces)",
)
@click.option(
    "--lease-namespace", metavar="NS", help="Namespace of the Lease. (default: that of the pod)"
)
@_duration(
    "--lease-duration",
    _TERMS.duration,
    "Time without a renewal after which others may take the Lease.",
)
@_duration(
    "--renew-deadline", _TERMS.deadline, "Time without a renewal after which the leader exits."
)
@_duration("--retry-period", _TERMS.retry, "Time between attempts to acquire or renew the Lease.")
def operator(**given: Any) -> int:
    """Run the operator.

    In a pod it uses the service account of the pod, elsewhere the current context of the
    kubeconfig. It exits with 1 if it does not shut down in time, and with 3 if it loses the Lease.
    """
    options = _validated(given)
    # The kernel ignores a signal to the first process of a container without a handler, and the
    # imports take a second. The event loop replaces this handler. An exception, as sys.exit raises,
    # would be ignored inside a destructor, and the signal would be lost.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from acceleratedjob.manager import manager

    return manager.main(options)


def options_of(arguments: Sequence[str]) -> Options:
    """Return the flags of a command line of the operator.

    Raises:
        click.UsageError: a flag is unknown or has an invalid value.
        Misuse: two flags contradict each other.
    """
    return _validated(operator.make_context("operator", [*arguments]).params)


def _validated(given: dict[str, Any]) -> Options:
    try:
        return Options.of(given)
    except ValueError as error:
        raise Misuse(str(error)) from error
