"""`acceleratedjob run` deals the GPUs of this machine: each pod gets its own, if there are any."""

import asyncio
import contextlib
import ctypes
import io
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob.api import names
from acceleratedjob.api.devices import AMD, NVIDIA
from acceleratedjob.api.names import ConditionType, Manifest, Reason
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import utc_now
from acceleratedjob.cli import main
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.console import Console
from acceleratedjob.commands.run import run_job
from acceleratedjob.commands.waiting import NO_GPU
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.exits import EXIT_FAILED, EXIT_USAGE
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.dealing import Gpus, check_gpus, shortage
from acceleratedjob.local.gpus import amd_gpus, nvidia_gpus, visible
from acceleratedjob.local.kubelet import Kubelet
from tests.operator.builders import CONTAINER, job, spec
from tests.operator.lives import AT_ONCE, background, operate

SECONDS = 600
FIELD = f"spec.template.spec.containers[0].resources.limits[{NVIDIA}]"
SEES = """
import os, pathlib, sys, time
here = pathlib.Path.cwd()
me = ".".join(os.environ[f"ACCELERATEDJOB_{name}"] for name in ("ATTEMPT", "REPLICA_INDEX"))
print("sees", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
def until(word):
    while not (here / word).exists(): time.sleep(0.01)
"""


def limits(**amounts: int) -> Manifest:
    known = {"nvidia": NVIDIA, "amd": AMD, "gaudi": "habana.ai/gaudi"}
    return {"resources": {"limits": {known[name]: amount for name, amount in amounts.items()}}}


def gpus(nvidia: int, amd: int = 0) -> Gpus:
    """GPUs of a machine whose first one has the index 4, as CUDA_VISIBLE_DEVICES may choose."""
    return Gpus({NVIDIA: [str(4 + i) for i in range(nvidia)], AMD: [str(i) for i in range(amd)]})


def pod(uid: str = "a", container: Manifest | None = None, **fields: Any) -> Manifest:
    made = {"containers": [CONTAINER | (container or {})]} | fields
    return {"metadata": {"uid": uid, "annotations": {}}, "spec": made}


def variable(name: str, value: str) -> Manifest:
    return {"env": [{"name": name, "value": value}]}


CUDA, HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("asking", "seen"),
    [
        pytest.param(pod(), {CUDA: "", HIP: "-1"}, id="a pod that asks for none sees none"),
        pytest.param(pod("a", limits(nvidia=0)), {CUDA: "", HIP: "-1"}, id="and one asking for 0"),
        pytest.param(pod("a", limits(nvidia=2)), {CUDA: "4,5", HIP: "-1"}, id="as many as it asks"),
        pytest.param(pod("a", limits(amd=1)), {CUDA: "", HIP: "0"}, id="AMD's"),
        pytest.param(pod("a", limits(nvidia=1, amd=2)), {CUDA: "4", HIP: "0,1"}, id="two kinds"),
        pytest.param(
            pod("a", limits(nvidia=2) | variable(CUDA, "1")),
            {CUDA: "5", HIP: "-1"},
            id="the template selects among those of the pod",
        ),
        pytest.param(
            pod("a", limits(nvidia=1) | variable(CUDA, "1")),
            {CUDA: "", HIP: "-1"},
            id="and finds no other pod's",
        ),
        pytest.param(
            pod("a", limits(nvidia=1), runtimeClassName="nvidia"),
            {CUDA: "4", HIP: "-1"},
            id="a runtime class gives no more than the limits",
        ),
        pytest.param(
            pod("a", {"resources": {"claims": [{"name": "gpus"}]}}),
            {},
            id="devices that cannot be counted are all visible",
        ),
        pytest.param(pod("a", limits(gaudi=1)), {}, id="and so are those of other vendors"),
    ],
)
def test_what_a_pod_sees(asking: Manifest, seen: dict[str, str]) -> None:
    dealt = gpus(nvidia=3, amd=2)
    assert dealt.take(asking) == []
    assert dealt.env(asking) == seen


