"""Which process does what: the main one, all but it, each its share."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from runtime.world.splitting import check_lengths, split

Function = TypeVar("Function", bound=Callable[..., Any])


class ProcessControl:
    """What a process may ask about its place, and do by it; mixed into the state."""

    num_processes: int
    process_index: int
    local_process_index: int

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""
        raise NotImplementedError

    @property
    def use_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self.num_processes > 1

    @property
    def is_main_process(self) -> bool:
        """Whether this is rank 0."""
        return self.process_index == 0

    @property
    def is_local_main_process(self) -> bool:
        """Whether this is the first process of its machine or pod."""
        return self.local_process_index == 0

    @property
    def is_last_process(self) -> bool:
        """Whether this has the highest rank."""
        return self.process_index == self.num_processes - 1

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Let rank 0 go through the block before the others."""
        yield from self._goes_first(self.is_main_process)

    @contextlib.contextmanager
    def local_main_process_first(self) -> Iterator[None]:
        """Let the first process of each machine go through the block before its others."""
        yield from self._goes_first(self.is_local_main_process)

    def _goes_first(self, first: bool) -> Iterator[None]:
        if not first:
            self.wait_for_everyone()
        try:
            yield
        finally:
            if first:
                self.wait_for_everyone()

    def on_main_process(self, function: Function | None = None) -> Function:
        """Run a function on rank 0 only; elsewhere it returns None."""
        return self._only(function, lambda: self.is_main_process)

    def on_local_main_process(self, function: Function | None = None) -> Function:
        """Run a function on the first process of each machine only."""
        return self._only(function, lambda: self.is_local_main_process)

    def on_last_process(self, function: Function) -> Function:
        """Run a function on the highest rank only."""
        return self._only(function, lambda: self.is_last_process)

    def on_process(
        self, function: Function | None = None, process_index: int | None = None
    ) -> Function:
        """Run a function on one rank only; also as `@on_process(process_index=1)`."""
        if function is None:
            return functools.partial(self.on_process, process_index=process_index)  # type: ignore[return-value]  # a decorator
        return self._only(function, lambda: self.process_index == process_index)

    def on_local_process(
        self, function: Function | None = None, local_process_index: int | None = None
    ) -> Function:
        """Run a function on one local rank of each machine only."""
        if function is None:
            return functools.partial(  # type: ignore[return-value]  # a decorator
                self.on_local_process, local_process_index=local_process_index
            )
        return self._only(function, lambda: self.local_process_index == local_process_index)

    def _only(self, function: Function | None, here: Callable[[], bool]) -> Function:
        if function is None:
            sentence = "this decorator must be called with a function: use it without brackets"
            raise ValueError(sentence)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) if here() else None

        return wrapper  # type: ignore[return-value]  # the same signature, or None

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the first process of each machine only."""
        if self.is_local_main_process:
            print(*args, **kwargs)  # noqa: T201  # what it is for

    @contextlib.contextmanager
    def split_between_processes(self, inputs: Any, apply_padding: bool = False) -> Iterator[Any]:
        """Give each process its share of a list, tensor, array, dataset, or mapping of these.

        The first processes have one more when the length does not divide. A dataset's share is a
        `torch.utils.data.Subset`.

        Args:
            inputs: the same on all processes.
            apply_padding: repeat the last element so that all shares are of one length.

        Raises:
            ValueError: values of a mapping that differ in length.
            TypeError: inputs that have no order, or no length.
        """
        if self.num_processes > 1:
            inputs = split(inputs, self.process_index, self.num_processes, padded=apply_padding)
        elif isinstance(inputs, Mapping):
            check_lengths(inputs)
        yield inputs
