import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from acceleratedjob.cli import main, program
from acceleratedjob.local.process import Command, missing_script
from tests.operator.builders import CONTAINER, job


def write(folder: Path, script: str, **spec: object) -> Path:
    template = {"spec": {"containers": [CONTAINER | {"command": ["python", "-c", script]}]}}
    path = folder / "job.yaml"
    manifest = job(template=template, **spec)
    del manifest["metadata"]["uid"]
    path.write_text(yaml.safe_dump(manifest))
    return path


def run(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "acceleratedjob", "run", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """What a run says of the failure, before the next step."""
    before, _, _ = done.stdout.rpartition("-- Next: ")
    return before.rpartition("-- Failed: ")[2].rstrip()


def test_run_shows_each_replicas_output_and_succeeds(tmp_path: Path) -> None:
    done = run(write(tmp_path, "import os; print('rank', os.environ['RANK'])"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"[0] rank 0", "[1] rank 1", "-- Succeeded"} <= set(done.stdout.splitlines())


def test_run_gives_the_pods_one_address_to_meet_at(tmp_path: Path) -> None:
    script = "import os; print(os.environ['MASTER_ADDR'], os.environ['PET_MASTER_PORT'])"
    done = run(write(tmp_path, script))
    first, second = (line[4:] for line in done.stdout.splitlines() if line.startswith("["))
    assert first == second
    assert first.startswith("127.0.0.1 ")


def test_run_restarts_all_pods_and_ends_with_the_jobs_exit_code(tmp_path: Path) -> None:
    script = "import os, sys; sys.exit(os.environ['RANK'] == '1')"
    policy = {"maxRestarts": 1, "backoff": {"initialSeconds": 0}}
    done = run(write(tmp_path, script, failurePolicy=policy))
    assert done.returncode == 1
    assert "restart 1 of 1" in done.stdout
    assert failure(done).endswith("exited with code 1; maxRestarts is 1")


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        pytest.param(["no-such-program"], "'no-such-program' cannot be started", id="a program"),
        pytest.param(["python", "gone.py"], "gone.py is not a file in", id="a script"),
        pytest.param(
            ["sh", "-c", "no-such-program"], "exited with code 127", id="a program of a shell's"
        ),
        pytest.param(["sh", "-c", "./job.yaml"], "exited with code 126", id="no program at all"),
        pytest.param(["python", "-c", "\0"], "embedded null byte", id="a null byte"),
    ],
)
def test_what_is_not_there_ends_the_job_at_once_and_is_named_at_the_end(
    tmp_path: Path, command: list[str], cause: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job({"command": command}, replicas=1)))
    done = run(path)
    assert done.returncode == 1
    assert cause in failure(done)
    assert "restart 1" not in done.stdout
    assert failure(done).endswith("(a restart would not help)")


@pytest.mark.parametrize(
    ("words", "script"),
    [
        ("python train.py", None),
        ("python gone.py data.py", "gone.py"),
        ("/usr/bin/python3.11 -u gone.py", "gone.py"),
        ("python sub/gone.py", "sub/gone.py"),
        ("torchrun --max-restarts=1 gone.py", "gone.py"),
        ("accelerate launch --num_processes 2 gone.py", "gone.py"),
        ("python -m runtime.launch gone.py", "gone.py"),
        ("bash gone.sh", "gone.sh"),
        (f"torchrun --log-dir={'a' * 5000} gone.py", "gone.py"),
        ("python -m trainer gone.py", None),  # whatever that is to the module
        ("python -c pass gone.py", None),
        ("python -um trainer gone.py", None),
        ("python package --write gone.py", None),  # a folder with a __main__.py
        ("python -uc pass gone.py", None),
        ("torchrun train.py --write gone.py", None),
        ("my-launcher gone.py", None),
    ],
)
def test_the_script_that_is_not_there(tmp_path: Path, words: str, script: str | None) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "package").mkdir()
    assert missing_script(Command(words.split(), {}, tmp_path)) == script


@pytest.mark.parametrize("flag", ["-c", "-lc", "-ec"])
def test_what_a_shell_is_told_is_no_script(tmp_path: Path, flag: str) -> None:
    told = Command(["bash", flag, "python gone.py"], {}, tmp_path)
    assert missing_script(told) is None


def test_the_exception_that_ended_a_job_is_repeated_at_its_end(tmp_path: Path) -> None:
    script = "print('step\\n' * 500); raise KeyError('the cause')"
    done = run(write(tmp_path, script, replicas=1, failurePolicy={"maxRestarts": 0}))
    end = failure(done)
    assert end.startswith("Replica 0 (pod digits-0-0 on node local) exited with code 1: ")
    assert end.splitlines()[-1] == "   | KeyError: 'the cause'; maxRestarts is 0"


