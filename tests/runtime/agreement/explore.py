"""Explores more than the tests do: takes minutes, and up to some gigabytes.

    python -m tests.runtime.agreement.explore [--most STATES] [--trace] [NAME ...]

Each line has the number of states of a job and what does not hold, if anything. A NAME selects the
jobs whose names begin with it.
"""

import argparse
import sys
import time

from tests.runtime.agreement.cases import Case, long, quick
from tests.runtime.agreement.explorer import Found, explore


def selected(names: list[str]) -> dict[str, Case]:
    """The jobs to explore."""
    every = {**long(), **quick()}
    starts = tuple(names)
    return {name: case for name, case in every.items() if not names or name.startswith(starts)}


def shown(name: str, found: Found, seconds: float) -> str:
    """A line about an exploration."""
    ends = ", ".join(f"{how} {count}" for how, count in found.ends.most_common())
    said = found.wrong or f"holds; ends: {ends}"
    return f"{name:50} {found.states:>9} states {seconds:6.1f} s  {said}"


def main(arguments: list[str]) -> int:
    """Explore, and print; how many jobs have something that does not hold."""
    parser = argparse.ArgumentParser(description="Explore the agreement in small jobs.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--most", type=int, default=8_000_000, help="states of a job")
    parser.add_argument("--trace", action="store_true", help="print the steps to what is wrong")
    options = parser.parse_args(arguments)
    total = failed = 0
    for name, case in selected(options.names).items():
        began = time.process_time()
        found = explore(case, most=options.most)
        total, failed = total + found.states, failed + bool(found.wrong)
        lines = [shown(name, found, time.process_time() - began)]
        if options.trace:
            lines += [f"    {number} {label}" for number, label in enumerate(found.trace, 1)]
        sys.stdout.write("\n".join([*lines, ""]))
        sys.stdout.flush()
    sys.stdout.write(f"{total} states in all\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
