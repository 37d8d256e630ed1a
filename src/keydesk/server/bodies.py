"""Room server: how many threads of a process may wait for the bodies of requests.

Whoever sends a body slowly, or stops within it, holds the thread that reads it for as long as it likes: the server
underneath cannot give up on a read that has begun. So only some threads may read, and fewer for callers without a key;
the others go on answering gateways.
"""

from __future__ import annotations

import threading
from typing import Any

from werkzeug.exceptions import ServiceUnavailable

from ..clock import Clock
from .access_log import KEY_ID

MOST_WITH_KEY = 3
MOST_WITHOUT_KEY = 1
MOST_OF_APPLICATIONS = 2  # whoever holds the others keeps no application from hearing of a revoke
PATIENCE_SECONDS = 0.25  # how long a body waits for its turn, while turns do end


class Turns:
    """Lets a number of threads read at a time.

    Args:
        most: How many.
        clock: Tells how long ago a turn ended.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._monotonic = clock.monotonic
        self._ended_at = clock.monotonic()

    def read(self, stream: Any, size: int) -> bytes:
        """Read in turn.

        Raises:
            ServiceUnavailable: All turns are taken, and none ends soon.
        """
        if not self._free.acquire(blocking=False):
            # To wait for those who have stopped sending would hold this thread as well.
            stuck = self._monotonic() - self._ended_at > PATIENCE_SECONDS
            if stuck or not self._free.acquire(timeout=PATIENCE_SECONDS):
                raise ServiceUnavailable
        try:
            body: bytes = stream.read(size)
            return body
        finally:
            self._ended_at = self._monotonic()
            self._free.release()


class Bodies:
    """Hands out the bodies of requests to one process."""

    def __init__(self, clock: Clock) -> None:
        self._with_key = Turns(MOST_WITH_KEY, clock)
        self._without_key = Turns(MOST_WITHOUT_KEY, clock)
        self._of_applications = Turns(MOST_OF_APPLICATIONS, clock)

    def guard(self, environ: dict[str, Any], *, of_application: bool = False) -> None:
        """Have the body of a request read in turn."""
        environ["wsgi.input"] = _Body(self, environ, self._of_applications if of_application else self._with_key)

    def read(self, environ: dict[str, Any], with_key: Turns, stream: Any, size: int) -> bytes:
        """Read, as a caller who was verified by now or as one who was not.

        Raises:
            ServiceUnavailable: Too many are sending their bodies slowly.
        """
        turns = self._without_key if environ.get(KEY_ID) is None else with_key
        return turns.read(stream, size)


class _Body:
    """What applications read from (PEP 3333), as far as ours do."""

    def __init__(self, bodies: Bodies, environ: dict[str, Any], with_key: Turns) -> None:
        self._bodies, self._environ, self._stream = bodies, environ, environ["wsgi.input"]
        self._with_key = with_key

    def read(self, size: int = -1) -> bytes:
        """Read; see `Bodies.read`."""
        return self._bodies.read(self._environ, self._with_key, self._stream, size)