def test_what_only_a_cluster_has_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    wishes: dict[str, object] = {"scheduling": {"gang": "volcano"}, "network": {"isolate": True}}
    done = run(write(tmp_path, "", **wishes))
    assert done.returncode == 0, done.stdout
    assert "-- spec.scheduling is ignored" in done.stdout
    assert "-- spec.network.isolate is ignored" in done.stdout


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"suspend": True}, "spec.suspend", id="suspended"),
        pytest.param({"managedBy": "a.b/c"}, "spec.managedBy", id="another controller's"),
    ],
)
def test_what_would_wait_for_ever_is_not_run(
    tmp_path: Path, fields: dict[str, object], field: str
) -> None:
    done = run(write(tmp_path, "", **fields))
    assert done.returncode == 2
    assert f"{field}: must be" in done.stderr


def test_ctrl_c_stops_every_replica(tmp_path: Path) -> None:
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(3600)"
    path = write(tmp_path, script)
    command = [sys.executable, "-m", "acceleratedjob", "run", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()[4:]) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(600) == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "job.yaml:1:5: manifest: must be YAML", id="not YAML"),
        pytest.param("", "manifest: must have one AcceleratedJob, got no documents", id="empty"),
        pytest.param(
            "kind: Job\napiVersion: batch/v1\nmetadata: {name: a}",
            "apiVersion: must be",
            id="another kind",
        ),
        pytest.param(
            "a shopping list", "YAML mapping, got a str: 'a shopping list'", id="plain text"
        ),
        pytest.param("- kind: Job", "YAML mapping, got a list", id="a list"),
        pytest.param(
            "kind: A\napiVersion: v1\n---\nb: 2",
            "job.yaml:4:1: b: is not a field",
            id="two",
        ),
        pytest.param(
            "{kind: A, apiVersion: v1}\n---\n{kind: B, apiVersion: v1}",
            "manifest: must have one AcceleratedJob, got A, B",
            id="other kinds only",
        ),
        pytest.param("a: {b: 1, b: 2}", "a.b: must be given once", id="a key given twice"),
        pytest.param(
            "metdata: {name: digits}",
            "metdata: is not a field of AcceleratedJob; did you mean metadata?",
            id="a misspelt section",
        ),
        pytest.param(
            "metadata: {nmae: digits}",
            "metadata.nmae: is not a field of metadata; did you mean name?",
            id="a misspelt name",
        ),
        pytest.param(
            "metadata: {generateName: digits-}", "metadata.name: is required", id="no name"
        ),
        pytest.param(
            "metadata: {name: a, labels: {day: 1}}",
            "metadata.labels[day]: must be a string, got 1",
            id="a label that is a number",
        ),
    ],
)
def test_a_file_that_is_no_job_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    assert main(["render", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_text_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert main(["run", str(path)]) == 2
    assert "manifest: must be UTF-8" in capsys.readouterr().err


def test_a_workdir_that_is_not_there_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "")
    assert main(["run", str(path), f"--workdir={tmp_path / 'none'}"]) == 2
    assert "Invalid value for '--workdir': Directory" in capsys.readouterr().err


def test_render_prints_the_service_and_every_pod(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", str(write(tmp_path, "", replicas=3))]) == 0
    kinds = [one["kind"] for one in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["Service", "Pod", "Pod", "Pod"]


def test_render_prints_what_the_pods_are_kept_together_and_apart_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wishes: dict[str, object] = {"scheduling": {"gang": "volcano"}, "network": {"isolate": True}}
    assert main(["render", str(write(tmp_path, "", **wishes))]) == 0
    kinds = [one["kind"] for one in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["Service", "NetworkPolicy", "PodGroup", "Pod", "Pod"]


def test_every_flag_has_help() -> None:
    for command in program.commands.values():
        options = [one for one in command.params if isinstance(one, click.Option)]
        assert all(one.help for one in options), command.name


def test_run_tells_the_exception_that_a_replica_leaves_as_a_cluster_would(tmp_path: Path) -> None:
    words = '{"exception": "KeyError", "message": "x"}'
    path = "os.environ['ACCELERATEDJOB_TERMINATION_LOG']"
    script = f"import os; open({path}, 'w').write({words!r}); 1 / 0"
    done = run(write(tmp_path, script, replicas=1, failurePolicy={"maxRestarts": 0}))
    assert failure(done).endswith("exited with code 1: KeyError: x; maxRestarts is 0")


def test_an_operator_that_is_asked_to_end_while_it_starts_ends_well(tmp_path: Path) -> None:
    command = ("-v", "-m", "acceleratedjob", "operator", f"--kubeconfig={tmp_path / 'none'}")
    with subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.PIPE, text=True
    ) as process:  # it tells of more imports than a pipe holds, so it is at one until it is read
        assert process.stderr is not None
        assert any(line.startswith("import 'kopf") for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert process.returncode == 0
