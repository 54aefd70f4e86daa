"""What the control group of a container says of its memory."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from runtime.world import cgroup


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The file that names the group of this process."""
    file = tmp_path / "own"
    file.write_text("1:name=systemd:/other\n0::/pod/container\n")
    return file


def made(root: Path, files: Mapping[str, str]) -> Path:
    """A tree of groups; the names of the files are paths below the top one."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def limits(folder: str, limit: str, used: int, files: int) -> dict[str, str]:
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 3\ninactive_file {files}\n",
    }


def test_the_limits_of_all_groups_count_but_not_files_that_can_be_dropped(
    tmp_path: Path, own: Path
) -> None:
    inner, outer = limits("pod/container", "max", 7, 0), limits("pod", "100", 60, 20)
    root = made(tmp_path / "groups", inner | outer)
    assert list(cgroup.memory_left(root, own)) == [60]
    assert list(cgroup.memory_left(root, tmp_path / "missing")) == []


def test_a_group_that_is_full_has_nothing_left(tmp_path: Path, own: Path) -> None:
    root = made(tmp_path / "groups", limits("pod", "100", 170, 20))
    assert list(cgroup.memory_left(root, own)) == [0]


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        pytest.param({"pod/container/memory.events": "oom 4\noom_kill 3\n"}, 3, id="version 2"),
        pytest.param({"memory/memory.oom_control": "under_oom 0\noom_kill 2\n"}, 2, id="version 1"),
        pytest.param({"pod/container/memory.events": "oom 4\n"}, 0, id="an old kernel"),
        pytest.param({"pod/container/memory.events": "oom_kill\n"}, 0, id="no number"),
        pytest.param({"pod/memory.events": "oom_kill 3\n"}, 0, id="another group"),
        pytest.param({}, 0, id="no groups"),
    ],
)
def test_processes_that_were_killed_at_the_limit_are_counted(
    tmp_path: Path, own: Path, files: dict[str, str], kills: int
) -> None:
    assert cgroup.oom_kills(made(tmp_path / "groups", files), own) == kills


def test_this_machine_can_be_asked() -> None:
    assert cgroup.oom_kills() >= 0
    assert all(left >= 0 for left in cgroup.memory_left())
