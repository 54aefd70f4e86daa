"""docs/proofs.md has a row for every field, and a test or a command for every row."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.contract.documents import PROJECT, functions, read
from tests.contract.test_crd import COLUMNS, SCHEMA, properties

PAGE = read("docs/proofs.md")
PAINS = 25
OPEN = "**Open**"
Row = tuple[str, str, str]


def rows(first: str) -> list[Row]:
    """The table whose first column has this head."""
    (found,) = re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines())
    return [(name, does, proof) for name, does, proof in cells]


def quoted(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


FIELDS, TROUBLES, TRAPS = rows("field"), rows("pain"), rows("trap")
PROOFS = sorted({proof for *_, cell in (*FIELDS, *TROUBLES, *TRAPS) for proof in quoted(cell)})
NAMED = [name for first, *_ in FIELDS for name in quoted(first)]


def leaves(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Fields that have none inside; the pods' template, which is Kubernetes' own, is one."""
    items = schema.get("items", {})
    inner, dots = (items, "[]") if "properties" in items else (schema, "")
    if "properties" not in inner or path == "spec.template":
        yield path
        return
    for name, field in inner["properties"].items():
        yield from leaves(field, f"{path}{dots}.{name}")


@cache
def named_in(path: Path) -> set[str]:
    """What a file defines, as pytest names tests; also a state machine's `TestLife = ...`."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    found = functions(body)
    for node in body:
        if isinstance(node, ast.ClassDef):
            inner = functions(node.body)
            found |= {node.name, *(f"{node.name}::{name}" for name in inner)}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def is_there(proof: str) -> bool:
    """Whether a test, or a command of the project, exists."""
    words = proof.split()
    if words[0] == "make":
        makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
        return re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE) is not None
    if words[:2] == ["python", "-m"]:
        module = PROJECT / words[2].replace(".", "/")
        return module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
    name, _, test = proof.partition("::")
    path = PROJECT / name
    is_test = re.search(r"(^|::)[Tt]est\w+$", test) is not None
    return path.is_file() and is_test and test in named_in(path)


def test_every_field_of_the_spec_has_a_row_and_no_row_is_of_another() -> None:
    named = sorted(name for name in NAMED if name.startswith("spec."))
    assert named == sorted(leaves(SCHEMA["properties"]["spec"], "spec"))


def test_every_field_of_the_status_has_a_row_and_no_row_is_of_another() -> None:
    named = {name for name in NAMED if name.startswith("status.")}
    known = {path.removeprefix(".") for path, _ in properties(SCHEMA)}
    assert named - known == set()
    top = {f"status.{name}" for name in SCHEMA["properties"]["status"]["properties"]}
    assert {name.split("[]")[0] for name in named} == top


def test_every_column_of_kubectl_get_has_a_row() -> None:
    named = [name for name in NAMED if not name.startswith(("spec.", "status."))]
    assert named == [column["name"] for column in COLUMNS]


def test_all_pains_are_there_with_their_public_issues() -> None:
    assert [first.split(".")[0] for first, *_ in TROUBLES] == [f"{n + 1}" for n in range(PAINS)]
    for first, *_ in TROUBLES:
        links = re.findall(r"\[([\w.-]+/[\w.-]+)#(\d+)\]\(([^)]+)\)", first)
        assert links, first
        for name, number, address in links:
            assert address == f"https://github.com/{name}/issues/{number}"


def test_what_is_not_proved_is_said_to_be_open() -> None:
    rest = [
        row[0] for row in (*FIELDS, *TROUBLES, *TRAPS) if not quoted(row[2]) and OPEN not in row[1]
    ]
    assert rest == []


@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_is_there(proof: str) -> None:
    assert is_there(proof)


@pytest.mark.parametrize(
    "proof",
    [
        pytest.param("tests/operator/test_plan.py::test_no_such_thing", id="no such test"),
        pytest.param("tests/operator/test_plan.py::plan", id="no test"),
        pytest.param("tests/operator/test_no_such.py::test_it", id="no such file"),
        pytest.param("tests/operator/test_plan.py", id="a file with many tests"),
        pytest.param("tests/operator/test_machine.py::Life::test_it", id="no such method"),
        pytest.param("make nothing", id="no such target"),
        pytest.param("python -m bench.nothing", id="no such module"),
    ],
)
def test_a_proof_that_is_not_there_is_found_out(proof: str) -> None:
    assert not is_there(proof)


def test_every_path_of_the_page_is_there() -> None:
    folders = {path.name for path in PROJECT.iterdir() if path.is_dir()}
    paths = (word.split("::")[0] for word in quoted(PAGE) if word.split("/")[0] in folders)
    assert [path for path in paths if "/" in path and not (PROJECT / path).exists()] == []
