"""The Prometheus metrics of the operator; the values of each label are bounded.

The names of jobs and namespaces are in the log and in the status of each job, not in labels.
"""

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from acceleratedjob.api.names import Reason

disable_created_metrics()  # type: ignore[no-untyped-call]  # the `_created` series are not used
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_PASS_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELAY_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

PASS_DURATION = Histogram(
    "accelerated_job_pass_duration_seconds",
    "One reconcile of one job: observe, plan, write the status, execute the plan's steps.",
    buckets=_PASS_BUCKETS,
    registry=REGISTRY,
)
PASS_ERRORS = Counter(
    "accelerated_job_pass_errors_total",
    "Reconciles that ended in an error; each is retried.",
    registry=REGISTRY,
)
QUEUE_DELAY = Histogram(
    "accelerated_job_queue_delay_seconds",
    "The time that a job waits in the work queue.",
    buckets=_DELAY_BUCKETS,
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("accelerated_job_queue_depth", "Jobs in the work queue.", registry=REGISTRY)
WRITES = Counter(
    "accelerated_job_writes_total",
    "Write requests to the API server.",
    ["verb", "kind"],
    registry=REGISTRY,
)
API_ERRORS = Counter(
    "accelerated_job_api_errors_total",
    "Failed requests to the API server: 4xx, 5xx, timeout, or connection.",
    ["code"],
    registry=REGISTRY,
)
JOBS = Gauge(
    "accelerated_job_jobs",
    "Jobs by phase, reported by the leader only.",
    ["phase"],
    registry=REGISTRY,
)
RESTARTS = Counter(
    "accelerated_job_restarts_total",
    "New attempts after a failure, by the reason of the failure.",
    ["reason"],
    registry=REGISTRY,
)
RESTARTS_IN_PLACE = Counter(
    "accelerated_job_restarts_in_place_total",
    "Lives that have begun in the pods of a running attempt, after a failure of a process.",
    registry=REGISTRY,
)
POLLS = Counter(
    "accelerated_job_progress_polls_total",
    "Requests for the progress of a job, by result: ok, invalid, stale, timeout or unreachable.",
    ["result"],
    registry=REGISTRY,
)
LEADER = Gauge("accelerated_job_leader", "1 while this process may write.", registry=REGISTRY)
WATCH_SILENCE = Gauge(
    "accelerated_job_watch_silence_seconds",
    "The largest number of seconds for which a watch has received nothing.",
    registry=REGISTRY,
)

OTHER = "Other"
# Sources: the kubelet's reasons of containers and pods, those of the condition DisruptionTarget.
_REASONS = frozenset(Reason) | {
    "ContainerCannotRun",
    "ContainerStatusUnknown",
    "DeadlineExceeded",
    "DeletionByPodGC",
    "DeletionByTaintManager",
    "DisruptionTarget",
    "Error",
    "Evicted",
    "EvictionByEvictionAPI",
    "NodeLost",
    "NodeShutdown",
    "OOMKilled",
    "Preempting",
    "PreemptionByScheduler",
    "Shutdown",
    "StartError",
    "Terminated",
    "TerminationByKubelet",
    "UnexpectedAdmissionError",
}


def restart_reason(reason: str) -> str:
    """Return the label for a reason; a reason that some controller invented is `Other`.

    >>> restart_reason("OOMKilled"), restart_reason("quota of team 7 exceeded")
    ('OOMKilled', 'Other')
    """
    return reason if reason in _REASONS else OTHER


def status_class(status: int) -> str:
    """Return the class of an HTTP status.

    >>> status_class(409)
    '4xx'
    """
    return f"{status // 100}xx"


def names() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the type and the labels of each of our metrics, by its name in Prometheus."""
    own: list[Any] = [value for value in globals().values() if hasattr(value, "_labelnames")]
    found = {}
    for metric in own:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, tuple(metric._labelnames))  # noqa: SLF001  # has no public name
    return found
