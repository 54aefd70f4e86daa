"""All systems, in the order of the page."""

from bench.goodput.systems import dlrover, floors, nvidia, ours, torchft, torchrun
from bench.goodput.systems.system import System

SYSTEMS: tuple[System, ...] = (
    *floors.SYSTEMS,
    *ours.SYSTEMS,
    *torchrun.SYSTEMS,
    *torchft.SYSTEMS,
    *nvidia.SYSTEMS,
    *dlrover.SYSTEMS,
)
BY_NAME = {system.name: system for system in SYSTEMS}
GROUPS = tuple(dict.fromkeys(system.group for system in SYSTEMS))
RAW = floors.RAW


def chosen(names: list[str]) -> list[System]:
    """Return the systems whose names are given, or begin with a given name and a dash.

    Raises:
        ValueError: a name is unknown.
    """
    found = []
    for name in names:
        own = [one for one in SYSTEMS if one.name == name or one.name.startswith(f"{name}-")]
        if name in BY_NAME:  # not `ours-pods` for `ours`
            own = [BY_NAME[name]]
        if not own:
            raise ValueError(f"a system must be one of {', '.join(BY_NAME)}, got {name!r}")
        found += own
    return [one for one in SYSTEMS if one in found]
