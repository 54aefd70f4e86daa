"""`Client.local()`: real processes, without torch."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceleratedjob import Client
from acceleratedjob.client import host
from acceleratedjob.client.local import LocalBackend
from acceleratedjob.errors import (
    AlreadyExists,
    ClusterError,
    InvalidSpec,
    JobFailed,
    LosesTraining,
    NotFound,
)
from tests.operator.test_local_run import lives

SECONDS = 600
pytestmark = pytest.mark.slow


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A client, whose processes are none at the end."""
    with Client.local(tmp_path) as made:
        yield made
    left = [pid for pid in pids(tmp_path) if lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def pids(folder: Path) -> list[int]:
    return [int(path.read_text() or 0) for path in folder.glob("*.pid")]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def greet(who: str, times: int = 1) -> None:
    import os

    for _ in range(times):
        print("hello", who, "from", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], flush=True)


def fail() -> None:
    raise ValueError("no data")


def wait_once(folder: str) -> None:
    """Wait in the first attempt until it is stopped; end at once in the next one."""
    import os
    import time
    from pathlib import Path

    rank, attempt = os.environ["RANK"], os.environ["ACCELERATEDJOB_ATTEMPT"]
    Path(folder, f"{rank}-{attempt}.pid").write_text(str(os.getpid()))
    print("attempt", attempt, flush=True)
    while attempt == "0":
        time.sleep(1)


def test_a_function_runs_in_every_replica(client: Client, tmp_path: Path) -> None:
    job = client.train(greet, args={"who": "ann", "times": 2}, replicas=2, name="greet")
    state = job.wait(timeout=SECONDS)
    assert (state.name, state.phase, state.replicas) == ("greet", "Succeeded", 2)
    lines = list(job.logs())
    for rank in (0, 1):
        mine = [line.text for line in lines if line.rank == rank]
        assert mine == [f"hello ann from {rank} of 2"] * 2
    assert sorted(map(str, job.logs(replica=1))) == ["rank 1 | hello ann from 1 of 2"] * 2
    assert [*job.logs(follow=True)] == lines
    assert client.list() == [job.get()] == [state]
    job.delete()
    assert client.list() == []
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_fails_says_why(client: Client) -> None:
    job = client.train(fail, spec={"failurePolicy": {"maxRestarts": 0}})
    with pytest.raises(JobFailed) as error:
        job.wait(timeout=SECONDS)
    assert "ValueError: no data" in str(error.value)
    assert f"{job.name} has failed: " in str(error.value)
    state = job.wait(check=False)
    assert state.failed
    assert state.failures[0].exit_code == 1
    job.resume()
    assert job.stop() == state


def test_a_job_is_stopped_and_goes_on(client: Client, tmp_path: Path) -> None:
    job = client.train(wait_once, args={"folder": str(tmp_path)}, replicas=2)
    follower = job.logs(follow=True)
    assert [next(follower).text, next(follower).text] == ["attempt 0"] * 2
    until(lambda: job.get().phase == "Running")
    with pytest.raises(TimeoutError, match=r"has not finished within 0\.01 s: it is Running,"):
        job.wait(timeout=0.01)
    with pytest.raises(LosesTraining, match=r"a stop loses the training so far, .*force=True"):
        job.stop()
    stopped = job.stop(timeout=SECONDS, force=True)
    assert stopped.phase == "Suspended"
    assert [line.text for line in job.logs()] == ["attempt 0"] * 2
    assert not any(map(lives, pids(tmp_path)))
    assert job.stop(timeout=SECONDS) == stopped
    job.resume()
    assert job.wait(timeout=SECONDS).succeeded
    assert [line.attempt for line in follower] == [1, 1]


def wheel(folder: Path) -> Path:
    """A package `tiny` with one module."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "SIZE = 'tiny'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: pip\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


SCRIPT = """
import pathlib, sys
import net, tiny
print(net.SIZE, tiny.SIZE, sys.argv[1:], pathlib.Path("conf.txt").read_text())
print(pathlib.Path(tiny.__file__).parent.name, sorted(p.name for p in
      pathlib.Path(tiny.__file__).parent.iterdir() if "info" not in p.name and p.suffix == ".py"))
