"""A database server that fails in each of the ways servers do, and a load of requests that goes on meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from keydesk.stores.cached import WAIT_SECONDS
from keydesk.stores.engines import ANSWER_SECONDS

from .. import servers
from .conftest import upgraded
from .serving import Answer, Line, Service, children_of

# A server that hangs is given up on once for each request, or the one that asks it is: 2 seconds, and the rest is for a
# machine that has too much to do.
HELD_SECONDS = max(ANSWER_SECONDS, WAIT_SECONDS) + 1.5


class Database:
    """A database on a server of the test's own."""

    def __init__(self, server: servers.Server) -> None:
        self.server = server
        self._postgres = isinstance(server, servers.Postgres)
        self._execute(None, "CREATE DATABASE keys_faults")
        if self._postgres:  # the server of the tests confirms before it has written; what is killed here must not
            self._execute("keys_faults", "ALTER DATABASE keys_faults SET synchronous_commit = on")
        self.url = upgraded(server.url("keys_faults"))

    def _execute(self, database: str | None, statement: str) -> None:
        url = self.server.url(database or ("postgres" if self._postgres else "mysql"))
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def _each(self, do: Callable[[int], None]) -> None:
        """Do something to the server and to each process it has started, by its id."""
        assert self.server.process is not None
        pid = self.server.process.pid
        for each in (pid, *children_of(pid)):
            with suppress(FileNotFoundError, ProcessLookupError):
                do(each)

    def kill(self) -> None:
        """Kill all of its processes. Nothing is said to anybody; the kernel closes the connections."""
        assert self.server.process is not None
        self._each(lambda pid: os.kill(pid, signal.SIGKILL))
        self.server.process.wait(10)

    def stop_at_once(self) -> None:
        """Stop in the way that breaks off all connections."""
        self.server.stop(signal.SIGQUIT if self._postgres else signal.SIGTERM)

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.server.start()

    def freeze(self) -> None:
        """Let it hang: connections stay, new ones are taken, nothing is answered."""
        self._each(servers.halt)

    def freeze_backends(self) -> None:
        """Let the processes hang that serve connections, but not the one that takes them."""
        assert self.server.process is not None
        for pid in children_of(self.server.process.pid):
            servers.halt(pid)

    def thaw(self) -> None:
        """Let it go on."""
        self._each(lambda pid: os.kill(pid, signal.SIGCONT))


@dataclass
class Load:
    """Threads that send requests, one after another, each over a line of its own.

    Args:
        service: To whom; its workers in turn.
        asked: What is asked for, by its name: each makes the secret that is presented.
        lines: How many threads there are for each worker.
    """

    service: Service
    asked: dict[str, Callable[[], str]]
    lines: int = 2
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def __enter__(self) -> Load:
        self._ended = threading.Event()
        self._errors: list[BaseException] = []
        self.answers = {name: [] for name in self.asked}
        own = [line for _ in range(self.lines) for line in self._reach()]
        self._rounds = [0] * len(own)
        self._threads = [threading.Thread(target=self._run, args=each) for each in enumerate(own)]
        for thread in self._threads:
            thread.start()
        return self

    def _reach(self) -> Sequence[Line]:
        return self.service.reach()

    def _run(self, number: int, line: Line) -> None:
        try:
            while not self._ended.is_set():
                self._rounds[number] += 1
                for name, secret in self.asked.items():
                    chosen_at = time.monotonic()  # which secret is sent may depend on the moment
                    self.answers[name].append(replace(line.get("/", secret()), sent_at=chosen_at))
        except BaseException as error:
            self._errors.append(error)
        finally:
            line.close()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        assert not self._errors, self._errors

    def go_on(self, seconds: float) -> tuple[float, float]:
        """Let the load go on for a while; return when that began and ended."""
        began_at = time.monotonic()
        self._ended.wait(seconds)
        return began_at, time.monotonic()

    def go_on_until(self, name: str, status: int, seconds: float = 30.0, *, workers: int | None = None) -> float:
        """Let the load go on until so many workers, or all, give this answer, asked from now on; return when it was."""
        began_at, workers = time.monotonic(), workers or len(self.service.workers)
        while time.monotonic() < began_at + seconds:
            given = {a.worker for a in list(self.answers[name]) if a.sent_at >= began_at and a.status == status}
            if len(given) >= workers:
                return time.monotonic()
            self._ended.wait(0.01)
        raise AssertionError(f"no {status} for a key that is {name}, from {workers} workers, within {seconds:g} s")

    def go_on_until_answered(self, seconds: float = 30.0) -> None:
        """Let the load go on until whatever is under way by now has been answered."""
        begun = list(self._rounds)
        wait = time.monotonic() + seconds
        while any(now <= then for now, then in zip(self._rounds, begun, strict=True)):
            assert time.monotonic() < wait, "what was under way is not answered"
            self._ended.wait(0.01)

    def during(self, name: str, began_at: float, ended_at: float) -> list[Answer]:
        """Return the answers to what was sent and answered within a time."""
        return [
            answer for answer in self.answers[name] if began_at <= answer.sent_at and answer.answered_at <= ended_at
        ]

    def longest(self) -> float:
        """Return the longest that any request took."""
        return max(answer.took for answers in self.answers.values() for answer in answers)
