"""What tells the system around Accelerate that a rank still makes steps."""

import contextlib
import os
from collections.abc import Callable, Iterator

from torch.distributed.elastic.timer.api import configure, expires
from torch.distributed.elastic.timer.file_based_local_timer import FileTimerClient

from bench.goodput.workloads import STEP_LIMIT

Guard = Callable[[], contextlib.AbstractContextManager[None]]
FT = "GOODPUT_FT"  # the variable that says that NVIDIA's ft_launcher runs the script
_TIMER_FILE = "TORCHELASTIC_TIMER_FILE"  # set by torchrun


def guard() -> Guard:
    """Return a context manager for each step."""
    if FT in os.environ:
        return _heartbeats()
    if _TIMER_FILE in os.environ:
        configure(FileTimerClient(os.environ[_TIMER_FILE]))
        return lambda: expires(after=STEP_LIMIT)
    return contextlib.nullcontext


def _heartbeats() -> Guard:
    from nvidia_resiliency_ext import fault_tolerance  # noqa: PLC0415  # only there

    client = fault_tolerance.RankMonitorClient()
    client.init_workload_monitoring()

    @contextlib.contextmanager
    def beat() -> Iterator[None]:
        yield
        client.send_heartbeat()

    return beat
