"""`keydesk serve`, as somebody runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self, path: str, secret: str | None = None, **headers: str) -> int:
        """Return the status of a GET."""
        sent = headers | ({} if secret is None else {"X-API-Key": secret})
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=sent), timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: this one's, with these settings and no others of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEYDESK_", "API_KEY"))}
    return kept | dict(settings)


@contextmanager
def served(folder: Path, settings: Mapping[str, str], *options: str, port: int | None = None) -> Iterator[Served]:
    """Run the server until the end of the block, at the latest; nothing it writes may be a traceback."""
    port, log = port or free_port(), folder / "server.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", "from keydesk.cli import main; main()", "serve", "--port", str(port), *options],
            cwd=folder,
            env=environment({"KEYDESK_DEVELOPMENT": "1", **settings}),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    server = Served(process, port, log)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                if server.status("/healthz") == 200:
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
        yield server
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")
