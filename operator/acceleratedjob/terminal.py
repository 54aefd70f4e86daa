"""Escapes untrusted text before it is printed to a terminal.

All commands replace the control characters of manifests, statuses and messages, as kubectl does in
its tables. The output of the training itself is printed unchanged, as `kubectl logs` does; only on
the terminal of `acceleratedjob run`, whose last lines are redrawn, it cannot move the cursor.
"""

import sys


def plain(text: str) -> str:
    r"""Return a text without control characters, except line breaks.

    >>> plain("a\x1b[2Jb\tc")
    'a?[2Jb  c'
    """
    known = text.expandtabs(4)
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in known)


def lines(text: str, mark: str) -> list[str]:
    r"""Return the lines of a text; all but the first get a prefix, to differ from our own lines.

    >>> lines("broken\n-- Succeeded", "    | ")
    ['broken', '    | -- Succeeded']
    """
    first, *more = plain(text).splitlines() or [""]
    return [first, *(f"{mark}{one}" for one in more)]


def say(*lines: str) -> None:
    """Print lines, with control characters escaped."""
    sys.stdout.writelines(f"{plain(line)}\n" for line in lines)
    sys.stdout.flush()


def complain(line: str) -> None:
    """Print a line to the standard error, with control characters escaped."""
    sys.stderr.write(f"{plain(line)}\n")
