"""Runs the cells of a notebook, or the snippets of a page, as a notebook does."""

import asyncio
import json
import linecache
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def run_cells(cells: Iterable[str]) -> dict[str, Any]:
    """Run cells in order, in one namespace, while an event loop runs; the namespace.

    The source of each is where `inspect` finds it.
    """
    scope: dict[str, Any] = {"__name__": "__main__"}

    async def run() -> None:
        for number, source in enumerate(cells):
            file = f"<cell {number}>"
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
            exec(compile(source, file, "exec"), scope)  # noqa: S102

    asyncio.run(run())
    return scope


def code_cells(notebook: Path) -> list[str]:
    """The code of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]


if __name__ == "__main__":
    run_cells(code_cells(Path(sys.argv[1])))
