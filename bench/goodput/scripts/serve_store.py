"""Serves a store for torch.distributed in a process of its own, until it is killed.

It prints its port as soon as it can be reached.
"""

import signal
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore

if __name__ == "__main__":
    store = TCPStore(
        "127.0.0.1",
        0,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(days=1),
    )
    print(store.port, flush=True)
    signal.pause()
