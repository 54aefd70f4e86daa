"""The manifests that the documents show."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from acceleratedjob.api.names import KIND, Manifest

PROJECT = Path(__file__).parents[2]
DOCUMENTS = [
    str(path.relative_to(PROJECT))
    for folder in (".", "charts/*", "docs/**", "examples")
    for path in sorted(PROJECT.glob(f"{folder}/*.md"))
]


def read(document: str) -> str:
    """A document's text."""
    return (PROJECT / document).read_text(encoding="utf-8")


def functions(body: Iterable[ast.stmt]) -> set[str]:
    """The names of the functions in a module's or a class' body."""
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def snippets(text: str, language: str) -> list[str]:
    """A text's snippets in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(document: str) -> list[str]:
    """The command lines of a document's shell snippets, each whole and without its comment."""
    text = "".join(snippets(read(document), "sh")).replace("\\\n", " ")
    lines = (re.sub(r"\s#.*", "", line) for line in text.splitlines())
    return [" ".join(line.split()) for line in lines]


def command(document: str, begins: str) -> str:
    """The only command line of a document that begins so."""
    (found,) = (line for line in commands(document) if line.startswith(begins))
    return found


def objects(document: str) -> list[Manifest]:
    """All objects of a document's YAML."""
    return [each for text in snippets(read(document), "yaml") for each in yaml.safe_load_all(text)]


def jobs() -> list[tuple[str, Manifest]]:
    """All AcceleratedJobs, and which each is; a bare `spec` is put over the page's first job."""
    return [found for document in DOCUMENTS for found in _jobs(document)]


def _jobs(document: str) -> Iterator[tuple[str, Manifest]]:
    whole: Any = None
    for number, found in enumerate(objects(document), start=1):
        if found.get("kind") == KIND:
            whole = whole or found
            yield f"{document}, {number}", found
        elif whole and found.keys() == {"spec"}:
            yield f"{document}, {number}", whole | {"spec": whole["spec"] | found["spec"]}
