"""The operator's process: its log, its connection, and the parts that work side by side."""

import logging

import kopf

from acceleratedjob.kube.connection import connect, load_configuration
from acceleratedjob.kube.handlers import Handlers, serve
from acceleratedjob.kube.objects import KubernetesCluster
from acceleratedjob.reconciler import Reconciler


def configure_logging(*, json: bool, debug: bool) -> None:
    """One line for each decision, for people or (json) for machines."""
    kopf.configure(debug=debug, log_format=kopf.LogFormat.JSON if json else kopf.LogFormat.FULL)
    if not debug:  # kopf would tell of every event
        logging.getLogger("kopf").setLevel(logging.WARNING)


async def run(
    *,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    liveness_port: int | None,
) -> None:
    """Serve a cluster's jobs until a signal asks to stop.

    Args:
        kubeconfig: file to find the cluster in; None for the pod's own, or the usual file.
        context: of the kubeconfig.
        namespaces: to be served; empty for all.
        liveness_port: where GET /healthz answers.
    """
    configuration = await load_configuration(kubeconfig, context)
    async with connect(configuration) as connection:
        reconcilers = {
            namespace: Reconciler(KubernetesCluster(connection, namespace))
            for namespace in namespaces or (None,)
        }
        await serve(
            Handlers(configuration, reconcilers),
            namespaces=namespaces,
            liveness_port=liveness_port,
        )
