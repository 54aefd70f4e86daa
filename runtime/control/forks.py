"""What a forked child, such as a worker of a DataLoader, must not keep: sockets, handlers."""

import os
import signal
import threading
import weakref
from collections.abc import Callable, Collection


def call_in_children(
    release: Callable[[], None], *, holds: Collection[signal.Signals] = ()
) -> None:
    """Call a method in each forked child, as long as its object lives.

    Args:
        release: a bound method; it is referred to weakly.
        holds: the signals that wait in the thread that forks, and in the child until it has called
            the method: before that, the child has the handlers of its parent.
    """
    reference = weakref.WeakMethod(release)
    masks = threading.local()  # several threads may fork

    def block() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, holds)

    def unblock() -> None:
        if (mask := vars(masks).pop("before", None)) is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    os.register_at_fork(after_in_child=lambda: (one := reference()) and one())
    if holds:
        os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=unblock)
