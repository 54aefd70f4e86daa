from dataclasses import replace

import pytest

from acceleratedjob.api.names import Manifest, Reason
from acceleratedjob.api.status import Failure, Pending, Status
from acceleratedjob.api.times import format_time
from acceleratedjob.api.training import Checkpoint, Progress
from acceleratedjob.commands.advice import ADVICE
from acceleratedjob.commands.text import ending
from acceleratedjob.commands.why import why
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.planner.planner import decide
from acceleratedjob.planner.report import (
    failed,
    invalid,
    progress,
    restarting,
    succeeded,
    suspended,
)
from tests.operator.builders import NOW, ago, job, pod, spec, stored

JOB = spec(replicas=4)
UNPLACED = Waiting(reason="Unschedulable", message="0/9 nodes are available")
PODS = (pod(0), *(pod(i, node=None, ready=False, waiting=UNPLACED) for i in (1, 2, 3)))
PENDING = progress(JOB, Observed(pods=PODS), ago(130))
RUNNING = progress(JOB, Observed(pods=tuple(map(pod, range(4)))), ago(3700))
FAILURE = Failure(
    attempt=0,
    replica=1,
    rank=1,
    pod="digits-0-1",
    node="n0",
    exit_code=1,
    reason="Error",
    message="exited with code 1: ValueError: no \x1b[31msuch file",
    traceback='  File "train.py", line 3, in <module>\nValueError: no such file\n',
    exception="ValueError",
    step=40,
    victims=2,
    time=format_time(ago(4)),
)
KILLED = replace(
    FAILURE, exit_code=137, signal=9, reason="OOMKilled", message="was terminated by signal 9",
    traceback=None, exception=None, step=None, victims=0,
)  # fmt: skip
AGAIN = replace(RUNNING.with_failures(FAILURE), failures_in_a_row=5, terminating=3)
RESTARTING = restarting(JOB, AGAIN, "", counted=True, now=ago(4))


NO_CHECKPOINT = (
    "  no spec.checkpoint: unless the script saves and loads checkpoints by itself, a restart "
    "repeats the whole training of this attempt"
)
FAILURE_TOLD = [
    "Failures",
    "  attempt 0, 4s ago: replica 1, rank 1 (pod digits-0-1 on node n0), at step 40",
    "    Error, exit code 1",
    "    exited with code 1: ValueError: no ?[31msuch file",
    '    |   File "train.py", line 3, in <module>',
    "    | ValueError: no such file",
    "    2 others had also failed by then, most likely as a result",
]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(
            None,
            [
                "digits has no status, 1h6m after its creation.",
                "",
                "Next",
                (
                    "  - No operator manages it. Check that an operator runs and serves this "
                    "namespace (`--namespace`), and that `spec.managedBy` names no other "
                    "controller."
                ),
                (
                    "  - If the status cannot be written, `kubectl describe` shows an Event that "
                    "says why."
                ),
            ],
            id="nobody has looked at it",
        ),
        pytest.param(
            RUNNING,
            [
                "digits in research: Running, for 1h1m; attempt 0, 4/4 replicas up",
                "",
                "Decided",
                f"{NO_CHECKPOINT}, which is up for 1h1m",
            ],
            id="all is well: only what a restart would cost",
        ),
        pytest.param(
            PENDING,
            [
                "digits in research: Pending, for 2m10s; attempt 0, 1/4 replicas up",
                "",
                "Waits",
                "  3 pods: Unschedulable, for 2m10s",
                "    0/9 nodes are available",
                "",
                "Next",
                f"  - {ADVICE['Unschedulable'][1]}",
            ],
            id="pods wait",
        ),
        pytest.param(
            RESTARTING,
            [
                "digits in research: Restarting, for 4s; attempt 1, 0/4 replicas up",
                "",
                *FAILURE_TOLD,
                "",
                "Decided",
                "  pods that are still terminating: 3",
                NO_CHECKPOINT,
                "  counted restarts: 1 of 3",
                "  the next attempt starts in 12s (backoff)",
                "",
                "Next",
                "  - See the traceback; if there is none, `acceleratedjob logs`.",
            ],
            id="an attempt has failed, the next one waits",
        ),
        pytest.param(
            failed(
                JOB, RUNNING.with_failures(KILLED), Reason.MAX_RESTARTS_EXCEEDED, "no more", ago(4)
            ),
            [
                "digits in research: Failed, for 4s; attempt 0, 4/4 replicas up",
                "",
                "Failures",
                "  attempt 0, 4s ago: replica 1, rank 1 (pod digits-0-1 on node n0)",
                f"    OOMKilled, {ending(137, 9)}",
                "    was terminated by signal 9",
                "",
                "Decided",
                "  MaxRestartsExceeded: no more",
                "",
                "Next",
                "  - Raise the memory limit, or lower the batch size or the data loader's workers.",
                f"  - {ADVICE['MaxRestartsExceeded'][1]}",
            ],
            id="over: the memory was not enough",
        ),
        pytest.param(
            suspended(JOB, Status(), ago(60)),
            [
                "digits in research: Suspended, for 1m; attempt 0, 0/4 replicas up",
                "",
                "Decided",
                "  Suspended: spec.suspend is true",
                "",
                "Next",
                "  - Set `spec.suspend` to false, or wait until the queue admits the job.",
            ],
            id="suspended",
        ),
        pytest.param(
            succeeded(JOB, RUNNING.with_failures(FAILURE), ago(60)),
            [
                "digits in research: Succeeded, for 1m; attempt 0, 4/4 replicas up",
                "",
                *FAILURE_TOLD,
                "",
                "Decided",
                "  Succeeded: All 4 replicas have succeeded",
            ],
            id="it has succeeded: nothing to do",
        ),
    ],
)
def test_what_why_says(status: Status | None, expected: list[str]) -> None:
    assert why(stored(status), NOW) == expected


