"""Wrong manifests, and right ones: each is a job in which some text is replaced."""

from typing import NamedTuple

JOB = """\
apiVersion: accelerated.dev/v1alpha1
kind: AcceleratedJob
metadata:
  name: digits
spec:
  replicas: 2
  template:
    spec:
      containers:
        - name: trainer
          image: my-registry/digits:1
          command: [python, train.py]
"""
_REPLICAS, _NAME, _COMMAND = "  replicas: 2\n", "  name: digits\n", "[python, train.py]\n"
_IMAGE, _CONTAINERS = "          image: my-registry/digits:1\n", "      containers:\n"
_TRAINER = "        - name: trainer\n"


class Case(NamedTuple):
    """A manifest.

    Attributes:
        about: what is wrong in it, or why it is right.
        old: the text of the job that is replaced.
        new: the text that replaces it.
        encoding: how the text is encoded.
    """

    about: str
    old: str
    new: str
    encoding: str = "utf-8"

    def data(self) -> bytes:
        """Return the bytes of the manifest."""
        if JOB.count(self.old) != 1:
            raise ValueError(f"{self.about}: the job must contain {self.old!r} once")
        return JOB.replace(self.old, self.new).encode(self.encoding)


def _spec(about: str, text: str) -> Case:
    """Add lines to the spec."""
    return Case(about, _REPLICAS, _REPLICAS + _indented(text, 2))


def _pod(about: str, text: str) -> Case:
    """Add lines to the spec of the pods."""
    return Case(about, _CONTAINERS, _indented(text, 6) + _CONTAINERS)


def _container(about: str, text: str) -> Case:
    """Add lines to the container."""
    return Case(about, _IMAGE, _IMAGE + _indented(text, 10))


def _indented(text: str, columns: int) -> str:
    return "".join(f"{' ' * columns}{line}\n" for line in text.split("\n"))


WRONG = (
    # The text
    Case("an empty file", JOB, "# nothing yet\n"),
    Case("a text that is no mapping", JOB, "digits\n"),
    Case("two documents", f"spec:\n{_REPLICAS}", f"---\nspec:\n{_REPLICAS}"),
    Case("a tab", _REPLICAS, "\treplicas: 2\n"),
    Case("a line that is indented too far", _REPLICAS, "  replicas: 2\n    suspend: true\n"),
    Case("a line that is not indented enough", _REPLICAS, " replicas: 2\n"),
    Case("no space after a colon", _REPLICAS, "  replicas:2\n"),
    Case("two keys in a line", _REPLICAS, "  replicas: 2 suspend: true\n"),
    Case("a bracket that is not closed", _COMMAND, "[python, train.py\n"),
    Case("a quote that is not closed", _COMMAND, '[python, "train.py]\n'),
    Case("a template that was not rendered", _REPLICAS, "  replicas: {{ .Values.replicas }}\n"),
    Case("an alias without an anchor", _COMMAND, "*command\n"),
    Case("a control character", _NAME, "  name: dig\x07its\n"),
    Case("Latin-1", _NAME, "  name: digits # für alle\n", "latin-1"),
    Case("a directive", JOB, f"%YAML 1.2\n---\n{JOB}"),
    Case("a tag", _COMMAND, "!command [python, train.py]\n"),
    Case("a key that is given twice", _REPLICAS, "  replicas: 2\n  replicas: 4\n"),
    # What YAML reads
    _spec("no without quotes", "runtime: {mixedPrecision: no}"),
    _container("yes as a variable", "env: [{name: DEBUG, value: yes}]"),
    _container("on as a variable", "env: [{name: CACHE, value: on}]"),
    _container("an octal number as a variable", "env: [{name: MODE, value: 0755}]"),
    _container("1_000 as a variable", "env: [{name: STEPS, value: 1_000}]"),
    Case("a number as an argument", _COMMAND, "[python, train.py, --epochs, 10]\n"),
    Case("a number in quotes", _REPLICAS, '  replicas: "2"\n'),
    _spec("a truth in quotes", 'suspend: "true"'),
    # The object
    Case("a misspelt kind", "kind: AcceleratedJob", "kind: AccelerateJob"),
    Case("another version", "v1alpha1", "v1"),
    Case("a misspelt section", "metadata:\n", "metdata:\n"),
    Case("no name", _NAME, "  labels: {team: vision}\n"),
    Case("a name with a capital", _NAME, "  name: Digits\n"),
    Case("a label with blanks", _NAME, "  name: digits\n  labels: {team: our team}\n"),
    # The spec
    Case("a misspelt field", "replicas:", "replica:"),
    _spec("a field with underscores", "failure_policy: {maxRestarts: 3}"),
    _spec("a field in the wrong section", "maxRestarts: 3"),
    _spec("the container's field beside the replicas", "image: my-registry/digits:1"),
    Case("half a replica", _REPLICAS, "  replicas: 1.5\n"),
    Case("a number in words", _REPLICAS, "  replicas: two\n"),
    _spec("a value in capitals", "runtime: {backend: NCCL}"),
    _spec("an unknown precision", "runtime: {mixedPrecision: fp4}"),
    _spec("seconds with a unit", "activeDeadlineSeconds: 1h"),
    _spec("a queue that is missing", "scheduling: {gang: kueue}"),
    _spec("a reserved port", "network: {port: 80}"),
    _spec("fewer replicas than the bounds", "elastic: {minReplicas: 3, maxReplicas: 4}"),
    _spec("checkpoints nowhere", "checkpoint: {everySteps: 100}"),
    _spec("a directory as a URL", "checkpoint: {uri: file:///data}"),
    _spec("a size without quotes", "sharedMemory: {sizeLimit: 8}"),
    _spec("a rule without an action", "failurePolicy: {rules: [{exitCodes: [3]}]}"),
    _spec(
        "a misspelt field of a claim",
        "checkpoint:\n  volume:\n    volumeClaimTemplate:\n      spec:\n"
        "        accessModes: [ReadWriteMany]\n        storageClass: nfs\n"
        "        resources: {requests: {storage: 1Gi}}",
    ),
    # The pods
    Case("a pod without containers", JOB[JOB.index(_CONTAINERS) :], "      volumes: []\n"),
    Case("a container that is no list", _TRAINER, "          name: trainer\n"),
    Case("no image", _IMAGE, ""),
    Case("a misspelt field of the container", "image:", "imgae:"),
    Case("a command in one text", _COMMAND, "python train.py\n"),
    _container("a field of the pod in the container", "nodeSelector: {disk: ssd}"),
    _container("a value of no policy", "imagePullPolicy: Allways"),
    _container("a port beyond all", "ports: [{containerPort: 70000}]"),
    _container("a GPU beside the limits", 'resources: {nvidia.com/gpu: "1"}'),
    _container(
        "more than the limit", "resources:\n  requests: {memory: 16Gi}\n  limits: {memory: 8Gi}"
    ),
    _container("a wrong unit", "resources: {limits: {memory: 8GB}}"),
    _container("a mapping of variables", "env: {DEBUG: '1'}"),
    _container("a variable of the operator", "env: [{name: RANK, value: '0'}]"),
    _container("a mount without a volume", "volumeMounts: [{name: data, mountPath: /data}]"),
    _pod("a misspelt source", "volumes: [{name: data, persistantVolumeClaim: {claimName: a}}]"),
    _pod(
        "a volume with two sources", "volumes: [{name: data, emptyDir: {}, hostPath: {path: /a}}]"
    ),
    _pod(
        "a toleration's effect", "tolerations: [{key: gpu, operator: Exists, effect: NoScheduling}]"
    ),
    _pod("a selector of numbers", "nodeSelector: {gpus: 8}"),
    _pod("pods that the kubelet restarts", "restartPolicy: OnFailure"),
    _container("a GPU without its domain", "resources: {limits: {gpu: 1}}"),
    _container("half a GPU", "resources: {limits: {nvidia.com/gpu: 0.5}}"),
    _container("a probe that does nothing", "livenessProbe: {periodSeconds: 5}"),
    _pod(
        "permissions that are not octal",
        "volumes: [{name: data, configMap: {name: data, defaultMode: 644}}]",
    ),
    Case("two containers of one name", _CONTAINERS, f"{_CONTAINERS}{_TRAINER}{_IMAGE}"),
)

