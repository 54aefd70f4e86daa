"""Counts the processes to start, if a word stands for their number, as in `--nproc-per-node gpu`.

torch knows which devices it can use: it depends on drivers, on containers, and on variables such as
CUDA_VISIBLE_DEVICES. The launcher itself imports no torch, so a short process asks torchrun's own
function. In the pod of a job the number is in the environment, and nothing is asked.
"""

import sys
from collections.abc import Mapping

_ASK = (
    "import sys; from torch.distributed.run import determine_local_world_size as count; "
    "print(count(sys.argv[1]))"
)


def count(processes: str, env: Mapping[str, str]) -> int:
    """Return the number of processes.

    Args:
        processes: a number, or a word that torchrun knows.
        env: the environment variables of the processes.

    Raises:
        ValueError: the word is unknown, or there are no such devices.
    """
    number = int(processes) if processes.isdecimal() else _ask_torch(processes, env)
    if number < 1:
        sentence = f"--nproc-per-node must be at least 1, got {processes}"
        raise ValueError(sentence)
    return number


def _ask_torch(word: str, env: Mapping[str, str]) -> int:
    import subprocess  # noqa: PLC0415  # most launchers do not need it

    command = [sys.executable, "-c", _ASK, word]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        reason = (done.stderr.strip() or "torch cannot be asked").splitlines()[-1]
        sentence = f"--nproc-per-node {word}: {reason}"
        raise ValueError(sentence)
    return int(done.stdout.split()[-1])
