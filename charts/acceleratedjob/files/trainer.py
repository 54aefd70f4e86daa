"""One step of a training without torch: all ranks send their rank to rank 0, which adds them up."""

import os
import socket
import sys
import time

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    total = 0
    with socket.create_server(("", port)) as server:
        for _ in range(1, world):
            peer, _ = server.accept()
            with peer:
                total += int(peer.makefile().readline())
    if total != sum(range(world)):
        sys.exit(f"the sum of the ranks must be {sum(range(world))}, got {total}")
    print(f"{world} replicas, the sum of ranks is {total}")
else:
    while True:
        try:
            with socket.create_connection((address, port), timeout=5) as peer:
                peer.sendall(b"%d\n" % rank)
                break
        except OSError as error:  # rank 0 may not listen yet; the job's deadline limits this
            print(f"{address}:{port}: {error}", flush=True)
            time.sleep(0.2)
