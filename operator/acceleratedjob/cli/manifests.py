"""The commands that take a manifest: `run`, `render`, `validate` and `submit`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from acceleratedjob.cli.command import Command
from acceleratedjob.cli.parameters import MANIFEST, of_cluster, of_manifest, output_option
from acceleratedjob.commands.where import Where

if TYPE_CHECKING:
    from acceleratedjob.commands.source import Source


@click.command(
    cls=Command,
    short_help="run a job on this machine, with its pods as processes",
    examples=(
        ("run job.yaml", "Train on this machine"),
        ("run job.yaml --replicas 1", "Train with one process, which gets the standard input"),
        ("run job.yaml --set spec.runtime.seed=7", "Change a field of the job for this run"),
    ),
)
@of_manifest
@click.option(
    "--workdir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Working directory of the processes. (default: the directory of the manifest)",
)
def run(source: "Source", workdir: Path | None) -> int:
    """Run a job on this machine, without Kubernetes, images or root.

    Its pods are processes, which are started and restarted as by the operator; only the training
    container runs, with as many GPUs of this machine as its limits say. Ctrl-C asks all replicas to
    stop, and a second Ctrl-C kills them. The exit code is 0 if the job succeeds, and 1 if it fails.
    """
    from acceleratedjob.commands.run import run_source

    return run_source(source, workdir=workdir)


@click.command(
    cls=Command,
    short_help="print the objects that are created for a job",
    examples=(
        ("render job.yaml", "Print the Service and the pods of a job"),
        ("render job.yaml --replicas 8 -o json", "Print those of 8 replicas, as JSON"),
    ),
)
@of_manifest
@output_option("yaml", "json")
def render(source: "Source", output: str | None) -> int:
    """Print the objects that the operator would create for the first attempt of a job."""
    from acceleratedjob.commands.render import render

    return render(source, output or "yaml")


@click.command(
    cls=Command,
    short_help="check manifests",
    examples=(
        ("validate job.yaml", "Check a manifest"),
        ("validate jobs/*.yaml", "Check several"),
        ("validate -", "Check the standard input"),
    ),
)
@click.argument("files", nargs=-1, metavar="FILE...", type=MANIFEST)
@click.option(
    "-f",
    "--filename",
    "named",
    multiple=True,
    metavar="FILE",
    type=MANIFEST,
    help="The same as FILE.",
)
def validate(files: tuple[str, ...], named: tuple[str, ...]) -> int:
    """Check manifests as the operator and the API server do, without a cluster.

    The exit code is 2 if one is invalid.
    """
    from acceleratedjob.commands.validate import validate

    if not files and not named:
        raise click.UsageError("at least one manifest is needed: FILE, or -f FILE")
    return validate((*named, *files))


@click.command(
    cls=Command,
    short_help="create or change the jobs of a manifest",
    examples=(
        ("submit job.yaml", "Create the job"),
        ("submit job.yaml --replicas 8 --watch", "Create it with 8 replicas, and follow it"),
        ("submit job.yaml --dry-run", "Ask the API server whether it would accept the job"),
    ),
)
@of_manifest
@of_cluster
@click.option("--dry-run", is_flag=True, help="Let the API server check all, and store nothing.")
@click.option("-w", "--watch", is_flag=True, help="Follow the job until it has finished.")
def submit(source: "Source", where: Where, *, dry_run: bool, watch: bool) -> int:
    """Create the jobs of a manifest on a cluster, or change existing ones.

    The manifest is checked here first. Objects of other kinds in it, such as ConfigMaps, are
    applied before the jobs. As `kubectl apply --server-side`, it only changes the fields of the
    manifest.
    """
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.submitting import submit

    documents = source.read()
    return ask(where, None, partial(submit, documents=documents, dry_run=dry_run, follow=watch))
