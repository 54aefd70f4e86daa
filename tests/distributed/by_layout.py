"""Cases that run in worlds of several layouts: how a program runs them, and a test reads them.

`python PROGRAM FOLDER [CASE...]` runs one world after the other, as many processes as it has ranks,
and writes there what each rank has found. Later worlds load the checkpoints of those before them.
"""

import functools
import importlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.state import PartialState
from tests.distributed.forks import world
from tests.distributed.programs import plain
from tests.distributed.world import SCRIPT, environment, forked
from tests.states import fresh

ONE = "one process"  # a layout
LAST = "loaded at last"  # a case of one process, which runs when all others have
SIZES = (1, 2, 4)  # the worlds, in this order
SECONDS = 1200  # for all worlds; two minutes, if they have the machine for themselves
NEAR: dict[str, Any] = {"rel": 1e-5, "abs": 2e-6}  # float32 sums in another order, over some steps
Layouts = Mapping[str, tuple[int, dict[str, Any]]]  # name -> the world size, and its layout
Case = tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]  # program, its options, layouts


@dataclass(frozen=True)
class Cases:
    """The cases of a program.

    Attributes:
        layouts: the layouts.
        cases: the cases, by name. A program is called with a layout, the folder and its options,
            and returns what JSON can hold.
        expected: warnings that may come, as patterns; others are errors.
    """

    layouts: Layouts
    cases: Mapping[str, Case]
    expected: Sequence[str]

    def run(self, folder: Path, *chosen: str, imports: Sequence[str]) -> None:
        """Run cases, by default all, in all worlds; `imports` are modules that all ranks need."""
        for inner in imports:
            importlib.import_module(inner)  # once: no rank imports it again
        names = chosen or tuple(self.cases)
        last = tuple(name for name in names if name == LAST)
        others = tuple(name for name in names if name not in last)
        results: list[dict[str, Any]] = []
        for size, cases in [*((size, others) for size in SIZES), (1, last)]:
            ranks = world(size, self._of_rank, cases, folder)
            results += [{"case": name, "ranks": [one[name] for one in ranks]} for name in ranks[0]]
        (folder / "found.json").write_text(json.dumps(results))

    def _of_rank(self, cases: tuple[str, ...], size: int, folder: Path) -> dict[str, Any]:
        """Run cases in a rank, in each layout of such a world, and return what each has found."""
        warnings.simplefilter("error")
        for expected in self.expected:
            warnings.filterwarnings("ignore", expected)
        found = {}
        for name, (program, options, layouts) in self.cases.items():
            for layout in layouts:
                if self.layouts[layout][0] == size and name in cases:
                    said = f"{os.environ['RANK']} of {size}: {name}, {layout}\n"
                    sys.stderr.write(said)  # if it fails
                    found[f"{name}, {layout}"] = plain(program(layout, folder, **options))
                    forget()
        PartialState().destroy_process_group()
        return found

    def of_several(self, *cases: str) -> list[tuple[str, str]]:
        """Return each case with each of its layouts of several processes."""
        pairs = ((case, layout) for case in cases for layout in self.cases[case][2])
        return [(case, layout) for case, layout in pairs if self.layouts[layout][0] > 1]


def forget() -> None:
    """Forget the Accelerator; the world stays."""
    fresh("runtime", world=False)
    os.environ.pop("ACCELERATE_USE_FSDP", None)


class Found:
    """What the cases of a program have found, in one run for all tests, also if it fails."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def __call__(self, case: str, layout: str) -> list[Any]:
        """Return what each rank has found."""
        results = self._everything
        if isinstance(results, AssertionError):
            raise results
        return results[f"{case}, {layout}"]

    @functools.cached_property
    def _everything(self) -> dict[str, list[Any]] | AssertionError:
        with tempfile.TemporaryDirectory() as name:
            env = environment(0, 1, 0) | SCRIPT
            (done,) = forked(([str(self._program), name], env), seconds=SECONDS)
            if done.code:
                said = f"exit code {done.code}\n{done.out[-2000:]}{done.err[-5000:]}"
                return AssertionError(said)
            rows = json.loads(Path(name, "found.json").read_text())
            return {row["case"]: row["ranks"] for row in rows}


def flat(nested: Any) -> list[float]:
    """All numbers of lists and dicts."""
    if isinstance(nested, dict):
        nested = [nested[name] for name in sorted(nested)]
    return [x for item in nested for x in flat(item)] if isinstance(nested, list) else [nested]


def near(expected: Any) -> Any:
    """Equal to these numbers, up to the order of sums."""
    return pytest.approx(flat(expected), **NEAR)


def raised(act: Callable[..., Any], *args: Any) -> str:
    """What an act raises."""
    try:
        act(*args)
    except Exception as error:  # noqa: BLE001  # whatever it is
        return f"{type(error).__name__}: {error}"
    return "nothing"
