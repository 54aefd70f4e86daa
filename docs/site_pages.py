"""The pages of the docs site: a hook of mkdocs, which the site's configuration names.

The documents lie in the repository as its readers find them there, and so do their links. The site
has the same documents, and a page for each file or folder outside docs/ that one of them links to.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FRONT = "README.md"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")  # the path of a link to another file
CODE = re.compile(r"(```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".sh": "sh"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of what lies outside docs/, and of its folders."""
    for path in sorted(added()):
        files.append(File.generated(config, place(path), content=with_links(text(path), path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page in docs/ lead to where the site has the files."""
    del config, files
    is_added = page.file.generated_by is not None
    return markdown if is_added else with_links(markdown, f"docs/{page.file.src_uri}")


def added() -> set[str]:
    """Return the paths that get pages of their own: what is linked to, and what those link to."""
    documents = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    found: set[str] = set()
    open_ = [FRONT, *documents]
    while open_:
        path = open_.pop()
        if path in found:
            continue
        if path not in documents:
            found.add(path)
        open_ += [one for one in linked(path) if _needs_page(one)]
    return found


def linked(path: str) -> Iterator[str]:
    """Yield the paths that a document links to; none if it is no document.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if path.endswith(".md"):
        for link in LINK.finditer(CODE.sub("", (ROOT / path).read_text(encoding="utf-8"))):
            target = resolved(link[1], path)
            if not (ROOT / target).exists():
                raise FileNotFoundError(f"{path} links to {link[1]}, which does not exist")
            yield target


def with_links(markdown: str, path: str) -> str:
    """Return the text of a file with its links as they must be on the site; code has none."""
    pieces = CODE.split(markdown)  # every second one is code
    pieces[::2] = [LINK.sub(lambda link: relinked(link[1], path), one) for one in pieces[::2]]
    return "".join(pieces)


def resolved(link: str, path: str) -> str:
    """Return what a link in a file leads to, as a path in the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def relinked(link: str, path: str) -> str:
    """Return a link in a file as it must be on the site."""
    start = posixpath.dirname(place(path)) or "."
    return posixpath.relpath(place(resolved(link, path)), start)


def place(path: str) -> str:
    """Return the path that mkdocs knows a file or folder of the repository by."""
    if path == FRONT:
        return "index.md"
    shown = path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{shown}/index.md"
    if path.startswith("docs/") or path.endswith(".md"):
        return shown
    return f"{shown}.md"


def text(path: str) -> str:
    """Return the page of a file or folder."""
    whole = ROOT / path
    if whole.is_dir():
        files = sorted(one for one in whole.iterdir() if one.is_file())
        return f"# {path}\n\n" + "\n".join(_listed(one) for one in files)
    if path.endswith(".md"):
        return whole.read_text(encoding="utf-8")
    return f"# {path}\n\n{_shown(whole)}"


def _needs_page(path: str) -> bool:
    return not path.startswith("docs/") or (ROOT / path).is_dir()


def _listed(file: Path) -> str:
    """A line for a document, which is a page itself; the whole of any other file."""
    if file.suffix == ".md":
        title = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        return f"- [{title}]({file.parent.name}/{file.name})"
    return f"## {file.name}\n\n{_shown(file)}"


def _shown(file: Path) -> str:
    return f"```{LANGUAGES.get(file.suffix, '')}\n{file.read_text(encoding='utf-8')}```\n"
