"""The table of the benchmark's lines; each theme's stand beside its programs.

The goals are those of the design's table `Fast`.
"""

from bench import (
    checkpoint,
    collectives,
    dispatcher,
    fetch,
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
)
THEMES = tuple(dict.fromkeys(case.theme for case in CASES))
