"""Running code on some of the processes only, and dividing inputs among them."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from runtime.world.coordinate import DataCoordinate
from runtime.world.splitting import check_lengths, split

Function = TypeVar("Function", bound=Callable[..., Any])


class ProcessControl:
    """A mixin of the state with the methods that depend on the rank of the process."""

    num_processes: int
    process_index: int
    local_process_index: int
    batch_span: int

    def wait_for_everyone(self) -> None:
        """Wait until all processes have called this."""
        raise NotImplementedError

    @property
    def coordinate(self) -> DataCoordinate:
        """The place of this process among those that train on different batches."""
        return DataCoordinate(self.process_index, self.num_processes, self.batch_span)

    @property
    def use_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self.num_processes > 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process has rank 0."""
        return self.process_index == 0

    @property
    def is_local_main_process(self) -> bool:
        """Whether this process is the first of its pod or machine."""
        return self.local_process_index == 0

    @property
    def is_last_process(self) -> bool:
        """Whether this process has the highest rank."""
        return self.process_index == self.num_processes - 1

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Let the main process run the body of the context before the others."""
        yield from self._goes_first(self.is_main_process)

    @contextlib.contextmanager
    def local_main_process_first(self) -> Iterator[None]:
        """Let the first process of each pod or machine run the body before its others."""
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
        """Decorate a function that runs on the main process only; elsewhere it returns None.

        Args:
            function: the function.
        """
        return self._only(function, lambda: self.is_main_process)

    def on_local_main_process(self, function: Function | None = None) -> Function:
        """Decorate a function that runs on the first process of each pod or machine only.

        Args:
            function: the function.
        """
        return self._only(function, lambda: self.is_local_main_process)

    def on_last_process(self, function: Function) -> Function:
        """Decorate a function that runs on the process with the highest rank only.

        Args:
            function: the function.
        """
        return self._only(function, lambda: self.is_last_process)

    def on_process(
        self, function: Function | None = None, process_index: int | None = None
    ) -> Function:
        """Decorate a function that runs on the process with one rank only.

        Args:
            function: the function; None in `@on_process(process_index=1)`.
            process_index: the rank.
        """
        if function is None:
            return functools.partial(self.on_process, process_index=process_index)  # type: ignore[return-value]  # a decorator
        return self._only(function, lambda: self.process_index == process_index)

    def on_local_process(
        self, function: Function | None = None, local_process_index: int | None = None
    ) -> Function:
        """Decorate a function that runs on the process with one local rank only.

        Args:
            function: the function; None in `@on_local_process(local_process_index=1)`.
            local_process_index: the local rank.
        """
        if function is None:
            return functools.partial(  # type: ignore[return-value]  # a decorator
                self.on_local_process, local_process_index=local_process_index
            )
        return self._only(function, lambda: self.local_process_index == local_process_index)

    def _only(self, function: Function | None, here: Callable[[], bool]) -> Function:
        if function is None:
            sentence = (
                "this decorator must be given a function: write it without parentheses, as in "
                "`@state.on_main_process`"
            )
            raise ValueError(sentence)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) if here() else None

        return wrapper  # type: ignore[return-value]  # the same signature, or None

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the first process of each pod or machine only."""
        if self.is_local_main_process:
            print(*args, **kwargs)  # noqa: T201  # the purpose of this method

    @contextlib.contextmanager
    def split_between_processes(self, inputs: Any, apply_padding: bool = False) -> Iterator[Any]:
        """Give each process its share of some inputs.

        Processes that train on the same batches get the same share.

        If the length cannot be divided evenly, the first processes have one element more.

        Args:
            inputs: a list, tensor, array or dataset, or a mapping of these; the same on all
                processes. The share of a dataset is a `torch.utils.data.Subset`.
            apply_padding: whether to repeat the last element, so that all shares have one length.

        Raises:
            ValueError: the values of a mapping differ in length.
            TypeError: the inputs have no order or no length.
        """
        own = self.coordinate
        if own.size > 1:
            inputs = split(inputs, own.rank, own.size, padded=apply_padding)
        elif isinstance(inputs, Mapping):
            check_lengths(inputs)
        yield inputs
