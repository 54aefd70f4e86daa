"""Finds the rank that the others wait for, from the reports of all ranks of a world that stands.

The rules are tried in order; the first one that finds a suspect decides. Evidence of collectives
comes before evidence of stacks, because ranks that wait at different lines may all be innocent.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from runtime.control import frames
from runtime.control.frames import Stack
from runtime.control.verdicts.report import Position, Report

_COLLECTIVES = ("/torch/distributed/",)  # parts of paths
_FILES = ("/torch/distributed/checkpoint/",)  # next to these, and no collectives
_BACKWARD = ("/torch/autograd/",)  # DDP reduces in there
_WORKING = (  # code of torch that may take minutes, and only runs while it works
    "/torch/_dynamo/convert_frame.py",
    "/torch/_inductor/compile_fx.py",
    "/torch/serialization.py",
    "/torch/distributed/checkpoint/",
    "/safetensors/",
    "/runtime/checkpoint/",  # also a script that saves by itself
)
_INNERMOST = 4  # frames that are looked at for the code of a collective


class Evidence(StrEnum):
    """Why a rank is suspected."""

    ABSENT = "absent"  # it has not entered the collective that others wait in
    SILENT = "silent"  # it is stopped, or did not say where it is
    OUTSIDE = "outside"  # it is in no collective, while others are
    ENDED = "ended"  # its script has ended, while all others wait
    OUTLIER = "outlier"  # its stack differs from that of most others
    ALL = "all"  # all ranks are at the same place


@dataclass(frozen=True, slots=True)
class Finding:
    """Who is suspected, and why.

    Attributes:
        evidence: why.
        suspects: the ranks that the others wait for, ascending.
        waits_in: what the others wait in; empty if it is unknown.
    """

    evidence: Evidence
    suspects: tuple[int, ...]
    waits_in: str = ""


@dataclass(frozen=True, slots=True)
class _Case:
    """What the rules look at.

    Attributes:
        reports: the report of each rank that has not ended.
        ended: the ranks whose script has ended.
    """

    reports: Mapping[int, Report]
    ended: Collection[int]

    def where(self, holds: Callable[[Report], bool]) -> tuple[int, ...]:
        """Return the ranks whose reports fulfill a condition."""
        return tuple(rank for rank in sorted(self.reports) if holds(self.reports[rank]))

    @property
    def are_all_waiting(self) -> bool:
        """Whether all ranks that said where they are wait for others."""
        said = [report for report in self.reports.values() if report.stack]
        return bool(said) and all(_waiting(report) > 0 for report in said)


def find(reports: Mapping[int, Report], ended: Collection[int] = ()) -> Finding:
    """Return who is suspected.

    Args:
        reports: rank -> its report, for each rank that has not ended; a rank that gave none has
            one without a stack.
        ended: the ranks whose script has ended.

    Raises:
        ValueError: there is no report.
    """
    if not reports:
        raise ValueError("at least one rank must be running")
    case = _Case(reports, ended)
    found = next((one for rule in _RULES if (one := rule(case)) is not None), None)
    return found or Finding(Evidence.ALL, tuple(sorted(reports)), waits_in(reports.values()))


def are_working(reports: Mapping[int, Report]) -> tuple[int, ...]:
    """Return the ranks that compile, or that read or write a file of torch: both may take minutes.

    A rank that waits for others in the middle of this does not work.

    Args:
        reports: rank -> its report.
    """
    return _Case(reports, ()).where(
        lambda report: _is_in(report.stack, _WORKING) and not _is_in_collective(report.stack)
    )


def _is_in_collective(stack: Stack) -> bool:
    inner = (frame for frame in stack[:_INNERMOST] if not _is_in((frame,), _FILES))
    return _is_in(tuple(inner), _COLLECTIVES)


def waits_in(reports: Collection[Report]) -> str:
    """Return what most of these ranks wait in: a collective, an operation, or a line."""
    said = [_doing(report) for report in reports if report.stack]
    return max(said, key=said.count, default="")


def _doing(report: Report) -> str:
    pending = next((str(one) for one in report.positions if one.is_waiting), "")
    return pending or report.inside or str(frames.of_script(report.stack) or "")


def _absent(case: _Case) -> Finding | None:
    """Some have not entered a collective that others of their group wait in.

    One that waits in another collective meanwhile waits for somebody itself: see `_mutual`.
    """
    found = _behind(case)
    roots = {rank for rank in found.suspects if _waiting(case.reports[rank]) == 0} if found else ()
    return replace(found, suspects=tuple(sorted(roots))) if found and roots else None


def _mutual(case: _Case) -> Finding | None:
    """All that have not entered a collective wait in another one, and all said where they are.

    A broadcast that a stopped rank does not take holds up its sender, and not the other receivers.
    """
    return _behind(case) if all(report.stack for report in case.reports.values()) else None


def _behind(case: _Case) -> Finding | None:
    """Return the ranks that are behind the others in any process group."""
    groups = sorted({one.group for report in case.reports.values() for one in report.positions})
    found = [one for group in groups if (one := _absent_in(case, group)) is not None]
    if not found:
        return None
    suspects = {rank for one in found for rank in one.suspects}
    roots = {rank for rank in suspects if _waiting(case.reports[rank]) == 0} or suspects
    first = next(one for one in found if roots.intersection(one.suspects))
    return Finding(Evidence.ABSENT, tuple(sorted(suspects)), first.waits_in)


def _absent_in(case: _Case, group: str) -> Finding | None:
    """Find the ranks that have not entered the last collective of a group that others wait in."""
    at = {rank: _in_group(case.reports[rank], group) for rank in case.reports}
    waiting = [one for one in at.values() if one is not None and one.is_waiting]
    if not waiting:
        return None
    last = max(waiting, key=lambda one: one.number)
    behind = {rank for rank, one in at.items() if one is not None and one.number < last.number}
    if last.is_of_all:  # who has no position in this group has entered no collective of it
        behind |= {rank for rank, one in at.items() if one is None and _is_known(case, rank)}
    return Finding(Evidence.ABSENT, tuple(sorted(behind)), str(last)) if behind else None


def _is_known(case: _Case, rank: int) -> bool:
    """Whether the positions of a rank are known, or at least that it is in no collective."""
    report = case.reports[rank]
    return bool(report.positions) or (bool(report.stack) and _waiting(report) == 0)


def _in_group(report: Report, name: str) -> Position | None:
    return next((one for one in report.positions if one.group == name), None)


def _excused(case: _Case) -> Finding | None:
    """Some are known to be stopped."""
    return _finding(
        Evidence.SILENT, case, case.where(lambda one: not one.stack and one.excuse != "")
    )


def _outside(case: _Case) -> Finding | None:
    """Some are in no collective, and others are; a backward pass may be one."""
    for least in (1, 2):  # at first those that surely wait for nobody
        waiting = case.where(lambda one, least=least: _waiting(one) >= least)  # type: ignore[misc]
        outside = case.where(lambda one, least=least: bool(one.stack) and _waiting(one) < least)  # type: ignore[misc]
        if waiting and outside:
            return _finding(Evidence.OUTSIDE, case, outside)
    return None


def _silent(case: _Case) -> Finding | None:
    """Some did not say where they are."""
    return _finding(Evidence.SILENT, case, case.where(lambda one: not one.stack))


def _ended(case: _Case) -> Finding | None:
    """All that are left wait, and some have ended."""
    suspects = tuple(sorted(case.ended)) if case.are_all_waiting else ()
    return _finding(Evidence.ENDED, case, suspects)


def _outlier(case: _Case) -> Finding | None:
    """Most have equal stacks; three ranks at least."""
    groups = frames.grouped({rank: report.stack for rank, report in case.reports.items()})
    largest = groups[0].members
    if 2 * len(largest) <= len(case.reports):
        return None
    return _finding(
        Evidence.OUTLIER, case, tuple(rank for rank in sorted(case.reports) if rank not in largest)
    )


_RULES: tuple[Callable[[_Case], Finding | None], ...] = (
    _absent,
    _excused,
    _mutual,
    _outside,
    _silent,
    _ended,
    _outlier,
)


def _finding(evidence: Evidence, case: _Case, suspects: tuple[int, ...]) -> Finding | None:
    if not suspects:
        return None
    others = [report for rank, report in case.reports.items() if rank not in suspects]
    return Finding(evidence, suspects, waits_in(others))


def _waiting(report: Report) -> int:
    """Return how surely a rank waits for others: in a collective 2, in a backward pass 1, or 0."""
    is_pending = any(one.is_waiting for one in report.positions)
    if is_pending or report.inside or _is_in(report.stack[:_INNERMOST], _COLLECTIVES):
        return 2
    return 1 if _is_in(report.stack[:1], _BACKWARD) else 0


def _is_in(stack: Stack, parts: tuple[str, ...]) -> bool:
    return any(part in frame.file for frame in stack for part in parts)
