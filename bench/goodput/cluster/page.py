"""Renders docs/performance-cluster.md from the results; pure."""

import statistics
from collections.abc import Iterator, Sequence

from bench.goodput.cluster.faults import DISTURBANCES, LIMIT, LONGEST, NONE, STEP, Disturbance
from bench.goodput.cluster.manifests import RESTARTS, STALLS
from bench.goodput.cluster.notes import NOTES
from bench.goodput.cluster.results import Result, Stored
from bench.goodput.cluster.systems import BY_NAME, EVERY, SYSTEMS, WORKLOAD
from bench.goodput.outages import PARTS
from bench.goodput.workloads import STEP_LIMIT
from bench.page import NOTHING, row

PAGE = "performance-cluster.md"
NOT_MEASURED = "not measured"
COLUMNS = (
    "went on by itself",
    "next step of both ranks",
    "steps done again",
    "samples lost",
    "samples repeated",
    "pods replaced",
    "containers restarted",
    "equal bits",
    "load average",
)
HEAD = """# Faults in a cluster

<!-- Made by `python -m bench.goodput.cluster` from performance/cluster.json; do not edit. -->

A training of two pods on a real node is disturbed once, with this project and with two other ways
to run it on Kubernetes. [Goodput](performance-goodput.md) compares libraries without a cluster.

## How it is measured

    {command}

- {machine}
- A real control plane, kubelet and containerd run on this machine, which is the only node. Each of
  the two pods has one rank; the ranks communicate over gloo. A step takes about {step:.0f} ms, and
  a training has {steps} steps.
- The fault comes from the machine when both ranks have done step {at}: a signal to a process, or
  `kubectl delete pod` with the grace period of 30 s that pods have by default. The time is from
  there until both ranks have done the same step again, after the longest time without a step. That
  of a deletion includes the start of kubectl.
- A training that goes on writes when a process starts, has imported what it needs, joins the others
  and does a step. One that writes nothing for {limit:.0f} s after the fault needs a person, and is
  ended, as is one that does no step for {longest:.0f} s.
- For each step, a rank writes a record with its samples to a file on the node, by one write(2).
  Steps done again are the mean of the ranks. Equal bits: the final weights are those of the same
  script without a fault. The load average is that of the minutes before and at the end of a run:
  rows with another load are not comparable.
- The parts of the time are those of the rank that first does a step again: until something reacts,
  until the processes from before have ended, until the script has started and imported what it
  needs, until its ranks have joined each other, until the state is loaded, until a step is done.

## How each is set up

- **AcceleratedJob**: `python -m runtime.launch`, `checkpoint` on a hostPath volume, and
  `stallDeadlineSeconds: {stalls}`; all other fields have their defaults, which are a checkpoint
  after the other, and three restarts in place. The second row has `inPlaceRestarts: 0`: every
  failure replaces the pods, after the default backoff. The operator runs on the node.
- **Indexed Job**: two completions in parallel and a headless Service, as in [Kubernetes' task about
  pods that communicate](https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication/).
  `restartPolicy: OnFailure` and `backoffLimit: {restarts}`, so that a container that fails starts
  again in its pod; `podReplacementPolicy: Failed`, which [Kubernetes recommends for
  training](https://kubernetes.io/blog/2023/08/21/kubernetes-1-28-jobapi-update/): no two pods have
  the same index at a time.
- **JobSet** v0.10.1: one Job with `backoffLimit: 0`, so that a failed pod restarts the set,
  `failurePolicy.maxRestarts: {restarts}` and `network.enableDNSHostnames`, as in [its example for
  PyTorch](https://github.com/kubernetes-sigs/jobset/tree/main/site/static/examples/pytorch/gpu-training).
  The controller is built from its Go module and runs on this machine as an administrator, with its
  webhooks, so that they set the defaults of all other fields.
- The pods of Indexed Job and JobSet run the same command, which is that of [torch's
  documentation](https://docs.pytorch.org/docs/stable/elastic/quickstart.html) of fault-tolerant
  jobs: torchrun with `--max-restarts={restarts}` and a c10d rendezvous at pod 0. A failed process
  restarts all processes in their pods. The script uses Accelerate, calls `save_state` every
  {every} steps, and saves on SIGTERM. torchrun's timer ends a rank that has done no step for
  {patience:.0f} s, and `--shutdown-timeout=2` ends processes that do not stop after 2 s instead of
  30 s.
"""
BETTER = """
## What each does better

- An **Indexed Job** needs no controller beside Kubernetes. torchrun alone restarts its processes in
  place, whatever has created the pods.
- **JobSet** restarts the pods of several Jobs with different templates together, and its rules say
  after which failure the whole set restarts, or fails. It is a project of Kubernetes' SIGs. Newer
  versions have a [restart in
  place](https://github.com/kubernetes-sigs/jobset/tree/main/keps/467-InPlaceRestart) as an alpha
  feature, which needs a newer kubelet than that of this page.
- **AcceleratedJob** has a process in reserve in each pod, so that a rank starts again without its
  imports. It saves by itself, also when a pod is asked to stop, and says which rank hangs.
"""


