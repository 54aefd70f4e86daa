"""Pods that the API server refuses, and some that it takes: lines for a container or for a pod."""

from typing import Any, NamedTuple

import pytest
import yaml

from acceleratedjob.api.names import Manifest
from tests.operator.builders import CONTAINER, job

_VOLUME = "volumes: [{name: data, emptyDir: {}}]"


class Wrong(NamedTuple):
    """Lines that make a pod invalid.

    Attributes:
        text: lines of YAML.
        field: the path of the field, from the container or the pod.
        words: words of the message.
        pod: other lines of the pod.
    """

    text: str
    field: str
    words: str = "must"
    pod: str = ""


CONTAINERS = (
    Wrong("resources: {limits: {gpu: 1}}", "resources.limits[gpu]", "such as nvidia.com/gpu"),
    Wrong(
        "resources: {limits: {nvidia.com/gpu: 0.5}}", "resources.limits[nvidia.com/gpu]", "whole"
    ),
    Wrong("resources: {limits: {a/b/c: 1}}", "resources.limits[a/b/c]"),
    Wrong("resources: {limits: {storage: 1Gi}}", "resources.limits[storage]"),
    Wrong("ports: [{containerPort: 1, name: too-long-a-name-x}]", "ports[0].name", "15 characters"),
    Wrong("ports: [{containerPort: 1, name: HTTP}]", "ports[0].name"),
    Wrong(
        "ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]",
        "ports[1].name",
        "must differ from",
    ),
    Wrong("env: [{name: A=B, value: x}]", "env[0].name", "without ="),
    Wrong("env: [{name: '', value: x}]", "env[0].name"),
    Wrong("env: [{name: A, valueFrom: {}}]", "env[0].valueFrom", "got none"),
    Wrong(
        "env: [{name: A, valueFrom: {secretKeyRef: {key: k}}}]",
        "env[0].valueFrom.secretKeyRef.name",
        "is required",
    ),
    Wrong(
        "env: [{name: A, valueFrom: {configMapKeyRef: {name: A_b, key: k}}}]",
        "env[0].valueFrom.configMapKeyRef.name",
        "a lowercase DNS name",
    ),
    Wrong("envFrom: [{prefix: A}]", "envFrom[0]", "got none"),
    Wrong("envFrom: [{configMapRef: {}}]", "envFrom[0].configMapRef.name", "is required"),
    Wrong("envFrom: [{configMapRef: {name: a}, secretRef: {name: b}}]", "envFrom[0]", "one source"),
    Wrong("volumeMounts: [{name: data, mountPath: ''}]", "volumeMounts[0].mountPath", pod=_VOLUME),
    *(
        Wrong(
            f"volumeMounts: [{{name: data, mountPath: /d, subPath: {path}}}]",
            "volumeMounts[0].subPath",
            "a relative path without ..",
            pod=_VOLUME,
        )
        for path in ("/a", "../a", "a/../b", "..")
    ),
    Wrong(
        "volumeMounts: [{name: data, mountPath: /d, mountPropagation: Both}]",
        "volumeMounts[0].mountPropagation",
        pod=_VOLUME,
    ),
    Wrong("livenessProbe: {periodSeconds: 5}", "livenessProbe", "got none"),
    Wrong("readinessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}", "readinessProbe", "one"),
    Wrong("startupProbe: {httpGet: {port: 0}}", "startupProbe.httpGet.port", "between 1 and 65535"),
    Wrong(
        "startupProbe: {httpGet: {port: '80'}}", "startupProbe.httpGet.port", "80 without quotes"
    ),
    Wrong("startupProbe: {httpGet: {port: 1, scheme: https}}", "startupProbe.httpGet.scheme"),
    Wrong("startupProbe: {tcpSocket: {port: 1}, periodSeconds: -1}", "startupProbe.periodSeconds"),
    Wrong("lifecycle: {preStop: {}}", "lifecycle.preStop", "got none"),
    Wrong("securityContext: {runAsUser: -1}", "securityContext.runAsUser"),
)
PODS = (
    Wrong("activeDeadlineSeconds: 0", "activeDeadlineSeconds"),
    Wrong("dnsPolicy: None", "dnsConfig.nameservers", "is required with"),
    Wrong("securityContext: {fsGroup: -1}", "securityContext.fsGroup"),
    Wrong("tolerations: [{}]", "tolerations[0].key", "is required"),
    Wrong("tolerations: [{key: a, operator: Exists, value: b}]", "tolerations[0].value"),
    Wrong("tolerations: [{key: a, tolerationSeconds: 1}]", "tolerations[0].effect"),
    Wrong("volumes: [{name: a, configMap: {}}]", "volumes[0].configMap.name", "is required"),
    Wrong("volumes: [{name: a, secret: {}}]", "volumes[0].secret.secretName", "is required"),
    Wrong(
        "volumes: [{name: a, configMap: {name: a, defaultMode: 644}}]",
        "volumes[0].configMap.defaultMode",
        "write 0644",
    ),
    Wrong(
        "volumes: [{name: a, secret: {secretName: a, items: [{key: k, path: ../x}]}}]",
        "volumes[0].secret.items[0].path",
    ),
    Wrong("volumes: [{name: a, nfs: {server: a, path: b}}]", "volumes[0].nfs.path", "absolute"),
    Wrong(
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "
        "{nodeSelectorTerms: []}}}",
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
    ),
    *(
        Wrong(
            "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "
            f"{{nodeSelectorTerms: [{{matchExpressions: [{{key: a, {rest}}}]}}]}}}}}}",
            "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution."
            "nodeSelectorTerms[0].matchExpressions[0].values",
            words,
        )
        for rest, words in (
            ("operator: In", "is required"),
            ("operator: Exists, values: [b]", "must be absent"),
        )
    ),
    Wrong(
        "topologySpreadConstraints: "
        "[{maxSkew: 0, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]",
        "topologySpreadConstraints[0].maxSkew",
    ),
)
RIGHT = (
    "resources: {limits: {cpu: 0.5, hugepages-2Mi: 2Mi, ephemeral-storage: 1Gi, a.b/c: 2}}",
    "env: [{name: a.b-c 1, value: x}, {name: B, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]",
    "envFrom: [{prefix: A_, secretRef: {name: a.b}}]",
    "ports: [{containerPort: 1, name: a}, {containerPort: 2}, {containerPort: 3, name: b-1}]",
    "livenessProbe: {grpc: {port: 1}, periodSeconds: 0}",
    "lifecycle: {preStop: {sleep: {seconds: 1}}}",
    "imagePullPolicy: ''\nstartupProbe: {httpGet: {port: http, scheme: HTTPS}}",
)


def rows() -> list[Any]:
    """Return the parameters of a test: the lines, and whether they are those of a container."""
    return [
        pytest.param(row, is_container, id=row.text)
        for rows, is_container in ((CONTAINERS, True), (PODS, False))
        for row in rows
    ]


def manifest(wrong: Wrong, in_container: bool) -> Manifest:
    """Return a job with the lines."""
    given: dict[str, Any] = yaml.safe_load(wrong.text)
    container = CONTAINER | (given if in_container else {})
    pod = {"containers": [container]} | (yaml.safe_load(wrong.pod or "{}"))
    made = job(template={"spec": pod | ({} if in_container else given)})
    del made["metadata"]["namespace"]
    return made
