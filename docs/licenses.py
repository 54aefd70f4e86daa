"""`python -m docs.licenses`: write docs/licenses.md, what the operator's image has of others.

Names and versions are the lock's; licences are what each installed package declares.
"""

import re
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

from docs.tables import table

PROJECT = Path(__file__).parents[1]
LOCK = PROJECT / "locks/operator.txt"
PAGE = PROJECT / "docs/licenses.md"
ALLOWED = {  # for an image that is given on; a new one is first read
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0"),
}
SPELLED = {  # by packages that do not know SPDX's names
    "Apache 2.0": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
}
_PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)
HEAD = """\
# Licences of what the operator's image contains

Written by `make licenses`, from what the packages of `locks/operator.txt` declare; `make sbom`
writes a bill of materials, with what depends on what. The base image has licences of its own. The
image `runtime` adds nothing to its base but this library, Apache-2.0.

"""


def locked(lock: Path) -> dict[str, str]:
    """Name -> version, of each package of a lock."""
    return dict(_PIN.findall(lock.read_text(encoding="utf-8")))


def licence(package: str) -> str:
    """A package's licence, as an SPDX expression.

    Raises:
        ValueError: it declares none, or one that nobody has allowed.
    """
    told = metadata(package)
    declared = [told[field] for field in ("License-Expression", "License") if field in told]
    declared += [one for one in told.get_all("Classifier") or () if one.startswith("License ::")]
    name = SPELLED.get(declared[0], declared[0]) if declared else "none"
    if not set(re.split(r" AND | OR ", name)) <= ALLOWED:
        raise ValueError(
            f"the licence of {package} must be one of {sorted(ALLOWED)}, and it declares "
            f"{name!r}: read it, and allow it in docs/licenses.py or do without the package"
        )
    return name


def rows() -> Iterator[tuple[str, ...]]:
    """A package, its version and its licence."""
    for package, version in locked(LOCK).items():
        yield package, version, licence(package)


def page() -> str:
    """The whole page."""
    return HEAD + table(("package", "version", "licence"), list(rows())) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
