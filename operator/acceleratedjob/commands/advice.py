"""What each reason means, and what a person can do about it.

docs/troubleshooting.md has the same tables; tests/contract/test_troubleshooting.py holds them
together, and to `api.Reason`.
"""

from acceleratedjob.api.names import Reason

NOTHING = "Nothing."
_DESCRIBE_POD = "`kubectl describe pod POD` shows the kubelet's events."
_IMAGE = "Check the image's name, its tag, and `imagePullSecrets`; a node must reach the registry."
_AGAIN = "Nothing: the restart is not counted. A script that saves checkpoints loses less work."
_RULE = "See the job's last failure; `spec.failurePolicy` decides what follows from one."

# reason -> what it means, what to do
ADVICE: dict[str, tuple[str, str]] = {
    # of conditions and events
    Reason.ALL_SCHEDULED: ("All pods have a node.", NOTHING),
    Reason.WAITING_FOR_NODES: ("Some pods have no node.", "See `status.pending`."),
    Reason.ALL_READY: ("All replicas are up, or have done their work.", NOTHING),
    Reason.WAITING_FOR_REPLICAS: ("Some replicas are not up.", "See `status.pending`."),
    Reason.SUSPENDED: (
        "`spec.suspend` is true: by its author, or by a queue.",
        "Set `spec.suspend` to false, or wait for the queue that has set it.",
    ),
    Reason.RESUMED: ("`spec.suspend` is no longer true.", NOTHING),
    Reason.FINISHED: ("The job is over.", NOTHING),
    Reason.SUCCEEDED: ("All replicas have ended with exit code 0.", NOTHING),
    Reason.RESTARTING: ("An attempt has failed, and the next one begins.", _RULE),
    Reason.RESIZING: ("The next attempt has another number of replicas.", NOTHING),
    Reason.SPEC_CHANGED: (
        "The spec was changed while the job was suspended, and the next attempt is made from it.",
        NOTHING,
    ),
    Reason.NAME_TAKEN: (
        "A pod of a deleted job with the same name does not stop, so that its name is not free.",
        "Nothing: the next attempt has other names. If the pod's node is gone, delete the Node.",
    ),
    Reason.INVALID_SPEC: (
        (
            "The job cannot be run as it is written, or the API server refuses its pods. An "
            "attempt that runs already goes on."
        ),
        (
            "Correct the field that the message names: a job that has failed is deleted and "
            "applied again, one that runs is suspended first."
        ),
    ),
    Reason.ACCEPTED: ("The spec was refused for a time, and is accepted again.", NOTHING),
    Reason.FAILURE_POLICY: (
        "A rule of `spec.failurePolicy.rules` says Fail.",
        "See the failure, and the rule that the message names.",
    ),
    Reason.CANNOT_START: (
        "The image or the container's configuration is wrong, so that no restart would help.",
        "Correct what the message names, delete the job and apply it again.",
    ),
    Reason.DEADLINE_EXCEEDED: (
        (
            "The job was not over within `spec.activeDeadlineSeconds`, or a pod within that of its "
            "template."
        ),
        "Raise it, or find out what took so long.",
    ),
    Reason.STARTUP_DEADLINE_EXCEEDED: (
        "Not all replicas were up within `spec.startupDeadlineSeconds`.",
        "See what the message says they waited for; raise the deadline if that takes longer.",
    ),
    Reason.MAX_RESTARTS_EXCEEDED: (
        "The attempts that count have failed more often than `spec.failurePolicy.maxRestarts`.",
        "Correct what the failures have in common; then delete the job and apply it again.",
    ),
    Reason.REPAIRED: (
        "The job's Service or NetworkPolicy was changed, or lacked its port; it was created anew.",
        "See who changes it: the operator's work ends where another's begins.",
    ),
    Reason.DEVICES_NOT_COUNTED: (
        "`spec.processesPerReplica` is auto, and the pods may have devices that it cannot count.",
        "Set `spec.processesPerReplica` to the number of devices in a pod.",
    ),
    # why pods wait
    Reason.UNSCHEDULABLE: (
        "No node has what the pod asks for.",
        (
            "`kubectl describe nodes` shows what is free: ask for fewer devices or less memory, "
            "check node selectors and tolerations, or add nodes."
        ),
    ),
    Reason.NOT_SCHEDULED: (
        "No scheduler has tried to find a node for the pod.",
        (
            "If it lasts: is the scheduler that the message names installed, and do the claims "
            "exist? `kubectl describe pod POD` shows events."
        ),
    ),
    Reason.SCHEDULING_GATED: (
        "A queue, such as Kueue's, holds the pod.",
        "Wait, or see the queue's quota: `kubectl get workloads,localqueues`.",
    ),
    Reason.REFUSED: (
        "The API server does not take an object now: for a quota, or a webhook that is away.",
        (
            "The message names the quota (`kubectl describe resourcequota`) or the webhook; it is "
            "tried again by itself."
        ),
    ),
    Reason.TERMINATING: (
        "A pod of an earlier attempt has not stopped within its grace period.",
        "Nothing: it is waited for 30 s more. If the pod's node is gone, delete the Node.",
    ),
    Reason.CONTAINER_CREATING: (
        "The pod has a node, and its container is not there yet.",
        f"A large image takes minutes. {_DESCRIBE_POD} A volume that cannot be mounted is there.",
    ),
    Reason.INITIALIZING: (
        "An init container has not ended.",
        "`kubectl logs POD -c INIT_CONTAINER` shows what it does.",
    ),
    Reason.NOT_READY: (
        "The training container runs, and its readiness probe or a native sidecar is not ready.",
        "See the probe, and the logs of the container that the message names.",
    ),
    "CrashLoopBackOff": (
        "A sidecar ends again and again.",
        "`kubectl logs POD -c CONTAINER --previous` shows why.",
    ),
    "ImagePullBackOff": ("The image cannot be pulled.", _IMAGE),
    "ErrImagePull": ("The image cannot be pulled.", _IMAGE),
    "ErrImageNeverPull": (
        "The image is not on the node, and `imagePullPolicy` is Never.",
        "Change the policy, or load the image onto the nodes.",
    ),
    "InvalidImageName": ("The image's name is none.", "Correct it."),
    "ImageInspectError": ("The node cannot read the image.", _DESCRIBE_POD),
    "CreateContainerConfigError": (
        "A Secret or a ConfigMap that the container refers to is not there.",
        "Create what the message names, or correct its name.",
    ),
    "CreateContainerError": ("The container cannot be made.", _DESCRIBE_POD),
    # why an attempt has failed
    Reason.CONTAINER_FAILED: (
        "The training has failed, and the kubelet says no more.",
        "See the message, and `acceleratedjob logs`.",
    ),
    Reason.POD_DELETED: ("Someone has deleted a pod.", _AGAIN),
    "Error": (
        "The training has ended with an exit code other than 0.",
        "See the traceback, and `acceleratedjob logs`.",
    ),
    "OOMKilled": (
        "The container has used more memory than its limit; /dev/shm counts.",
        "Raise the memory limit, or lower the batch size or the data loader's workers.",
    ),
    "Evicted": (
        "The node was short of memory or disk, or the pod used more disk than it may.",
        "Ask for what the training uses, also `ephemeral-storage`.",
    ),
    "StartError": ("The command cannot be started.", "Check `command` and the image."),
    "ContainerCannotRun": ("The command cannot be started.", "Check `command` and the image."),
    "ContainerStatusUnknown": ("The node does not know how the container ended.", _DESCRIBE_POD),
    "UnexpectedAdmissionError": (
        "The node had not what the scheduler thought, often a device.",
        "Check the node's device plugin.",
    ),
    "PreemptionByScheduler": (
        "A pod of a higher priority needed the place.",
        f"{_AGAIN} A higher `priorityClassName` keeps the place.",
    ),
    "DeletionByTaintManager": ("The node is lost, or was tainted.", _AGAIN),
    "EvictionByEvictionAPI": ("The node is drained.", _AGAIN),
    "DeletionByPodGC": ("The node is gone.", _AGAIN),
    "TerminationByKubelet": ("The node shuts down, or needs the place.", _AGAIN),
    "NodeShutdown": ("The node shuts down.", _AGAIN),
    "NodeLost": ("The node is lost.", _AGAIN),
    "Preempting": ("The node needs the place for a critical pod.", _AGAIN),
}

# exception, without its module -> the same
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "OutOfMemoryError": (
        "The accelerator's memory is full.",
        "Lower the batch size and raise `gradientAccumulationSteps`, use bf16, or shard the model.",
    ),
    "MissingProcesses": (
        "Other processes did not come to a collective.",
        "The message names them: see their logs.",
    ),
    "WorldError": (
        "The environment does not describe the job's world.",
        "Start the script with `python -m runtime.launch SCRIPT`.",
    ),
    "DistBackendError": ("A collective has failed.", "See the other ranks' logs: one may be gone."),
    "ModuleNotFoundError": ("The image lacks a package.", "Add it to the image."),
}


def advise(reason: str, exception: str | None = None) -> str:
    """What to do about a reason; an exception that is known says more."""
    name = (exception or "").rpartition(".")[2]
    found = EXCEPTIONS.get(name) or ADVICE.get(reason)
    return found[1] if found and found[1] != NOTHING else ""
