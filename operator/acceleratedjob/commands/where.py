"""Which cluster and namespace a command is about."""

import os
import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A cluster and a namespace, as the user names them.

    Attributes:
        namespace: the namespace; None for that of the context.
        kubeconfig: the path of the kubeconfig; None for the usual one.
        context: the context of the kubeconfig; None for the current one.
    """

    namespace: str | None = None
    kubeconfig: str | None = None
    context: str | None = None

    @property
    def files(self) -> str | None:
        """The path of the kubeconfig, as named or by $KUBECONFIG; None for the usual one."""
        return self.kubeconfig or os.environ.get("KUBECONFIG")

    @property
    def flags(self) -> str:
        """The options, with a space before each, to be added to a command that is suggested.

        >>> Where(namespace="red", context="my lab").flags
        " -n red --context 'my lab'"
        """
        named = {
            "-n": self.namespace,
            "--context": self.context,
            "--kubeconfig": self.kubeconfig,
        }
        return "".join(f" {flag} {shlex.quote(value)}" for flag, value in named.items() if value)
