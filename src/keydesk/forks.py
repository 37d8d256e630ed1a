"""Core: what a forked worker does with what it has from its parent."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def at_fork(thing: T, leave: Callable[[T], object], *, close: Callable[[T], object] | None = None) -> None:
    """Have a forked worker leave its parent's connections alone: one used by two processes is broken for both.

    Args:
        thing: What holds connections. It is not kept alive by this.
        leave: Called with the thing in each child. What it returns is kept for good: connections that were collected
            would be closed, for the parent too.
        close: Called with the thing in the parent, before. SQLite keeps in the memory of a process which locks it has:
            a child that inherits an open connection takes its parent's for its own, and when the parent closes the
            file, what the child has written is lost.
    """
    with _fork_lock:
        _at_fork.append((weakref.ref(thing), leave, close))
        _at_fork[:] = [entry for entry in _at_fork if entry[0]() is not None]


_at_fork: list[tuple[weakref.ref[Any], Callable[[Any], object], Callable[[Any], object] | None]] = []
_fork_lock = threading.Lock()
_inherited: list[object] = []


def _close_before() -> None:
    _fork_lock.acquire()
    for reference, _, close in _at_fork:
        thing = reference()
        if thing is not None and close is not None:
            close(thing)


def _leave_to_parent() -> None:
    for reference, leave, _ in _at_fork:
        thing = reference()
        if thing is not None:
            _inherited.append(leave(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_before, after_in_parent=_fork_lock.release, after_in_child=_fork_lock.release)
    os.register_at_fork(after_in_child=_leave_to_parent)
