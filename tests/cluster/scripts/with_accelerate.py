"""A script of Hugging Face Accelerate: it fails unless it is one of as many as it is told."""

import os
import sys

import torch
from accelerate import Accelerator


def main() -> int:
    accelerator = Accelerator()
    ranks = accelerator.gather(torch.tensor([accelerator.process_index + 1]))
    expected = int(sys.argv[1])
    sys.stdout.write(f"rank {accelerator.process_index} of {accelerator.num_processes}\n")
    accelerator.end_training()
    return 0 if sorted(ranks.tolist()) == list(range(1, expected + 1)) else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # torch may abort a process that ends as others do (docs/limits.md)
