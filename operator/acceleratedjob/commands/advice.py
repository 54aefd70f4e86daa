"""What each reason means, and what a user can do about it.

docs/troubleshooting.md shows the same tables; tests/contract/test_troubleshooting.py compares them,
and checks that every `api.Reason` is explained.
"""

from acceleratedjob.api.names import Reason

NOTHING = "Nothing."
_DESCRIBE_POD = "`kubectl describe pod POD` shows the kubelet's events."
_IMAGE = (
    "Check the name and tag of the image, `imagePullSecrets`, and that the nodes can reach the "
    "registry."
)
_AGAIN = "Nothing: the restart does not count. A script that saves checkpoints loses less work."
_RULE = "See the job's last failure; `spec.failurePolicy` decides what follows a failure."

# reason -> what it means, what to do
ADVICE: dict[str, tuple[str, str]] = {
    # conditions and events
    Reason.ALL_SCHEDULED: ("All pods are scheduled.", NOTHING),
    Reason.WAITING_FOR_NODES: ("Some pods are not scheduled.", "See `status.pending`."),
    Reason.ALL_READY: ("All replicas are up, or have finished.", NOTHING),
    Reason.WAITING_FOR_REPLICAS: ("Some replicas are not up.", "See `status.pending`."),
    Reason.SUSPENDED: (
        "`spec.suspend` is true: a user or a queue has suspended the job.",
        "Set `spec.suspend` to false, or wait until the queue admits the job.",
    ),
    Reason.RESUMED: ("`spec.suspend` is no longer true.", NOTHING),
    Reason.WENT_ON: (
        "A later attempt has begun to train, at the step of the newest checkpoint.",
        NOTHING,
    ),
    Reason.RESTARTED_IN_PLACE: (
        "A process has failed, and the processes of all pods were started again in their pods.",
        "If it happens again, see the failure: the message names the replica.",
    ),
    Reason.RECENT: ("The newest checkpoint on storage is not older than two intervals.", NOTHING),
    Reason.OVERDUE: (
        "The newest checkpoint on storage is older than two intervals of `spec.checkpoint`.",
        "Read the log of rank 0: it says why a checkpoint cannot be written, or is not due.",
    ),
    Reason.NO_CHECKPOINT: (
        "No checkpoint is on storage yet.",
        "If the training runs: use a loop over `accelerator.epochs`, and read the log of rank 0.",
    ),
    Reason.GRACE_TOO_SHORT: (
        "A stop needs more time for its checkpoint than the grace period of the pods.",
        "Set `terminationGracePeriodSeconds` in `spec.template.spec` as the message says.",
    ),
    Reason.FINISHED: ("The job has finished.", NOTHING),
    Reason.SUCCEEDED: ("All replicas have exited with code 0.", NOTHING),
    Reason.RESTARTING: ("An attempt has failed, and the next one starts.", _RULE),
    Reason.RESIZING: ("The number of replicas has changed, which starts a new attempt.", NOTHING),
    Reason.SPEC_CHANGED: (
        "The spec was changed while the job was suspended; the next attempt uses the new spec.",
        NOTHING,
    ),
    Reason.NAME_TAKEN: (
        "A pod of a deleted job with the same name does not stop, so its name is still in use.",
        (
            "Nothing: the pods of the next attempt have other names. If the node of the old pod is "
            "gone, delete the Node object."
        ),
    ),
    Reason.INVALID_SPEC: (
        (
            "The spec is invalid, or the API server rejects its pods. An attempt that already runs "
            "continues."
        ),
        (
            "Correct the field that the message names: delete and re-create a failed job, or "
            "suspend a running job first."
        ),
    ),
    Reason.ACCEPTED: ("The spec was invalid, and is valid again.", NOTHING),
    Reason.FAILURE_POLICY: (
        "A rule of `spec.failurePolicy.rules` with the action Fail matched the failure.",
        "See the failure and the rule that the message names.",
    ),
    Reason.CANNOT_START: (
        "The image or the configuration of the container is wrong, so a restart would not help.",
        "Correct what the message names, then delete and re-create the job.",
    ),
    Reason.DEADLINE_EXCEEDED: (
        (
            "The job did not finish within `spec.activeDeadlineSeconds`, or a pod within the "
            "`activeDeadlineSeconds` of its template."
        ),
        "Raise the deadline, or find out what took so long.",
    ),
    Reason.STARTUP_DEADLINE_EXCEEDED: (
        "Not all replicas were up within `spec.startupDeadlineSeconds`.",
        "The message says what the replicas waited for. Raise the deadline if they need more time.",
    ),
    Reason.MAX_RESTARTS_EXCEEDED: (
        "More attempts have failed than `spec.failurePolicy.maxRestarts` allows.",
        "Correct the common cause of the failures, then delete and re-create the job.",
    ),
    Reason.HANG: (
        ("The runtime has found that no rank comes forward; the message names the rank to blame."),
        (
            "Look at the stacks in the log of that rank. `spec.stallDeadlineSeconds` "
            "restarts such attempts."
        ),
    ),
    Reason.STRAGGLER: (
        "The runtime has found a rank that is slower than the others.",
        "Compare the node of the rank that the message names with the others.",
    ),
    Reason.DIVERGENCE: (
        "The runtime has found ranks whose states differ.",
        ("Check the device of the rank that the message names, and go back to a checkpoint."),
    ),
    Reason.RECOVERED: ("What the runtime had found no longer holds.", NOTHING),
    Reason.ATTEMPT_ENDED: (
        "What the runtime had found was about an attempt that has ended.",
        NOTHING,
    ),
    Reason.STALLED: (
        (
            "The training has hung, or its progress port was silent, for "
            "`spec.stallDeadlineSeconds`."
        ),
        (
            "The message has the rank and the line. If the port was silent, check that the "
            "script uses the runtime and that NetworkPolicies let the operator connect."
        ),
    ),
    Reason.REPAIRED: (
        (
            "The job's Service or NetworkPolicy had been changed, or lacked its port; the operator "
            "re-created it."
        ),
        "Find out what changes the object: it must not fight with the operator.",
    ),
    Reason.DEVICES_NOT_COUNTED: (
        "`spec.processesPerReplica` is auto, but the pods may have devices that it cannot count.",
        "Set `spec.processesPerReplica` to the number of devices of a pod.",
    ),
    # why a pod waits
    Reason.UNSCHEDULABLE: (
        "No node has the resources that the pod requests, or matches its placement rules.",
        (
            "Request fewer devices or less memory, check node selectors and tolerations, or add "
            "nodes. `kubectl describe nodes` shows the free resources."
        ),
    ),
    Reason.NOT_SCHEDULED: (
        "No scheduler has tried to schedule the pod yet.",
        (
            "If this lasts, check that the scheduler that the message names is installed, and that "
            "the claims exist. `kubectl describe pod POD` shows the events."
        ),
    ),
    Reason.SCHEDULING_GATED: (
        "A queue, such as one of Kueue, has not admitted the pod yet.",
        "Wait, or check the quota of the queue: `kubectl get workloads,localqueues`.",
    ),
    Reason.REFUSED: (
        (
            "The API server rejects an object: because of a quota, a webhook, a permission that "
            "the operator lacks, or a name that another object has."
        ),
        (
            "Correct what the message names, such as the quota (`kubectl describe resourcequota`). "
            "The operator retries by itself."
        ),
    ),
    Reason.CHECKPOINT_NOT_SHARED: (
        "The volume of `spec.checkpoint` can be mounted on one node only.",
        "Use a storage class with `ReadWriteMany`, an object store, or one replica.",
    ),
    Reason.NO_PROGRESS: (
        "Three attempts in a row have ended at the same step with the same exception.",
        "See the traceback: a restart repeats the error. Correct the script or its data.",
    ),
    Reason.TERMINATING: (
        "A pod of an earlier attempt has not stopped within its grace period.",
        (
            "Nothing: the operator waits for 30 s more. If the node of the pod is gone, delete the "
            "Node object."
        ),
    ),
    Reason.CONTAINER_CREATING: (
        "The pod is scheduled, but its container does not exist yet.",
        f"Wait: a large image takes minutes. {_DESCRIBE_POD} They name volumes that fail to mount.",
    ),
    Reason.INITIALIZING: (
        "An init container still runs.",
        "`kubectl logs POD -c INIT_CONTAINER` shows what it does.",
    ),
    Reason.NOT_READY: (
        "The training container runs, but its readiness probe or a native sidecar is not ready.",
        "Check the probe and the logs of the container that the message names.",
    ),
    "CrashLoopBackOff": (
        "A sidecar crashes repeatedly.",
        "`kubectl logs POD -c CONTAINER --previous` shows why.",
    ),
    "ImagePullBackOff": ("The image cannot be pulled.", _IMAGE),
    "ErrImagePull": ("The image cannot be pulled.", _IMAGE),
    "ErrImageNeverPull": (
        "The image is not on the node, but `imagePullPolicy` is Never.",
        "Change the policy, or load the image onto the nodes.",
    ),
    "InvalidImageName": ("The image name is invalid.", "Correct it."),
    "ImageInspectError": ("The node cannot read the image.", _DESCRIBE_POD),
    "CreateContainerConfigError": (
        "A Secret or a ConfigMap that the container refers to does not exist.",
        "Create the object that the message names, or correct the reference.",
    ),
    "CreateContainerError": ("The container cannot be created.", _DESCRIBE_POD),
    # why an attempt failed
    Reason.CONTAINER_FAILED: (
        "The training container has failed, and the kubelet gives no other reason.",
        "See the message and `acceleratedjob logs`.",
    ),
    Reason.POD_DELETED: ("Somebody has deleted a pod.", _AGAIN),
    "Error": (
        "The training has exited with a code other than 0.",
        "See the traceback; if there is none, `acceleratedjob logs`.",
    ),
    "OOMKilled": (
        "The container has exceeded its memory limit, which includes /dev/shm.",
        "Raise the memory limit, or lower the batch size or the data loader's workers.",
    ),
    "Evicted": (
        "The node ran low on memory or disk space, or the pod exceeded its limit of disk space.",
        "Request the resources that the training uses, including `ephemeral-storage`.",
    ),
    "StartError": ("The command cannot be started.", "Check `command` and the image."),
    "ContainerCannotRun": ("The command cannot be started.", "Check `command` and the image."),
    "ContainerStatusUnknown": (
        "The node does not know how the container terminated.",
        _DESCRIBE_POD,
    ),
    "UnexpectedAdmissionError": (
        "The node no longer had the resources that the scheduler expected, often a device.",
        "Check the node's device plugin.",
    ),
    "PreemptionByScheduler": (
        "A pod with a higher priority needed the resources.",
        f"{_AGAIN} A higher `priorityClassName` prevents the preemption.",
    ),
    "DeletionByTaintManager": ("The node was lost or tainted.", _AGAIN),
    "EvictionByEvictionAPI": (
        "The pod was evicted, for example because its node is drained.",
        _AGAIN,
    ),
    "DeletionByPodGC": ("The node no longer exists.", _AGAIN),
    "TerminationByKubelet": ("The node shuts down, or needs the resources.", _AGAIN),
    "NodeShutdown": ("The node shuts down.", _AGAIN),
    "NodeLost": ("The node was lost.", _AGAIN),
    "Preempting": ("The node needs the resources for a critical pod.", _AGAIN),
}

