"""Manifests that must be refused, with the field that the refusal must name."""

from typing import Any

from acceleratedjob.api.names import Manifest
from tests.operator.builders import CONTAINER, job

API, OPERATOR = "api", "operator"  # who refuses on a cluster; `acceleratedjob run` refuses all


def _pod(**fields: Any) -> Manifest:
    return {"template": {"spec": {"containers": [CONTAINER]} | fields}}


def _env(name: str) -> Manifest:
    return _pod(containers=[CONTAINER | {"env": [{"name": name, "value": "1"}]}])


def _named(name: str) -> Manifest:
    manifest = job()
    manifest["metadata"]["name"] = name
    return manifest


def _without_template() -> Manifest:
    manifest = job()
    del manifest["spec"]["template"]
    return manifest


def _rule(**fields: Any) -> Manifest:
    return job(failurePolicy={"rules": [fields]})


def _limits(amount: object) -> Manifest:
    return {"resources": {"limits": {"nvidia.com/gpu": amount}}}


POD = "spec.template.spec"
LIMITS = f"{POD}.containers[0].resources.limits"
RULE = "spec.failurePolicy.rules[0]"
ENV = f"{POD}.containers[0].env[0].name"

MOUNT: Manifest = {"name": "x", "mountPath": "/checkpoints-of-others"}
CLAIM: Manifest = {
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "nfs",
    }
}
TEMPLATE: Manifest = {"volume": {"volumeClaimTemplate": CLAIM}}
STORE: Manifest = {"uri": "s3://bucket/team"}
CHECKPOINT = "spec.checkpoint"


def _checkpoint(given: Manifest, /, **fields: Any) -> Manifest:
    return job(checkpoint=given | fields)


def _claim(**fields: Any) -> Manifest:
    changed = {name: value for name, value in (CLAIM["spec"] | fields).items() if value is not None}
    return job(checkpoint={"volume": {"volumeClaimTemplate": {"spec": changed}}})


def _volume(**source: Manifest) -> Manifest:
    return job(checkpoint={"volume": source})


