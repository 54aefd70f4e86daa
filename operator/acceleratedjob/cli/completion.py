"""Completion: which words a shell offers, and the scripts that make it ask."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import click

from acceleratedjob.cli.command import Command
from acceleratedjob.commands.where import Where
from acceleratedjob.errors import ClusterError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem, ShellComplete

    from acceleratedjob.api.names import View

COMPLETE = "_ACCELERATEDJOB_COMPLETE"  # the environment variable by which a shell asks for words
SHELLS = ("bash", "zsh", "fish")
# click's script for fish cuts a description at its first comma.
_FISH_SPLIT = ('(string split "," $completion)', '(string split --max 1 "," $completion)')
SECONDS = 3  # a cluster that takes longer has no words to offer
# What kubectl does with the words of a plugin; see cobra's ShellCompDirective.
_FILES, _NO_FILES = 0, 4


def job_names(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    """Return the names of the jobs, each with its phase."""
    from click.shell_completion import CompletionItem

    given = ctx.params
    where = Where(**{name: given.get(name) for name in ("namespace", "kubeconfig", "context")})
    return [
        CompletionItem(job["metadata"]["name"], help=(job.get("status") or {}).get("phase"))
        for job in _jobs(where)
        if job["metadata"]["name"].startswith(incomplete)
    ]


def _jobs(where: Where) -> "list[View]":
    """Return the jobs of a namespace; none if the cluster cannot be asked, whatever the reason."""
    import asyncio

    async def listed() -> "list[View]":
        async with asyncio.timeout(SECONDS), session(where) as opened:
            return await opened.list()

    try:
        from acceleratedjob.commands.connecting import session

        return asyncio.run(listed())
    except Exception:  # noqa: BLE001  # a message would be taken for a word
        return []


def namespaces(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the namespaces of the contexts; to list all others needs more rights."""
    found = {one for one in _contexts(ctx).values() if one}
    return sorted(one for one in found if one.startswith(incomplete))


def contexts(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the contexts of the kubeconfig."""
    return sorted(one for one in _contexts(ctx) if one.startswith(incomplete))


def _contexts(ctx: click.Context) -> dict[str, str]:
    from acceleratedjob.kube import kubeconfig

    try:
        return kubeconfig.contexts(ctx.params.get("kubeconfig"))
    except ClusterError:  # a message would be taken for a word
        return {}


@click.command(
    cls=Command,
    short_help="print a script that completes the words of this program",
    examples=(
        ("completion bash > ~/.local/share/bash-completion/completions/acceleratedjob", "bash"),
        ('completion zsh > "${fpath[1]}/_acceleratedjob"', "zsh"),
        ("completion fish > ~/.config/fish/completions/acceleratedjob.fish", "fish"),
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print a script that lets a shell complete commands, options and names of jobs.

    kubectl completes `kubectl acceleratedjob` by itself, from the program
    `kubectl_complete-acceleratedjob`, which is installed with this one.
    """
    from click.shell_completion import get_completion_class

    maker = cast("type[ShellComplete]", get_completion_class(shell))
    script = maker(ctx.find_root().command, {}, "acceleratedjob", COMPLETE).source()
    click.echo(script.replace(*_FISH_SPLIT), nl=False)
    return 0


def complete_for_kubectl(arguments: Sequence[str] | None = None) -> int:
    """Print the words that complete `kubectl acceleratedjob ARGUMENTS...`, as kubectl reads them.

    The last argument is the word to complete; `kubectl_complete-acceleratedjob` is this function.
    """
    from click.shell_completion import ShellComplete

    from acceleratedjob.cli.program import program

    *before, last = (sys.argv[1:] if arguments is None else arguments) or [""]
    found = ShellComplete(program, {}, "acceleratedjob", COMPLETE).get_completions(before, last)
    for item in found:
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(f":{_FILES if any(item.type != 'plain' for item in found) else _NO_FILES}")
    return 0
