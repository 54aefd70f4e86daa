"""A process that runs one side's programs: `python -m bench.worker`, told what to do on its stdin.

Each library has processes of its own, which take turns: both keep a state for the whole process,
and share torch's default group. A request and its reply are one line of JSON each.
"""

import gc
import importlib
import json
import os
import sys
from typing import Any

import torch
from torch import distributed

from bench.case import Program


def program(module: str, name: str, options: dict[str, Any]) -> Program:
    """Make a case's program."""
    made: Program = getattr(importlib.import_module(module), name)(**options)
    return made


def serve(replies: int) -> None:
    """Do what is asked until there are no more requests; `replies`: a file descriptor."""
    running: Program | None = None
    with os.fdopen(replies, "w", buffering=1) as out:
        for line in sys.stdin:
            request, *arguments = json.loads(line)
            reply = None
            if request in ("prepare", "forget"):
                running = None
                gc.collect()
            if request == "prepare":
                running = program(*arguments)
                torch.set_num_threads(1)  # whatever a library has set
            elif running is not None:
                reply = getattr(running, request)()
            out.write(json.dumps(reply) + "\n")


def main() -> None:
    """Serve; what anybody else prints is no reply."""
    replies = os.dup(1)
    os.dup2(2, 1)
    torch.set_num_threads(1)
    serve(replies)
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
