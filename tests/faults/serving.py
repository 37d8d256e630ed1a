"""Real servers with several workers, and requests to each of the workers.

A connection that is kept open stays with the worker that took it: one connection to each reaches all of them, at will.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

WORKERS = 4
START_SECONDS = 60.0
REQUEST_SECONDS = 30.0  # a request that takes longer has no answer; what may be held is looked at by each test
APP = "tests.faults.served:app"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and when it was asked for and was there, by the clock all processes share."""

    status: int
    reason: str | None
    body: bytes
    worker: int
    sent_at: float
    answered_at: float

    @property
    def took(self) -> float:
        return self.answered_at - self.sent_at


class Line:
    """A connection to one worker."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
        try:
            self.worker = self.get("/worker").worker
        except BaseException:
            self.close()
            raise

    def get(self, path: str = "/", secret: str | None = None) -> Answer:
        headers = {} if secret is None else {"X-API-Key": secret}
        sent_at = time.monotonic()
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        answered_at = time.monotonic()
        problem = response.headers["Content-Type"] == "application/problem+json"
        reason = json.loads(body)["reason"] if problem else None
        worker = int(response.headers["X-Worker"])
        return Answer(response.status, reason, body, worker, sent_at, answered_at)

    def close(self) -> None:
        self._connection.close()


class Service:
    """A running server: its first process and a line to each of its workers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, workers: int, *, one_listener: bool) -> None:
        self.process = process
        self.port = port
        self._await_port()
        self._workers, self._one_listener = workers, one_listener
        self.lines = self.reach()

    @property
    def workers(self) -> list[int]:
        return [line.worker for line in self.lines]

    def line(self) -> Line:
        """Open one more connection, to whichever worker takes it."""
        return Line(self.port)

    def close(self) -> None:
        for line in self.lines:
            line.close()

    def _await_port(self) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, "the server ended instead of starting"
                assert time.monotonic() < end, "the server does not listen"
                time.sleep(0.02)

    def reach(self) -> list[Line]:
        """Open a line to each worker. Those that have one are stopped meanwhile, so that another takes the next.

        Where each worker listens for itself, that one's would be left lying with it; there the kernel spreads them.
        """
        lines: dict[int, Line] = {}
        end = time.monotonic() + START_SECONDS
        try:
            while len(lines) < self._workers:
                assert time.monotonic() < end, f"of {self._workers} workers only {len(lines)} answer"
                line = Line(self.port)
                if line.worker in lines:
                    line.close()
                    continue
                lines[line.worker] = line
                if self._one_listener:
                    os.kill(line.worker, signal.SIGSTOP)
        finally:
            for pid in lines if self._one_listener else ():
                os.kill(pid, signal.SIGCONT)
        return list(lines.values())


def gunicorn(*options: str, workers: int = WORKERS) -> list[str]:
    """Return the command of a gunicorn that is told where to listen by `{fd}`."""
    return [
        *(sys.executable, "-m", "gunicorn", APP, "--workers", str(workers), "--bind", "fd://{fd}"),
        *("--keep-alive", "75", "--graceful-timeout", "2", "--no-control-socket", "--log-level", "warning"),
        *(options or ("--threads", "4")),
    ]


def granian(workers: int = WORKERS) -> list[str]:
    """Return the command of a granian that is told where to listen by `{port}`."""
    return [
        *(sys.executable, "-m", "granian", APP, "--interface", "wsgi", "--workers", str(workers)),
        *("--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"),
        *("--backpressure", "16", "--blocking-threads", "2"),
    ]


@contextmanager
def serving(
    folder: Path,
    url: str,
    command: list[str] | None = None,
    *,
    workers: int = WORKERS,
    warm: str = "",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Run a server on a store until the end of the block; nothing it writes may be a traceback.

    Args:
        folder: For its files.
        url: Of the store.
        command: Of `gunicorn` or `granian`; gunicorn with threads, by default.
        workers: How many it has.
        warm: A secret to be verified by the first process, before it forks.
        settings: Of Keydesk, besides the store.
    """
    command = command or gunicorn(workers=workers)
    given = {"KEYDESK_STORE": url, **(settings or {})} | ({"SERVED_WARM": warm} if warm else {})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEYDESK_", "API_KEY", "GUN"))}
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "src"), kept.get("PYTHONPATH")]))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each answer of 2 packets waits for 40 ms
    port = listener.getsockname()[1]
    by_number = "fd://{fd}" in command
    if not by_number:
        listener.close()
    log = folder / "server.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [part.format(fd=listener.fileno() if by_number else "", port=port) for part in command],
            cwd=folder,
            env=kept | given | {"PYTHONPATH": path},
            pass_fds=[listener.fileno()] if by_number else [],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    try:
        service = Service(process, port, workers, one_listener=by_number)
        try:
            yield service
        finally:
            service.close()
    except AssertionError as error:
        error.add_note(f"The server wrote:\n{log.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        listener.close()
        _end(process)
    text = log.read_text(errors="replace")
    assert "Traceback" not in text, text[-4000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)  # at once; in order takes the servers seconds
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