def page(stored: Stored) -> str:
    """Return the whole page."""
    head = HEAD.format(
        command=stored.run.command if stored.run else "python -m bench.goodput.cluster run",
        machine=_machine(stored),
        step=1000 * WORKLOAD.step,
        steps=WORKLOAD.work.steps,
        at=STEP,
        limit=LIMIT,
        longest=LONGEST,
        stalls=STALLS,
        restarts=RESTARTS,
        every=EVERY,
        patience=STEP_LIMIT,
    )
    sections = (_section(one, stored.results) for one in DISTURBANCES)
    lines = [line for found in sections for line in found]
    return "\n".join([head, *lines, *_missing(stored)]) + BETTER


def _machine(stored: Stored) -> str:
    if stored.run is None or not stored.results:
        return f"Machine: {NOT_MEASURED}."
    run, loads = stored.run, [float(one.load_before) for one in stored.results]
    is_quiet = all(one.is_quiet for one in stored.results)
    quiet = "Nothing else ran on it" if is_quiet else "**Other programs ran on it**"
    return (
        f"Machine: {run.cores} cores, {run.processor}, {run.memory:.0f} GB; Python {run.python}, "
        f"torch {run.torch}, Accelerate {run.accelerate}.\n  {quiet}; the load average before a "
        f"run was {min(loads):.2f} to {max(loads):.2f}."
    )


def _section(one: Disturbance, results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines about a fault."""
    yield f"## {one.title}\n"
    yield row(["system", *COLUMNS])
    yield row(["---"] * (1 + len(COLUMNS)))
    for system in SYSTEMS:
        yield _row(system.name, one.name, results)
    yield "\nThe parts of the time, in seconds.\n"
    yield row(["system", *PARTS])
    yield row(["---"] * (1 + len(PARTS)))
    for system in SYSTEMS:
        yield row([system.title, *_parts(_of(results, system.name, one.name))])
    yield ""
    for system in SYSTEMS:
        note = NOTES.get((system.name, one.name))
        if note and _of(results, system.name, one.name):
            yield f"- {system.title}: {note}"
    yield ""


def _of(results: Sequence[Result], system: str, fault: str) -> list[Result]:
    return [one for one in results if (one.cell.system, one.cell.fault) == (system, fault)]


def _clean(results: Sequence[Result], script: str) -> list[Result]:
    """Return the runs of a script without a fault."""
    clean = (one for one in results if one.cell.fault == NONE)
    return [one for one in clean if BY_NAME[one.cell.system].script == script]


def _row(system: str, fault: str, results: Sequence[Result]) -> str:
    title, found = BY_NAME[system].title, _of(results, system, fault)
    if not found:
        return row([title, *[NOT_MEASURED] * len(COLUMNS)])
    verdicts = [one.verdict for one in found if one.verdict is not None]
    ended = [one for one in verdicts if one.is_done]
    seconds = [one.recovery for one in ended if one.recovery is not None]
    cells = [
        f"{len(ended)} of {len(found)}",
        _seconds(seconds) if seconds else f"not within {LIMIT:.0f} s",
        _spread([one.redone for one in verdicts]),
        _spread([one.lost for one in ended]),
        _spread([one.repeated for one in ended]),
        _spread([one.pods for one in found]),
        _spread([one.containers for one in found]),
        equal_bits(found, _clean(results, BY_NAME[system].script)),
        _loads(found),
    ]
    return row([title, *cells])


def equal_bits(found: Sequence[Result], clean: Sequence[Result]) -> str:
    """Return how many runs have ended with the bits of a run without a fault.

    Args:
        found: the runs of a system with a fault.
        clean: the runs without a fault of the same script.
    """
    digests = {one.verdict.digest for one in clean if one.verdict is not None} - {None}
    if not digests:
        return NOT_MEASURED
    equal = sum(one.verdict is not None and one.verdict.digest in digests for one in found)
    return f"{equal} of {len(found)}"


def _loads(found: Sequence[Result]) -> str:
    """Return the range of the load averages before and after some runs."""
    loads = [float(load) for one in found for load in (one.load_before, one.load_after)]
    return f"{min(loads):.1f} - {max(loads):.1f}"


def _parts(found: Sequence[Result]) -> Iterator[str]:
    splits = [one.verdict.split for one in found if one.verdict is not None and one.verdict.split]
    for part in PARTS:
        values = [one[part] for one in splits]
        yield f"{statistics.median(values):.2f}" if values else NOTHING


def _seconds(values: Sequence[float]) -> str:
    spread = f" ({min(values):.1f} - {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.1f} s{spread}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return NOTHING
    spread = f" ({min(values):g} - {max(values):g})" if min(values) < max(values) else ""
    return f"{statistics.median(values):g}{spread}"


def _missing(stored: Stored) -> Iterator[str]:
    """Yield why systems cannot be measured."""
    if stored.missing:
        yield "## Not measured\n"
    for name, why in stored.missing.items():
        yield f"- {BY_NAME[name].title}: {why}"
