"""Threads with nothing to wait for take turns by resting, and are back where one of them waits after all."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from keydesk import open_desk
from keydesk.server.crew import PATIENCE_SECONDS, QUICK_SECONDS, Crew
from keydesk.testing import ManualClock

from ..faults.conftest import upgraded
from .serving import START_SECONDS, free_port, served

HELD_SECONDS = 5
BODY = [b"body"]


class _Scene:
    """A crew whose pauses are scripted."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.during_pauses: list[Callable[[], object]] = []
        self.paused: list[float] = []
        self.crew = Crew(clock, self._pause)

    def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.clock.advance(seconds * 1.01)
        if self.during_pauses:
            self.during_pauses.pop(0)()

    def answer(self, seconds: float = QUICK_SECONDS / 2) -> Iterable[bytes]:
        self.clock.advance(seconds)
        return self.crew.sending(BODY, self.clock.monotonic(), seconds)


@pytest.fixture
def scene(clock: ManualClock) -> _Scene:
    return _Scene(clock)


@pytest.fixture
def other() -> Iterator[Callable[..., Any]]:
    """Another thread, always the same one."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda function, **more: thread.submit(function, **more).result(10)


def test_one_thread_alone_never_rests(scene: _Scene) -> None:
    assert [scene.answer() for _ in range(5)] == [BODY] * 5


def test_second_quick_thread_rests_until_the_first_has_finished_nothing_for_a_moment(
    scene: _Scene, other: Callable[..., Any]
) -> None:
    other(scene.answer)
    body = scene.answer()
    assert not isinstance(body, list)
    assert list(body) == BODY
    scene.during_pauses = [lambda: other(scene.answer)] * 3
    body.close()  # type: ignore[attr-defined]
    assert scene.paused == [PATIENCE_SECONDS] * 4


def test_after_that_moment_any_thread_goes_on(scene: _Scene, other: Callable[..., Any]) -> None:
    other(scene.answer)
    scene.clock.advance(PATIENCE_SECONDS)
    assert scene.answer() == BODY
    assert not isinstance(other(scene.answer), list)  # it is the one to rest now


def test_who_has_waited_neither_rests_nor_keeps_others_resting(scene: _Scene, other: Callable[..., Any]) -> None:
    waited = QUICK_SECONDS * 2
    assert other(scene.answer, seconds=waited) == BODY
    assert scene.answer() == BODY
    assert other(scene.answer, seconds=waited) == BODY


def test_answers_of_those_who_rest_are_whole_and_nobody_waits_for_them(tmp_path: Path) -> None:
    """By the real server: whoever rests has sent the answer before, with its body, and keeps the connection open."""
    store = upgraded(f"sqlite:///{tmp_path / 'keys.db'}")
    desk = open_desk({"KEYDESK_STORE": store})
    secret = desk.issue(name="client").secret
    desk.close()
    asked = [("GET", secret, 200), ("GET", "made-up", 401), ("HEAD", "made-up", 401), ("HEAD", secret, 200)]
    wrong: list[object] = []

    def go_on(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(80):
            for method, text, status in asked:
                connection.request(method, "/authz/forwarded", headers={"X-API-Key": text})
                answer = connection.getresponse()
                content = answer.read()
                whole = content.startswith(b"{") if (method, status) == ("GET", 401) else content == b""
                if answer.status != status or not whole or answer.will_close:
                    wrong.append((method, answer.status, content))
        connection.close()

    with served(tmp_path, {"KEYDESK_STORE": store}) as server:
        threads = [threading.Thread(target=go_on, args=(server.port,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert server.status("/healthz") == 200
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def close_late(_environ: object, start_response: Any) -> Iterable[bytes]:
    """Answer, and hold the thread for some seconds afterwards (PEP 3333)."""

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"whole"])

        def close(self) -> None:
            time.sleep(HELD_SECONDS)

    start_response("200 OK", [("Content-Length", "5")])
    return Body()


def test_granian_sends_an_answer_before_it_closes_the_body(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--blocking-threads", "2", "--port", str(port)]
    process = subprocess.Popen([*command, "tests.server.test_crew:close_late"], start_new_session=True)
    try:
        began = time.monotonic()
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() - began < START_SECONDS
                time.sleep(0.02)
        began = time.monotonic()
        with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"whole"
        assert time.monotonic() - began < HELD_SECONDS
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its worker, too
        process.wait(10)
