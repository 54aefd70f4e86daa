"""A real S3 server on loopback: SeaweedFS, which a package brings as one program."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceleratedjob.local.process import free_port

SERVER = Path(sys.executable).with_name("weed")
_PORTS = ("master.port", "filer.port", "volume.port", "s3.port", "admin.port")
_GRPC = ("master.port.grpc", "filer.port.grpc", "volume.port.grpc", "s3.port.grpc")
_KEYS = {"access_key_id": "key", "secret_access_key": "secret"}


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, Any]]:
    """Have a server until the end of the context; gives what `FsspecStore` needs to reach it."""
    ports = {name: free_port() for name in (*_PORTS, *_GRPC)}
    flags = [f"-{name}={port}" for name, port in ports.items()]
    quiet = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    place = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    env = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [SERVER, "mini", *place, *quiet, *flags], stdout=log, stderr=log, env=env
        )
    try:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        _wait_for(f"{endpoint}/healthz", process, folder / "log")
        yield {
            "config": {"endpoint": endpoint, "region": "us-east-1", **_KEYS},
            "client_options": {"allow_http": True},
        }
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  # it is on loopback
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())
