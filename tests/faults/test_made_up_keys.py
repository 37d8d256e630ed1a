"""A hundred thousand keys that nobody has: threads, connections, files and memory are what they were, and so is what
is known of those who come in.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from keydesk import Desk, Reason, open_desk
from keydesk.flask import Keydesk

from .serving import ROOT

MADE_UP = 100_000
SIZE = 10_000  # of the cache, as it is by default: in the tenth part of them it is full
KNOWN = 50
# Each text, digest or record that was kept would be a block of memory or more, and 100,000 of them 10 MB or more. What
# is left to chance: Python's own caches, the pages of SQLite's, and how full the last arena of memory is.
TOLERANCE_BLOCKS = 2_000
TOLERANCE_BYTES = 4 * 1024 * 1024


def _made_up(desk: Desk, count: int) -> Iterator[str]:
    """Yield texts of which half could be ours, with a right checksum, and half are as others make them."""
    for _ in range(count // 2):
        yield desk.mint.secret_format.mint("live")
        yield secrets.token_urlsafe(32)


def _open_files() -> list[str]:
    """Return what this process has open: files by name, sockets by number. Those of the system are left out."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # that of the listing itself
            continue
        if not target.startswith(("/proc", "/dev")):
            found.append(target)
    return sorted(found)


def _holds() -> tuple[list[str], list[str]]:
    return sorted(thread.name for thread in threading.enumerate()), _open_files()


def _count_reads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    store: Any = desk.store
    reads: list[object] = []
    find = store.find_by_digest
    monkeypatch.setattr(store, "find_by_digest", lambda digests: (reads.append(digests), find(digests))[1])
    return reads


def _memory() -> tuple[int, int]:
    """Return the blocks Python has given out, and the bytes this process has in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return sys.getallocatedblocks(), pages * os.sysconf("SC_PAGE_SIZE")


def _present_all(url: str) -> dict[str, Any]:
    """Return what this process holds before and after, and what it read of the store for those who are known."""
    desk = open_desk({"KEYDESK_STORE": url, "KEYDESK_USAGE_FLUSH_SECONDS": 3600})
    assert desk.meter is not None
    known = [desk.issue(name=f"known {number}").secret for number in range(KNOWN)]
    wrong = sum(desk.verify(text).reason is not Reason.INVALID for text in _made_up(desk, SIZE + 1000))
    wrong += sum(not desk.verify(secret).allowed for secret in known)
    desk.meter.flush()  # here, and not in its thread, which would open connections when it likes
    held, (blocks, size) = _holds(), _memory()
    wrong += sum(desk.verify(text).reason is not Reason.INVALID for text in _made_up(desk, MADE_UP))
    desk.meter.flush()
    blocks_after, size_after = _memory()
    held_after = _holds()
    with pytest.MonkeyPatch.context() as patch:
        reads = _count_reads(desk, patch)
        wrong += sum(not desk.verify(secret).allowed for secret in known)
    return {
        "wrong": wrong,
        "held": held,
        "held_after": held_after,
        "blocks": blocks_after - blocks,
        "bytes": size_after - size,
        "reads": len(reads),
    }


def test_nothing_grows(tmp_path: Path) -> None:
    """In a process of its own, in which nothing else comes and goes."""
    ran = subprocess.run(
        [sys.executable, "-m", __name__, f"sqlite:///{tmp_path}/keys.db"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["wrong"] == 0
    assert found["held_after"] == found["held"]
    assert abs(found["blocks"]) <= TOLERANCE_BLOCKS
    assert found["bytes"] <= TOLERANCE_BYTES
    assert found["reads"] == 0


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_no_more_connections_to_a_server(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From several threads at once, through an application."""
    app = Flask(__name__)
    app.config.update(KEYDESK_STORE=request.getfixturevalue(f"{kind}_url"), KEYDESK_CACHE_KEYS=200)
    keys = Keydesk(app)
    app.add_url_rule("/", "view", keys.require()(lambda: "in"))
    with app.app_context():
        desk = keys.desk
    desk.store.upgrade()  # type: ignore[attr-defined]
    known = desk.issue(name="known").secret
    threads = 4

    def present(count: int) -> None:
        client = app.test_client()
        for text in _made_up(desk, count):
            statuses.append(client.get("/", headers={"X-API-Key": text}).status_code)

    def run(count: int) -> None:
        running = [threading.Thread(target=present, args=(count // threads,)) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(60)

    statuses: list[int] = []
    assert app.test_client().get("/", headers={"X-API-Key": known}).status_code == 200
    run(400)
    names, files = _holds()
    run(2000)
    assert set(statuses) == {401}
    assert len(statuses) == 2400
    # As many as there are threads and no more: how many of these met at the store at once is up to them.
    assert Counter(_holds()[0]) <= Counter(names)  # that of another test's desk may have ended meanwhile
    assert len(_open_files()) <= len(files) + threads
    reads = _count_reads(desk, monkeypatch)
    assert app.test_client().get("/", headers={"X-API-Key": known}).status_code == 200
    assert reads == []
    desk.close()


if __name__ == "__main__":
    print(json.dumps(_present_all(sys.argv[1])))
