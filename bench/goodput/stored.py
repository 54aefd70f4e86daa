"""The results of a benchmark in a file, which a later command may continue."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from bench.machine import Run


class Measured(Protocol):
    """A result of one measurement."""

    @property
    def cell(self) -> object:
        """What was measured."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """All fields, as JSON."""
        ...


Result = TypeVar("Result", bound=Measured)


@dataclass(frozen=True)  # with slots, a call of Stored[...] fails in Python 3.11
class Stored(Generic[Result]):
    """The results, which may be of several commands.

    Attributes:
        run: the machine and the last command; None if nothing was measured.
        results: the results, in the order of the page.
        missing: why a system cannot be measured, by its name.
    """

    run: Run | None
    results: Sequence[Result]
    missing: Mapping[str, str]

    def find(self, cell: object) -> Result | None:
        """Return the result of a measurement; None if it was not made."""
        return next((one for one in self.results if one.cell == cell), None)


def read(file: Path, of: Callable[[Mapping[str, Any]], Result]) -> Stored[Result]:
    """Read what is stored; nothing if there is no file.

    Args:
        file: the file.
        of: returns the result of its facts.
    """
    if not file.exists():
        return Stored(None, [], {})
    facts = json.loads(file.read_text(encoding="utf-8"))
    results = [of(one) for one in facts["results"]]
    return Stored(facts["run"] and Run(**facts["run"]), results, facts["missing"])


def write(
    file: Path, run: Run | None, results: Iterable[Measured], missing: Mapping[str, str]
) -> None:
    """Write a file with a line for each result.

    Args:
        file: the file; its folder is made.
        run: the machine and the command.
        results: the results, in the order of the page.
        missing: why a system cannot be measured, by its name.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(one.facts) for one in results)
    head, why = json.dumps(run and run.facts), json.dumps(missing)
    text = f'{{"run": {head},\n"missing": {why},\n"results": [\n{lines}\n]}}\n'
    file.write_text(text, encoding="utf-8")