"""


def test_a_folder_with_a_package_that_pip_installs(client: Client, tmp_path: Path) -> None:
    """What the package needs is there already, so it is not installed again."""
    folder = tmp_path / "src"
    folder.mkdir()
    for name, text in {"train.py": SCRIPT, "net.py": "SIZE = 3", "conf.txt": "conf"}.items():
        (folder / name).write_text(text)
    job = client.train(
        folder / "train.py",
        args=["--lr", 0.1, "$(RANK)"],
        folder=folder,
        packages=[f"tiny @ {wheel(tmp_path).as_uri()}"],
        env={"PIP_NO_INDEX": "1"},
    )
    job.wait(timeout=SECONDS)
    assert [line.text for line in job.logs()] == [
        "3 tiny ['--lr', '0.1', '$(RANK)'] conf",
        "packages ['tiny.py']",
    ]


def test_a_package_that_there_is_not(client: Client) -> None:
    job = client.train(
        fail,
        packages=["no-such-thing==1"],
        env={"PIP_NO_INDEX": "1"},
        spec={"failurePolicy": {"maxRestarts": 0}},
    )
    with pytest.raises(JobFailed) as error:
        job.wait(timeout=SECONDS)
    assert "the packages no-such-thing==1 must be installed by pip" in str(error.value)
    assert any("No matching distribution" in line.text for line in job.logs())


def test_gpus_that_this_machine_does_not_have(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InvalidSpec, match=r"has no nvidia.com/gpu, got 2: gpus=0 trains on the"):
        client.train(greet, args={"who": "you"}, gpus=2)
    assert client.list() == []


def test_names(client: Client) -> None:
    job = client.train(greet, args={"who": "ann"}, name="greet")
    with pytest.raises(AlreadyExists, match="has a job greet: delete it, or choose another name"):
        client.train(greet, args={"who": "ann"}, name="greet")
    for call in (client.get, client.job, client.wait, client.stop, client.resume, client.delete):
        with pytest.raises(NotFound, match="no job other; it has: greet"):
            call("other")
    with pytest.raises(NotFound):
        client.logs("other")
    assert client.job("greet") == job
    with pytest.raises(InvalidSpec, match=r"spec.suspend: must be false to run on this machine"):
        client.train(greet, args={"who": "ann"}, spec={"suspend": True})


PROGRAM = """
import sys
from acceleratedjob import Client
from acceleratedjob.client import host
from tests.operator.test_client_local import wait_once
job = Client.local(sys.argv[1]).train(wait_once, args={"folder": sys.argv[1]}, replicas=2)
lines = job.logs(follow=True)
print(next(lines), next(lines), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["it returns", "it is killed"])
def test_a_job_ends_with_the_program_that_has_started_it(tmp_path: Path, way: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().count("attempt 0") == 2
        started = pids(tmp_path)
        assert [lives(pid) for pid in started] == [True, True]
        if way == "it is killed":
            process.kill()
        else:
            process.communicate()
            assert process.returncode == 0
    until(lambda: not any(map(lives, started)))


def test_a_job_whose_own_process_is_killed_is_not_waited_for(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    with Client(backend=backend) as client:
        job = client.train(wait_once, args={"folder": str(tmp_path)})
        next(job.logs(follow=True))
        backend._jobs[job.name]._process.kill()
        with pytest.raises(ClusterError, match=r"the process that runs wait-once-.* by an error"):
            job.wait(timeout=SECONDS)
    with pytest.raises(ClusterError, match="by an error"):
        job.wait()
    with pytest.raises(RuntimeError, match="the client must be open, but it was closed"):
        client.train(fail)
    until(lambda: not any(map(lives, pids(tmp_path))))


# Stands for the process of a job that is killed while it writes.
HALF_A_HOST = """
import json, sys
job = json.loads(sys.stdin.readline())["objects"][-1]
job["metadata"]["uid"] = "1"
print(json.dumps({"job": job}), json.dumps({"job": job})[:20], sep="\\n", end="")
sys.exit(1)
"""


def test_a_job_whose_own_process_is_killed_while_it_writes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_host.py").write_text(HALF_A_HOST)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setattr(host, "__name__", "half_a_host")
    with Client.local(tmp_path) as client:
        job = client.train(greet, args={"who": "ann"})
        with pytest.raises(ClusterError, match="by an error"):
            job.wait(timeout=SECONDS)
