"""Who sends a body slowly holds few threads, and those who come after are told at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from werkzeug.exceptions import ServiceUnavailable

from keydesk.server.access_log import KEY_ID
from keydesk.server.bodies import MOST_WITH_KEY, MOST_WITHOUT_KEY, PATIENCE_SECONDS, Bodies
from keydesk.testing import ManualClock


class _Slow:
    """A body that comes when it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def read(self, size: int) -> bytes:
        self.begun.set()
        assert self.go.wait(10)
        return b"x" * size


def _reader(bodies: Bodies, stream: object, key: str | None, *, of_application: bool = False) -> Callable[[], bytes]:
    found = {"wsgi.input": stream, KEY_ID: key}
    bodies.guard(found, of_application=of_application)
    return lambda: found["wsgi.input"].read(3)  # type: ignore[union-attr,no-any-return]


def test_applications_have_turns_of_their_own(clock: ManualClock) -> None:
    """A caller whose key is revoked while it holds all others does not keep an application from hearing of that."""
    bodies = Bodies(clock)
    slow = [_Slow() for _ in range(MOST_WITH_KEY)]
    threads = [threading.Thread(target=_reader(bodies, stream, "key_1")) for stream in slow]
    for thread, stream in zip(threads, slow, strict=True):
        thread.start()
        assert stream.begun.wait(10)
    clock.advance(PATIENCE_SECONDS * 2)
    ready = _Slow()
    ready.go.set()
    assert _reader(bodies, ready, "key_2", of_application=True)() == b"xxx"
    for stream in slow:
        stream.go.set()
    for thread in threads:
        thread.join(10)


@pytest.mark.parametrize(("most", "key"), [(MOST_WITH_KEY, "key_1"), (MOST_WITHOUT_KEY, None)])
def test_no_more_are_read_than_there_are_turns(clock: ManualClock, most: int, key: str | None) -> None:
    bodies = Bodies(clock)
    slow = [_Slow() for _ in range(most)]
    threads = [threading.Thread(target=_reader(bodies, stream, key)) for stream in slow]
    for thread, stream in zip(threads, slow, strict=True):
        thread.start()
        assert stream.begun.wait(10)
    clock.advance(PATIENCE_SECONDS * 2)
    ready = _Slow()
    ready.go.set()
    with pytest.raises(ServiceUnavailable):
        _reader(bodies, ready, key)()
    other = None if key else "key_1"
    assert _reader(bodies, ready, other)() == b"xxx"  # callers with a key and those without have turns of their own
    for stream in slow:
        stream.go.set()
    for thread in threads:
        thread.join(10)
    assert _reader(bodies, ready, key)() == b"xxx"
