"""Starts a training that `acceleratedjob.Client.train` has shipped: the program of its pods.

It is a file of the ConfigMap beside the code, and imports only the standard library. Its arguments
are an empty folder, the script, and the arguments of the script.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

ARCHIVE = "code.zip"
PACKAGES = "packages.txt"
STOPPED = 128 + 15


def main() -> None:
    """Unpack the code, install the packages, and become the launcher."""
    # As the first process of a container, Python would ignore the request to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    here, work, script, *words = Path(__file__).parent, Path(sys.argv[1]), *sys.argv[2:]
    place = unpack(here, work / "code")
    packages = here / PACKAGES
    if packages.exists():
        install(packages.read_text(encoding="utf-8").splitlines(), work)
    if importlib.util.find_spec("runtime") is None:
        sys.exit(
            "acceleratedjob: the image must have the library `runtime`, and has not: use an image "
            "with acceleratedjob installed, or packages=['acceleratedjob']"
        )
    command = [sys.executable, "-m", "runtime.launch", str(place / script), *words]
    os.execv(sys.executable, command)  # noqa: S606  # no shell is needed


def unpack(here: Path, into: Path) -> Path:
    """Return the folder of the script; that of an archive becomes the working directory."""
    if not (here / ARCHIVE).exists():
        return here
    with zipfile.ZipFile(here / ARCHIVE) as archive:
        archive.extractall(into)
    os.chdir(into)
    return into


def install(packages: list[str], work: Path) -> None:
    """Install packages for the training, and what they need that the image does not have.

    `pip install --target` alone would install all that they need again, such as torch: so pip says
    first what the image lacks.
    """
    target = work / "packages"
    report = pip(work, "--dry-run", "--report", "-", *packages, names=packages)
    missing = [requirement(one) for one in json.loads(report)["install"]]
    if missing:
        pip(work, "--no-deps", "--target", str(target), *missing, names=packages)
    paths = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path.insert(0, str(target))


def pip(work: Path, *words: str, names: list[str]) -> str:
    """Run `pip install`, and return what it prints; its errors go to the log."""
    flags = ("--quiet", "--disable-pip-version-check", "--root-user-action=ignore")
    command = [sys.executable, "-m", "pip", "install", *flags, f"--cache-dir={work / 'pip'}"]
    env = os.environ | {"TMPDIR": str(work)}  # the only folder that is certain to be writable
    done = subprocess.run(  # noqa: S603  # pip
        [*command, *words], stdout=subprocess.PIPE, text=True, check=False, env=env
    )
    if done.returncode:
        sys.exit(
            f"acceleratedjob: the packages {', '.join(names)} must be installed by pip 22.2 or "
            f"later, and are not: it has exited with {done.returncode}, see above"
        )
    return done.stdout


def requirement(found: dict[str, Any]) -> str:
    """Return the requirement for an entry of pip's report.

    >>> requirement({"metadata": {"name": "einops", "version": "0.8.1"}, "is_direct": False})
    'einops==0.8.1'
    """
    name, version = found["metadata"]["name"], found["metadata"]["version"]
    if not found["is_direct"]:
        return f"{name}=={version}"
    source = found["download_info"]
    url, vcs = source["url"], source.get("vcs_info")
    return f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else f"{name} @ {url}"


if __name__ == "__main__":
    main()
