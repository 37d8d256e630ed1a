"""Room client: the connections to a server, and what its refusals mean here."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from ..errors import InvalidField, StoreUnavailable
from ..forks import at_fork
from ..keys.secret import redact
from ..sync import MAX_TEXT_CHARACTERS, Call, write

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0  # the longest a request waits for the server, once it is connected
MAX_ANSWER_BYTES = 16_777_216
MAX_CONNECTIONS = 32  # kept open
MAX_DETAIL_CHARACTERS = 300
_NOT_THERE = (301, 302, 303, 307, 308, 404, 405)

Q = TypeVar("Q")
A = TypeVar("A")


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
        self._timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=answer_seconds)
        self._begin()
        at_fork(self, Connection._begin)

    def _begin(self) -> object:
        inherited = getattr(self, "_pool", None)
        self._pool = urllib3.connection_from_url(self.url, maxsize=MAX_CONNECTIONS, timeout=self._timeout)
        return inherited

    def ask(self, call: Call[Q, A], question: Q, *, again: bool = False) -> A:
        """Return what the server answers.

        Args:
            call, question: What is asked.
            again: It does no harm to ask twice, where a connection broke off.

        Raises:
            InvalidField: The server says that a part of the question cannot be used.
            StoreUnavailable: The server does not answer, refuses this application's key, or is no such server.
        """
        try:
            body = write(question)
        except UnicodeEncodeError:
            raise InvalidField("text", "holds what is no character; take it out") from None
        try:
            status, answer = self._send(call.path, body)
        except ProtocolError as error:  # it was restarted since the last question
            if not again:
                self._give_up(error)
            return self.ask(call, question)
        except HTTPError as error:
            self._give_up(error)
        if status != 200:
            self._refuse(status, answer)
        try:
            return call.read_answer(answer)
        except ValueError:
            raise StoreUnavailable(
                f"the server {self.url} answers in a way that is not understood here",
                "Bring Keydesk to the same version here and there.",
            ) from None

    def _send(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of an answer.

        Raises:
            HTTPError: There is none, or it is too large.
        """
        answer = self._pool.urlopen(
            "POST",
            self._root + path,
            body=body,
            headers=self._headers,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            read = answer.read(MAX_ANSWER_BYTES + 1)
        except BaseException:
            answer.close()  # what comes later belongs to no other question
            raise
        if len(read) > MAX_ANSWER_BYTES:
            answer.close()
            raise HTTPError("its answer is too large")
        answer.release_conn()
        return answer.status, read

    def _give_up(self, error: HTTPError) -> NoReturn:
        """Say that the server does not answer.

        Raises:
            StoreUnavailable: So it is.
        """
        raise StoreUnavailable(
            f"the server {self.url} does not answer: {_in_words(error)}",
            "See that it runs and can be reached from here; `keydesk doctor` looks again.",
        ) from None

    def _refuse(self, status: int, answer: bytes) -> NoReturn:
        """Say what a refusal means.

        Raises:
            InvalidField: A part of the question cannot be used.
            StoreUnavailable: All others.
        """
        said: Any = None
        with suppress(ValueError, RecursionError):
            said = json.loads(answer)
        said = said if isinstance(said, dict) else {}
        # Everything a server says may end up in a log; and this may be any server.
        detail = redact(str(said.get("detail", ""))[:MAX_DETAIL_CHARACTERS])
        field = said.get("field")
        if status == 422 and isinstance(field, str):
            field = redact(field[:MAX_TEXT_CHARACTERS])
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
        raise StoreUnavailable(f"the server {self.url} answers {status}: {detail}")

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


def _in_words(error: HTTPError) -> str:
    """Return in one line what went wrong, without the pool it was in."""
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError | urllib3.exceptions.ReadTimeoutError):
        return "it takes too long"
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "no address is known for its name"
    cause = error.args[-1] if error.args else error
    return (str(cause).strip().splitlines() or [type(error).__name__])[0].rpartition(">: ")[2][:200].rstrip(".")
