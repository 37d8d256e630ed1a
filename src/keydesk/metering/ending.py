"""Room metering: the ends of a process. What it counted is written at its exit and on SIGTERM, and forks begin anew."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import weakref
from types import FrameType
from typing import Any, Protocol

LAST_SECONDS = 5  # for the last flush after SIGTERM: a database that hangs must not keep a process from ending


class Flushed(Protocol):
    """What has something to write down."""

    def flush(self) -> None:
        """Write it down."""
        ...


class Forked(Protocol):
    """What a forked process must not take over from its parent."""

    def begin_anew(self) -> None:
        """Forget what was counted, and by whom: the parent has it, and writes it."""
        ...


# By id, to weak references: nothing is kept alive by being here. Single steps on dictionaries need no lock, which a
# signal or a fork could find taken.
_flushed: dict[int, weakref.ref[Any]] = {}
_forked: dict[int, weakref.ref[Any]] = {}
_finalizer_of = 0  # the process that has one


def flush_at_end(thing: Flushed) -> None:
    """Have a thing flushed when the process ends, until `leave` or until it is collected."""
    _put(_flushed, thing)
    _flush_in_processes_of_multiprocessing()


def leave(thing: Flushed) -> None:
    """Take a thing out again: it was closed."""
    _flushed.pop(id(thing), None)


def begin_anew_in_forks(thing: Forked) -> None:
    """Have a thing begin anew in each process that is forked, until it is collected."""
    _put(_forked, thing)


def _put(registry: dict[int, weakref.ref[Any]], thing: object) -> None:
    number = id(thing)
    registry[number] = weakref.ref(thing, lambda _: registry.pop(number, None))


def _flush_all() -> None:
    for reference in list(_flushed.values()):
        thing = reference()
        if thing is not None:
            thing.flush()


def _flush_in_processes_of_multiprocessing() -> None:
    """Have everything flushed at the end of a process that `multiprocessing` made, as Granian's workers are.

    They end without `atexit`. Whoever is no such process need not load that module.
    """
    global _finalizer_of
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _finalizer_of != os.getpid():  # one that is forked forgets its parent's
        _finalizer_of = os.getpid()
        util.Finalize(None, _flush_all, exitpriority=0)


def _begin_anew() -> None:
    _flushed.clear()
    for reference in list(_forked.values()):
        thing = reference()
        if thing is not None:
            thing.begin_anew()


def watch_sigterm() -> None:
    """Flush on SIGTERM before the process dies of it, where nobody else has a handler for it.

    Servers that have one, such as Gunicorn, end by an exit. Python lets only the main thread set handlers.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    if not _flushed:
        _die()
    else:
        # Not here: the code that this interrupted may hold a lock that flushing needs. `threading` takes one to start.
        _thread.start_new_thread(_flush_and_die, ())


def _flush_and_die() -> None:
    flushing = threading.Thread(target=_flush_all, name="keydesk-last-flush", daemon=True)
    flushing.start()
    flushing.join(LAST_SECONDS)
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


atexit.register(_flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