RIGHT = (
    Case("the job itself", _REPLICAS, _REPLICAS),
    Case(
        "a byte order mark, and line ends of Windows", JOB, JOB.replace("\n", "\r\n"), "utf-8-sig"
    ),
    Case("UTF-16, as PowerShell writes it", _NAME, _NAME, "utf-16"),
    _pod("a volume without a source, which is an emptyDir", "volumes: [{name: data}]"),
    Case("JSON", _REPLICAS, '  "replicas": 2\n'),
    Case("an empty document after it", _COMMAND, f"{_COMMAND}---\n"),
    _spec("a value without text", "runtime:"),
    _spec("booleans in other words", "suspend: off"),
    _spec("an octal seed", "runtime: {seed: 010}"),
    _spec("a number with underscores", "activeDeadlineSeconds: 3_600"),
    Case("a whole number as a float", _REPLICAS, "  replicas: 2.0\n"),
    Case("a number as a key", _NAME, "  name: digits\n  labels: {1: one}\n"),
    _container(
        "anchors, aliases and a merge",
        "env:\n  - &a {name: A, value: '1'}\n  - {<<: *a, name: B}\nargs: &c [--fast]",
    ),
    _container(
        "resources, ports and probes",
        "ports: [{containerPort: 8080, name: http}]\n"
        "resources: {limits: {nvidia.com/gpu: 1, memory: 8Gi, cpu: 1.5}, requests: {memory: 4Gi}}\n"
        "readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 5}\n"
        "securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}}",
    ),
    _container(
        "variables from elsewhere",
        "env:\n  - {name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n"
        "  - {name: B, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}\n"
        "envFrom: [{configMapRef: {name: c, optional: true}}]",
    ),
    _pod(
        "volumes, tolerations and an affinity",
        "volumes:\n  - {name: data, persistentVolumeClaim: {claimName: data}}\n"
        "  - {name: tmp, emptyDir: {medium: Memory, sizeLimit: 1Gi}}\n"
        "tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]\n"
        "nodeSelector: {kubernetes.io/arch: amd64}\n"
        "affinity:\n  nodeAffinity:\n    requiredDuringSchedulingIgnoredDuringExecution:\n"
        "      nodeSelectorTerms:\n"
        "        - matchExpressions: [{key: disk, operator: In, values: [ssd]}]",
    ),
    _spec(
        "checkpoints in a claim",
        "checkpoint:\n  volume:\n    volumeClaimTemplate:\n      spec:\n"
        "        accessModes: [ReadWriteMany]\n        storageClassName: nfs\n"
        "        resources: {requests: {storage: 1Gi}}",
    ),
)
