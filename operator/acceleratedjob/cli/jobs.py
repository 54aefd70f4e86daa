"""The commands about jobs of a cluster."""

from functools import partial

import click

from acceleratedjob.cli.command import Command
from acceleratedjob.cli.completion import job_names
from acceleratedjob.cli.parameters import job_argument, of_cluster, output_option, timeout_option
from acceleratedjob.commands.where import Where

force_option = partial(click.option, "--force", is_flag=True)


@click.command(
    cls=Command,
    short_help="list jobs, or follow them",
    examples=(
        ("status", "List the jobs of the namespace"),
        ("status digits --watch", "Follow a job until it has finished"),
        ("status -A -o wide", "List the jobs of all namespaces, with all columns"),
        ("status digits -o json", "Print a job as JSON"),
    ),
)
@job_argument(required=False, metavar="[JOB]")
@of_cluster
@click.option("-A", "--all-namespaces", is_flag=True, help="List the jobs of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Follow the changes.")
@output_option("wide", "json", "yaml", text="Format of the output: more columns, or whole objects.")
def status(
    job: str | None, where: Where, *, all_namespaces: bool, watch: bool, output: str | None
) -> int:
    """List the jobs of a namespace, or a single job.

    With --watch, a terminal shows a line with a bar for each job; otherwise, a line is printed for
    each change. A single job is followed until it finishes, and decides the exit code.
    """
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.status import status

    if job is not None and all_namespaces:
        raise click.UsageError("a job is in one namespace: do not use -A with JOB")
    return ask(where, job, partial(status, everywhere=all_namespaces, follow=watch, form=output))


@click.command(
    cls=Command,
    short_help="explain why a job waits or has failed",
    examples=(("why digits", "Explain the state of a job"),),
)
@job_argument()
@of_cluster
def why(job: str, where: Where) -> int:
    """Explain the state of a job.

    Says its phase, what its pods wait for, what has failed, what its time went into, what the
    operator decided, and what you can do.
    """
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.why import print_why

    return ask(where, job, print_why)


@click.command(
    cls=Command,
    short_help="print the logs of a job",
    examples=(
        ("logs digits --follow", "Print the logs of all ranks as they are written"),
        ("logs digits --rank 3", "Print the log of the replica that has rank 3"),
    ),
)
@job_argument()
@of_cluster
@click.option(
    "--rank", type=click.IntRange(min=0), metavar="N", help="Print only the replica of this rank."
)
@click.option("--replica", type=click.IntRange(min=0), metavar="N", help="Print only this replica.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines until the containers end.")
@click.option(
    "--previous-attempt",
    is_flag=True,
    help="Print the logs of the previous attempt, if its pods still exist.",
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Color the prefixes by rank; auto: on a terminal, unless $NO_COLOR is set.",
)
def logs(  # noqa: PLR0913  # one for each option
    job: str,
    where: Where,
    *,
    rank: int | None,
    replica: int | None,
    follow: bool,
    previous_attempt: bool,
    color: str,
) -> int:
    """Print the logs of the training containers of the current attempt.

    Lines are prefixed with the rank; the log of a replica contains the output of all its processes.
    """
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.log_choice import Wish
    from acceleratedjob.commands.log_reader import logs

    if rank is not None and replica is not None:
        raise click.UsageError("--rank and --replica exclude each other")
    wish = Wish(rank=rank, replica=replica, previous=previous_attempt)
    return ask(where, job, partial(logs, wish=wish, follow=follow, colour=color))


@click.command(
    cls=Command,
    short_help="stop a job so that it can go on later",
    examples=(
        ("stop digits", "Stop a job, and wait until its pods have ended"),
        ("stop digits --timeout 5m", "Wait at most 5 minutes; the job stays suspended"),
    ),
)
@job_argument()
@of_cluster
@timeout_option
@force_option(help="Stop it even if it loses its training, because it has no spec.checkpoint.")
def stop(job: str, where: Where, *, timeout: float | None, force: bool) -> int:
    """Suspend a job, wait until its pods have ended, and say which checkpoint is kept.

    Nothing is deleted: `resume` lets the job go on. A job that is stopped already stays so.
    """
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.stopping import stop

    return ask(where, job, partial(stop, within=timeout, force=force))


@click.command(
    cls=Command,
    short_help="let a stopped job go on",
    examples=(
        ("resume digits", "Let a job go on"),
        ("resume digits --wait", "Wait until it has done a step"),
    ),
)
@job_argument()
@of_cluster
@click.option("-w", "--wait", is_flag=True, help="Wait until a step is done.")
@timeout_option
def resume(job: str, where: Where, *, wait: bool, timeout: float | None) -> int:
    """Let a suspended job go on from its newest checkpoint."""
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.stopping import resume

    return ask(where, job, partial(resume, wait=wait, within=timeout))


@click.command(
    cls=Command,
    short_help="delete jobs",
    examples=(
        ("delete digits", "Delete a job that has finished or is stopped"),
        ("delete digits --force", "Delete a job whose pods run"),
    ),
)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=job_names)
@of_cluster
@force_option(help="Delete jobs whose pods run.")
def delete(jobs: tuple[str, ...], where: Where, *, force: bool) -> int:
    """Delete jobs, with their pods and Services, and say which checkpoints are kept.

    A job whose pods run is deleted only with --force: `stop` ends it so that it can go on.
    """
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.deleting import delete

    return ask(where, None, partial(delete, names=jobs, force=force))


@click.command(
    cls=Command,
    short_help="print where all ranks of a job are",
    examples=(("dump digits", "Print the stacks of all ranks"),),
)
@job_argument()
@of_cluster
def dump(job: str, where: Where) -> int:
    """Print the stacks of all ranks, which keep running.

    `python -m runtime.dump` is run in each pod, as by kubectl exec, which needs the permissions to
    list pods and to get and create pods/exec. For ranks of `acceleratedjob run`, use
    `python -m runtime.dump --job JOB`.
    """
    from acceleratedjob.commands.connecting import ask
    from acceleratedjob.commands.dump import dump

    return ask(where, job, dump)


@click.command(
    cls=Command,
    short_help="list the checkpoints of a job",
    examples=(
        ("checkpoints digits", "List the checkpoints of a job"),
        ("checkpoints --folder digits-checkpoint", "List those of a run on this machine"),
        ("checkpoints --folder s3://bucket/runs -o json", "List those of a URL, as JSON"),
    ),
)
@job_argument(required=False, metavar="[JOB]")
@of_cluster
@click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="A folder of this machine, or a URL.",
)
@output_option("json", "yaml")
def checkpoints(job: str | None, where: Where, *, folder: str | None, output: str | None) -> int:
    """List the checkpoints of a job: `python -m runtime.checkpoints` is run in a pod.

    If no pod runs, what the status says is printed. With --folder, list those of a folder, such as
    one of `acceleratedjob run`, or of a URL; this needs the runtime.
    """
    if (job is None) == (folder is None):
        raise click.UsageError("exactly one is needed: JOB, or --folder DIR")
    if folder is not None:
        from acceleratedjob.commands.checkpoint_list import list_folder

        return list_folder(folder, output)
    from acceleratedjob.commands.checkpoints import checkpoints
    from acceleratedjob.commands.connecting import ask

    return ask(where, job, partial(checkpoints, form=output))
