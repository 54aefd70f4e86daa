"""Sockets in forked children, such as the workers of a DataLoader, which keep all that is open."""

import os
import weakref
from collections.abc import Callable


def call_in_children(release: Callable[[], None]) -> None:
    """Call a method in each forked child, as long as its object lives.

    Args:
        release: a bound method; it is referred to weakly.
    """
    reference = weakref.WeakMethod(release)
    os.register_at_fork(after_in_child=lambda: (one := reference()) and one())
