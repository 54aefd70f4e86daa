"""All cases of the benchmark; the cases of a theme are defined next to its programs.

The goals are those of the table `Fast` of the design.
"""

from bench import (
    checkpoint,
    collectives,
    dispatcher,
    fetch,
    gpu,
    launch,
    order,
    resume,
    scheduler,
    step,
)
from bench.case import Case

CASES: tuple[Case, ...] = (
    *order.CASES,
    *resume.CASES,
    *fetch.CASES,
    *dispatcher.CASES,
    *collectives.CASES,
    *step.CASES,
    *scheduler.CASES,
    *checkpoint.CASES,
    *launch.CASES,
    *gpu.CASES,
)
THEMES = tuple(dict.fromkeys(case.theme for case in CASES))
