"""The docs site: all pages, with links that lead somewhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs import site_pages
from tests.contract.documents import PROJECT

PARTS = [*("docs", "examples", "charts", "mkdocs.yml"), *(one.name for one in PROJECT.glob("*.md"))]


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What mkdocs says of a project."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)]
    return subprocess.run(
        command,
        cwd=project,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_every_page_is_built_and_found_by_the_search(tmp_path: Path) -> None:
    done = build(PROJECT, tmp_path)
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "search/search_index.json").read_text())
    found = {re.sub("#.*", "", one["location"]) for one in index["docs"]}
    pages = {f"{path.with_suffix('.html').relative_to(PROJECT / 'docs')}" for path in documents()}
    assert pages - {"api/README.html"} <= found
    assert {"index.html", "api/index.html", "examples/digits/index.html"} <= found
    assert not list(tmp_path.rglob("*.py*"))


def documents() -> list[Path]:
    """The documents in docs/."""
    return list((PROJECT / "docs").rglob("*.md"))


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without what other tests compile meanwhile."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def test_a_link_to_a_part_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for part in PARTS:
        source = PROJECT / part
        copy(source, project / part)
    with (project / "docs/limits.md").open("a") as page:
        page.write("\n[x](hangs.md#no-such-part)\n")
    done = build(project, tmp_path / "site")
    assert done.returncode != 0
    assert "no-such-part" in done.stderr


@pytest.mark.parametrize(
    "link",
    [
        pytest.param("no-such-page.md", id="a page"),
        pytest.param("examples/no-such-example", id="a folder"),
        pytest.param("docs/no-such-picture.png", id="a picture"),
    ],
)
def test_a_link_to_what_does_not_exist_is_refused(
    link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_pages, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text(f"`[x](code.md)` and [x]({link})")
    with pytest.raises(FileNotFoundError, match=f"README.md links to {link}, which does not exist"):
        site_pages.added()


@pytest.mark.parametrize(
    ("link", "path", "expected"),
    [
        pytest.param("limits.md", "docs/hangs.md", "limits.md", id="a page beside it"),
        pytest.param("docs/limits.md", "README.md", "limits.md", id="a page, from the front page"),
        pytest.param("../README.md", "docs/quickstart.md", "index.md", id="the front page"),
        pytest.param("digits", "examples/README.md", "digits/index.md", id="an example"),
        pytest.param("docs/decisions", "README.md", "decisions/index.md", id="a folder of pages"),
        pytest.param(
            "../../charts/acceleratedjob/values.yaml",
            "docs/decisions/0001-dependencies.md",
            "../charts/acceleratedjob/values.yaml.md",
            id="a file that is no page",
        ),
    ],
)
def test_a_link_leads_to_where_the_site_has_the_file(link: str, path: str, expected: str) -> None:
    assert site_pages.relinked(link, path) == expected


def test_code_is_shown_as_it_is() -> None:
    text = "`rows[i](x.md)` [`x`](docs/limits.md)\n\n```py\nrows[i](x.md)\n```\n"
    expected = text.replace("docs/limits.md", "limits.md")
    assert site_pages.with_links(text, "README.md") == expected
