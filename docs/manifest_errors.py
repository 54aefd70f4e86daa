"""`python -m docs.manifest_errors`: writes docs/manifest-errors.md, on wrong manifests.

Our sentences are made here. Those of a cluster are in manifest-errors.json, which
`python -m tests.cluster.verdicts` writes, with a cluster in KUBECONFIG.
"""

import difflib
import json
from pathlib import Path

from acceleratedjob.validation import pod_types, report
from docs.wrong_manifests import JOB, RIGHT, WRONG, Case

PAGE = Path(__file__).with_name("manifest-errors.md")
ANSWERS = Path(__file__).with_name("manifest-errors.json")
_MAX = 400  # characters of an answer that are shown
_LINES = 8  # changed lines that are shown
_HEAD = """\
# Wrong manifests

Written by `python -m docs.manifest_errors`. `acceleratedjob run` and `render` check a manifest as a
cluster does, and report all faults at once, each as `FILE:LINE:COLUMN: FIELD: SENTENCE`. A cluster
checks in three steps: `kubectl apply` checks the job by the schema of the CRD, the operator reads
the job, and the API server checks the first pod or claim when the operator creates it.

The commands are stricter than `kubectl apply` in five points: a key that is given twice, a key that
is a fraction, a tag (`!name`), a tab outside of a text, and text that is neither UTF-8 nor UTF-16.
A field of pods that Kubernetes {version} does not have is unknown, even if the cluster is newer.
`run` also needs a `command`, and runs no job that is suspended or that another controller manages.

A cluster may still refuse what the commands accept: they do not know what exists in it, such as a
PriorityClass, and check only the most frequent rules of pods. The sentence is then in the status.

| what is wrong | changed lines | the commands say | a cluster says |
|---|---|---|---|
"""
_TAIL = """
The commands and a cluster accept these:

| what is unusual | changed lines | the commands warn |
|---|---|---|
"""


def page(answers: dict[str, str]) -> str:
    """Return the text of the page.

    Args:
        answers: what a cluster says, by what is wrong.
    """
    wrong = [_row(one.about, _change(one), ours(one), _code(answers[one.about])) for one in WRONG]
    right = [_row(one.about, _change(one), _warnings(one)) for one in RIGHT]
    head = _HEAD.format(version=pod_types.table()["version"])
    return f"{head}{''.join(wrong)}{_TAIL}{''.join(right)}"


def recorded() -> dict[str, str]:
    """Return what a cluster has said, by what is wrong."""
    found: dict[str, str] = json.loads(ANSWERS.read_text(encoding="utf-8"))
    return found


def ours(case: Case) -> str:
    """Return what the commands say."""
    return "<br>".join(_code(str(fault)) for fault in report.of_file(case.data()).faults)


def _warnings(case: Case) -> str:
    return "<br>".join(_code(str(fault)) for fault in report.of_file(case.data()).warnings)


def _change(case: Case) -> str:
    """Return the lines of a case that the job does not have, or else those that it lacks."""
    text = case.data().decode(case.encoding)
    lines = list(difflib.ndiff(JOB.splitlines(), text.splitlines()))
    for mark, wrap in (("+ ", "{}"), ("- ", "without {}")):
        found = [line[2:] for line in lines if line.startswith(mark)]
        if found:
            shown = "<br>".join(map(_code, found[:_LINES])) + (
                "<br>..." if len(found) > _LINES else ""
            )
            return wrap.format(shown)
    return case.encoding


def _code(text: str) -> str:
    """Return a text as code in the cell of a table."""
    shown = text if len(text) <= _MAX else f"{text[:_MAX]}..."
    visible = "".join(one if one.isprintable() else "?" for one in shown).strip()
    mark = "``" if "`" in visible else "`"
    padding = " " if "`" in visible else ""
    return f"{mark}{padding}{visible}{padding}{mark}".replace("|", r"\|") if visible else ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(recorded()), encoding="utf-8")
