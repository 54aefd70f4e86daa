"""The parameters that several commands share."""

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from acceleratedjob.cli.command import Failure
from acceleratedjob.cli.completion import contexts, job_names, namespaces
from acceleratedjob.commands.errors import Misuse
from acceleratedjob.commands.where import Where
from acceleratedjob.errors import InvalidManifest, InvalidSpec
from acceleratedjob.exits import EXIT_USAGE

if TYPE_CHECKING:
    from acceleratedjob.commands.changes import Change

Function = Callable[..., Any]
MANIFEST = click.Path(allow_dash=True)  # which shells complete; the command says what is wrong
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """A duration above 0, in the format of Kubernetes' flags, such as 90s or 5m; in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; a number without a unit is a number of seconds.

        >>> [Duration().convert(text, None, None) for text in ("15s", "1m", "500ms", "2.5")]
        [15.0, 60.0, 0.5, 2.5]
        """
        if isinstance(value, int | float):  # a default
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", value)
        if found is None or float(found[1]) == 0:
            self.fail(f"must be a duration above 0, such as 90s or 5m, got {value!r}", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


class ChangeType(click.ParamType["Change"]):
    """A change of a manifest, such as spec.replicas=1."""

    name = "change"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Change":
        """Return the change."""
        from acceleratedjob.commands.changes import read_change

        try:
            return read_change(value)
        except Misuse as error:
            self.fail(str(error), param, ctx)


def of_cluster(function: Function) -> Function:
    """Add the options that choose a cluster; the function gets `where`, a `Where`."""

    @click.option(
        "-n",
        "--namespace",
        metavar="NS",
        shell_complete=namespaces,
        help="Namespace. (default: that of the context)",
    )
    @click.option(
        "--kubeconfig",
        metavar="FILE",
        type=click.Path(),
        help="Path of the kubeconfig. (default: $KUBECONFIG, then ~/.kube/config)",
    )
    @click.option(
        "--context", metavar="NAME", shell_complete=contexts, help="Context of the kubeconfig."
    )
    @functools.wraps(function)
    def wrapped(
        namespace: str | None, kubeconfig: str | None, context: str | None, **others: Any
    ) -> Any:
        where = Where(namespace=namespace, kubeconfig=kubeconfig, context=context)
        return function(where=where, **others)

    return wrapped


def job_argument(*, required: bool = True, metavar: str = "JOB") -> Callable[[Function], Function]:
    """Return a decorator that adds the name of a job."""
    return click.argument("job", required=required, metavar=metavar, shell_complete=job_names)


def of_manifest(function: Function) -> Function:
    """Add a manifest and changes of its job; the function gets `source`, a `Source`."""

    @click.argument("file", required=False, metavar="FILE", type=MANIFEST)
    @click.option(
        "-f",
        "--filename",
        metavar="FILE",
        type=MANIFEST,
        help="The same as FILE; - is the standard input.",
    )
    @click.option("--replicas", type=click.IntRange(min=1), metavar="N", help="Set spec.replicas.")
    @click.option(
        "--set",
        "changes",
        multiple=True,
        type=ChangeType(),
        metavar="FIELD=VALUE",
        help="Set a field of the job, such as spec.runtime.seed=1; may be repeated.",
    )
    @functools.wraps(function)
    def wrapped(
        file: str | None,
        filename: str | None,
        replicas: int | None,
        changes: "tuple[Change, ...]",
        **others: Any,
    ) -> Any:
        from acceleratedjob.commands.changes import Change
        from acceleratedjob.commands.source import Source

        if (file is None) == (filename is None):
            raise click.UsageError("exactly one manifest is needed: FILE, or -f FILE")
        sizes = () if replicas is None else (Change(("spec", "replicas"), replicas),)
        place = file if filename is None else filename
        source = Source(str(place), (*sizes, *changes))
        try:
            return function(source=source, **others)
        except InvalidManifest as error:
            raise Failure(error.faults[0], EXIT_USAGE, error.faults[1:]) from error
        except InvalidSpec as error:
            raise Failure(f"{source.name}: {error}", EXIT_USAGE) from error

    return wrapped


def output_option(
    *formats: str, text: str = "Format of the output."
) -> Callable[[Function], Function]:
    """Return a decorator that adds `--output`, which is None by default."""
    return click.option("-o", "--output", type=click.Choice(formats), help=text)


def timeout_option(function: Function) -> Function:
    """Add `--timeout`, in seconds."""
    text = "How long to wait, such as 90s or 5m. (default: as long as it takes)"
    return click.option("--timeout", type=Duration(), metavar="DURATION", help=text)(function)
