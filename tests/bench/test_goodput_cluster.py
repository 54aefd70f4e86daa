"""What bench/goodput/cluster decides: manifests, processes, verdicts, and the page."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceleratedjob.api.spec import JobSpec
from bench.goodput.cluster import jobset, results, systems
from bench.goodput.cluster.__main__ import cells, main, parser, write
from bench.goodput.cluster.faults import BY_NAME, DISTURBANCES, LIMIT, LONGEST, NONE, STEP
from bench.goodput.cluster.manifests import NAME, Spot
from bench.goodput.cluster.notes import NOTES
from bench.goodput.cluster.page import COLUMNS, PAGE, equal_bits, page
from bench.goodput.cluster.results import Cell, Result, Stored
from bench.goodput.cluster.systems import EVERY, SYSTEMS, System
from bench.goodput.cluster.tenants import Register, Tenant, Victims, victims
from bench.goodput.cluster.verdict import Verdict, needs_a_person, recovered, together
from bench.goodput.ledger import Entry, Kind
from bench.goodput.outages import PARTS, Exit, Hit, Story
from bench.goodput.schedule import Fault, Strike
from bench.goodput.workloads import WORKLOADS, Task, Work
from bench.machine import Run
from tests.distributed.world import ROOT

DOCS = ROOT / "docs"
WORKLOAD = replace(WORKLOADS["step"], work=Work(ranks=2, batch=2, samples=40, epochs=1))
STEPS, LENGTH = WORKLOAD.work.steps, WORKLOAD.step
INDEX = "JOB_COMPLETION_INDEX"


def spot(folder: Path) -> Spot:
    return Spot(namespace="n", run="r", folder=folder, task=Task(systems.WORKLOAD, folder, EVERY))


def pod_spec(found: Any) -> Any:
    """The spec of the pods, which is the only one with containers."""
    if isinstance(found, list):
        return next((one for one in map(pod_spec, found) if one), None)
    if not isinstance(found, dict):
        return None
    return found if "containers" in found else pod_spec(list(found.values()))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda one: one.name)
def test_pods_run_an_existing_script_and_share_the_folder_of_the_run(
    system: System, tmp_path: Path
) -> None:
    pod = pod_spec(system.make(spot(tmp_path)))
    (container,) = pod["containers"]
    script = container["command"][-1]
    assert ROOT.joinpath(*script.split(".")).with_suffix(".py").is_file()
    env = {one["name"]: one["value"] for one in container["env"]}
    assert len(env) == len(container["env"])
    assert Task.from_env(env).workload == systems.WORKLOAD
    writable = [one for one in container["volumeMounts"] if not one.get("readOnly")]
    assert [one["mountPath"] for one in writable] == [str(tmp_path)]
    names = {one["name"] for one in pod["volumes"] if one["hostPath"]["path"] == str(tmp_path)}
    assert names == {writable[0]["name"]}


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda one: one.name)
def test_the_job_has_the_name_by_which_it_is_deleted(system: System, tmp_path: Path) -> None:
    job = system.make(spot(tmp_path))[-1]
    assert (job["kind"].lower(), job["metadata"]["name"]) == (system.kind, NAME)


@pytest.mark.parametrize(("name", "lives"), [("ours", 3), ("ours-pods", 0)])
def test_the_manifests_of_this_project_are_valid(name: str, lives: int, tmp_path: Path) -> None:
    system = next(one for one in SYSTEMS if one.name == name)
    (manifest,) = system.make(spot(tmp_path))
    manifest["metadata"]["uid"] = "u"
    spec = JobSpec.from_manifest(manifest)
    assert spec.failure_policy.in_place_restarts == lives
    assert spec.checkpoint is not None


@pytest.mark.parametrize(
    ("name", "host"), [("indexed", "goodput-0"), ("jobset", "goodput-workers-0-0")]
)
def test_the_ranks_of_others_meet_at_pod_0(name: str, host: str, tmp_path: Path) -> None:
    system = next(one for one in SYSTEMS if one.name == name)
    command = pod_spec(system.make(spot(tmp_path)))["containers"][0]["command"]
    assert f"--rdzv-endpoint={host}.goodput.n.svc.cluster.local:29400" in command
    assert "--nnodes=2" in command


def test_a_fault_comes_between_two_checkpoints_and_long_before_the_end() -> None:
    assert EVERY < STEP < systems.WORKLOAD.work.steps / 2
    assert EVERY / 4 < STEP % EVERY < 3 * EVERY / 4


WEBHOOKS = """
kind: MutatingWebhookConfiguration
metadata: {name: mutating}
webhooks:
- {name: a, clientConfig: {service: {name: s, namespace: n, path: /a}}}
- {name: b, clientConfig: {service: {name: s, namespace: n, path: /b}}}
---
kind: ValidatingWebhookConfiguration
metadata: {name: validating}
webhooks:
- {name: c, clientConfig: {service: {name: s, namespace: n, path: /c}}}
- {name: d, clientConfig: {service: {name: s, namespace: n, path: /d}}}
"""
PATCH = """
- op: replace
  path: /webhooks/1
  value: {name: e, objectSelector: {}, clientConfig: {service: {path: /e}}}
