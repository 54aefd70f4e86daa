"""Make the certificates of a test bed and the kubeconfigs that carry them, with openssl.

Elliptic keys, because they take milliseconds to make; good for a month, because a bed is not.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.testbed.processes import run

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "30")


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority in a folder, which signs what a test bed needs."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Authority":
        """Make the authority's own certificate, and the key that signs service accounts."""
        folder.mkdir(mode=0o700)
        authority = cls(folder)
        files = ("-keyout", authority.key("ca"), "-out", authority.certificate("ca"))
        run("openssl", "req", "-x509", *_KEY, "-subj", "/CN=testbed", *files)
        run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", authority.key("sa"))
        return authority

    def key(self, name: str) -> Path:
        """The private key under a name."""
        return self.folder / f"{name}.key"

    def certificate(self, name: str) -> Path:
        """The certificate under a name."""
        return self.folder / f"{name}.crt"

    def sign(self, name: str, *, subject: str, alternatives: str = "DNS:unused") -> None:
        """Make a key and its certificate.

        Args:
            name: under which they are kept.
            subject: such as "/O=system:masters/CN=admin".
            alternatives: the names and addresses of a server, such as "IP:127.0.0.1,DNS:x".
        """
        signer = ("-CA", self.certificate("ca"), "-CAkey", self.key("ca"))
        files = ("-keyout", self.key(name), "-out", self.certificate(name))
        extensions = ("-addext", f"subjectAltName={alternatives}")
        run("openssl", "req", "-x509", *_KEY, "-subj", subject, *signer, *files, *extensions)

    def write_kubeconfig(self, path: Path, *, name: str, server: str) -> None:
        """Write a kubeconfig that says who `name` is, whole in one file."""
        cluster = {"server": server, "certificate-authority-data": _inline(self.certificate("ca"))}
        user = {
            "client-certificate-data": _inline(self.certificate(name)),
            "client-key-data": _inline(self.key(name)),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "testbed",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": name}}],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config), encoding="utf-8")


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
