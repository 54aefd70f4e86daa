"""What a process that was in reserve must know of itself: see `runtime.launch.standby`."""

import os
import sys
from collections.abc import Mapping, Sequence

NAME = "standby"  # of a process in reserve, in /proc/PID/comm
# Variables that libraries read when torch is imported, or when their first threads start.
_READ_AT_IMPORT = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "TORCH", "PYTORCH_", "ATEN_")
# What scikit-learn sets whenever it is imported, which mostly happens after the import of torch.
_OF_LIBRARIES = {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}

_notes: list[tuple[Sequence[str], Mapping[str, str], Mapping[str, str]]] = []


def note(program: Sequence[str], env: Mapping[str, str], imported: Mapping[str, str]) -> None:
    """Note how this process would have been started without a reserve.

    Args:
        program: the program and its arguments.
        env: the environment variables of the program.
        imported: the same, with those that the import of torch has set.
    """
    _notes.append((program, env, dict(imported)))


def check(env: Mapping[str, str]) -> None:
    """Start this process anew if its script has changed what counts when torch is imported.

    Without a reserve, a script may set such a variable before it imports torch.

    Args:
        env: the environment variables now.
    """
    for program, before, imported in _notes:
        changed = [
            name
            for name in sorted((imported.keys() | env.keys()) - _OF_LIBRARIES)
            if name.startswith(_READ_AT_IMPORT) and imported.get(name) != env.get(name)
        ]
        if changed:
            sys.stderr.write(
                f"runtime: the script sets {', '.join(changed)}, which counts only before torch is "
                "imported: this process starts again without the reserve\n"
            )
            sys.stdout.flush()
            sys.stderr.flush()
            os.execve(program[0], list(program), dict(before))  # noqa: S606  # no shell is needed
