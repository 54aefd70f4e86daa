"""All commands of the program."""

import click

from acceleratedjob.cli import completion, jobs, manifests, operator
from acceleratedjob.cli.command import Program


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`COMMAND --help` shows examples and the exit codes. Documentation: docs/commands.md.",
)
@click.version_option(
    None, "--version", package_name="acceleratedjob", message="acceleratedjob %(version)s"
)
def program() -> None:
    """Distributed PyTorch training on Kubernetes, from one manifest.

    `run` runs a manifest on this machine, `submit` on a cluster; there, `status` shows how far a
    job is, and `why` explains why it waits or has failed.
    """


program.add_section("Manifests", manifests.run, manifests.render, manifests.validate)
program.add_section(
    "Jobs of a cluster",
    *(manifests.submit, jobs.status, jobs.why, jobs.logs, jobs.stop, jobs.resume, jobs.delete),
    *(jobs.dump, jobs.checkpoints),
)
program.add_section("Others", operator.operator, completion.completion)
