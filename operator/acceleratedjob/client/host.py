"""`python -m acceleratedjob.client.host`: runs a job for `Client.local()`, in a process of its own.

So a client needs neither an event loop nor a thread that forks, and the job ends with the program
of its client: the end of the standard input asks for it. The first line of the input is what to
run, each other line a change of the spec; each line of the output is a change of the job, or a line
of a replica. All lines are JSON.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import Ref
from acceleratedjob.lines import Line
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.kubelet import Kubelet, replica_index
from acceleratedjob.local.machine import Machine

JOB, LINE = "job", "line"  # the keys of the output


async def run(first: Manifest, commands: asyncio.StreamReader, out: TextIO) -> None:
    """Run a job until it has finished, or until the end of the commands.

    Args:
        first: `objects`, of which the last is the job, `workdir` and `checkpoints`.
        commands: changes of the spec.
        out: where changes and lines are written.
    """
    cluster = LocalCluster()

    def write(key: str, value: Any) -> None:
        out.write(f"{json.dumps({key: value})}\n")
        out.flush()

    def show(pod: View, lines: Sequence[Line]) -> None:
        attempt = int(pod["metadata"]["labels"][names.ATTEMPT_LABEL])
        for line in (one for one in lines if one.is_finished):
            write(LINE, [attempt, replica_index(pod), line.text])

    made = [await cluster.create(one) for one in first["objects"]]
    job = made[-1]
    write(JOB, job)
    workdir, checkpoints = Path(first["workdir"]), Path(first["checkpoints"])
    kubelet = Kubelet(cluster, workdir=workdir, checkpoints=checkpoints, show=show)
    await Machine(cluster, kubelet).run(
        job,
        see=lambda changed: write(JOB, changed),
        asked_to_end=_obey(commands, cluster, Ref.of(job)),
        grace=JobSpec.from_manifest(job).grace_seconds,
    )


async def _obey(commands: asyncio.StreamReader, cluster: LocalCluster, job: Ref) -> None:
    """Change the spec of the job as asked, until the client is gone."""
    while line := await commands.readline():
        change = json.loads(line)
        cluster.change(job, lambda one: one["spec"].update(change))  # noqa: B023  # called at once


async def main() -> None:
    """Serve the client at the other end of the standard input and output."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await run(json.loads(await reader.readline()), reader, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
