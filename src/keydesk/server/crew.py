"""Room server: how many threads of a process answer gateways at once.

Python runs one thread at a time. Eight that each hold a request with nothing to wait for take the interpreter away from
each other, and answer half as many as one of them does alone. But one alone would let everybody wait with it, for a
store or for a limiter. So whoever answers quickly beside another who does the same rests, and comes back as soon as
that one has finished nothing for a moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from ..clock import Clock

QUICK_SECONDS = 0.0002  # in which nothing was waited for but a file
PATIENCE_SECONDS = 0.01


class Crew:
    """The threads of one process that answer requests.

    Args:
        clock: Tells when nothing was answered for a moment.
        pause: Waits for so many seconds.
    """

    def __init__(self, clock: Clock, pause: Callable[[float], object] = time.sleep) -> None:
        self._monotonic = clock.monotonic
        self._pause = pause
        self._at_work = 0  # the thread that answers quickly; its last answer was at
        self._answered_at = clock.monotonic() - PATIENCE_SECONDS
        self._next_back = threading.Lock()

    def sending(self, body: Iterable[bytes], ended: float, took: float) -> Iterable[bytes]:
        """Return the body of an answer, behind which its thread rests if another is at work.

        Args:
            body: What is sent.
            ended: When it was made, by the clock.
            took: How many seconds that took.
        """
        if took > QUICK_SECONDS:
            return body
        me = threading.get_ident()
        if self._at_work != me:
            if ended - self._answered_at < PATIENCE_SECONDS:
                return _BeforeRest(body, self)
            self._at_work = me
        self._answered_at = ended
        return body

    def rest(self) -> None:
        """Return when the one at work has answered nothing for a moment: it waits, or there is nothing to do.

        One who rests looks after it. Where that one comes back and has to wait as well, the next one looks.
        """
        with self._next_back:
            while True:
                self._pause(PATIENCE_SECONDS)
                if self._monotonic() - self._answered_at >= PATIENCE_SECONDS:
                    return


class _BeforeRest:
    """A body after which the thread that has sent it rests: PEP 3333 has servers close it when all was handed on."""

    def __init__(self, body: Iterable[bytes], crew: Crew) -> None:
        self._body, self._crew = body, crew

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        self._crew.rest()
