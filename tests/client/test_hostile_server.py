"""Whatever is at the address of the server: nobody is let in by it, and no request is held for longer than stated."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

import keydesk.client.connection as client
from keydesk import Key, sync
from keydesk.client.connection import CONNECT_SECONDS, Connection, Unsure, _Deadline
from keydesk.client.store import ServerStore, ServerUsage
from keydesk.errors import InvalidField, StoreUnavailable
from keydesk.keys.limits import Limit, Period, Quota
from keydesk.ports import KeyFilter
from keydesk.testing import START, ManualClock, new_key
from keydesk.testing.stores import MINT
from keydesk.usage import Batch, Span

from .running import listening

ANSWER = 0.4
DIGEST = "a" * 64
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def speaking(say: Callable[[socket.socket], object]) -> Iterator[str]:
    """Listen, read what comes, and have something said to each who connects."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=answer, args=(peer,), daemon=True).start()

    def answer(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.recv(65_536)
            say(peer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # which wakes who waits for the next
        listener.close()


def slowly(text: bytes, then: bytes = b"") -> Callable[[socket.socket], None]:
    """Return what says a text byte after byte, each sooner than a limit for single reads would notice, for long."""

    def say(peer: socket.socket) -> None:
        peer.sendall(then)
        end = time.monotonic() + 20 * ANSWER
        while time.monotonic() < end:
            for byte in text:
                peer.sendall(bytes([byte]))
                time.sleep(ANSWER / 20)

    return say


DRIPS = {
    "the status": slowly(b"H"),
    "a header": slowly(b"x", HEAD + b"X-Long: "),
    "headers": slowly(b"X-More: 1\r\n", HEAD),
    "the body": slowly(b"1", HEAD + b"Content-Length: 100000\r\n\r\n"),
    "the body of a connection that ends": slowly(b"1", HEAD + b"Connection: close\r\nContent-Length: 100000\r\n\r\n"),
    "a body without a length": slowly(b"1", HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n"),
    "pieces": slowly(b"1\r\n1\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "nothing": lambda _: time.sleep(20 * ANSWER),
    "continue": slowly(b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("what", DRIPS)
def test_server_that_never_comes_to_an_end_is_given_up_on(what: str) -> None:
    with speaking(DRIPS[what]) as url:
        connection = Connection(url, "secret", answer_seconds=ANSWER)
        began_at = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            connection.ask(sync.HEAD, sync.Nothing(), again=True)
        assert time.monotonic() - began_at < CONNECT_SECONDS + ANSWER + 1
        connection.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1 999999 Oh\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        HEAD + b"Content-Length: 2\r\n\r\n{",
        HEAD + b"Content-Length: 2\r\n\r\n[]",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 422 Oh\r\nContent-Length: 14\r\n\r\n{"field": "x"}',
    ],
    ids=range(9),
)
def test_answer_that_is_none(said: bytes) -> None:
    """On the way of a request that is 503, and never an error of another kind."""
    with speaking(lambda peer: peer.sendall(said)) as url:
        store = ServerStore(Connection(url, "secret", answer_seconds=ANSWER), MINT.digester, ManualClock())
        with pytest.raises(StoreUnavailable):
            store.position()
        with pytest.raises(StoreUnavailable):
            store.find_by_digest([DIGEST])
        store.close()


def answering(body: bytes, status: str = "200 OK") -> Any:
    """Return an application that says one thing."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response(status, [("Content-Length", str(len(body)))])
        return [body]

    return application


GOOD = replace(new_key(), secrets=(replace(new_key().secrets[0], digest=DIGEST),))
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - as another program may say it
BAD: dict[str, Key] = {
    "another key": replace(GOOD, secrets=new_key().secrets),
    "no secret": replace(GOOD, secrets=()),
    "an id that is none": replace(GOOD, id="key_x\ny"),
    "an end without a zone": replace(GOOD, expires_at=NAIVE),
    "a secret that ends without one": replace(GOOD, secrets=(replace(GOOD.secrets[0], expires_at=NAIVE),)),
    "a window of nothing": replace(GOOD, limits=(Limit(1, 0),)),
    "a limit below nothing": replace(GOOD, limits=(Limit(-1, 60),)),
    "a limit that no counter holds": replace(GOOD, limits=(Limit(2**40, 60),)),
    "a zone that is not known": replace(GOOD, quotas=(Quota(1, Period.DAY, "Nowhere/Else"),)),
    "a zone that is a path": replace(GOOD, quotas=(Quota(1, Period.DAY, "../.."),)),
    "what is in force elsewhere": replace(GOOD, in_force=True),
}


@pytest.mark.parametrize("what", BAD)
def test_record_that_no_request_can_be_judged_by(what: str) -> None:
    with listening(answering(sync.write(BAD[what]))) as url:
        store = ServerStore(Connection(url, "secret"), MINT.digester, ManualClock())
        with pytest.raises(StoreUnavailable, match="a record that cannot be used"):
            store.find_by_digest([DIGEST])
        store.close()


def test_record_that_is_good() -> None:
    with listening(answering(sync.write(GOOD))) as url:
        store = ServerStore(Connection(url, "secret"), MINT.digester, ManualClock())
        assert store.find_by_digest([DIGEST]) == GOOD
        store.close()


@pytest.mark.parametrize(
    ("status", "body", "sure"),
    [
        ("503 Oh", b'{"reason": "unavailable"}', True),
        ("503 Oh", b"<html>a proxy", False),
        ("502 Bad Gateway", b"", False),
        ("504 Gateway Timeout", b"", False),
        ("500 Oh", b"", False),
        ("200 OK", b"?", False),
        ("413 Oh", b"", True),
        ("422 Oh", b"{}", True),
    ],
)
def test_what_was_counted_is_never_sent_twice(status: str, body: bytes, sure: bool) -> None:
    """Where the server may have it, it is lost rather than counted again; where it has not, it is kept."""
    batch = Batch({(Span.MINUTE, START, GOOD.id, "allowed"): 1})
    with listening(answering(body, status)) as url:
        usage = ServerUsage(Connection(url, "secret"))
        if sure:
            with pytest.raises(StoreUnavailable):
                usage.add(batch)
        else:
            assert usage.add(batch) is False


def test_question_whose_answer_is_lost() -> None:
    """As above, where the connection breaks off after the question; and where there is nobody at all."""
    batch = Batch({(Span.MINUTE, START, GOOD.id, "allowed"): 1})
    with speaking(lambda _: None) as url:
        assert ServerUsage(Connection(url, "secret")).add(batch) is False
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(StoreUnavailable) as caught:
            ServerUsage(Connection(url, "secret")).add(batch)
    assert not isinstance(caught.value, Unsure)
    assert "refused" in str(caught.value)


def _taking(seconds: float, said: bytes = b"") -> Callable[[socket.socket], None]:
    """Return what leaves a question lying for a while, then reads it and says something."""

    def take(peer: socket.socket) -> None:
        time.sleep(seconds)
        peer.settimeout(ANSWER)
        with suppress(TimeoutError):
            while peer.recv(1_048_576):
                pass
        peer.sendall(said)

    return take


LARGE = sync.ById("x" * 12_000_000)  # more than what lies between two ends of a connection


def test_large_question_may_take_longer_than_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a long outage; urllib3 would have what is for connecting hold for all that is sent."""
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
    with speaking(_taking(0.5, HEAD + b"Content-Length: 4\r\n\r\nnull")) as url:
        assert Connection(url, "secret", answer_seconds=5).ask(sync.FIND_KEY, LARGE) is None


def test_question_of_which_only_a_part_was_sent() -> None:
    """Nobody can have done what it says, so it may be sent again."""
    with speaking(_taking(20 * ANSWER)) as url, pytest.raises(StoreUnavailable) as caught:
        Connection(url, "secret", answer_seconds=ANSWER).ask(sync.FIND_KEY, LARGE)
    assert not isinstance(caught.value, Unsure)


def test_answer_that_would_take_long_to_unpack() -> None:
    """No deadline ends what goes on in the application itself. It asked for nothing packed."""
    packed = gzip.compress(b"") * 150_000
    length = f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    with speaking(lambda peer: peer.sendall(HEAD + length + packed)) as url:
        began_at = time.monotonic()
        with pytest.raises(StoreUnavailable):
            Connection(url, "secret").ask(sync.HEAD, sync.Nothing())
        assert time.monotonic() - began_at < 2


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container has all it may have: nobody knows the answer, and the outage grace holds."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with listening(answering(sync.write(sync.Head(1, "a" * 64, "")))) as url:
        connection = Connection(url, "secret")
        monkeypatch.setattr(threading.Timer, "start", start)
        with pytest.raises(StoreUnavailable, match="can't start new thread"):
            connection.ask(sync.HEAD, sync.Nothing())


def test_question_that_was_not_sent() -> None:
    """To a server that does not say who it is: what was counted is kept, as nobody can have counted it."""
    batch = Batch({(Span.MINUTE, START, GOOD.id, "allowed"): 1})
    for say in (lambda peer: peer.sendall(b"HTTP/1.1 400 No\r\n\r\n"), lambda _: time.sleep(20 * ANSWER)):
        with speaking(say) as url:
            usage = ServerUsage(Connection(url.replace("http:", "https:"), "secret", answer_seconds=ANSWER))
            with pytest.raises(StoreUnavailable) as caught:
                usage.add(batch)
        assert not isinstance(caught.value, Unsure)


def test_deadline_of_an_answered_question_is_not_one_of_the_next() -> None:
    """Its timer may come when the connection is another question's already."""
    deadline = _Deadline(ANSWER)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        deadline.watch(ours)
        assert deadline.let_go()
        deadline.pass_()
        ours.sendall(b"next")
        assert theirs.recv(4) == b"next"


def test_nothing_a_server_says_gets_into_the_log_as_it_is() -> None:
    body = b'{"detail": "first\\n2026-01-01 ERROR forged \\u001b[2J", "field": "a\\nb"}'
    with listening(answering(body, "500 Oh")) as url:
        store = ServerStore(Connection(url, "secret"), MINT.digester, ManualClock())
        found = store.checks()[0].found
        assert "forged" in found
        assert found.isprintable()
        store.close()
    with listening(answering(body, "422 Oh")) as url:
        store = ServerStore(Connection(url, "secret"), MINT.digester, ManualClock())
        with pytest.raises(InvalidField) as caught:
            store.list_keys(KeyFilter())
        assert str(caught.value).isprintable()
        store.close()


def test_name_that_nobody_knows() -> None:
    store = ServerStore(Connection("http://nowhere.invalid", "secret"), MINT.digester, ManualClock())
    assert "no address is known for its name" in store.checks()[0].found
    store.close()


def test_deadline_is_over_with_the_question() -> None:
    """What is sent after a slow question is not cut off by its deadline."""
    with listening(answering(sync.write(sync.Head(1, "a" * 64, "")))) as url:
        store = ServerStore(Connection(url, "secret", answer_seconds=ANSWER), MINT.digester, ManualClock())
        for _ in range(3):
            assert store.position().number == 1
            time.sleep(timedelta(seconds=ANSWER).total_seconds())
        store.close()
