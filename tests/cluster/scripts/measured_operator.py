"""The operator, beside a clock that notes for how long its event loop was blocked at most.

python measured_operator.py FILE FLAGS...
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from acceleratedjob.cli.operator import options_of
from acceleratedjob.manager import manager
from acceleratedjob.manager.logformat import configure_logging

TICK = 0.01  # seconds


async def note(write: Callable[[str], object]) -> None:
    """Write down each new longest time between two ticks, as seconds of this thread's CPU."""
    longest = {"cpu": 0.0, "wall": 0.0}
    while True:
        cpu, wall = time.thread_time(), time.monotonic()
        await asyncio.sleep(TICK)
        took = {"cpu": time.thread_time() - cpu, "wall": time.monotonic() - wall - TICK}
        if any(took[clock] > longest[clock] for clock in took):
            longest = {clock: max(took[clock], longest[clock]) for clock in took}
            write(json.dumps(longest))


async def main(file: Path, flags: list[str]) -> None:
    """Serve until asked to end."""
    options = options_of(flags)
    configure_logging(options.log_format, options.log_level)
    noting = asyncio.create_task(note(file.write_text))
    await manager.run(options)
    noting.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
