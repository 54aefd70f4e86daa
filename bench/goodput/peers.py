"""The virtual environments of other libraries, each made once in the user's cache."""

import shutil
import site
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.testbed.places import cache


class CannotInstall(Exception):
    """A package of a peer cannot be installed."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Packages that are not part of this project.

    Attributes:
        name: the name of the package that is measured.
        version: its version.
        more: further requirements.
    """

    name: str
    version: str
    more: tuple[str, ...] = ()

    @property
    def requirements(self) -> tuple[str, ...]:
        """The requirements, as pip takes them."""
        return (f"{self.name}=={self.version}", *self.more)

    def python(self) -> str:
        """Return the Python of an environment with the packages; it is made if there is none.

        It also sees the packages of this Python, so that torch is the same and not there twice.

        Raises:
            CannotInstall: pip fails.
        """
        made = cache().with_name("bench") / f"{self.name}-{self.version}"
        python = made / "bin" / "python"
        if not (made / "complete").exists():
            self._make(made, python)
            (made / "complete").touch()
        _share_packages(made)
        return str(python)

    def _make(self, made: Path, python: Path) -> None:
        shutil.rmtree(made, ignore_errors=True)
        venv.create(made, with_pip=True)
        _share_packages(made)
        command = [str(python), "-m", "pip", "install", "--quiet", *self.requirements]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip()[-1000:]
            raise CannotInstall(f"{' '.join(command)} must succeed, but says: {said}")


def _share_packages(made: Path) -> None:
    """Let an environment see the packages of this Python, which may be another one each time."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    seen = "\n".join(site.getsitepackages())
    (made / "lib" / version / "site-packages" / "zz_base.pth").write_text(seen)
