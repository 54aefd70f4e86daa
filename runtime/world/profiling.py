"""Traces of torch's profiler, one file per rank."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from runtime.config.handlers import ProfileKwargs
from runtime.world.state import PartialState

PROFILE_PATTERN_NAME = "profile_{suffix}.json"  # the name in Accelerate; the suffix is the rank


@contextlib.contextmanager
def profiled(handler: ProfileKwargs, state: PartialState) -> Iterator[torch.profiler.profile]:
    """Profile the body of the context; if a directory is set, write the trace and wait for all."""
    with handler.build() as profiler:
        yield profiler
    if handler.output_trace_dir is None:
        return
    folder = Path(handler.output_trace_dir)
    folder.mkdir(parents=True, exist_ok=True)
    name = PROFILE_PATTERN_NAME.format(suffix=state.process_index)
    profiler.export_chrome_trace(str(folder / name))
    state.wait_for_everyone()
