"""Automatic checkpoints: when and where they are written."""

import functools
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

from runtime.checkpoint.checkpointer import Additions, Checkpointer, Target
from runtime.checkpoint.directory import from_main
from runtime.config.settings import LoopSettings
from runtime.control.progress.snapshot import Tier
from runtime.errors import CheckpointError
from runtime.loop.cadence import Cadence, Clock
from runtime.loop.heads import is_plain
from runtime.loop.lineage import Entry, Origin, random_name
from runtime.loop.memory import Memory
from runtime.loop.restorer import Restorer, Scaler, Start
from runtime.loop.say import say
from runtime.loop.state import LoopState
from runtime.loop.storage import Storage
from runtime.loop.upload import Upload
from runtime.world.contract import MEAN_LIFE, UID
from runtime.world.state import PartialState

_KEEP = 2
_RETRY_SECONDS = 0.1  # between two looks whether an upload is complete


class Why(Enum):
    """Why a checkpoint is taken; the same on all processes."""

    TIME = auto()  # the main process knows for which place
    STEP = auto()  # the cadence by steps, which is that of storage
    END = auto()  # the last one of a call of `epochs`, or of a life that is to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where a checkpoint is written to; decided by the main process.

    Attributes:
        origin: where the checkpoint comes from.
        memory: its number in memory; None if it is not written there.
        storage: its number on storage, and the directory that it is staged in; None likewise.
    """

    origin: Origin
    memory: int | None
    storage: tuple[int, Path] | None


class Checkpoints:
    """The automatic checkpoints on storage, and perhaps more of them in memory.

    `find`, `save` and `wait` must be called by all processes, at the same boundary. If a
    checkpoint is due in both places, it is written to memory, and published from there in a thread.

    Attributes:
        restorer: finds the checkpoint that a life resumes from, and loads it.
        clock: when the next checkpoint on storage is due; its step is the same on all processes.
        last_step: the step of the newest checkpoint that was begun on storage, or loaded; None if
            there is none.
        last_taken: the same for storage and memory together.
        complete_step: the step of the newest checkpoint on storage that all processes know to be
            complete, or of the loaded one; None if there is none.
        on_complete: called by a thread, on the processes that write, with the step of a complete
            checkpoint, the seconds that it took, and where it lies.
    """

    def __init__(
        self,
        storage: Storage,
        memory: Memory | None,
        checkpointer: Checkpointer,
        *,
        cadence: Cadence,
        scaler: Scaler,
    ) -> None:
        """Begin without a checkpoint.

        Args:
            storage: where checkpoints outlive their pods.
            memory: where they outlive the processes; None for nowhere.
            checkpointer: saves and loads what was prepared and registered.
            cadence: how often checkpoints are written to storage.
            scaler: returns the gradient scaler, with fp16.
        """
        self._storage, self._memory = storage, memory
        self._checkpointer = checkpointer
        self._scaler = scaler
        self.restorer = Restorer(storage, checkpointer, scaler)
        self._memory_clock = Clock(Cadence(mean_life=cadence.mean_life))
        if memory is not None:  # which another life goes on from
            cadence = replace(cadence, mean_life=math.inf)
        self.clock = Clock(cadence)
        self._next_time = 0.0  # at which `is_time` looks at the clocks
        self._has_uploads = memory is not None
        self._upload = Upload()
        self._start = Start()
        self._base: str | None = None  # the newest complete save on storage
        self.last_step: int | None = None
        self.last_taken: int | None = None
        self.complete_step: int | None = None
        self._written_step = -1  # of the newest checkpoint that this process has put on storage
        self.on_complete: Callable[[int, float, Tier], None] = _nothing

    @classmethod
    def of(
        cls, settings: LoopSettings, checkpointer: Checkpointer, scaler: Scaler
    ) -> "Checkpoints | None":
        """Return the automatic checkpoints that the environment asks for; None if it does not.

        Raises:
            CheckpointError: the package for the object store is missing, or the URL is invalid.
            ValueError: each machine has an object store of its own.
        """
        place = settings.checkpoint_dir
        if place is None:
            if settings.useless:
                names = ", ".join(settings.useless)
                say(f"no checkpoints are written: {names} needs ACCELERATEDJOB_CHECKPOINT_DIR")
            return None
        keep, own = settings.checkpoint_keep or _KEEP, checkpointer.project.save_on_each_node
        storage = Storage(place, keep, on_each_machine=own)
        cadence = Cadence(
            every_steps=settings.checkpoint_every_steps,
            every_seconds=settings.checkpoint_every_seconds,
            mean_life=float(os.environ.get(MEAN_LIFE, math.inf)),
        )
        memory = None
        if settings.checkpoint_memory_dir is not None:
            # Checkpoints of another job, or of another training without a job, are not seen.
            whose = os.environ.get(UID) or hashlib.sha256(storage.name.encode()).hexdigest()[:16]
            memory = Memory(Path(settings.checkpoint_memory_dir).absolute() / whose)
        return cls(storage, memory, checkpointer, cadence=cadence, scaler=scaler)

    def safe_step(self) -> int | None:
        """Return the step from which the job can go on at least; None if there is none."""
        known = -1 if self.complete_step is None else self.complete_step
        newest = max(known, self._written_step)
        return None if newest < 0 else newest

    def find(self) -> LoopState | None:
        """Begin a life, from the newest undamaged checkpoint; return its state, None if none is.

        Raises:
            CheckpointError: the place cannot be read, or the processes do not share it.
        """
        self._start = start = self.restorer.find(self._memory)
        stored = start.stored
        self._base = None if stored is None or stored.origin is None else stored.origin.save
        self.last_step = self.complete_step = None if stored is None else stored.state.step
        self.last_taken = None if start.state is None else start.state.step
        self._memory_clock.begin(0)
        self.clock.begin(self.last_step or 0)
        return start.state

    # ---- When

    def is_time(self) -> bool:
        """Whether the cadence by time wants a checkpoint now; only the main process may decide."""
        now = time.monotonic()
        if now < self._next_time or not self._checkpointer.is_written:
            return False
        self._next_time = min(self._times())
        if now < self._next_time:
            return False
        if self._upload.is_idle or self._is_spare():
            return True
        self._next_time = now + _RETRY_SECONDS
        return False

    def _times(self) -> Iterator[float]:
        # The threads that write may have taken the processor from the training.
        cost = self._checkpointer.cpu_seconds
        yield self.clock.next_time(cost + self._upload.cpu_seconds)
        if self._memory is not None:
            yield self._memory_clock.next_time(cost)

    def _is_spare(self) -> bool:
        """Whether one of two checkpoints in memory can be replaced during an upload."""
        return self._memory is not None and self._memory.newest == self._upload.number

    # ---- Saving

    def save(
        self, state: LoopState, dataloaders: Sequence[Any], heads: Mapping[int, Any], why: Why
    ) -> None:
        """Begin to write a checkpoint; returns when the states are copied.

        If it cannot be written, that is said, and the training goes on. So it is if the one before
        could not be written.

        Args:
            state: where the loop is.
            dataloaders: the positions of the prepared data loaders, each as an object with a state.
            heads: index of a loader -> the batch that was read ahead of the script.
            why: why it is taken.
        """
        self._try(self._settle if self._memory is not None and why is Why.TIME else self.wait)
        began = time.monotonic()
        plan = self._try(lambda: self._planned(state, dataloaders, heads, why, began))
        pause = time.monotonic() - began
        if plan is None or plan.storage is not None:
            self.clock.note(state.step, pause)
        self._memory_clock.note(state.step, pause)
        self._next_time = 0.0
        if why is Why.END and self._storage.is_remote:
            self._try(self.wait)  # packages of object stores may not work while a script ends

    def _try(self, run: Callable[[], Plan | None]) -> Plan | None:
        """Return the result of a function; if it fails, say so, and go on."""
        try:
            return run()
        except (OSError, ValueError, CheckpointError) as error:
            say(f"the training goes on, although an automatic checkpoint has failed: {error}")
        return None

    def _planned(
        self,
        state: LoopState,
        dataloaders: Sequence[Any],
        heads: Mapping[int, Any],
        why: Why,
        began: float,
    ) -> Plan:
        """Write a checkpoint to where the main process wants it; return the plan."""
        self._storage.release()
        uses_memory = why is not Why.END and self._has_room()
        is_main = PartialState().is_main_process
        plan: Plan = from_main(lambda: self._plan(state.step, why, uses_memory), makes=is_main)
        if plan.storage is not None:
            self.last_step = state.step
        if plan.storage is not None or plan.memory is not None:
            self.last_taken = state.step
        kept = {i: one for i, one in heads.items() if is_plain(one)}
        entry = Entry(number=0, state=state, origin=plan.origin)
        more = Additions(
            facts=entry.facts,
            dataloaders=dataloaders,
            random={"ahead": {"world_size": PartialState().coordinate.size, "batches": kept}},
            goes_on=why is not Why.END,
        )
        try:
            self._write(plan, entry, more, began)
        except (OSError, ValueError, CheckpointError) as error:
            if plan.memory is None:
                raise
            self._give_up_memory(str(error))
            self._write(replace(plan, memory=None), entry, more, began)
        return plan

    def _plan(self, step: int, why: Why, uses_memory: bool) -> Plan:
        """Decide where a checkpoint is written to; on the main process.

        Raises:
            CheckpointError: the last upload has failed.
        """
        is_idle = self._upload.is_idle  # asked once: an upload that ends meanwhile may have failed
        if is_idle:
            self._upload.wait()
        memory = self._memory if uses_memory else None
        cost = self._checkpointer.cpu_seconds + self._upload.cpu_seconds
        is_due = self.clock.next_time(cost) <= time.monotonic() or step >= self.clock.next_step
        is_wanted = memory is None or why is not Why.TIME or is_due
        is_stored = is_wanted and is_idle
        is_kept = memory is not None and (is_idle or self._is_spare())
        return Plan(
            origin=Origin(save=random_name(), life=self._start.life, base=self._base),
            memory=memory.numbers.take(step)[0] if memory is not None and is_kept else None,
            storage=self._storage.numbers.take(step) if is_stored else None,
        )

    def _has_room(self) -> bool:
        """Whether a checkpoint in memory fits on all machines; if not, none is written any more."""
        if self._memory is None:
            return False
        try:
            problem = self._lack(self._memory)
        except (OSError, ValueError, CheckpointError) as error:  # the same on all processes
            problem = str(error)
        if problem is not None:
            self._give_up_memory(problem)
        return problem is None

    def _lack(self, memory: Memory) -> str | None:
        """Remove what memory need not keep; return why no other one fits, None if one does.

        Raises:
            OSError: the directory cannot be used any more.
            CheckpointError: a checkpoint cannot be removed.
        """
        memory.trim(None if self._upload.is_idle else self._upload.number)
        if self._start.machines > 1 and self._checkpointer.writes_files_itself:
            return "a sharded model or a hook writes files on one machine only"
        return memory.lack(self._checkpointer.state_bytes)

    def _give_up_memory(self, why: str) -> None:
        memory, self._memory = self._memory, None
        say(f"no more checkpoints are kept in memory: {why}")
        if memory is not None:
            self._try(memory.clear)

    def _write(self, plan: Plan, entry: Entry, more: Additions, began: float) -> None:
        if plan.memory is not None and self._memory is not None:
            folder = self._memory.folder(plan.memory)  # of this machine
            self._memory.written = plan.memory
            target = Target(
                folder=folder, on_each_machine=self._start.machines > 1, is_durable=False
            )
            then = functools.partial(self._keep, plan, folder, entry, began)
        elif plan.storage is not None:
            number, folder = plan.storage
            project = self._checkpointer.project
            target = Target(
                folder=folder,
                on_each_machine=self._storage.on_each_machine,
                is_durable=project.durable and not self._storage.is_remote,
            )
            then = functools.partial(self._publish, folder, entry, number, began)
        else:
            return
        self._checkpointer.write(target, then=then, scaler=self._scaler(), more=more)

    def _keep(self, plan: Plan, folder: Path, entry: Entry, began: float) -> None:
        """Note that a checkpoint in memory is complete on this machine; in a thread."""
        if plan.memory is None or not PartialState().is_main_process:
            return
        self.on_complete(entry.state.step, time.monotonic() - began, Tier.MEMORY)
        if plan.storage is not None:
            publish = functools.partial(self._publish, folder, entry, plan.storage[0], began)
            self._upload.begin(plan.memory, publish)

    def _publish(self, folder: Path, entry: Entry, number: int, began: float) -> None:
        """Complete a checkpoint on storage; in a thread."""
        self._storage.publish(folder, entry, number)
        self._base = None if entry.origin is None else entry.origin.save
        self._written_step = entry.state.step
        self.on_complete(entry.state.step, time.monotonic() - began, Tier.STORAGE)
        self._storage.retain()

    def wait(self) -> None:
        """Wait until the last checkpoint on storage is complete.

        Raises:
            CheckpointError: it could not be written.
        """
        try:
            self._settle()
            if self._has_uploads:
                from_main(self._upload.wait, makes=PartialState().is_main_process)
            self.complete_step = self.last_step
        finally:
            if self.last_step != self.complete_step:
                self.last_step = self.last_taken = self.complete_step

    def _settle(self) -> None:
        """Wait until all processes have written their files of the last checkpoint.

        Raises:
            CheckpointError: one could not.
        """
        memory = self._memory
        try:
            self._checkpointer.wait()
        except CheckpointError:
            if memory is not None and memory.written is not None:
                self._give_up_memory("the last one could not be written")
            raise
        if memory is not None:
            memory.complete()


def _nothing(step: int, seconds: float, tier: Tier) -> None:
    """Ignore that a checkpoint is complete."""
