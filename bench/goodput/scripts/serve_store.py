"""Serves a store for torch.distributed in a process of its own, until it is killed."""

import signal
import sys
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore

if __name__ == "__main__":
    store = TCPStore(
        "127.0.0.1",
        int(sys.argv[1]),
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(days=1),
    )
    signal.pause()
