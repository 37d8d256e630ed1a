"""What the tests run in processes of their own: `python processes.py WHAT URL ...`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def start(what: str, *arguments: str) -> subprocess.Popen[str]:
    """Start one in a process of its own; it says `ready` and goes on at a line of input."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), what, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_together(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let all go on at the same moment, and return what they print once they have ended well."""
    said = []
    for process in processes:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "ready\n", first + process.stdout.read()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
        said.append(out.strip())
    return said


def _ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def _desk(url: str):  # type: ignore[no-untyped-def]
    from keydesk import open_desk

    return open_desk({"KEYDESK_STORE": url})


def issue(url: str, count: str) -> None:
    """Issue keys."""
    desk = _desk(url)
    _ready()
    for number in range(int(count)):
        desk.issue(name=f"key {number}")
    desk.close()


def count_up(url: str, key_id: str, count: str) -> None:
    """Add one to the number in a key's description, again and again."""
    from dataclasses import replace

    from keydesk.events import KeyUpdated
    from keydesk.ports import Change

    desk = _desk(url)
    _ready()

    def decide(key):  # type: ignore[no-untyped-def]
        after = replace(key, description=str(int(key.description) + 1), version=key.version + 1)
        event = KeyUpdated(at=key.updated_at, actor="process", key_id=key.id, owner=None, details={})
        return Change(after, event)

    for _ in range(int(count)):
        desk.store.change(key_id, decide)
    desk.close()


def first_use(url: str) -> None:
    """Use a database that is not there yet."""
    desk = _desk(url)
    _ready()
    desk.issue(name="first")
    desk.close()


def upgrade(url: str) -> None:
    """Bring a database to the newest version."""
    desk = _desk(url)
    _ready()
    print(desk.store.upgrade())
    desk.close()


def lock_sqlite(path: str) -> None:
    """Hold the lock of a SQLite database until told to let go."""
    import sqlite3

    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    _ready()
    connection.execute("ROLLBACK")
    connection.close()


def fork(url: str) -> None:
    """Use a store, fork, and use it in both processes at once."""
    import os

    desk = _desk(url)
    desk.issue(name="before")
    _ready()
    child = os.fork()
    for number in range(20):
        desk.issue(name=f"{'parent' if child else 'child'} {number}")
        assert desk.list_keys(text="before").keys
    if not child:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    desk.issue(name="after")
    assert desk.check_chain().problem is None
    print(len(desk.list_keys(size=1000).keys))
    desk.close()


def fork_and_close(url: str) -> None:
    """Use a store, fork, use it in both, and close it in the parent while the child goes on."""
    import os

    desk = _desk(url)
    desk.issue(name="before")
    _ready()
    (child_used, used), (parent_closed, closed) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        desk.issue(name="while both use it")
        os.write(used, b".")
        os.read(parent_closed, 1)
        secret = desk.issue(name="after the parent closed it").secret
        assert desk.verify(secret).allowed
        desk.close()
        os._exit(0)
    os.read(child_used, 1)
    desk.close()
    os.write(closed, b".")
    _, status = os.waitpid(child, 0)
    assert status == 0, status


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("error")
    globals()[sys.argv[1]](*sys.argv[2:])
