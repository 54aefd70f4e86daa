"""`python -m runtime.dump PID`: prints where all ranks on this machine are now.

PID is a rank, or a process that started ranks, for example the launcher; `--job NAME` finds the
ranks of a job instead. Ranks with equal stacks are printed once, the largest group first: it is
usually the one that waits. Nothing in the ranks is stopped or changed.
"""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.control import frames, local_ranks, stacks
from runtime.control.local_ranks import PROC, Rank


def ranks_below(pid: int) -> list[Rank]:
    """Return the ranks that are a process, or were started below it.

    Args:
        pid: the process.

    Raises:
        SystemExit: there is no such process, or this one may not read it.
    """
    try:
        Path(PROC, str(pid), "environ").read_bytes()
    except PermissionError:
        sys.exit(_forbidden(pid, _user(pid), os.geteuid()))
    except OSError:
        sys.exit(f"there is no process {pid} on this machine")
    return local_ranks.at_or_below(pid)


def _user(pid: int) -> int | None:
    """Return the effective user of a process; None if it is hidden."""
    # The owner of /proc/PID is root if the process may not be dumped.
    with contextlib.suppress(OSError):
        for line in Path(PROC, str(pid), "status").read_text(errors="replace").splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[2])
    return None


def _forbidden(pid: int, user: int | None, own: int) -> str:
    """Return why a process may not be read, and what to do.

    Args:
        pid: the process.
        user: its user; None if that is hidden.
        own: the user of this process.
    """
    if user is not None and user != own:
        return (
            f"process {pid} belongs to user {user}, and this is user {own}: run this as its user "
            "or as root"
        )
    whose = "a process that is hidden from" if user is None else "also a process of"
    return (
        f"process {pid} is {whose} user {own}, but the kernel lets this process not read it: it "
        "has more capabilities, is in another user namespace, or must not be dumped; name the PID "
        "of a rank, or run this with the capability SYS_PTRACE"
    )


def report(ranks: Sequence[Rank]) -> Iterator[str]:
    """Yield the lines to print.

    Args:
        ranks: the ranks of one job.
    """
    numbers = {one.pid: one.rank for one in ranks}
    found, failed = {}, {}
    for one in ranks:
        try:
            found[one.pid] = stacks.ask(one.pid).stack
        except stacks.NoStacks as error:
            failed[one.rank] = str(error)
    for group in frames.grouped(found):
        yield f"{_named(sorted(numbers[pid] for pid in group.members))}:"
        yield from (f"  {frame}" for frame in group.stack)
        yield ""
    yield from (f"rank {rank}: {why}" for rank, why in failed.items())


def _named(ranks: Sequence[int]) -> str:
    """Return ranks in words, with runs cut short: "4 ranks, 0-2, 7"."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][-1] == rank - 1:
            runs[-1][1:] = [rank]
        else:
            runs.append([rank])
    texts = ["-".join(str(rank) for rank in run) for run in runs]
    return f"rank {texts[0]}" if len(ranks) == 1 else f"{len(ranks)} ranks, {', '.join(texts)}"


def main() -> None:
    """Print the stacks."""
    parser = argparse.ArgumentParser(prog="python -m runtime.dump", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("pid", type=int, nargs="?", metavar="PID", help="a rank, or its launcher")
    which.add_argument("--job", metavar="NAME", help="the name of a job with ranks on this machine")
    options = parser.parse_args()
    if not Path(PROC, "self").exists():
        sys.exit("this needs /proc of Linux; install py-spy, and run `py-spy dump --pid PID`")
    ranks = local_ranks.of_job(options.job) if options.job is not None else ranks_below(options.pid)
    if not ranks:
        what = f"of job {options.job}" if options.job is not None else f"below {options.pid}"
        sys.exit(
            f"there is no process {what} on this machine that has the variable RANK and belongs "
            f"to user {os.getuid()}. In a cluster run this in a pod of the job"
        )
    for job, members in itertools.groupby(ranks, key=lambda one: one.job):
        sys.stdout.write(f"job {job}\n\n" if job else "")
        sys.stdout.writelines(f"{line}\n" for line in report(list(members)))


if __name__ == "__main__":
    main()