@pytest.mark.parametrize(
    ("asking", "lacking"),
    [
        pytest.param(limits(nvidia=2), [], id="enough"),
        pytest.param(limits(nvidia=3), [NVIDIA], id="one too many"),
        pytest.param(limits(nvidia=1, amd=1), [AMD], id="of two kinds one is lacking"),
        pytest.param(limits(nvidia=9, amd=9), [AMD, NVIDIA], id="both are lacking"),
    ],
)
def test_what_is_lacking_is_told_and_nothing_is_taken(asking: Manifest, lacking: list[str]) -> None:
    dealt = gpus(nvidia=2)
    assert dealt.take(pod("a", asking)) == lacking
    assert dealt.take(pod("b", limits(nvidia=2))) == ([] if lacking else [NVIDIA])


STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(0, 3)), max_size=12)


@given(there=st.integers(0, 4), steps=STEPS)
def test_whoever_comes_and_goes_no_gpu_has_two_pods_and_none_is_lost(
    there: int, steps: list[tuple[bool, str, int]]
) -> None:
    dealt, held = gpus(nvidia=there), dict[str, int]()
    for comes, uid, count in steps:
        asking = pod(uid, limits(nvidia=count))
        if not comes:
            dealt.give_back(asking)
            held.pop(uid, None)
        elif uid not in held:
            lacking = dealt.take(asking)
            assert bool(lacking) == (count > there - sum(held.values()))
            held |= {} if lacking else {uid: count}
        seen = [dealt.env(pod(one, limits(nvidia=n)))[CUDA] for one, n in held.items() if n]
        taken = [one for names in seen for one in names.split(",")]
        assert len({*taken}) == len(taken) == sum(held.values())


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        pytest.param(None, ("0", "1", "2"), id="all, without the variable"),
        pytest.param("2, 0", ("2", "0"), id="those of the variable, in its order"),
        pytest.param("0,3,1", ("0",), id="those before one that does not exist"),
        pytest.param("-1", (), id="none, by an index below 0"),
        pytest.param("", (), id="none, by nothing"),
        pytest.param("GPU-8f0c,GPU-11aa", ("GPU-8f0c", "GPU-11aa"), id="those with names"),
        pytest.param("a,b,c,d", ("a", "b", "c"), id="no more than there are"),
    ],
)
def test_the_gpus_that_the_caller_of_a_run_sees(value: str | None, seen: tuple[str, ...]) -> None:
    assert visible(value, 3) == seen
    assert visible(value, 0) == ()


class Nvml:
    """NVIDIA's library, whose functions return 0 if they succeed."""

    def __init__(self, found: int, error: int = 0) -> None:
        self.found, self.error, self.is_open = found, error, False

    def nvmlInit_v2(self) -> int:  # noqa: N802  # as NVIDIA names it
        self.is_open = not self.error
        return self.error

    def nvmlDeviceGetCount_v2(self, number: Any) -> int:  # noqa: N802
        assert self.is_open
        ctypes.cast(number, ctypes.POINTER(ctypes.c_uint))[0] = self.found
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.is_open = False
        return 0


@pytest.mark.parametrize(
    ("library", "count"),
    [
        pytest.param(Nvml(2), 2, id="two"),
        pytest.param(Nvml(2, error=18), 0, id="none, if driver and library do not fit"),
        pytest.param(None, 0, id="none, without a driver"),
    ],
)
def test_nvidias_gpus_are_counted(library: Nvml | None, count: int) -> None:
    def load(name: str) -> Nvml:
        if library is None:
            raise OSError(name)
        return library

    assert nvidia_gpus(load) == count
    assert library is None or not library.is_open


def test_amds_gpus_are_the_nodes_with_shaders(tmp_path: Path) -> None:
    for index, shaders in enumerate((0, 0, 304, 304)):  # the first two are CPUs
        node = tmp_path / str(index)
        node.mkdir()
        (node / "properties").write_text(f"cpu_cores_count 8\nsimd_count {shaders}\nmax_waves 0\n")
    assert amd_gpus(tmp_path) == 2
    assert amd_gpus(tmp_path / "absent") == 0


