"""Which automatic checkpoint a new life resumes from, and loading it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runtime.checkpoint.checkpointer import Checkpointer
from runtime.checkpoint.manifest import name_of
from runtime.checkpoint.sharing import must_be_shared, must_be_writable
from runtime.collectives.objects import broadcast_object_list
from runtime.loop.changes import changed_scripts_told
from runtime.loop.lineage import Entry, random_name
from runtime.loop.memory import Memory
from runtime.loop.say import say
from runtime.loop.state import LoopState
from runtime.loop.storage import Storage, machines
from runtime.world.state import PartialState

Scaler = Callable[[], torch.amp.GradScaler | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a life begins; the same on all processes.

    Attributes:
        life: the random name of the life.
        machines: the number of machines.
        state: where the checkpoint to resume was taken; None if there is none.
        stored: the newest undamaged checkpoint on storage; None if there is none.
    """

    life: str = ""
    machines: int = 1
    state: LoopState | None = None
    stored: Entry | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An undamaged checkpoint.

    Attributes:
        entry: the checkpoint.
        in_memory: its directory in memory; None if it lies on storage.
    """

    entry: Entry
    in_memory: Path | None = None


class Restorer:
    """Finds the checkpoint that a life resumes from, and loads it.

    `find`, `load` and `reload` must be called by all processes, at the same boundary.

    Attributes:
        heads: index of a loader -> the batch that this rank had read ahead, from the last loaded
            checkpoint.
    """

    def __init__(self, storage: Storage, checkpointer: Checkpointer, scaler: Scaler) -> None:
        """Begin without a checkpoint.

        Args:
            storage: where checkpoints outlive their pods.
            checkpointer: loads what was prepared and registered.
            scaler: returns the gradient scaler, with fp16.
        """
        self._storage, self._checkpointer, self._scaler = storage, checkpointer, scaler
        self._found: Found | None = None
        self._loaded: Found | None = None
        self.heads: Mapping[int, Any] = {}

    @property
    def has_registered(self) -> bool:
        """Whether the script has registered objects."""
        return bool(self._checkpointer.registry.objects)

    def find(self, memory: Memory | None) -> Start:
        """Find the newest undamaged checkpoint.

        Args:
            memory: where checkpoints outlive the processes; None for nowhere.

        Raises:
            CheckpointError: the place cannot be read, some processes cannot write there, or they do
                not share it.
        """
        (life,) = broadcast_object_list([random_name()])
        count = machines()
        self._must_work(count)
        self._storage.look()
        self._found, skipped = self._in_memory(memory)
        if self._found is None:
            entry, damaged = self._storage.newest()
            self._found = None if entry is None else Found(entry)
            skipped += damaged
        state = None if self._found is None else self._found.entry.state
        say(self._outcome(skipped))
        return Start(life=life, machines=count, state=state, stored=self._storage.newest_known)

    def _must_work(self, count: int) -> None:
        storage, world = self._storage, PartialState()
        storage.must_work(count, is_sharded=self._checkpointer.is_sharded)
        if world.num_processes > 1 and not storage.is_remote:
            check = must_be_writable if storage.on_each_machine else must_be_shared
            check(Path(storage.name))

    def _in_memory(self, memory: Memory | None) -> tuple[Found | None, list[str]]:
        """Return the checkpoint in memory to resume, and why a newer one is not taken."""
        if memory is None:
            return None, []
        found = memory.find(self._storage.entries)
        skipped = [found.reason] if found.reason else []
        if found.entry is None:
            return None, skipped
        return Found(found.entry, memory.folder(found.entry.number)), skipped

    def _outcome(self, skipped: list[str]) -> str:
        """Return the line that says where the loop begins, and why not at a newer checkpoint."""
        if self._found is None:
            kind = "undamaged checkpoint" if skipped else "checkpoint"
            begun = f"no {kind} in {self._storage.name}: beginning at step 0"
        else:
            entry, folder = self._found.entry, self._found.in_memory
            stored = f"{self._storage.name}/{name_of(entry.number)}"
            name = stored if folder is None else f"{folder} (memory)"
            begun = f"resumed from {name}: step {entry.state.step}, epoch {entry.state.epoch}"
        return "; skipped ".join([begun, *skipped])

    def load(self, call: int) -> LoopState | None:
        """Load the newest checkpoint of a call of `epochs`; return its state, None if none is left.

        Args:
            call: the number of the call, at most that of the checkpoint that was found.
        """
        self._loaded, damaged = self._found, list[str]()
        if self._found is None or self._found.entry.state.call != call:
            entry, damaged = self._storage.newest(call)
            self._loaded = None if entry is None else Found(entry)
        if self._loaded is None:
            none = f"no undamaged checkpoint of call {call} of epochs()"
            say("; skipped ".join([none, *damaged]))
            return None
        self.reload()
        return self._loaded.entry.state

    def reload(self) -> None:
        """Load the last loaded checkpoint again."""
        if self._loaded is None:
            raise RuntimeError("no checkpoint was loaded")
        with self._opened(self._loaded) as folder, changed_scripts_told(folder):
            found = self._checkpointer.load_from(folder, scaler=self._scaler())
        self.heads = _heads(found.get("ahead"), PartialState().coordinate.size)

    @contextmanager
    def _opened(self, found: Found) -> Iterator[Path]:
        """Have a checkpoint in a local directory of this process."""
        if found.in_memory is not None:
            yield found.in_memory
        else:
            with self._storage.opened(found.entry) as folder:
                yield folder


def _heads(found: Any, world_size: int) -> dict[int, Any]:
    """Return the saved first batches of this rank; empty if the world had another size.

    Args:
        found: what the file of the rank's random states says, which is not trusted.
        world_size: the number of processes that train on different batches.
    """
    if not isinstance(found, Mapping) or found.get("world_size") != world_size:
        return {}
    batches = found.get("batches")
    return dict(batches) if isinstance(batches, Mapping) else {}