"""


def test_webhooks_are_those_of_the_module_at_an_address_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "config/components/webhook"
    (folder / "patches").mkdir(parents=True)
    (folder / "manifests.yaml").write_text(WEBHOOKS)
    for name in ("mutating", "validating"):
        (folder / "patches" / f"{name}-patch.yaml").write_text(PATCH)
    found = list(jobset.webhooks(tmp_path, port=7, authority=b"pem"))
    assert [one["metadata"]["name"] for one in found] == ["jobset-mutating", "jobset-validating"]
    hooks = [one for each in found for one in each["webhooks"]]
    assert [one["name"] for one in hooks] == ["a", "e", "c", "e"]
    assert [one["clientConfig"] for one in hooks] == [
        {"url": f"https://127.0.0.1:7/{path}", "caBundle": "cGVt"} for path in "aece"
    ]


def test_the_module_of_jobset_is_pinned() -> None:
    text = (jobset.SOURCES / jobset.NAME / "go.mod").read_text()
    assert re.search(rf"^tool {re.escape(jobset.MODULE)}$", text, re.MULTILINE)
    (version,) = re.findall(rf"{re.escape(jobset.MODULE)} (v\S+)", text)
    assert f"**JobSet** {version}" in page(Stored(None, [], {}))


def tenant(pid: int, inner: int, pod: int, **env: str) -> Tenant:
    return Tenant(pid, inner, {INDEX: str(pod), **env})


TENANTS = [
    tenant(100, 1, 0),
    tenant(110, 8, 0, RANK="1"),  # torchrun numbers the ranks as it likes
    tenant(200, 1, 1),
    tenant(210, 8, 1, RANK="0"),
    tenant(300, 1, 1),  # a new pod
    tenant(310, 8, 1, RANK="0"),
]


@pytest.mark.parametrize(
    ("kind", "rank", "inner", "found"),
    [
        pytest.param(Kind.BORN, 1, 8, 110, id="another rank has the same number in its pod"),
        pytest.param(Kind.BORN, 0, 8, 310, id="the newest of two pods with the same index"),
        pytest.param(Kind.BORN, 0, 9, -1, id="it has ended"),
    ],
)
def test_the_process_of_an_entry(kind: Kind, rank: int, inner: int, found: int) -> None:
    entry = Entry(kind=kind, rank=rank, pid=inner, ended=1.0)
    register = Register()
    assert register.pid(entry, TENANTS) == found
    assert register.pid(replace(entry, kind=Kind.STEP), []) == found  # it is remembered


@pytest.mark.parametrize(
    ("name", "ranks", "found"),
    [
        pytest.param("kill-1", {110, 210}, Victims(210, 210), id="the rank that is in pod 1"),
        pytest.param("kill-1", {110, 210, 310}, Victims(310, 310), id="its latest process"),
        pytest.param("kill-0", {110, 210}, Victims(110, 110), id="the rank that is in pod 0"),
        pytest.param("kill-1", {110}, None, id="none is there"),
        pytest.param("container-1", {310}, Victims(300, 310), id="the container of a rank"),
        pytest.param("delete-1", {110, 210}, Victims(210, 210), id="the rank of a deleted pod"),
    ],
)
def test_what_a_fault_hits(name: str, ranks: set[int], found: Victims | None) -> None:
    assert victims(BY_NAME[name], TENANTS, ranks, INDEX) == found


def steps(numbers: Sequence[int], *, at: float, pid: int, ranks: Sequence[int] = (0, 1)) -> Any:
    """Steps of some ranks, one after the other from a time on."""
    return [
        Entry(
            kind=Kind.STEP,
            rank=rank,
            pid=pid + rank,
            step=step,
            began=at + place * LENGTH,
            ended=at + (place + 1) * LENGTH,
            ids=(4 * step + 2 * rank, 4 * step + 2 * rank + 1),
        )
        for place, step in enumerate(numbers)
        for rank in ranks
    ]


def ends(at: float, pid: int) -> list[Entry]:
    """Both ranks say that the training is done."""
    done = (Entry(kind=Kind.DONE, rank=k, pid=pid + k, ended=at, value=42) for k in (0, 1))
    return list(done)


def story(entries: Sequence[Entry], at: float | None = 0.26) -> Story:
    hits = [] if at is None else [Hit(at, Strike(0.0, Fault.KILL, 1), 11)]
    return Story(entries, hits, [Exit(0.5, 10)])


HALF = [*steps(range(5), at=0.0, pid=10), *steps([5], at=0.25, pid=10, ranks=[0])]
AGAIN = [
    *HALF,
    *steps([3], at=4.9, pid=20, ranks=[1]),
    *steps([3], at=5.0, pid=20, ranks=[0]),
    *steps(range(4, STEPS), at=5.1, pid=20),
]


def test_a_step_that_one_rank_has_done_is_not_yet_the_next_step() -> None:
    times = list(together(AGAIN, 2))
    assert times[:6] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 5.05])
    assert recovered(times, 0.26) == pytest.approx(5.05)


@pytest.mark.parametrize(
    ("times", "end"),
    [
        pytest.param([0.5, 1.5, 1.6, 6.0, 6.1], 6.0, id="it trains on for a while"),
        pytest.param([0.5], None, id="it never goes on"),
        pytest.param([4.0, 4.1], 4.0, id="the fault is before the first step"),
    ],
)
def test_the_end_of_the_time_without_a_step(times: list[float], end: float | None) -> None:
    assert recovered(times, 1.0) == end


def test_the_verdict_about_a_training_that_goes_on() -> None:
    found = Verdict.of(story([*AGAIN, *ends(6.0, 20)]), WORKLOAD)
    assert found is not None
    assert found.recovery == pytest.approx(5.05 - 0.26)
    assert (found.is_done, found.lost, found.repeated, found.digest) == (True, 0, 0, 42)
    assert found.redone == pytest.approx(2.5)  # steps 3 and 4 of both ranks, and 5 of one
    assert tuple(found.split) == PARTS
    assert found.split["detect"] == pytest.approx(0.2)  # the process of rank 0 ends


def test_the_verdict_about_samples_that_are_lost() -> None:
    skipped = [*HALF, *steps(range(7, STEPS), at=5.1, pid=20), *ends(6.0, 20)]
    found = Verdict.of(story(skipped), WORKLOAD)
    assert found is not None
    assert found.lost == 6  # steps 5 and 6, but for the half that rank 0 has done


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(HALF, id="no step after the fault"),
        pytest.param([*HALF, *steps([5, 6], at=0.3, pid=10)], id="a few steps after it"),
        pytest.param([*AGAIN, ends(6.0, 20)[0]], id="one rank does not end"),
    ],
)
def test_a_training_that_does_not_end_has_not_recovered(entries: list[Entry]) -> None:
    found = Verdict.of(story(entries), WORKLOAD)
    assert found is not None
    assert (found.is_done, found.recovery, found.split, found.digest) == (False, None, {}, None)


def born(at: float) -> Entry:
    return Entry(kind=Kind.BORN, rank=0, pid=20, ended=at)


@pytest.mark.parametrize(
    ("entries", "at", "now", "needed"),
    [
        pytest.param([], None, LONGEST - 1, False, id="it starts"),
        pytest.param([], None, LONGEST + 1, True, id="it never starts"),
        pytest.param([born(1.0)], None, LIMIT + 2, False, id="a start may take longer"),
        pytest.param([born(1.0)], 2.0, LIMIT + 1, False, id="the fault was later"),
        pytest.param([born(1.0)], 2.0, LIMIT + 3, True, id="nothing was written since the fault"),
        pytest.param([born(50.0)], 2.0, LIMIT + 3, False, id="a process has started since"),
        pytest.param([born(301.0)], 2.0, LONGEST + 3, True, id="processes start again and again"),
        pytest.param(HALF, 0.26, LIMIT, False, id="a step was done since"),
    ],
)
def test_when_a_training_needs_a_person(
    entries: list[Entry], at: float | None, now: float, *, needed: bool
) -> None:
    assert needs_a_person(story(entries, at), began=0.0, now=now) == needed


def test_a_training_without_a_fault_has_nothing_to_recover_from() -> None:
    entries = [*steps(range(STEPS), at=0.0, pid=10), *ends(1.0, 10)]
    found = Verdict.of(story(entries, None), WORKLOAD)
    assert found is not None
    assert (found.is_done, found.recovery, found.redone, found.split) == (True, None, 0.0, {})
    assert Verdict.of(story([], None), WORKLOAD) is None


def result(system: str = "ours", fault: str = "kill-1", number: int = 0, **more: Any) -> Result:
    """A result, whose verdict has some of `more`."""
    facts: dict[str, Any] = {
        "is_done": True,
        "recovery": None if fault == NONE else 4.5,
        "split": {} if fault == NONE else dict.fromkeys(PARTS, 0.75),
        "redone": 3.0,
        "lost": 0,
        "repeated": 0,
        "digest": 42,
    }
    verdict = Verdict(**(facts | {key: more[key] for key in facts.keys() & more.keys()}))
    whole = Result(
        cell=Cell(system=system, fault=fault, round=number),
        verdict=verdict,
        pods=0,
        containers=1,
        start=9.0,
        load_before="0.50",
        load_after="1.50",
    )
    return replace(whole, **{key: more[key] for key in more.keys() - facts.keys()})


def section(text: str, fault: str) -> str:
    """The lines of the page about a fault."""
    return text.partition(f"## {BY_NAME[fault].title}\n")[2].partition("\n## ")[0]


def test_the_page_is_made_of_the_results_beside_it() -> None:
    assert (DOCS / PAGE).read_text() == page(results.read(DOCS))


def test_a_page_without_results_says_that_nothing_was_measured() -> None:
    text = page(Stored(None, [], {}))
    assert "Machine: not measured." in text
    for one in DISTURBANCES:
        for system in SYSTEMS:
            row = (f"| {system.title} | " + "not measured | " * len(COLUMNS)).rstrip()
            assert row in section(text, one.name)


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        pytest.param(
            {}, "1 of 1 | 4.5 s | 3 | 0 | 0 | 0 | 1 | 1 of 1 | 0.5 - 1.5 |", id="it goes on"
        ),
        pytest.param({"digest": 43}, "| 0 of 1 |", id="other bits"),
        pytest.param({"repeated": 7}, "| 3 | 0 | 7 |", id="samples are repeated"),
        pytest.param(
            {"is_done": False, "recovery": None, "split": {}, "digest": None},
            f"0 of 1 | not within {LIMIT:.0f} s | 3 | — | — | 0 | 1 | 0 of 1 |",
            id="it needs a person",
        ),
        pytest.param(
            {"verdict": None},
            f"0 of 1 | not within {LIMIT:.0f} s | — | — | — | 0 | 1 | 0 of 1 |",
            id="it never trains",
        ),
    ],
)
def test_the_row_of_a_system(changes: dict[str, Any], row: str) -> None:
    found = [result(fault=NONE), result(**changes)]
    assert row in section(page(Stored(None, found, {})), "kill-1")


def test_several_runs_of_a_cell_are_a_median_and_its_spread() -> None:
    found = [result(number=k, recovery=float(k), redone=float(k)) for k in (1, 2, 6)]
    text = section(page(Stored(None, found, {})), "kill-1")
    assert "| 3 of 3 | 2.0 s (1.0 - 6.0) | 2 (1 - 6) |" in text


def test_bits_are_compared_with_those_without_a_fault_only() -> None:
    assert equal_bits([result()], []) == "not measured"
    assert equal_bits([result(), result(digest=1)], [result(fault=NONE)]) == "1 of 2"


@pytest.mark.parametrize(
    ("is_quiet", "told"),
    [(True, "Nothing else ran on it"), (False, "**Other programs ran on it**")],
)
def test_the_page_says_whether_the_machine_was_quiet(is_quiet: bool, told: str) -> None:
    run = Run.begun("python -m bench.goodput.cluster run", 1)
    loud = result(is_quiet=is_quiet, load_before="2.50")
    text = page(Stored(run, [result(is_quiet=True), loud], {}))
    assert f"{told}; the load average before a run was 0.50 to 2.50." in text


def test_results_are_stored_and_a_new_one_replaces_that_of_the_same_run(tmp_path: Path) -> None:
    run = Run.begun("pytest", 1)
    first = Stored(run, [result("jobset"), result(fault=NONE)], {"jobset": "it is not there"})
    text = write(tmp_path, first).read_text()
    assert "- JobSet: it is not there" in text
    found = results.read(tmp_path)
    assert found.run == run
    assert [one.cell.fault for one in found.results] == [NONE, "kill-1"]
    again = replace(found, results=[*found.results, result("jobset", redone=9.0)])
    main(["render", "--output", str(write(tmp_path, again).parent)])
    verdicts = [one.verdict for one in results.read(tmp_path).results]
    assert [one.redone for one in verdicts if one] == [3.0, 9.0]


def test_the_systems_take_turns() -> None:
    words = ["run", "--systems", "ours", "jobset", "--faults", "kill-1", "--repeat", "2"]
    found = [(one.system, one.round) for one in cells(parser().parse_args(words))]
    assert found == [("ours", 0), ("jobset", 0), ("jobset", 1), ("ours", 1)]


def test_notes_are_about_runs_that_exist() -> None:
    names = {(system.name, fault) for system in SYSTEMS for fault in BY_NAME}
    assert NOTES.keys() <= names


def test_the_configuration_of_jobset_has_no_certificates_of_its_own(tmp_path: Path) -> None:
    found = jobset.configuration(port=1, health=2, certificates=tmp_path)
    assert found["internalCertManagement"] == {"enable": False}
    assert found["webhook"] == {"host": "127.0.0.1", "port": 1, "certDir": str(tmp_path)}
    assert yaml.safe_load(yaml.safe_dump(found)) == found