@pytest.mark.parametrize(
    ("container", "fields", "sentence"),
    [
        pytest.param(limits(nvidia=1), {}, None, id="enough"),
        pytest.param({}, {"replicas": 9}, None, id="none is asked for"),
        pytest.param(
            limits(nvidia=2),
            {"replicas": 3},
            f"3 replicas with 2 {NVIDIA} each must have 6, but this machine has 2",
            id="too many replicas",
        ),
        pytest.param(
            limits(nvidia=3),
            {"replicas": 1},
            f"1 replica with 3 {NVIDIA} each must have 3, but this machine has 2",
            id="too many for a replica",
        ),
        pytest.param(
            limits(nvidia=1),
            {"replicas": 4, "elastic": {"minReplicas": 2, "maxReplicas": 4}},
            None,
            id="enough for the smallest size of an elastic job",
        ),
        pytest.param(
            limits(nvidia=1),
            {"replicas": 4, "elastic": {"minReplicas": 3, "maxReplicas": 4}},
            f"3 replicas with 1 {NVIDIA} each must have 3, but this machine has 2",
            id="too few for it",
        ),
    ],
)
def test_what_a_job_lacks_on_a_machine_with_two(
    container: Manifest, fields: dict[str, Any], sentence: str | None
) -> None:
    lacks = shortage(spec(container, **fields), gpus(nvidia=2))
    assert (None if lacks is None else str(lacks)) == sentence


def test_without_any_gpu_a_job_that_asks_for_some_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidSpec) as refused:
        check_gpus(spec(limits(nvidia=2)), gpus(nvidia=0), NO_GPU)
    assert str(refused.value) == (
        f"{FIELD}: must be 0 on this machine, which has no {NVIDIA}, got 2: "
        f"`--set '{FIELD}=0'` trains on the CPU"
    )
    check_gpus(spec(limits(nvidia=2)), gpus(nvidia=1), NO_GPU)
    check_gpus(spec(limits(nvidia=0)), gpus(nvidia=0), NO_GPU)


def test_the_command_says_so_with_the_place_of_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CUDA, "")
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job(limits(nvidia=1))))
    assert main(["run", str(path)]) == EXIT_USAGE
    line = 1 + path.read_text().splitlines().index(f"            {NVIDIA}: 1")
    assert capsys.readouterr().err.startswith(f"{path}:{line}:13: {FIELD}: must be 0 on this")


def script(folder: Path, text: str) -> Path:
    (folder / "train.py").write_text(f"{SEES}\n{text}\n")
    return folder


def run(folder: Path, manifest: Manifest, there: Gpus) -> tuple[int, list[str]]:
    """Run a job, and return the exit code and the lines that are printed."""
    out = io.StringIO()
    work = run_job(manifest, workdir=folder, folder=folder, console=Console(out), gpus=there)
    code = asyncio.run(asyncio.wait_for(work, SECONDS))
    return code, out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("text", "manifest", "seen"),
    [
        pytest.param(
            "(here / me).touch(); until('0.0'); until('0.1')",
            job(limits(nvidia=2)),
            ["4,5", "6,7"],
            id="replicas that run at once have different GPUs",
        ),
        pytest.param(
            "sys.exit(me == '0.0')",
            job(limits(nvidia=4), replicas=1, failurePolicy=AT_ONCE),
            ["4,5,6,7", "4,5,6,7"],
            id="a restart has those of the attempt before",
        ),
        pytest.param("", job(), ["", ""], id="replicas that ask for none see none"),
    ],
)
def test_what_the_processes_of_a_run_see(
    tmp_path: Path, text: str, manifest: Manifest, seen: list[str]
) -> None:
    code, lines = run(script(tmp_path, text), manifest, gpus(nvidia=4))
    assert code == 0, lines
    written = [one for one in lines if one.startswith("[")]
    assert sorted(one.partition("sees ")[2] for one in written) == seen


