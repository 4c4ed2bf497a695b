"""Forks of a process: in the child, the threads of the parent do not exist."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def reset_after_fork(method: Callable[[], None]) -> None:
    """Call this method of an object in every child that the process forks, for as long as the object exists."""
    reset = weakref.WeakMethod(method)
    os.register_at_fork(after_in_child=lambda: (reset() or _do_nothing)())


def _do_nothing() -> None:
    """The object that existed before the fork does not exist any more."""
