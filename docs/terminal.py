"""Records the pictures of terminals in the docs: runs commands, and draws their screens.

    python -m docs.terminal               all pictures, in docs/terminal
    python -m docs.terminal demo watch    some of them

The commands really run; the folder of the project is shown as /acceleratedjob. Only the job that
`watch` follows is made up, on an API server that keeps its objects in memory.
"""

import contextlib
import io
import itertools
import os
import pty
import re
import select
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from acceleratedjob.api.times import format_time, utc_now
from tests.operator.builders import job
from tests.operator.serving import api_server

PROJECT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("terminal")
COLUMNS, LINES = 110, 30
_SECONDS = 300  # for a command
_PROGRAM = Path(sys.executable).with_name("acceleratedjob")
_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # a picture loads nothing
_COLORS = {"brown": "yellow", "default": None}  # rich's names of pyte's colors
_PLACE = Path(tempfile.gettempdir(), "acceleratedjob")  # paths are shown


@dataclass(frozen=True, slots=True)
class Session:
    """A command, and when its screen is drawn.

    Attributes:
        typed: the arguments of `acceleratedjob`.
        until: what the screen must show.
        then: the keys that are typed then; the screen is drawn when the command has ended.
        kubeconfig: whether the command asks a cluster.
    """

    typed: Sequence[str]
    until: Callable[[str], bool] = lambda _: False
    then: str | None = None
    kubeconfig: bool = False


def shows_percent(text: str, least: int) -> bool:
    """Whether a screen shows a bar that has come so far."""
    return any(int(one) >= least for one in re.findall(r"(\d+)%", text))


DEMO = ("run", "examples/demo/job.yaml")
_ONCE = "spec.failurePolicy.maxRestarts=0"
_SCRIPT = "from runtime import Accelerator; Accelerator(); 1 / 0"
_WRONG = f"spec.template.spec.containers[0].command=[python, -c, {_SCRIPT}]"
SESSIONS = {
    "demo": Session(DEMO, lambda text: "RestartedInPlace" in text and shows_percent(text, 70)),
    "done": Session(DEMO),
    "interrupted": Session(DEMO, lambda text: shows_percent(text, 20), then="\x03"),
    "failed": Session(("run", "examples/digits/job.yaml", *("--set", _WRONG, "--set", _ONCE))),
    "watch": Session(
        ("status", "digits", "--watch"), lambda text: shows_percent(text, 50), kubeconfig=True
    ),
}


def main(names: Sequence[str]) -> None:
    """Write the pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or SESSIONS:
        shutil.rmtree(_PLACE, ignore_errors=True)
        shutil.copytree(PROJECT / "examples", _PLACE / "examples")
        session = SESSIONS[name]
        with _environment(session) as env:
            screen = record(session, env)
        command = shlex.join(["acceleratedjob", *session.typed])
        (FOLDER / f"{name}.svg").write_text(drawn(screen, command))
        sys.stdout.write(f"wrote {FOLDER / name}.svg\n")
    shutil.rmtree(_PLACE, ignore_errors=True)


@contextlib.contextmanager
def _environment(session: Session) -> Iterator[dict[str, str]]:
    """Give the variables of the command, which has a cluster within the block if it needs one."""
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    if not session.kubeconfig:
        yield env
        return
    with tempfile.TemporaryDirectory() as folder, api_server(Path(folder), _trains()) as path:
        yield env | {"KUBECONFIG": str(path)}


def record(session: Session, env: dict[str, str]) -> pyte.Screen:
    """Run a command, and return its screen."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(_PLACE)
        os.execve(_PROGRAM, [str(_PROGRAM), *session.typed], env)  # noqa: S606  # no shell is needed
    end, typed = time.monotonic() + _SECONDS, False
    try:
        while (data := _read(terminal, end - time.monotonic())) is not None:
            stream.feed(data.replace(str(PROJECT).encode(), b"/acceleratedjob"))
            if not typed and session.until("\n".join(screen.display)):
                if session.then is None:
                    break
                os.write(terminal, session.then.encode())
                typed = True
    finally:
        os.close(terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    return screen


def _read(terminal: int, seconds: float) -> bytes | None:
    """Return what was written; None at the end.

    Raises:
        TimeoutError: nothing was written in time.
    """
    if not select.select([terminal], [], [], max(0.0, seconds))[0]:
        raise TimeoutError(f"the command has shown nothing for {seconds:.0f} s")
    try:
        return os.read(terminal, 2**16) or None
    except OSError:  # Linux says so that the command has ended
        return None


def drawn(screen: pyte.Screen, command: str) -> str:
    """Return a picture of a screen, as SVG."""
    lines = [_line(screen, number) for number in range(screen.lines)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    for line in lines:
        console.print(line, overflow="crop", no_wrap=True, highlight=False)
    return _FONTS.sub("", console.export_svg(title="acceleratedjob", unique_id="terminal"))


def _line(screen: pyte.Screen, number: int) -> Text:
    """Return a line with its colors."""
    line, cells = Text(), screen.buffer[number]
    for style, run in itertools.groupby(map(cells.__getitem__, range(screen.columns)), _style):
        line.append("".join(cell.data for cell in run), style)
    line.rstrip()
    return line


def _style(cell: Any) -> Style:
    return Style(color=_color(cell.fg), bold=cell.bold, reverse=cell.reverse)


def _color(name: str) -> str | None:
    """Return rich's name of a color of pyte."""
    is_rgb = re.fullmatch(r"[0-9a-f]{6}", name) is not None
    return f"#{name}" if is_rgb else _COLORS.get(name, name.replace("bright", "bright_"))


def _trains() -> dict[str, object]:
    """Return a made-up job that trains."""
    now = format_time(utc_now())
    progress = {"attempt": 1, "firstStep": 4400, "step": 5400, "totalSteps": 10800, "percent": 50}
    rates = {
        "epoch": 6,
        "epochs": 12,
        "etaSeconds": 4320,
        "samplesPerSecond": 1422.0,
        "loss": "1.84",
    }
    lost = {"pending": 41.0, "starting": 27.0, "redone": 3.6, "checkpoint": 6.0}
    return job(replicas=8) | {
        "status": {
            "phase": "Running",
            "attempt": 1,
            "restarts": 1,
            "replicas": 8,
            "ready": 8,
            "size": 8,
            "startTime": now,
            "readyTime": now,
            "progress": {**progress, **rates, "stepSeconds": 0.36, "time": now},
            "checkpoint": {"step": 5390, "tier": "storage", "time": now, "seconds": 1.2},
            "goodput": {"startTime": now, "ratio": 0.96, "productiveSeconds": 1940.0, "lost": lost},
            "display": {"progress": "50%", "eta": "1h12m", "goodput": "96%"},
        }
    }


if __name__ == "__main__":
    main(sys.argv[1:])
