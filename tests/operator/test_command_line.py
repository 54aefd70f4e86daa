"""What the command line itself does: help, suggestions, completion, exit codes, manifests."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from acceleratedjob.api.names import API_VERSION, Manifest
from acceleratedjob.cli import completion, main, program
from acceleratedjob.cli.command import Command
from acceleratedjob.cli.parameters import Duration
from acceleratedjob.commands.changes import Change, change, read_change
from acceleratedjob.commands.errors import Misuse, NotDone
from acceleratedjob.commands.text import wrapped
from acceleratedjob.commands.why import why
from acceleratedjob.errors import ClusterError, InvalidSpec, NotFound, Unreachable
from acceleratedjob.exits import EXIT_NOT_FOUND, EXIT_USAGE
from tests.operator.builders import NOW, job
from tests.operator.serving import api_server

COMMANDS = [one for one in program.commands.values() if isinstance(one, Command)]
DATA: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}}


def written(folder: Path, *documents: Any) -> str:
    """A file with documents."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def named(name: str, **status: Any) -> Manifest:
    made = job() | {"status": status}
    made["metadata"]["name"] = name
    return made


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[Manifest]:
    """What `render` prints."""
    assert main(["render", *arguments]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    pinned = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert main(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert (name, f'version = "{version}"' in pinned) == ("acceleratedjob", True)


def test_every_command_is_in_a_section_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert {name for name in program.commands if f"\n  {name} " in told} == {*program.commands}
    assert "Jobs of a cluster:" in told


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["why", "--help"]], ids=" ".join)
def test_what_is_said_about_the_program_needs_nothing_slow(arguments: list[str]) -> None:
    slow = ("aiohttp", "asyncio", "kopf", "kubernetes", "rich", "yaml")
    code = f"import sys; from acceleratedjob.cli import main; main({arguments}); "
    code += f"sys.exit(', '.join(one for one in {slow} if one in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_help_has_examples_and_exit_codes(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(command.name), "--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  acceleratedjob {line}\n" in told for line, _ in command.examples)
    assert "Exit codes:\n  0 success, 1 the job has failed" in told


@pytest.mark.parametrize("line", [line for one in COMMANDS for line, _ in one.examples])
def test_an_example_can_be_parsed(line: str) -> None:
    name, *words = shlex.split(line.partition(" > ")[0])
    with program.commands[name].make_context(name, words) as context:
        assert context.command is program.commands[name]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["staus"], "Did you mean 'status'?", id="a misspelt command"),
        pytest.param(["status", "--wacth"], "Did you mean '--watch'?", id="a misspelt option"),
        pytest.param(["why"], "Missing argument 'JOB'", id="no job"),
        pytest.param(["run"], "exactly one manifest is needed", id="no manifest"),
        pytest.param(["run", "a", "-f", "b"], "exactly one manifest is needed", id="two"),
        pytest.param(["validate"], "at least one manifest is needed", id="nothing to validate"),
        pytest.param(["checkpoints"], "exactly one is needed: JOB, or --folder", id="no place"),
        pytest.param(["status", "a", "-A"], "do not use -A with JOB", id="one of all namespaces"),
        pytest.param(["logs", "a", "--rank=0", "--replica=0"], "exclude each other", id="both"),
        pytest.param(["stop", "a", "--timeout=0s"], "a duration above 0", id="no time"),
        pytest.param(["stop", "a", "--timeout=soon"], "a duration above 0", id="not a time"),
        pytest.param(["render", "a", "--replicas=0"], "x>=1", id="no replicas"),
        pytest.param(["render", "a", "--set", "spec"], "must be FIELD=VALUE", id="no value"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, errors = capsys.readouterr()
    assert (out, sentence in errors) == ("", True), errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSpec("spec.replicas", "must be 1"), 2),
        (Misuse("use --force"), 2),
        (NotFound("none not found"), 3),
        (Unreachable("no kubeconfig"), 4),
        (ClusterError("no"), 4),
        (NotDone("not in time"), 5),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 0),
    ],
    ids=repr,
)
def test_an_error_is_a_sentence_and_an_exit_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> int:
        raise error

    monkeypatch.setitem(program.commands, "fail", Command("fail", callback=fail))
    with open(os.devnull, "w") as out:  # noqa: PTH123  # a broken pipe is replaced, not pytest's
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["fail"]) == code
    told = capfd.readouterr().err.strip()
    assert told == ("" if code in (0, 130) else f"acceleratedjob fail: {error}")