# exception class, without its module -> what it means, what to do
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "OutOfMemoryError": (
        "The memory of the accelerator is full.",
        "Lower the batch size and raise `gradientAccumulationSteps`, use bf16, or shard the model.",
    ),
    "MissingProcesses": (
        "Other processes did not take part in a collective.",
        "See the logs of the processes that the message names.",
    ),
    "WorldError": (
        "The environment variables do not describe the world of the job, or it has too few GPUs.",
        "Do what the message says, mostly: start the script with `python -m runtime.launch`.",
    ),
    "DistBackendError": (
        "A collective has failed.",
        "See the logs of the other ranks: one of them may have failed.",
    ),
    "ModuleNotFoundError": ("The image lacks a package.", "Add it to the image."),
}


def advise(reason: str, exception: str | None = None) -> str:
    """Return what to do about a reason; a known exception takes precedence, as it says more."""
    name = (exception or "").rpartition(".")[2]
    found = EXCEPTIONS.get(name) or ADVICE.get(reason)
    return found[1] if found and found[1] != NOTHING else ""


# As ADVICE and EXCEPTIONS, where the processes of a job are on this machine.
_ON_THIS_MACHINE = {
    "Error": "Read what the replica wrote last, correct the script, and run the command again.",
    "StartError": "Correct `command` in the manifest, or set `--workdir`.",
    "ModuleNotFoundError": "Install the package into the environment of this program.",
    Reason.MAX_RESTARTS_EXCEEDED: "Correct the script, and run the command again.",
}


def next_step(reason: str, exception: str | None) -> str:
    """Return what to do about a failure on this machine."""
    name = (exception or "").rpartition(".")[2]
    here = _ON_THIS_MACHINE
    return here.get(name) or _known(name) or here.get(reason) or advise(reason) or here["Error"]


def _known(exception: str) -> str:
    found = EXCEPTIONS.get(exception)
    return found[1] if found else ""
