"""What the tests of metering run in processes of their own: `python ending.py WHAT URL SECRET ...`."""

from __future__ import annotations

import os
import signal
import sys
import threading


def _desk(url: str, seconds: float = 3600):  # type: ignore[no-untyped-def]
    from keydesk import open_desk

    return open_desk({"KEYDESK_STORE": url, "KEYDESK_USAGE_FLUSH_SECONDS": seconds})


def _say(word: str) -> None:
    print(word, flush=True)


def exits(url: str, secret: str) -> None:
    """Count, and end without closing anything."""
    desk = _desk(url)
    for _ in range(5):
        assert desk.verify(secret).allowed


def waits(url: str, secret: str) -> None:
    """Count, and wait for a signal: in the main thread, with the requests in another, as servers with threads have."""
    desk = _desk(url)
    thread = threading.Thread(target=lambda: [desk.verify(secret) for _ in range(5)])
    thread.start()
    thread.join()
    _say("ready")
    threading.Event().wait(60)


def writes_and_waits(url: str, secret: str) -> None:
    """Count and write at intervals, then count some more and wait to be killed."""
    desk = _desk(url, 0.1)
    for _ in range(5):
        desk.verify(secret)
    while not desk.usage_store.top(desk.usage().range, 1)[0]:
        threading.Event().wait(0.01)
    os.environ["COUNTED"] = "5"
    _say("ready")
    threading.Event().wait(60)


def own_handler(url: str, secret: str) -> None:
    """Have a handler of its own, which ends by an exit, as Gunicorn's does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    waits(url, secret)


def counted_nothing(url: str, secret: str) -> None:
    """Wait for a signal, with nothing counted."""
    desk = _desk(url)
    assert desk.find_key(secret) is None
    _say("ready")
    threading.Event().wait(60)


def forks(url: str, secret: str) -> None:
    """Count, fork with counts that are not written, and count in both."""
    desk = _desk(url)
    for _ in range(5):
        desk.verify(secret)
    child = os.fork()
    for _ in range(2):
        desk.verify(secret)
    if child:
        assert os.waitpid(child, 0)[1] == 0
    # Both end by an exit here, the child too: 5 + 2 of the parent, 2 of the child.


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("error")
    globals()[sys.argv[1]](*sys.argv[2:])
