"""A verdict on a world that hangs: for the log, for /progress and for the termination message."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.control import frames
from runtime.control.beat import Phase
from runtime.control.frames import Frame
from runtime.control.verdicts.culprit import Evidence, Finding
from runtime.control.verdicts.life import Home, Life
from runtime.control.verdicts.report import Report

_SHOWN = 8  # ranks in a sentence
_DID = {
    Evidence.ABSENT: "has not entered the collective that others wait in",
    Evidence.SILENT: "did not say where it is",
    Evidence.OUTSIDE: "is in no collective, while others are",
    Evidence.ENDED: "has ended, while all others wait",
    Evidence.OUTLIER: "is at another place than most ranks",
    Evidence.ALL: "stands, as all ranks do",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which rank the others wait for.

    Attributes:
        life: the life that it belongs to.
        evidence: why the rank is suspected.
        rank: the rank; the lowest one if there are several.
        suspects: all ranks that are suspected, ascending.
        home: where the rank runs; None if it is unknown.
        at: the innermost line of the script that the rank is in; None if it is unknown.
        excuse: why the line is unknown, as far as that is known.
        phase: what the rank is doing.
        seconds: the time since it moved.
        waiting: the number of other ranks.
        waits_in: what most of the others wait in; empty if it is unknown.
    """

    life: Life
    evidence: Evidence
    rank: int
    suspects: tuple[int, ...]
    home: Home | None
    at: Frame | None
    excuse: str
    phase: Phase
    seconds: float
    waiting: int
    waits_in: str

    @classmethod
    def of(
        cls,
        life: Life,
        found: Finding,
        reports: Mapping[int, Report],
        homes: Mapping[int, Home],
        idle: tuple[Phase, float],
    ) -> "Verdict":
        """Return the verdict for a finding.

        Args:
            life: the life that it belongs to.
            found: who is suspected.
            reports: rank -> its report.
            homes: rank -> where it runs.
            idle: the phase of the first suspect, and the seconds since it moved.
        """
        rank = found.suspects[0]
        report = reports.get(rank, Report())
        return cls(
            life=life,
            evidence=found.evidence,
            rank=rank,
            suspects=found.suspects,
            home=homes.get(rank),
            at=frames.of_script(report.stack),
            excuse=report.excuse,
            phase=idle[0],
            seconds=round(idle[1], 1),
            waiting=len(reports.keys() - set(found.suspects)),
            waits_in=found.waits_in,
        )

    def __str__(self) -> str:
        """Return one sentence for the log."""
        since = f"{self._line}, phase {self.phase}, for {self.seconds:.0f} s"
        parts = (
            f"the training hangs: {self._who} {_DID[self.evidence]}",
            since if self.evidence is not Evidence.ENDED else "",
            self._others,
            f"also suspected: rank {self._further}" if self._further else "",
        )
        return "; ".join(part for part in parts if part)

    @property
    def _who(self) -> str:
        return f"rank {self.rank}" + (f" ({self.home})" if self.home else "")

    @property
    def _line(self) -> str:
        return f"it is at {self.at}" if self.at else self.excuse or "its line is unknown"

    @property
    def _others(self) -> str:
        if not self.waiting:
            return ""
        who = "1 other rank waits" if self.waiting == 1 else f"{self.waiting} other ranks wait"
        return f"{who} in {self.waits_in or 'places that are unknown'}"

    @property
    def _further(self) -> str:
        others = self.suspects[1:]
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        return ", ".join(str(rank) for rank in others[:_SHOWN]) + more

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict for JSON; times are in seconds."""
        return {
            "kind": "hang",
            "attempt": self.life.attempt,
            "life": self.life.number,
            "evidence": str(self.evidence),
            "rank": self.rank,
            "suspects": list(self.suspects[: _SHOWN + 1]),
            "replica": self.home.replica if self.home else None,
            "node": (self.home.node or None) if self.home else None,
            "file": self.at.file if self.at else None,
            "line": self.at.line if self.at else None,
            "function": self.at.function if self.at else None,
            "phase": str(self.phase),
            "seconds": self.seconds,
            "waiting": self.waiting,
            "waitsIn": self.waits_in,
            "message": str(self),
        }
