"""A kubeconfig that does not lead to a cluster is answered with a sentence and exit code 4."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceleratedjob.cli import main
from acceleratedjob.errors import Unreachable
from acceleratedjob.kube.kubeconfig import Kubeconfig, find

USAGE, UNREACHABLE = 2, 4
SERVER = "https://127.0.0.1:1"


def config(
    *, server: str = SERVER, user: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A kubeconfig that says all that one has to; `more` is said otherwise."""
    return {
        "clusters": [{"name": "c", "cluster": {"server": server, **more.pop("cluster", {})}}],
        "users": [{"name": "u", "user": {"token": "t"} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    } | more


def context(**fields: str) -> list[dict[str, Any]]:
    return [{"name": "x", "context": fields}]


WRONG = [
    pytest.param("a: [", "FILE must be YAML, and is not: while parsing", id="not YAML"),
    pytest.param("hello", "FILE must have clusters, contexts and users", id="a text"),
    pytest.param("", "FILE must have clusters, contexts and users", id="empty"),
    pytest.param("[1]", "FILE must have clusters, contexts and users", id="a list"),
    pytest.param("clusters: 3", "must have a current-context, and has none", id="no context"),
    pytest.param(
        config() | {"current-context": "y"},
        "FILE must have the context 'y'; its contexts are: x",
        id="a context that is not there",
    ),
    pytest.param(
        config(contexts=context(cluster="d", user="u")),
        "FILE must have the cluster 'd'; its clusters are: c",
        id="a cluster that is not there",
    ),
    pytest.param(
        config(contexts=context(cluster="c", user="v")),
        "FILE must have the user 'v'; its users are: u",
        id="a user who is not there",
    ),
    pytest.param(
        config(contexts=context(cluster="c")),
        "FILE must have the user ''; its users are: u",
        id="nobody, to a server that asks",
    ),
    pytest.param(
        config(users=None), "must have the user 'u'; its users are: none", id="no users at all"
    ),
    pytest.param(
        config(server="somewhere"),
        "a cluster's server must be a URL, got 'somewhere'",
        id="a server without an address",
    ),
    pytest.param(
        config(cluster={"certificate-authority": "/none/ca.crt"}),
        "context 'x' of FILE cannot be used: File does not exists: /none/ca.crt",
        id="an authority that is not there",
    ),
    pytest.param(
        config(cluster={"certificate-authority-data": "IQ=="}),
        f"the certificates for {SERVER} must be PEM files, and are not: ",
        id="an authority that is none",
    ),
    pytest.param(
        config(user={"client-certificate": "/none/a.crt", "client-key": "/none/a.key"}),
        "cannot be used: File does not exists: /none/a.crt",
        id="a certificate of ours that is not there",
    ),
    pytest.param(
        config(user={"tokenFile": "/none/token"}),
        "cannot be used: [Errno 2] No such file or directory: '/none/token'",
        id="a token that is not there",
    ),
    pytest.param(
        config(user={"exec": {"apiVersion": "v1", "command": "/none/log-in"}}),
        "the command '/none/log-in' must print credentials, and has printed none",
        id="a command that cannot be run",
    ),
]


@pytest.fixture(autouse=True)
def _outside_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)


def written(folder: Path, told: Any) -> Path:
    file = folder / "kubeconfig"
    file.write_text(told if isinstance(told, str) else yaml.safe_dump(told))
    return file


@pytest.mark.parametrize(("told", "sentence"), WRONG)
def test_a_command_says_what_is_wrong_with_a_kubeconfig(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: Any, sentence: str
) -> None:
    file = written(tmp_path, told)
    assert main(["status", f"--kubeconfig={file}"]) == UNREACHABLE
    out, errors = capsys.readouterr()
    assert (out, "Traceback" in errors) == ("", False)
    assert errors.splitlines()[-1].startswith("acceleratedjob status: ")
    assert sentence.replace("FILE", str(file)) in errors.splitlines()[-1]


@pytest.mark.parametrize("command", [["why", "digits"], ["status"], ["logs", "digits"]])
@pytest.mark.parametrize("place", ["missing", ""], ids=["no such file", "a folder"])
def test_every_command_says_that_a_file_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], place: str
) -> None:
    file = tmp_path / place
    reason = "must exist, and" if place else "cannot be read: Is a directory"
    assert main([*command, f"--kubeconfig={file}"]) == UNREACHABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"acceleratedjob {command[0]}: ")
    assert reason in line
    assert str(file) in line


@pytest.mark.parametrize(
    ("told", "flags", "sentence"),
    [
        pytest.param(None, (), "a kubeconfig must exist, and FILE does not", id="no such file"),
        pytest.param("a: [", (), "FILE must be YAML, and is not", id="not YAML"),
        pytest.param(
            config(), ("--context=y",), "FILE must have the context 'y'", id="no such context"
        ),
    ],
)
def test_an_operator_ends_with_one_sentence(
    tmp_path: Path, told: Any, flags: tuple[str, ...], sentence: str
) -> None:
    file = tmp_path / "kubeconfig" if told is None else written(tmp_path, told)
    command = [sys.executable, "-m", "acceleratedjob", "operator", *flags]
    env = os.environ | {"KUBECONFIG": str(file)}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == UNREACHABLE, done.stderr
    (line,) = done.stderr.splitlines()
    assert sentence.replace("FILE", str(file)) in line


def test_a_port_that_is_taken_is_told_before_anything_is_asked_for(tmp_path: Path) -> None:
    file = written(tmp_path, config())
    with socket.create_server(("", 0)) as taken:
        flag = f"--http-port={taken.getsockname()[1]}"
        command = [sys.executable, "-m", "acceleratedjob", "operator", f"--kubeconfig={file}", flag]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == USAGE, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"{flag.replace('=', ' must be a free port, got ')}: " in line


def test_of_several_files_the_first_word_counts_and_some_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = written(tmp_path / "first", {"current-context": "y", "contexts": context(cluster="d")})
    places = config()
    places["contexts"] = [
        {"name": name, "context": {"cluster": "c", "user": "u", "namespace": name}} for name in "xy"
    ]
    second = written(tmp_path / "second", places)
    files = os.pathsep.join(map(str, (tmp_path / "none", first, second)))
    assert find(files, None) == Kubeconfig(files=files, context="y", namespace="y", command="")
    with pytest.raises(Unreachable, match="must have the cluster 'd'; its clusters are: c"):
        find(files, "x")
