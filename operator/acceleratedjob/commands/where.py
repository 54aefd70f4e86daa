"""Which cluster and namespace a command is about."""

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