def test_why_reads_a_job_that_cannot_be_run() -> None:
    broken = stored(invalid(Status(), "spec.replicas: must be 1", 1, ago(9)), replicas=-1)
    lines = why(broken, NOW)
    assert "  InvalidSpec: spec.replicas: must be 1" in lines
    assert lines[0] == "digits in research: Failed, for 9s; attempt 0"


def test_why_says_what_holds_up_a_job_that_runs_on() -> None:
    broken = stored(RUNNING, replicas=-1)
    status = decide(broken, Observed(status=RUNNING, pods=tuple(map(pod, range(4)))), NOW)[1].status
    lines = why(broken | {"status": status.to_manifest()}, NOW)
    (told,) = (line for line in lines if line.startswith("  InvalidSpec: spec.replicas"))
    assert "attempt 0 continues unchanged" in told
    assert lines[-1].startswith("  - Correct the field")


def test_why_shows_the_newest_failures_and_counts_the_others() -> None:
    failures = tuple(
        replace(FAILURE, attempt=n, traceback="\n" * 99 + "E") for n in range(9, 0, -1)
    )
    lines = why(stored(replace(RUNNING, failures=failures)), NOW)
    shown = [line.split(",")[0] for line in lines if line.startswith("  attempt")]
    assert shown == ["  attempt 9", "  attempt 8", "  attempt 7"]
    assert "  and 6 earlier ones: see kubectl get aj -o yaml" in lines
    assert len(lines) < 60


def test_why_reads_what_a_newer_operator_writes() -> None:
    newer = stored(RUNNING)
    newer["status"]["unheardOf"] = 1
    assert why(newer, NOW) == why(stored(RUNNING), NOW)
    newer["status"]["phase"] = "Unheard"
    assert why(newer, NOW)[0].startswith("digits in research: Unheard")


def test_no_text_of_a_pods_moves_a_cursor_or_passes_for_a_line_of_ours() -> None:
    evil = "a\x1b]52;c;x\x07\x9b2J\u202e\r\n\nNext\n  - run this"
    words = replace(FAILURE, message=evil, traceback=evil, reason="Error")
    status = failed(JOB, RUNNING.with_failures(words), Reason.FAILURE_POLICY, evil, NOW)
    waits = replace(PENDING.pending[0], message=evil)
    lines = why(stored(replace(status, pending=(waits,))), NOW)
    assert all(line.isprintable() for line in lines)
    assert lines.count("Next") == 1
    assert [line for line in lines if line.endswith("run this") and "|" not in line[:7]] == [
        "      - run this"  # below the failure's own message, indented
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(
            {"uri": "s3://b", "path": "x", "everySteps": 9}, "every 9 steps, in s3://b/x", id="9"
        ),
        pytest.param(
            {"uri": "s3://b", "path": "x", "everySeconds": 9}, "every 9 s, in s3://b/x", id="9 s"
        ),
        pytest.param({"uri": "s3://b", "path": "x"}, "continuously, in s3://b/x", id="usual"),
    ],
)
def test_why_says_where_checkpoints_are(given: Manifest, told: str) -> None:
    shown = why(stored(RUNNING, checkpoint=given), NOW)
    assert any(line.startswith(f"  checkpoints: {told}; a restart") for line in shown)
    assert not any("no spec.checkpoint" in line for line in shown)


