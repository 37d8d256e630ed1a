"""Room client: the connections to a server, and what its refusals mean here."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import suppress
from contextvars import ContextVar
from http.client import HTTPException
from typing import Any, NoReturn, TypeVar

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from ..clock import SystemClock
from ..errors import InvalidField, StoreUnavailable
from ..forks import at_fork
from ..keys.secret import redact
from ..sync import MAX_TEXT_CHARACTERS, Call, write

CONNECT_SECONDS = 1.0  # to each address of the server
ANSWER_SECONDS = 2.0  # the longest a request waits for the whole answer, once it is connected
MAX_ANSWER_BYTES = 16_777_216
MAX_CONNECTIONS = 32  # kept open
MAX_DETAIL_CHARACTERS = 300
AT_ONCE_SECONDS = 0.1  # a connection that breaks off sooner was closed while nobody used it
_NOT_THERE = (301, 302, 303, 307, 308, 404, 405)
# With these a server says that it did nothing. Others may be of a proxy before it, which does not know.
_NOT_DONE = (400, 401, 403, 404, 405, 413, 415, 422, 429)

Q = TypeVar("Q")
A = TypeVar("A")


class Unsure(StoreUnavailable):
    """There is no answer, and nobody knows whether the server did what it was asked."""


class _Deadline:
    """The end of one question. A limit for each read, which sockets have, is none for who sends byte after byte."""

    def __init__(self, answer_seconds: float) -> None:
        self.answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._closed: list[socket.socket] = []
        self.passed = False
        self.sent = False  # the whole question, so that the server may do what it says

    def watch(self, handle: socket.socket) -> None:
        """Take notice of the connection that the question goes over."""
        with self._lock:
            self._handle = handle
            if self.passed:
                _cut(handle)

    def close_at_end(self, handle: socket.socket) -> None:
        """Keep the handle of a connection that was closed: where it is not used again, its answer is yet to be read."""
        with self._lock:
            self._closed.append(handle)

    def end(self) -> None:
        """Close what was kept; the question is over."""
        with self._lock:
            self._handle = None
            for handle in self._closed:
                handle.close()
            self._closed.clear()

    def let_go(self) -> bool:
        """Leave the connection to the next question; return whether this one has ended in time."""
        with self._lock:
            self._handle = None
            return not self.passed

    def pass_(self) -> None:
        """End what goes on over the connection, whoever waits for it."""
        with self._lock:
            self.passed = True
            if self._handle is not None:
                _cut(self._handle)


# Of the question that this thread is at, or this greenlet: a `threading.local` from before gevent's monkey patching,
# as gunicorn's `--preload` makes it, is one for all greenlets.
_current: ContextVar[_Deadline] = ContextVar("_current")


def _cut(handle: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        handle.shutdown(socket.SHUT_RDWR)


class _Watched:
    """What both kinds of connections have in common: a second handle to their socket, by which they can be ended.

    TLS takes the first one over while it shakes hands, which is a time to be ended too.
    """

    handle: socket.socket | None = None
    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        self.handle = made.dup()
        self._watch()
        return made

    def request(self, *given: Any, **named: Any) -> None:
        self._watch()
        super().request(*given, **named)  # type: ignore[misc]
        _current.get().sent = True  # not sooner: with a part of a question a server does nothing

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        assert self.sock is not None
        self.sock.settimeout(_current.get().answer_seconds)  # urllib3 leaves what is for connecting, for all of it
        super().send(data)  # type: ignore[misc]

    def _watch(self) -> None:
        if self.handle is not None:
            _current.get().watch(self.handle)

    def close(self) -> None:
        handle, self.handle = self.handle, None
        super().close()  # type: ignore[misc]
        if handle is None:
            return
        deadline = _current.get(None)
        if deadline is None:
            handle.close()
        else:
            deadline.close_at_end(handle)


class _Open(_Watched, HTTPConnection):
    pass


class _Encrypted(_Watched, HTTPSConnection):
    pass


class Connection:
    """Asks a server. Any number of threads may use one; a forked process gets connections of its own.

    Args:
        url: `https://` or `http://`, a host, and a path where the server is mounted under one.
        secret: That of the key with which this application asks.
        answer_seconds: The longest it waits for an answer.
    """

    def __init__(self, url: str, secret: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._root = urllib3.util.parse_url(self.url).path or ""
        # This one is read whatever the server's KEYDESK_HEADER is.
        self._headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        self._answer_seconds = answer_seconds
        self._monotonic = SystemClock().monotonic  # for waits of this world, in tests too
        self._pool: urllib3.HTTPConnectionPool | None = None
        at_fork(self, Connection._leave)

    def _leave(self) -> object:
        inherited, self._pool = self._pool, None
        return inherited

    def _make_pool(self) -> urllib3.HTTPConnectionPool:
        """Make the pool, with the first question: with `--preload`, gevent puts its own in place after the fork."""
        pool = urllib3.connection_from_url(self.url, maxsize=MAX_CONNECTIONS)
        pool.ConnectionCls = _Open
        if pool.scheme == "https":
            pool.ConnectionCls = _Encrypted
            pool.conn_kw["ssl_context"] = ssl.create_default_context()  # urllib3's class may be the one from before
        self._pool = pool
        return pool

    def ask(
        self,
        call: Call[Q, A],
        question: Q,
        *,
        again: bool = False,
        of_people: bool = False,
        answer_seconds: float | None = None,
    ) -> A:
        """Return what the server answers.

        Args:
            call, question: What is asked.
            again: It does no harm to ask twice, where a connection was closed while nobody used it.
            of_people: The question is as somebody wrote it, and they are told what cannot be used of it.
            answer_seconds: In the place of the connection's own.

        Raises:
            InvalidField: A part of a question of people cannot be used.
            Unsure: There is no answer, and the server may have done what was asked.
            StoreUnavailable: The server cannot be reached, refuses this application's key, or is no such server.
        """
        try:
            body = write(question)
        except UnicodeEncodeError:
            raise InvalidField("text", "holds what is no character; take it out") from None
        began, deadline = self._monotonic(), _Deadline(answer_seconds or self._answer_seconds)
        try:
            status, answer = self._send(deadline, call.path, body)
        except ProtocolError as error:
            if not again or self._monotonic() - began > AT_ONCE_SECONDS:
                self._give_up(error, deadline)
            return self.ask(call, question, of_people=of_people, answer_seconds=answer_seconds)
        except (HTTPError, HTTPException, OSError, ValueError, RuntimeError) as error:
            self._give_up(error, deadline)  # the last of them where no thread can be started
        if status != 200:
            self._refuse(status, answer, of_people)
        try:
            return call.read_answer(answer)
        except ValueError:
            raise Unsure(
                f"the server {self.url} answers in a way that is not understood here",
                "Bring Keydesk to the same version here and there.",
            ) from None

    def _send(self, deadline: _Deadline, path: str, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of an answer.

        Raises:
            HTTPError: There is none, or it is too large.
        """
        timer = threading.Timer(CONNECT_SECONDS + deadline.answer_seconds, deadline.pass_)
        timer.daemon = True
        timer.start()
        before = _current.set(deadline)
        try:
            answer = (self._pool or self._make_pool()).urlopen(
                "POST",
                self._root + path,
                body=body,
                headers=self._headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=deadline.answer_seconds),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,  # nothing else was asked for, and what takes long in here has no deadline
            )
            try:
                read = answer.read(MAX_ANSWER_BYTES + 1)
            except BaseException:
                answer.close()  # what comes later belongs to no other question
                raise
            if len(read) > MAX_ANSWER_BYTES:
                answer.close()
                raise HTTPError("its answer is too large")
            if not deadline.let_go():
                answer.close()
                raise HTTPError("it takes too long")
            answer.release_conn()
            return answer.status, read
        except (HTTPError, HTTPException, OSError, ValueError):
            if deadline.passed:
                raise HTTPError("it takes too long") from None
            raise
        finally:
            _current.reset(before)
            timer.cancel()
            deadline.end()

    def _give_up(self, error: Exception, deadline: _Deadline) -> NoReturn:
        """Say that the server does not answer.

        Raises:
            Unsure: It may have done what was asked.
            StoreUnavailable: It was not asked.
        """
        problem = f"the server {self.url} does not answer: {_in_words(error)}"
        advice = "See that it runs and can be reached from here; `keydesk doctor` looks again."
        if deadline.sent:
            raise Unsure(problem, advice) from None
        raise StoreUnavailable(problem, advice) from None

    def _refuse(self, status: int, answer: bytes, of_people: bool) -> NoReturn:
        """Say what a refusal means.

        Raises:
            InvalidField: A part of a question of people cannot be used.
            Unsure: It may have done what was asked.
            StoreUnavailable: All others.
        """
        said: Any = None
        with suppress(ValueError, RecursionError):
            said = json.loads(answer)
        said = said if isinstance(said, dict) else {}
        detail = _one_line(str(said.get("detail", "")))
        field = said.get("field")
        if status == 422 and of_people and isinstance(field, str):
            field = _one_line(field)[:MAX_TEXT_CHARACTERS]
            raise InvalidField(field, detail.removeprefix(f"The field {field} ").rstrip("."))
        if status == 401:
            raise StoreUnavailable(
                f"the server {self.url} does not accept the key in KEYDESK_SERVER_KEY: {detail}",
                "Issue one there with the scope keydesk:sync and no owner, and set it here.",
            )
        if status == 403:
            raise StoreUnavailable(f"the server {self.url} refuses this application's key: {detail}")
        if status in _NOT_THERE:
            raise StoreUnavailable(
                f"at {self.url} there is no Keydesk server of this version: it answers {status}",
                "Let KEYDESK_STORE name the server itself, as `keydesk serve` prints it.",
            )
        problem = f"the server {self.url} answers {status}: {detail}"
        if status in _NOT_DONE or (status == 503 and said.get("reason") in ("unavailable", "busy")):
            raise StoreUnavailable(problem)
        raise Unsure(problem)

    def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            self._pool.close()


def _one_line(said: str) -> str:
    """Return what a server says as it may stand in a log: whoever it is may be at the address."""
    return redact("".join(c if c.isprintable() else " " for c in said[:MAX_DETAIL_CHARACTERS]))


def _in_words(error: Exception) -> str:
    """Return in one line what went wrong, without the pool it was in."""
    if isinstance(error, NameResolutionError):
        return "no address is known for its name"
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError)) and not isinstance(error, NewConnectionError):
        return "it takes too long"
    cause = str(error.args[-1] if error.args else error) or type(error).__name__
    return _one_line(cause.strip()).rpartition(">: ")[2][:200].rstrip(".")