def test_a_run_that_needs_more_gpus_than_there_are_says_so_and_ends(tmp_path: Path) -> None:
    waits = script(tmp_path, "until('never')")
    code, lines = run(waits, job(limits(nvidia=1)), gpus(nvidia=1))
    assert code == EXIT_FAILED
    assert [one for one in lines if one.startswith("--")] == [
        f"-- 1 of 2 replicas wait: 0/1 nodes are available: 1 Insufficient {NVIDIA}.",
        f"-- Failed: 2 replicas with 1 {NVIDIA} each must have 2, but this machine has 1",
        f"-- Next: use `--replicas 1`, or `--set '{FIELD}=0'` to train on the CPU",
    ]
    assert not any(one.startswith("[1]") for one in lines), "it has no GPU, and must not run"


def named(name: str, **fields: Any) -> Manifest:
    made = job(limits(nvidia=1), **fields)
    made["metadata"] |= {"name": name, "uid": ""}
    return made


Statuses = dict[str, Status]  # by the name of the job


async def until(cluster: LocalCluster, holds: Callable[[Statuses], bool]) -> Statuses:
    """Wait until something holds for the statuses of all jobs."""
    async with asyncio.timeout(SECONDS):
        async for _ in cluster.watch(names.KIND):
            jobs = cluster.objects(names.KIND)
            found = {one["metadata"]["name"]: Status.from_manifest(one) for one in jobs}
            if holds(found):
                return found
    raise AssertionError


def waits(status: Status) -> bool:
    return any(one.reason == Reason.UNSCHEDULABLE for one in status.pending)


@contextlib.asynccontextmanager
async def machine(folder: Path, there: Gpus, *jobs: Manifest) -> AsyncIterator[LocalCluster]:
    """A machine that runs jobs."""
    cluster = LocalCluster()
    for one in jobs:
        await cluster.create(one)
    kubelet = Kubelet(cluster, workdir=folder, checkpoints=folder, show=ignore, gpus=there)
    async with background(operate(cluster, cluster, utc_now), kubelet.run()):
        yield cluster


def test_two_jobs_of_one_cluster_share_its_gpus(tmp_path: Path) -> None:
    """The second one is Pending until the first one ends."""
    folder = script(tmp_path, "until(os.environ['ACCELERATEDJOB_NAME'])")
    jobs = [named(name, replicas=1) for name in ("one", "other")]

    async def tell() -> None:
        async with machine(folder, gpus(nvidia=1), *jobs) as cluster:
            found = await until(cluster, lambda jobs: any(map(waits, jobs.values())))
            second = next(name for name, status in found.items() if waits(status))
            (first,) = found.keys() - {second}
            (why,) = found[second].pending
            assert why.message == f"0/1 nodes are available: 1 Insufficient {NVIDIA}."
            assert found[second].phase == names.Phase.PENDING
            (folder / first).touch()
            await until(cluster, lambda jobs: jobs[second].ready == 1)
            (folder / second).touch()
            done = await until(cluster, lambda jobs: all(one.finished for one in jobs.values()))
            assert all(one.holds(ConditionType.COMPLETE) for one in done.values())

    asyncio.run(tell())


def runs(attempt: int, replicas: int, jobs: Statuses) -> bool:
    return all((one.attempt, one.ready) == (attempt, replicas) for one in jobs.values())


def test_an_elastic_job_gives_its_gpus_to_its_next_attempt(tmp_path: Path) -> None:
    folder = script(tmp_path, "until('end')")
    elastic = named("one", replicas=2, elastic={"minReplicas": 1, "maxReplicas": 2})

    def resized(replicas: int) -> Callable[[Manifest], None]:
        return lambda one: one["spec"].update(replicas=replicas)

    async def tell() -> None:
        async with machine(folder, gpus(nvidia=2), elastic) as cluster:
            for attempt, replicas in enumerate((2, 1, 2)):
                cluster.change(Ref(names.KIND, "research", "one"), resized(replicas))
                await until(cluster, partial(runs, attempt, replicas))
            (folder / "end").touch()
            await until(cluster, lambda jobs: jobs["one"].holds(ConditionType.COMPLETE))

    asyncio.run(tell())


def ignore(_pod: object, _lines: Sequence[object]) -> None:
    """Show nothing."""