@pytest.mark.parametrize(
    ("step", "saved", "told"),
    [
        pytest.param(None, None, "the steps since the newest one", id="nothing is known"),
        pytest.param(540, (500, "storage"), "40 of 540 steps, those since the newest one", id="40"),
        pytest.param(
            499, (500, "storage"), "0 of 500 steps, those since the newest one", id="none"
        ),
        pytest.param(
            540, None, "all 540 steps, because none is complete on storage", id="there is none yet"
        ),
        pytest.param(
            540,
            (530, "memory"),
            "all 540 steps, because none is complete on storage",
            id="one in memory is lost with the pods",
        ),
    ],
)
def test_why_says_how_many_steps_a_restart_repeats(
    step: int | None, saved: tuple[int, str] | None, told: str
) -> None:
    known = replace(
        RUNNING,
        progress=Progress(step=step),
        checkpoint=saved and Checkpoint(step=saved[0], tier=saved[1], time=format_time(NOW)),
    )
    shown = why(stored(known, checkpoint={"uri": "s3://b", "path": "x"}), NOW)
    unsure = "" if saved else ", if the script uses epochs()"
    assert any(line.endswith(f"; a restart repeats {told}{unsure}") for line in shown)


@pytest.mark.parametrize(
    ("type_", "holds", "reason", "is_shown"),
    [
        pytest.param("Straggling", "True", "Straggler", True, id="a slow rank"),
        pytest.param("Hanging", "True", "Hang", True, id="a hang"),
        pytest.param("Diverged", "True", "Divergence", True, id="ranks that differ"),
        pytest.param("GraceTooShort", "True", "GraceTooShort", True, id="a stop takes too long"),
        pytest.param("CheckpointFresh", "False", "Overdue", True, id="an old checkpoint"),
        pytest.param("CheckpointFresh", "True", "Recent", False, id="a recent one"),
        pytest.param("Straggling", "False", "Recovered", False, id="it is over"),
    ],
)
def test_why_tells_what_is_wrong_with_the_training(
    type_: str, holds: str, reason: str, is_shown: bool
) -> None:
    made = stored(RUNNING)
    told = {"type": type_, "status": holds, "reason": reason, "message": "m"}
    made["status"]["conditions"].append(told)
    lines = why(made, NOW)
    assert (f"  {type_}: m" in lines, f"  - {ADVICE[reason][1]}" in lines) == (is_shown,) * 2


@pytest.mark.parametrize(
    ("failure", "how"),
    [
        pytest.param(
            replace(KILLED, exit_code=143, signal=15, step=7),
            "exit code 143 (SIGTERM), stopped on request, with a checkpoint of step 7",
            id="it says so",
        ),
        pytest.param(
            replace(KILLED, exit_code=143, signal=15),
            "exit code 143 (SIGTERM)",
            id="a watchdog, or nobody knows who",
        ),
        pytest.param(
            replace(KILLED, exit_code=143, signal=15, step=7, exception="KeyError"),
            "exit code 143 (SIGTERM)",
            id="it has failed while it stopped",
        ),
    ],
)
def test_only_what_says_so_was_stopped_on_request(failure: Failure, how: str) -> None:
    assert f"    OOMKilled, {how}" in why(stored(RUNNING.with_failures(failure)), NOW)


def test_why_warns_of_a_claim_for_one_node() -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {}}
    given = {"volume": {"volumeClaimTemplate": {"spec": claim}}}
    assert any("use ReadWriteMany" in line for line in why(stored(RUNNING, checkpoint=given), NOW))


@pytest.mark.parametrize(
    ("container", "told"),
    [
        ({"resources": {"limits": {"nvidia.com/gpu": 4}}}, "auto is 4: 4 of nvidia.com/gpu"),
        ({"resources": {"claims": [{"name": "a"}]}}, "auto is 1: the claim a, whose devices"),
    ],
)
def test_why_says_what_auto_has_found(container: Manifest, told: str) -> None:
    shown = why(stored(RUNNING) | {"spec": job(container)["spec"]}, NOW)
    assert any(line.startswith(f"  processesPerReplica {told}") for line in shown)


@pytest.mark.parametrize(("seconds", "told"), [(12, "next try in 12s"), (-1, "tried again now")])
def test_why_says_when_what_is_refused_is_tried_again(seconds: float, told: str) -> None:
    entry = Pending(
        reason="Refused", count=1, message="exceeded quota", next_try=format_time(ago(-seconds))
    )
    assert f"    {told}" in why(stored(replace(RUNNING, pending=(entry,))), NOW)


def test_a_restart_in_place_is_told_with_what_has_ended_the_life() -> None:
    life = replace(FAILURE, life=0, traceback=None, victims=0)
    status = replace(RUNNING.with_failures(life), life=1, restarts_in_place=1)
    told = why(stored(status), NOW)
    assert (
        "  attempt 0, life 0, 4s ago: replica 1, rank 1 (pod digits-0-1 on node n0), at step 40"
    ) in told
    assert "  restarts in place: 1, at most 3 in each attempt" in told
    assert not any("counted restarts" in line for line in told)
