"""A process that runs the programs of one side: `python -m bench.worker`, with requests on stdin.

Each library has its own processes, because libraries have state per process, and share torch's
default process group. Requests and replies are one line of JSON each.
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
    """Make the program of a case."""
    made: Program = getattr(importlib.import_module(module), name)(**options)
    return made


def serve(replies: int) -> None:
    """Handle requests until stdin ends; replies are written to the file descriptor `replies`."""
    running: Program | None = None
    with os.fdopen(replies, "w", buffering=1) as out:
        for line in sys.stdin:
            request, *arguments = json.loads(line)
            reply = None
            if request in ("prepare", "forget"):
                running = None
                gc.collect()
                if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # untyped in torch
                    torch.cuda.empty_cache()
            if request == "prepare":
                running = program(*arguments)
                torch.set_num_threads(1)  # a library may have changed it
            elif running is not None:
                reply = getattr(running, request)()
            out.write(json.dumps(reply) + "\n")


def main() -> None:
    """Serve, with stdout redirected to stderr, so that prints of libraries are not replies."""
    replies = os.dup(1)
    os.dup2(2, 1)
    torch.set_num_threads(1)
    serve(replies)
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