# (what is wrong, the manifest, the field, who refuses it)
BAD: list[tuple[str, Manifest, str, str]] = [
    ("no replicas", job(replicas=0), "spec.replicas", API),
    ("fewer than none", job(replicas=-1), "spec.replicas", API),
    ("more than a cluster has", job(replicas=10_001), "spec.replicas", API),
    ("replicas in words", job(replicas="two"), "spec.replicas", API),
    ("half a replica", job(replicas=1.5), "spec.replicas", API),
    ("elastic without a bound", job(elastic={"minReplicas": 1}), "elastic.maxReplicas", API),
    (
        "fewer than none again",
        job(elastic={"minReplicas": 0, "maxReplicas": 2}),
        "minReplicas",
        API,
    ),
    (
        "nothing between the bounds",
        job(elastic={"minReplicas": 3, "maxReplicas": 2}),
        "spec.elastic.minReplicas",
        API,
    ),
    ("beyond its bounds", job(elastic={"maxReplicas": 1}), "spec.replicas", API),
    (
        "below its bounds",
        job(elastic={"minReplicas": 3, "maxReplicas": 4}),
        "spec.replicas",
        API,
    ),
    ("no processes", job(processesPerReplica=0), "spec.processesPerReplica", API),
    ("processes in words", job(processesPerReplica="many"), "spec.processesPerReplica", API),
    ("a misspelt field", job(replica=2), "spec.replica", API),
    ("a misspelt field inside", job(network={"prot": 1}), "spec.network.prot", API),
    ("no template", _without_template(), "spec.template", API),
    (
        "a pod's field beside it",
        job(template={"spec": {"containers": [CONTAINER]}, "volumes": []}),
        "spec.template.volumes",
        API,
    ),
    ("more than there is time", job(activeDeadlineSeconds=2**31), "activeDeadlineSeconds", API),
    ("a template without a pod", job(template={}), "spec.template.spec", API),
    ("a pod without containers", job(**_pod(containers=[])), f"{POD}.containers", API),
    ("no list of containers", job(template={"spec": {}}), f"{POD}.containers", API),
    (
        "a container without a name",
        job(**_pod(containers=[{"image": "x"}])),
        f"{POD}.containers[0].name",
        API,
    ),
    ("the kubelet's restarts", job(**_pod(restartPolicy="Always")), f"{POD}.restartPolicy", API),
    ("a hostname", job(**_pod(hostname="me")), f"{POD}.hostname", API),
    ("a subdomain", job(**_pod(subdomain="us")), f"{POD}.subdomain", API),
    ("a container with an empty name", job({"name": ""}), f"{POD}.containers[0].name", API),
    ("a command in one string", job({"command": "train"}), f"{POD}.containers[0].command", API),
    ("a variable without a name", job({"env": [{"value": "1"}]}), ENV, API),
    ("a number as a value", job({"env": [{"name": "A", "value": 1}]}), "env[0].value", API),
    ("a mount in words", job({"volumeMounts": ["data"]}), "containers[0].volumeMounts[0]", API),
    ("no amount of a GPU", job(_limits("lots")), f"{LIMITS}[nvidia.com/gpu]", OPERATOR),
    ("less than no GPU", job(_limits("-1")), f"{LIMITS}[nvidia.com/gpu]", OPERATOR),
    ("more GPUs than a node has", job(_limits("1M")), LIMITS, OPERATOR),
    (
        "more processes than GPUs",
        job(_limits(2), processesPerReplica=3),
        "spec.processesPerReplica",
        OPERATOR,
    ),
    ("a grace in words", job(**_pod(terminationGracePeriodSeconds="long")), "terminationG", API),
    ("a grace below 0", job(**_pod(terminationGracePeriodSeconds=-1)), "terminationG", API),
    ("volumes by name", job(**_pod(volumes={"data": {}})), f"{POD}.volumes", API),
    ("an affinity in words", job(**_pod(affinity="close")), f"{POD}.affinity", API),
    (
        "a label that is a number",
        job(template={"metadata": {"labels": {"a": 1}}, "spec": {"containers": [CONTAINER]}}),
        "spec.template.metadata.labels",
        API,
    ),
    ("a rank of one's own", job(**_env("RANK")), ENV, OPERATOR),
    ("a world of one's own", job(**_env("WORLD_SIZE")), ENV, OPERATOR),
    ("another address", job(**_env("MASTER_ADDR")), ENV, OPERATOR),
    ("torchrun's variables", job(**_env("PET_NNODES")), ENV, OPERATOR),
    ("the job's variables", job(**_env("ACCELERATEDJOB_UID")), ENV, OPERATOR),
    ("a world for each replica", job(**_env("PET_STANDALONE")), ENV, OPERATOR),
    ("a precision of no device", job(runtime={"mixedPrecision": "fp12"}), "mixedPrecision", API),
    (
        "no accumulation",
        job(runtime={"gradientAccumulationSteps": 0}),
        "spec.runtime.gradientAccumulationSteps",
        API,
    ),
    ("an unknown generator", job(runtime={"rngTypes": ["dice"]}), "spec.runtime.rngTypes[0]", API),
    ("a seed below zero", job(runtime={"seed": -1}), "spec.runtime.seed", API),
    ("a seed too large", job(runtime={"seed": 2**32}), "spec.runtime.seed", API),
    ("a flag in words", job(runtime={"evenBatches": "yes"}), "spec.runtime.evenBatches", API),
    ("an unknown backend", job(runtime={"backend": "smoke"}), "spec.runtime.backend", API),
    ("suspend in words", job(suspend="no"), "spec.suspend", API),
    ("no controller's name", job(managedBy="me"), "spec.managedBy", API),
    ("a long name", job(managedBy="a.b/" + "c" * 60), "spec.managedBy", API),
    ("no time at all", job(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", API),
    ("a time in words", job(activeDeadlineSeconds="1h"), "spec.activeDeadlineSeconds", API),
    ("no time to start", job(startupDeadlineSeconds=0), "spec.startupDeadlineSeconds", API),
    ("deleted before it ends", job(ttlSecondsAfterFinished=-1), "ttlSecondsAfterFinished", API),
    (
        "restarts below zero",
        job(failurePolicy={"maxRestarts": -1}),
        "spec.failurePolicy.maxRestarts",
        API,
    ),
    (
        "a backoff that shrinks",
        job(failurePolicy={"backoff": {"initialSeconds": 9, "maxSeconds": 3}}),
        "spec.failurePolicy.backoff.initialSeconds",
        API,
    ),
    (
        "a rule that holds for everything",
        job(failurePolicy={"rules": [{"action": "Fail"}]}),
        "spec.failurePolicy.rules[0]",
        API,
    ),
    ("a rule without an action", _rule(exitCodes=[3]), f"{RULE}.action", API),
    ("an action that is none", _rule(action="Retry", exitCodes=[3]), f"{RULE}.action", API),
    ("success as a failure", _rule(action="Fail", exitCodes=[0]), f"{RULE}.exitCodes[0]", API),
    ("a code too large", _rule(action="Fail", exitCodes=[256]), f"{RULE}.exitCodes[0]", API),
    ("no code at all", _rule(action="Fail", exitCodes=[]), f"{RULE}.exitCodes", API),
    ("a signal by name", _rule(action="Fail", signals=["SIGKILL"]), f"{RULE}.signals[0]", API),
    ("a reason in words", _rule(action="Fail", reasons=["no luck"]), f"{RULE}.reasons[0]", API),
    ("a replica below 0", _rule(action="Fail", replicaIndexes=[-1]), f"{RULE}.replica", API),
    (
        "more rules than anybody reads",
        job(failurePolicy={"rules": [{"action": "Fail", "signals": [9]}] * 33}),
        "spec.failurePolicy.rules",
        API,
    ),
    ("an unknown cleaning", job(cleanPodPolicy="Some"), "spec.cleanPodPolicy", API),
    ("a gang that is none", job(scheduling={"gang": "crowd"}), "spec.scheduling.gang", API),
    ("a queue of nobody's", job(scheduling={"queue": "q"}), "spec.scheduling.queue", API),
    (
        "a queue that has none",
        job(scheduling={"gang": "coscheduling", "queue": "q"}),
        "spec.scheduling.queue",
        API,
    ),
    ("no queue to wait in", job(scheduling={"gang": "kueue"}), "spec.scheduling.queue", API),
    (
        "a queue with capitals",
        job(scheduling={"gang": "kueue", "queue": "Q"}),
        "spec.scheduling.queue",
        API,
    ),
    (
        "a class in words",
        job(scheduling={"priorityClassName": "very high"}),
        "spec.scheduling.priorityClassName",
        API,
    ),
    (
        "two classes",
        job(scheduling={"priorityClassName": "low"}, **_pod(priorityClassName="high")),
        "spec.scheduling.priorityClassName",
        API,
    ),
    (
        "no label's key",
        job(scheduling={"exclusiveTopologyKey": "a rack"}),
        "spec.scheduling.exclusiveTopologyKey",
        API,
    ),
    ("one port for two", job(network={"port": 29400}), "spec.network.progressPort", API),
    ("a wall in words", job(network={"isolate": "yes"}), "spec.network.isolate", API),
    ("an unknown sharding", job(runtime={"sharding": "zero3"}), "spec.runtime.sharding", API),
    ("a port of the system's", job(network={"port": 80}), "spec.network.port", API),
    ("a port that is none", job(network={"port": 65536}), "spec.network.port", API),
    ("no memory", job(sharedMemory={"sizeLimit": "0Gi"}), "spec.sharedMemory.sizeLimit", API),
    ("too many processes", job(processesPerReplica=1025), "spec.processesPerReplica", API),
    (
        "no amount of memory",
        job(sharedMemory={"sizeLimit": "lots"}),
        "spec.sharedMemory.sizeLimit",
        API,
    ),
    ("checkpoints nowhere", job(checkpoint={}), CHECKPOINT, API),
    ("checkpoints at two places", _checkpoint(STORE, **TEMPLATE), CHECKPOINT, API),
    ("a volume of no kind", job(checkpoint={"volume": {}}), f"{CHECKPOINT}.volume", API),
    (
        "a volume of two kinds",
        job(checkpoint={"volume": {"nfs": {}, "hostPath": {"path": "/srv"}}}),
        f"{CHECKPOINT}.volume",
        API,
    ),
    (
        "a volume that ends with its pod",
        job(checkpoint={"volume": {"emptyDir": {}}}),
        f"{CHECKPOINT}.volume.emptyDir",
        API,
    ),
    (
        "a claim without a name",
        job(checkpoint={"volume": {"persistentVolumeClaim": {}}}),
        f"{CHECKPOINT}.volume.persistentVolumeClaim.claimName",
        API,
    ),
    ("a claim without a mode", _claim(accessModes=None), "accessModes", API),
    ("a claim of no mode", _claim(accessModes=[]), "accessModes", API),
    ("a claim of an unknown mode", _claim(accessModes=["ReadWrite"]), "accessModes[0]", API),
    ("a claim to read", _claim(accessModes=["ReadOnlyMany"]), "accessModes", API),
    ("a claim of a device", _claim(volumeMode="Block"), "volumeMode", API),
    ("an export to read", _volume(nfs={"server": "s", "readOnly": True}), "nfs.readOnly", API),
    ("a bucket to read", _volume(csi={"driver": "d", "readOnly": True}), "csi.readOnly", API),
    ("read or not", _volume(nfs={"server": "s", "readOnly": "no"}), "nfs.readOnly", API),
    ("a socket", _volume(hostPath={"path": "/srv", "type": "Socket"}), "hostPath.type", API),
    ("a claim of no size", _claim(resources=None), "resources", API),
    ("a store without a scheme", _checkpoint({"uri": "bucket"}), f"{CHECKPOINT}.uri", API),
    ("a store without a bucket", _checkpoint({"uri": "s3:///x"}), f"{CHECKPOINT}.uri", API),
    ("a directory as a store", _checkpoint({"uri": "file://x"}), f"{CHECKPOINT}.uri", API),
    ("memory as a store", _checkpoint({"uri": "memory://x"}), f"{CHECKPOINT}.uri", API),
    ("a long store", _checkpoint({"uri": "s3://" + "b" * 1020}), f"{CHECKPOINT}.uri", API),
    ("a Secret for a volume", _checkpoint(TEMPLATE, secretName="s"), "secretName", API),
    ("a Secret with a slash", _checkpoint(STORE, secretName="a/b"), "secretName", API),
    ("a path from the root", _checkpoint(STORE, path="/a"), f"{CHECKPOINT}.path", API),
    ("a path upwards", _checkpoint(STORE, path="a/../b"), f"{CHECKPOINT}.path", API),
    ("a path with an empty part", _checkpoint(STORE, path="a//b"), f"{CHECKPOINT}.path", API),
    ("a path with a variable", _checkpoint(STORE, path="$(RANK)"), f"{CHECKPOINT}.path", API),
    (
        "two cadences",
        _checkpoint(STORE, everySteps=1, everySeconds=1),
        CHECKPOINT,
        API,
    ),
    ("a third cadence", _checkpoint(STORE, everySteps=1, continuous=True), CHECKPOINT, API),
    ("never", _checkpoint(STORE, continuous=False), f"{CHECKPOINT}.continuous", API),
    ("every 0 steps", _checkpoint(STORE, everySteps=0), f"{CHECKPOINT}.everySteps", API),
    ("every half second", _checkpoint(STORE, everySeconds=0.5), "everySeconds", API),
    ("none to keep", _checkpoint(STORE, keep=0), f"{CHECKPOINT}.keep", API),
    ("a size of memory", _checkpoint(STORE, inMemory="1Gi"), f"{CHECKPOINT}.inMemory", API),
    ("an unknown end", _checkpoint(TEMPLATE, reclaimPolicy="Recycle"), "reclaimPolicy", API),
    ("files to delete", _checkpoint(STORE, reclaimPolicy="Delete"), "reclaimPolicy", API),
    (
        "another's claim to delete",
        job(
            checkpoint={
                "volume": {"persistentVolumeClaim": {"claimName": "shared"}},
                "reclaimPolicy": "Delete",
            }
        ),
        "reclaimPolicy",
        API,
    ),
    (
        "a volume with the name of ours",
        job(checkpoint=TEMPLATE, **_pod(volumes=[{"name": "checkpoint", "emptyDir": {}}])),
        f"{POD}.volumes[0].name",
        OPERATOR,
    ),
    (
        "a mount within ours",
        job(
            {"volumeMounts": [{"name": "data", "mountPath": "/checkpoints//data/"}]},
            checkpoint=TEMPLATE,
        ),
        f"{POD}.containers[0].volumeMounts[0].mountPath",
        OPERATOR,
    ),
    ("a name too long", _named("a" * 51), "metadata.name", API),
    ("a name that begins with a digit", _named("7b"), "metadata.name", API),
    ("a name with a dot", _named("a.b"), "metadata.name", API),
]

GOOD: list[tuple[str, Manifest]] = [
    ("the least", job()),
    ("processes as a number", job(processesPerReplica=4)),
    ("a job made suspended", job(suspend=True)),
    ("the longest name", _named("a" * 50)),
    (
        "the null that generators write",
        job(
            template={
                "metadata": {"creationTimestamp": None, "labels": {"a": "b"}},
                "spec": {"containers": [CONTAINER | {"resources": {}}]},
            }
        ),
    ),
    ("what torchrun reads besides", job(**_env("PET_LOG_DIR"))),
    ("checkpoints in a claim of the job's", _checkpoint(TEMPLATE, everySeconds=60)),
    ("newer checkpoints in memory", _checkpoint(TEMPLATE, inMemory=True)),
    (
        "checkpoints in a claim that goes with the job",
        _checkpoint(TEMPLATE, reclaimPolicy="Delete", continuous=True),
    ),
    (
        "checkpoints in an existing claim, beside other volumes",
        job(
            checkpoint={
                "volume": {"persistentVolumeClaim": {"claimName": "shared"}},
                "path": "team_a/bert.v2",
            },
            **_pod(
                containers=[CONTAINER | {"volumeMounts": [MOUNT]}],
                volumes=[{"name": "x", "emptyDir": {}}],
            ),
        ),
    ),
    (
        "devices by a claim",
        job(
            **_pod(
                resourceClaims=[{"name": "gpus", "resourceClaimTemplateName": "four-gpus"}],
                containers=[CONTAINER | {"resources": {"claims": [{"name": "gpus"}]}}],
            )
        ),
    ),
    (
        "everything",
        job(
            replicas=3,
            elastic={"minReplicas": 3, "maxReplicas": 3},
            processesPerReplica="auto",
            runtime={
                "mixedPrecision": "bf16",
                "seed": 2**32 - 1,
                "rngTypes": ["generator"],
                "sharding": "fsdp",
                "dispatchBatches": False,
            },
            failurePolicy={
                "maxRestarts": 0,
                "backoff": {"initialSeconds": 0, "maxSeconds": 0},
                "rules": [
                    {
                        "action": "RestartFree",
                        "exitCodes": [1, 255],
                        "signals": [9],
                        "reasons": ["OOMKilled", "example.com/Reason"],
                        "podConditions": ["DisruptionTarget"],
                        "replicaIndexes": [0],
                    }
                ],
            },
            checkpoint=STORE
            | {"secretName": "s3.credentials", "path": "a/b", "everySteps": 100, "keep": 1},
            managedBy="kueue.x-k8s.io/multikueue",
            activeDeadlineSeconds=1,
            startupDeadlineSeconds=2**31 - 1,
            ttlSecondsAfterFinished=0,
            cleanPodPolicy="None",
            scheduling={
                "gang": "kueue",
                "queue": "q",
                "priorityClassName": "high",
                "exclusiveTopologyKey": "example.com/rack",
            },
            network={"port": 1024, "progressPort": 1025, "isolate": True},
            sharedMemory={"sizeLimit": "1.5Gi"},
        ),
    ),
]
