"""Find the programs a test bed is made of, or build them from the pinned modules in `go/`.

Looked for in this order: the folder that `ACCELERATEDJOB_TESTBED_BIN` names (plain files, or
packed as .zst), the user's cache, the Go compiler. What is packed or built goes into the cache,
under a digest of what it was made from, so that a new pin is never served an old file.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cluster.testbed.places import cache
from tests.cluster.testbed.processes import TestbedUnavailable, run

FOLDER_VARIABLE = "ACCELERATEDJOB_TESTBED_BIN"
SOURCES = Path(__file__).parent / "go"
PACKAGES = {  # program -> the package that is built in its module, go/PROGRAM
    "kube": ".",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
    "coredns": "github.com/coredns/coredns",
    "helm": "helm.sh/helm/v3/cmd/helm",
}


def program(
    name: str,
    *,
    sources: Path = SOURCES,
    package: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    """The path of a program, made first if need be.

    Args:
        name: one of `PACKAGES`, if neither sources nor package are given.
        sources: the folder of its module.
        package: that is built in its module.
        report: told, in a sentence, of what takes minutes.

    Raises:
        TestbedUnavailable: it is nowhere, and cannot be built.
    """
    folder = _folder()
    if folder and (folder / name).is_file():
        return folder / name
    if folder and (packed := folder / f"{name}.zst").is_file():
        return made_once(_unpacked(name, packed), lambda target: _unpack(packed, target))
    package = package or PACKAGES[name]
    module = sources / name
    return made_once(
        built(name, sources), lambda target: build(module, package, target, report=report)
    )


def is_at_hand(name: str) -> bool:
    """Whether a program can be had in seconds, without building it."""
    folder = _folder()
    given = folder is not None and any((folder / f).is_file() for f in (name, f"{name}.zst"))
    return given or built(name).is_file()


def built(name: str, sources: Path = SOURCES) -> Path:
    """Where the cache keeps what is built from the sources as they are now."""
    files = sorted(path for path in (sources / name).iterdir() if path.is_file())
    parts = [*(path.read_bytes() for path in files), " ".join(flags(sources / name)).encode()]
    digest = hashlib.sha256(b"\0".join(parts))
    return cache() / "bin" / digest.hexdigest()[:16] / name


def flags(module: Path) -> tuple[str, ...]:
    """How the Go compiler is called. Without a version charts find Kubernetes to be too old."""
    pin = re.search(r"k8s.io/kubernetes (v\S+)", (module / "go.mod").read_text())
    version = f" -X k8s.io/component-base/version.gitVersion={pin[1]}" if pin else ""
    return ("-buildvcs=false", "-trimpath", f"-ldflags=-s -w{version}", "-mod=readonly")


def build(module: Path, package: str, target: Path, *, report: Callable[[str], None]) -> None:
    """Build a program from its pinned module; takes minutes and the network."""
    if shutil.which("go") is None:
        raise TestbedUnavailable(
            f"{module.name} must be in the folder that {FOLDER_VARIABLE} names, or the Go compiler "
            "(1.24 or later) must be there to build it: install Go"
        )
    report(f"test bed: building {module.name} from source; this takes minutes, once")
    nice = ("nice", "-n", "19")  # whoever works on this machine goes first
    go = ("go", "-C", str(module), "build", *flags(module), "-o", str(target), package)
    run(*nice, *go, environment={"CGO_ENABLED": "0"})


def _folder() -> Path | None:
    value = os.environ.get(FOLDER_VARIABLE)
    return Path(value) if value else None


def _unpacked(name: str, packed: Path) -> Path:
    state = packed.stat()
    identity = f"{packed.resolve()} {state.st_size} {state.st_mtime_ns}"
    return cache() / "bin" / hashlib.sha256(identity.encode()).hexdigest()[:16] / name


def _unpack(packed: Path, target: Path) -> None:
    if shutil.which("zstd") is None:
        raise TestbedUnavailable(f"zstd must be there to unpack {packed}: apt-get install zstd")
    run("zstd", "-qdf", packed, "-o", target)


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """`target`, made by one process while others wait, and whole from the moment it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_file():
            partial = target.with_suffix(".partial")
            make(partial)
            partial.chmod(0o755)
            partial.rename(target)
    return target
