"""A plain torch.distributed script: it fails unless it is one of as many as it is told."""

import os
import sys

import torch
import torch.distributed as dist


def main() -> int:
    dist.init_process_group("gloo")
    ranks = torch.tensor([dist.get_rank() + 1])
    dist.all_reduce(ranks)
    expected = int(sys.argv[1])
    sys.stdout.write(f"rank {dist.get_rank()} of {dist.get_world_size()}\n")
    dist.barrier()
    dist.destroy_process_group()
    return 0 if ranks.item() == sum(range(1, expected + 1)) else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # torch may abort a process that ends as others do (docs/limits.md)