def test_as_a_plugin_of_kubectl_it_has_the_name_that_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-acceleratedjob"])
    assert main(["why", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Usage: kubectl acceleratedjob why ")
    assert "\n  kubectl acceleratedjob why digits\n" in told


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_script_of_a_shell_asks_the_program(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    assert f"{completion.COMPLETE}={shell}_complete" in capsys.readouterr().out


# The program, on however slow a machine.
PATIENT = "from acceleratedjob.cli import completion, main; completion.SECONDS = 600; main()"


def test_a_shell_that_asks_gets_the_words(tmp_path: Path) -> None:
    with api_server(tmp_path, named("digits"), named("mnist")) as kubeconfig:
        asks = {
            completion.COMPLETE: "bash_complete",
            "COMP_WORDS": "acceleratedjob why mn",
            "COMP_CWORD": "2",
            "KUBECONFIG": str(kubeconfig),
        }
        done = subprocess.run(
            [sys.executable, "-c", PATIENT],
            env=os.environ | asks,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,mnist\n", "")


def completed(*words: str) -> tuple[list[str], str]:
    """What kubectl is told to offer for the last word, and the directive."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "SECONDS", 600)
        patch.setattr(sys, "stdout", out)
        assert completion.complete_for_kubectl(words) == 0
    *found, directive = out.getvalue().splitlines()
    return [one.partition("\t")[0] for one in found], directive


def test_words_that_kubectl_offers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server(tmp_path, named("digits", phase="Running"), named("mnist")) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        assert completed("st") == (["status", "stop"], ":4")
        assert completed("status", "--al") == (["--all-namespaces"], ":4")
        assert completed("status", "-o", "") == (["wide", "json", "yaml"], ":4")
        assert completed("why", "") == (["digits", "mnist"], ":4")
        assert completed("why", "mn") == (["mnist"], ":4")
        assert completed("delete", "digits", "m") == (["mnist"], ":4")
        assert completed("why", "-n", "other", "m") == ([], ":4")
        assert completed("why", "--context", "l") == (["lab", "live"], ":4")
        assert completed("why", "-n", "") == (["research"], ":4")


@pytest.mark.parametrize(
    "words",
    [
        *(["run", "jo"], ["render", "-f", "jo"], ["validate", "a.yaml", "jo"], ["submit", "jo"]),
        *(["status", "--kubeconfig", "co"], ["checkpoints", "--folder", "di"]),
    ],
    ids=" ".join,
)
def test_a_shell_completes_files(words: list[str]) -> None:
    assert completed(*words) == ([], ":0")


def test_fish_cuts_no_description_at_a_comma(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    assert 'string split --max 1 ","' in capsys.readouterr().out


def test_a_cluster_that_cannot_be_asked_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert completed("why", "") == ([], ":4")
    assert completed("why", "--context", "") == ([], ":4")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("500ms", 0.5)]
)
def test_a_duration(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


# Manifests: changes, documents, and the standard input.


def test_what_is_set_is_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, job())
    image = "spec.template.spec.containers[0].image=train:2"
    words = "spec.template.spec.containers[0].command=[python, other.py]"
    label = "metadata.labels[example.com/team]=a"
    made = rendered(capsys, path, "--replicas=3", "--set", image, "--set", words, "--set", label)
    assert [one["kind"] for one in made] == ["Service", "Pod", "Pod", "Pod"]
    (container,) = made[1]["spec"]["containers"]
    assert (container["image"], container["command"]) == ("train:2", ["python", "other.py"])


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        pytest.param("a.b=1", {}, {"a": {"b": 1}}, id="mappings are made"),
        pytest.param("a.b=1", {"a": None}, {"a": {"b": 1}}, id="also for null"),
        pytest.param("a=", {"a": 1}, {"a": None}, id="no value is null"),
        pytest.param("a=b=c", {}, {"a": "b=c"}, id="a value with ="),
        pytest.param("a[1]=2", {"a": [1]}, {"a": [1, 2]}, id="the entry after the last one"),
        pytest.param("a[0].b=2", {"a": []}, {"a": [{"b": 2}]}, id="and what is in it"),
    ],
)
def test_a_change(text: str, before: Manifest, after: Manifest) -> None:
    assert change(before, [read_change(text)]) == after


@pytest.mark.parametrize("text", ["=1", "spec", "spec.replicas", "a..b=1", "a[=1", "a=[", "a]=1"])
def test_a_change_that_is_none(text: str) -> None:
    with pytest.raises(Misuse, match="must be"):
        read_change(text)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (("a", "b"), "a.b: cannot be set: a is 1"),
        (("c", 2), r"c\[2\]: cannot be set: c is a list of 1 entry"),
        (("c", "b"), "c.b: cannot be set: c is a list of 1 entry"),
        ((0,), r"\[0\]: cannot be set: the manifest is "),
    ],
)
def test_a_place_that_is_not_there(path: tuple[str | int, ...], sentence: str) -> None:
    document = {"a": 1, "c": [1]}
    with pytest.raises(InvalidSpec, match=sentence):
        change(document, [Change(path, 2)])
    assert document == {"a": 1, "c": [1]}


def test_a_change_is_checked_as_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, job())
    assert main(["render", path, "--set", "spec.replcas=3"]) == 2
    assert "spec.replcas: is not a field of spec; did you mean replicas?" in capsys.readouterr().err


def test_other_kinds_are_ignored_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, DATA, job(), job())
    assert main(["render", path]) == 0
    out, errors = capsys.readouterr()
    assert [one["kind"] for one in yaml.safe_load_all(out)] == ["Service", "Pod", "Pod"] * 2
    assert errors == (
        "ConfigMap data is ignored: only `acceleratedjob submit` applies other kinds\n"
    )


@pytest.mark.parametrize(
    ("version", "kind"),
    [("v1", "List"), (API_VERSION, "AcceleratedJobList")],
    ids=["as kubectl prints it", "as the API server answers"],
)
def test_a_list_is_its_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, kind: str
) -> None:
    items = {"apiVersion": version, "kind": kind, "items": [job(), DATA]}
    assert len(rendered(capsys, written(tmp_path, items))) == 3


def test_one_job_at_a_time_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", written(tmp_path, job(), job())]) == 2
    assert "must have one AcceleratedJob to run, got digits, digits" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["-"], ["-f", "-"], ["--filename=-"]])
def test_the_standard_input(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "acceleratedjob", "render", *arguments]
    done = subprocess.run(
        command, input=json.dumps(job()), capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("apiVersion: v1\nkind: Service\n")


def test_json_is_one_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", written(tmp_path, job()), "-o", "json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["kind"], [one["kind"] for one in made["items"]]) == (
        "List",
        ["Service", "Pod", "Pod"],
    )


def test_every_manifest_is_validated_and_every_fault_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = written(tmp_path, job(), DATA)
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump(job(replicas=0)))
    assert main(["validate", good]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{good}: AcceleratedJob digits is valid",
        f"{good}: ConfigMap data is ignored: only `acceleratedjob submit` applies other kinds",
    ]
    assert main(["validate", str(bad), "-f", good, str(tmp_path / "none")]) == 2
    out, errors = capsys.readouterr()
    assert f"{good}: AcceleratedJob digits is valid" in out
    first, second = errors.splitlines()
    assert first == f"{bad}:9:3: spec.replicas: must be between 1 and 10000, got 0"
    assert second.startswith(f"{tmp_path / 'none'}: manifest: cannot be read: ")


def test_every_option_says_what_it_does() -> None:
    options = [one for each in COMMANDS for one in each.params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []


# Commands about jobs, as they are typed.


def test_jobs_in_all_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = {"step": 5, "totalSteps": 10, "epoch": 1, "epochs": 2, "loss": "0.25"}
    jobs = named("digits", phase="Running", progress=progress), named("mnist", phase="Failed")

    def status(*arguments: str) -> str:
        assert main(["status", "--kubeconfig", str(kubeconfig), *arguments]) == 0
        return capsys.readouterr().out

    with api_server(tmp_path, *jobs) as kubeconfig:
        header, digits, mnist = status().splitlines()
        assert header.split()[:4] == ["NAME", "PHASE", "READY", "STEP"]
        assert (digits.split()[:3], mnist.split()[:2]) == (
            ["digits", "Running", "5/10"],
            ["mnist", "Failed"],
        )
        header, digits, _ = status("-o", "wide").splitlines()
        assert {"EPOCH", "IN-PLACE", "LOSS", "SAMPLES/S", "VERDICTS"} <= set(header.split())
        assert digits.split()[2:5] == ["5/10", "1/2", "0"]
        assert [one["metadata"]["name"] for one in json.loads(status("-o", "json"))["items"]] == [
            *("digits", "mnist")
        ]
        assert json.loads(status("digits", "-o", "json"))["status"]["progress"] == progress
        assert yaml.safe_load(status("mnist", "-o", "yaml"))["status"] == {"phase": "Failed"}
        assert len(list(yaml.safe_load_all(status("-A", "-o", "yaml")))) == 2


def test_a_followed_job_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = [{"type": "Failed", "status": "True", "reason": "X", "message": "m"}]
    with api_server(tmp_path, named("digits", phase="Failed", conditions=ended)) as kubeconfig:
        command = ["status", "digits", "--watch", "-o", "json", "--kubeconfig", str(kubeconfig)]
        assert main(command) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["status"]["phase"] == "Failed"


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        pytest.param(["logs", "mnist"], "`acceleratedjob why mnist{flags}`", id="logs"),
        pytest.param(["dump", "mnist"], "`acceleratedjob why mnist{flags}`", id="dump"),
        pytest.param(
            ["resume", "mnist"], "`acceleratedjob status mnist --watch{flags}`", id="resume"
        ),
    ],
)
@pytest.mark.parametrize("flags", ["", " -n research", " -n research --context lab"])
def test_a_suggested_command_is_about_the_same_cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    hint: str,
    flags: str,
) -> None:
    with api_server(tmp_path, named("mnist", size=1, attempt=0)) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        main([*command, *flags.split()])
        assert hint.format(flags=flags) in "".join(capsys.readouterr())


def test_an_empty_namespace_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with api_server(tmp_path) as kubeconfig:
        for more, said in (
            (["-n", "red"], "No jobs found in namespace red; -A lists all.\n"),
            (["-A"], "No jobs found.\n"),
        ):
            assert main(["status", "--kubeconfig", str(kubeconfig), *more]) == 0
            assert capsys.readouterr().out == said


def test_the_explanation_is_as_wide_as_the_terminal() -> None:
    made = named("digits", phase="Failed", conditions=[])
    made["metadata"]["creationTimestamp"] = "2026-01-01T11:00:00Z"
    told = why(named("digits") | {"status": {}, "metadata": made["metadata"]}, NOW)
    narrow = list(wrapped(told, width=40))
    assert max(map(len, narrow)) <= 40 < max(map(len, told))
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(told).split())


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "digits/status", "mnist/../digits", "digits?x=1", "digits#x", "digits%2F"],
)
@pytest.mark.parametrize("command", [["status"], ["why"], ["stop", "--force"], ["delete"]])
def test_a_name_that_no_job_can_have_reaches_no_other_object(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    name: str,
) -> None:
    with api_server(tmp_path, named("digits", phase="Running")) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        assert main([*command, "--", name]) == EXIT_NOT_FOUND
        assert f"job {shlex.quote(name)} not found" in capsys.readouterr().err
        assert main([*command, "-n", "../research/x", "digits"]) == EXIT_NOT_FOUND
        assert main(["status", "-n", ".."]) == EXIT_NOT_FOUND
        assert main(["status", "digits"]) == 0
    assert "Running" in capsys.readouterr().out


def run_by_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a shell line does, in which `$IT` is the program."""
    return subprocess.run(
        ["sh", "-c", line.replace("$IT", f"{sys.executable} -m acceleratedjob")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("words", ["--help", "render job.yaml", "validate job.yaml"])
def test_a_full_disk_is_a_sentence(tmp_path: Path, words: str) -> None:
    written(tmp_path, job())
    done = run_by_shell(f"$IT {words} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (
        EXIT_USAGE,
        "acceleratedjob: cannot write: No space left on device\n",
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [("$IT validate job.yaml >&-", 0), ("$IT validate none >&- 2>&-", EXIT_USAGE)],
    ids=["the output is closed", "both are closed"],
)
def test_an_output_may_be_closed(tmp_path: Path, line: str, code: int) -> None:
    written(tmp_path, job())
    done = run_by_shell(line, tmp_path)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("spec.runtime.mixedPrecision=no", "'spec.runtime.mixedPrecision=\"no\"'"),
        ("metadata.labels[example.com/a]=1", "'metadata.labels[example.com/a]=\"1\"'"),
        ("spec.replicas=yes", ""),
    ],
)
def test_quotes_are_advised_for_what_is_set_if_they_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: str, advice: str
) -> None:
    path = written(tmp_path, job())
    assert main(["render", path, "--set", typed]) == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    _, found, told = line.partition(": for text write --set ")
    assert (bool(found), told) == (bool(advice), advice)
    if advice:
        (text,) = shlex.split(advice)
        assert main(["render", path, "--set", text]) == 0
