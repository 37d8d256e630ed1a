"""No request is held for longer than promised, wherever in its talk with a database that falls silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from sqlalchemy import make_url

from keydesk import Reason, open_desk
from keydesk.errors import StoreUnavailable
from keydesk.stores.engines import ANSWER_SECONDS
from keydesk.stores.sql import SqlStore

from .. import servers
from .conftest import upgraded
from .databases import HELD_SECONDS, Database


class FallsSilent:
    """What stands before a server and passes everything on, but of its answers only the first few."""

    def __init__(self, port: int, answers: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._to, self._left = port, answers
        self._sockets = [self._listener]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self._left > 0:
                    self._left -= 1
                    client.sendall(data)

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture(params=["postgres", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    return upgraded(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def falls_silent(url: str) -> Iterator[Callable[[int], str]]:
    """Return the URL of the database behind something that lets so many answers through: `falls_silent(3)`."""
    made: list[FallsSilent] = []

    def make(answers: int) -> str:
        to = make_url(url)
        assert to.port is not None
        made.append(FallsSilent(to.port, answers))
        return to.set(port=made[-1].port).render_as_string(hide_password=False)

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "asked each time"])
def test_server_that_falls_silent_while_it_is_connected_to(
    falls_silent: Callable[[int], str], cached: bool, figures: Callable[[str, float], None]
) -> None:
    """At each of the first answers in turn: those about the connection, and those about the keys."""
    took: dict[int, float] = {}

    def verify(answers: int) -> None:
        settings = {"KEYDESK_STORE": falls_silent(answers)} | ({} if cached else {"KEYDESK_CACHE_KEYS": 0})
        desk = open_desk(settings)
        began_at = time.monotonic()
        if desk.verify(desk.mint.secret_format.mint("live")).reason is Reason.UNAVAILABLE:
            took[answers] = time.monotonic() - began_at
        desk.close()

    threads = [threading.Thread(target=verify, args=(answers,), daemon=True) for answers in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(took) >= set(range(6))  # it takes more than that to know that a key is nobody's
    assert max(took.values()) <= HELD_SECONDS
    figures("a server that falls silent while it is connected to: the longest a request was held", max(took.values()))


def test_requests_before_the_first_answer_do_not_wait_for_one_another(
    falls_silent: Callable[[int], str], figures: Callable[[str, float], None]
) -> None:
    """Without a cache each asks whether the tables are there, of a server that says nothing."""
    desk = open_desk({"KEYDESK_STORE": falls_silent(0), "KEYDESK_CACHE_KEYS": 0})
    took: list[float] = []

    def verify() -> None:
        began_at = time.monotonic()
        assert desk.verify(desk.mint.secret_format.mint("live")).reason is Reason.UNAVAILABLE
        took.append(time.monotonic() - began_at)

    threads = [threading.Thread(target=verify, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    desk.close()
    assert len(took) == 8
    assert max(took) <= HELD_SECONDS
    figures("a server silent from the start, 8 requests at once: the longest held", max(took))


def test_one_connection_that_hangs_is_reason_to_leave_all(own_server: Callable[[str], servers.Server]) -> None:
    """Or each of those at hand would hold a request in its turn."""
    database = Database(own_server("postgres"))
    desk = open_desk({"KEYDESK_STORE": database.url, "KEYDESK_CACHE_KEYS": 0})
    issued = desk.issue(name="good")
    store = desk.store
    assert isinstance(store, SqlStore)
    threads = [threading.Thread(target=store._connections.read, args=("SELECT pg_sleep(0.3)", {})) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    database.freeze_backends()
    began_at = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.position()
    given_up_at = time.monotonic()
    assert desk.verify(issued.secret).allowed
    again_at = time.monotonic()
    database.thaw()
    assert ANSWER_SECONDS <= given_up_at - began_at <= HELD_SECONDS
    assert again_at - given_up_at < ANSWER_SECONDS
    desk.close()
