"""No text of others moves a cursor, and none passes for a line of ours."""

import io
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceleratedjob import cli
from acceleratedjob.commands.console import Console
from acceleratedjob.manager.logformat import TextFormatter
from tests.operator.builders import job

EVIL = "\x1b[2J\x1b]0;x\x07\x9b1m\u202e\r\nmanifest: all is well"


def manifest(**spec: Any) -> dict[str, Any]:
    """A job whose every text is hostile, as far as it can be read."""
    made = job({"args": [EVIL], "env": [{"name": EVIL, "value": EVIL}]}, **spec)
    made["metadata"]["annotations"] = {EVIL: EVIL}
    made["spec"]["template"]["metadata"] = {"labels": {EVIL: EVIL}}
    return made


def altered(path: str, value: Any = "x") -> dict[str, Any]:
    """The job with a key or a value at a place."""
    made: dict[str, Any] = manifest()
    *parents, last = path.split("/")
    found = made
    for name in parents:
        found = found[name]
    found[EVIL if last == "EVIL" else last] = value
    return made


REFUSED = {
    "an unknown field at the top": altered("EVIL"),
    "an unknown field of the metadata": altered("metadata/EVIL"),
    "an unknown field of the spec": altered("spec/EVIL"),
    "an unknown field of a section": manifest(network={EVIL: 1}),
    "a word that is none of a few": manifest(cleanPodPolicy=EVIL),
    "a name": altered("metadata/name", EVIL),
    "a kind": altered("kind", EVIL),
    "a size": manifest(sharedMemory={"sizeLimit": EVIL}),
    "a limit": manifest(template={"spec": {"containers": [
        {"name": "trainer", "command": ["x"], "resources": {"limits": {EVIL: EVIL}}}
    ]}}),
    "a list in the place of a job": [EVIL],
}  # fmt: skip


def is_harmless(text: str) -> bool:
    """Whether a text has no character that a terminal obeys, and no line that is forged."""
    return all(
        one.isprintable() and not one.startswith("manifest: all is well")
        for one in text.split("\n")
    )


@pytest.mark.parametrize("command", ["run", "render"])
@pytest.mark.parametrize("made", REFUSED.values(), ids=REFUSED)
def test_what_a_refused_manifest_says_is_text(
    made: Any, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(made))
    assert cli.main([command, str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert is_harmless(told.err)
    assert len(told.err) > 40


def test_what_is_rendered_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    made = manifest()
    del made["spec"]["template"]["metadata"]["labels"]  # no cluster takes such labels,
    del made["metadata"]["annotations"]  # nor such keys of annotations,
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["env"][0]["name"] = "A"  # nor such names of variables
    file.write_text(yaml.safe_dump(made))
    assert cli.main(["render", str(file)]) == 0
    told = capsys.readouterr().out
    assert is_harmless(told)
    *_, pod = yaml.safe_load_all(told)
    assert pod["spec"]["containers"][0]["args"] == [EVIL]


def test_what_a_run_tells_of_a_job_is_text() -> None:
    out = io.StringIO()
    Console(out).tell(f"InvalidSpec: {EVIL}")
    assert is_harmless(out.getvalue())
    assert out.getvalue().splitlines()[1] == "   | manifest: all is well"


def test_a_line_of_the_log_for_people_is_text() -> None:
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "refused: %s", (EVIL,), None)
    assert is_harmless(TextFormatter().format(record))


NOT_JSON = {
    "a mapping that holds itself": "a: &a [*a]",
    "a billion laughs": "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghi")),
    "as deep as no decoder goes": "a: " + "[" * 5_000 + "]" * 5_000,
    "not a number": "a: .nan",
    "bytes": "a: !!binary aGk=",
    "a key that is null": "a: {~: 2, b: 3}",
}  # fmt: skip


@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
def test_yaml_that_is_no_json_is_refused_in_one_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    assert cli.main(["render", str(file)]) == 2
    told = capsys.readouterr().err
    assert f"{file}:" in told.splitlines()[-1]
    assert ": manifest: " in told.splitlines()[-1]
