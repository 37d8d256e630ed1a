"""The server under load with malformed requests among the good ones: nobody who is good notices.

`KEYDESK_TEST_LOAD_SECONDS=30` makes the load last longer.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keydesk import Desk, open_desk
from keydesk.server.bodies import MOST_WITH_KEY

from ..faults.conftest import upgraded
from ..faults.serving import children_of
from .serving import Served, served

SECONDS = float(os.environ.get("KEYDESK_TEST_LOAD_SECONDS", "6"))
LINES = 4
GOOD_FOR_EACH_BAD = 99
WAIT_SECONDS = 5.0  # the longest that a good request may take, on a machine that does other things too
GROWTH_BYTES = 48 * 2**20  # of all processes together
WORKERS = 2
HELD_WITH_KEY = MOST_WITH_KEY - 1  # more may keep others that send bodies waiting; see below
HELD = 60  # what is opened and left, at a time


@pytest.fixture
def store(tmp_path: Path) -> str:
    return upgraded(f"sqlite:///{tmp_path / 'keys.db'}")


@pytest.fixture
def desk(store: str) -> Iterator[Desk]:
    desk = open_desk({"KEYDESK_STORE": store})
    yield desk
    desk.close()


def _head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, "Host: desk", *headers, "", ""]).encode("latin-1")


def _post(path: str, length: str, *headers: str) -> bytes:
    return _head(f"POST {path} HTTP/1.1", "Content-Type: application/json", length, *headers)


def _malformed(secret: str) -> dict[str, bytes]:
    """Return what is sent at once and read to its end, by name. The secret is in all that may show it."""
    key = f"X-API-Key: {secret}"
    get = "GET /authz/forwarded HTTP/1.1"
    return {
        "no HTTP": f"{secret} \x01\x02\r\n\r\n".encode(),
        "no version": f"GET /{secret}\r\n\r\n".encode(),
        "other version": _head("GET /authz/forwarded HTTP/7.3", key),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
        "TLS": bytes.fromhex("1603010200010001fc0303") + os.urandom(200),
        "NUL in the line": _head(f"GET /authz/\0{secret} HTTP/1.1", key),
        "NUL in a header": _head(get, f"X-API-Key: {secret}\0"),
        "no colon": _head(get, f"X-API-Key {secret}"),
        "1 MB header": _head(get, "X-Long: " + secret * (2**20 // len(secret))),
        "1 MB headers": _head(get, *(f"X-{number}: {secret}" for number in range(2**20 // 50))),
        "1 MB path": _head(f"GET /{'a' * 2**20} HTTP/1.1", key),
        "odd method": _head("GE(T /authz/forwarded HTTP/1.1", key),
        "two lengths": _post("/v1/verify", "Content-Length: 5", "Content-Length: 6", key) + b"{}{}{}",
        "negative length": _post("/v1/verify", "Content-Length: -5", key),
        "length too large": _post("/v1/verify", "Content-Length: 99999999999999999999", key),
        "length of more than there may be": _post("/v1/verify", "Content-Length: 1000000000", key),
        "length and chunks": _post("/v1/verify", "Content-Length: 5", "Transfer-Encoding: chunked", key) + b"0\r\n\r\n",
        "chunk without length": _post("/v1/keys", "Transfer-Encoding: chunked", key) + b"zz\r\n{}\r\n0\r\n\r\n",
        "chunk too large": _post("/v1/keys", "Transfer-Encoding: chunked", key) + b"fffffffffffffffff\r\n{}",
        "shorter length": _post("/v1/verify", "Content-Length: 2", key) + f'{{}}{{"secret": "{secret}"}}'.encode(),
        "key in the path": _head(f"GET /{secret}?{secret} HTTP/1.1", "Connection: close"),
        "no JSON": _post("/v1/verify", f"Content-Length: {len(secret)}", key, "Connection: close") + secret.encode(),
        "pipelined": _head("GET /healthz HTTP/1.1") * 50 + _head("GET /healthz HTTP/1.1", "Connection: close"),
    }


def _left(secret: str) -> dict[str, bytes]:
    """Return how requests begin that never end. None needs a key."""
    return {
        "nothing": b"",
        "half a line": b"GET /authz/for",
        "half a header": b"GET /authz/forwarded HTTP/1.1\r\nX-API-Key: " + secret.encode()[:20],
        "leak, anonymous": _post("/v1/leaks", "Content-Length: 5000"),
        "leak, signed": _post(
            "/v1/leaks/github",
            "Content-Length: 5000",
            "GitHub-Public-Key-Identifier: a",
            "GitHub-Public-Key-Signature: b",
        ),
        "verify, anonymous": _post("/v1/verify", "Content-Length: 5000"),
        "keys, made up": _post("/v1/keys", "Content-Length: 5000", "X-API-Key: made up"),
        "chunks": _post("/v1/leaks", "Transfer-Encoding: chunked") + b"5\r\nab",
        "answers not read": _head("GET /openapi.json HTTP/1.1", f"X-API-Key: {secret}") * 40,
    }


def _left_with_key(secret: str) -> dict[str, bytes]:
    key = f"X-API-Key: {secret}"
    return {
        "verify": _post("/v1/verify", "Content-Length: 5000", key),
        "keys": _post("/v1/keys", "Content-Length: 5000", key),
        "keys, chunks": _post("/v1/keys", "Transfer-Encoding: chunked", key) + b"fff\r\n",
    }


@dataclass
class Good:
    """Threads that send good requests one after another, each over a connection that stays."""

    server: Served
    secret: str
    answers: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going(self) -> Iterator[Good]:
        threads = [threading.Thread(target=self._run) for _ in range(LINES)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            for thread in threads:
                thread.join(60)

    def _run(self) -> None:
        key = {"X-API-Key": self.secret}
        asked = json.dumps({"secret": self.secret})
        line = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        try:
            while not self.ended.is_set():
                for _ in range(8):
                    self._ask(line, "GET", "/authz/forwarded", None, key, 200)
                self._ask(line, "GET", "/authz/nginx", None, {"X-API-Key": "made up"}, 401)
                self._ask(line, "POST", "/v1/verify", asked, {**key, "Content-Type": "application/json"}, 200)
                self._ask(line, "GET", "/v1/keys", None, key, 200)
        except BaseException as error:
            self.errors.append(error)
        finally:
            line.close()

    def _ask(
        self,
        line: http.client.HTTPConnection,
        method: str,
        path: str,
        body: str | None,
        headers: dict[str, str],
        due: int,
    ) -> None:
        began = time.monotonic()
        line.request(method, path, body, headers)
        answer = line.getresponse()
        answer.read()
        self.waits.append(time.monotonic() - began)
        self.answers[f"{path} {answer.status}" if answer.status != due else "as due"] += 1

    def assert_unharmed(self) -> None:
        assert not self.errors, self.errors
        assert set(self.answers) == {"as due"}, self.answers
        assert max(self.waits) < WAIT_SECONDS


class Bad:
    """Sends what nobody should, as often as it is told."""

    def __init__(self, port: int, secret: str) -> None:
        self._port, self.sent = port, 0
        self.held: list[socket.socket] = []
        self.with_key: list[socket.socket] = []
        at_once, left, with_key = _malformed(secret), _left(secret), _left_with_key(secret)
        self._acts: list[Callable[[], None]] = [
            *(lambda data=data: self._send_and_read(data) for data in at_once.values()),  # type: ignore[misc]
            *(lambda data=data: self._leave(data, self.held, HELD) for data in left.values()),  # type: ignore[misc]
            *(lambda data=data: self._leave(data, self.with_key, HELD_WITH_KEY) for data in with_key.values()),  # type: ignore[misc]
            lambda: self._cut(with_key["verify"]),
        ]

    def act(self) -> None:
        """Do the next bad thing, and let those that send slowly send a byte."""
        with suppress(OSError):  # the server may hang up at any moment
            self._acts[self.sent % len(self._acts)]()
        for line in [*self.held, *self.with_key]:
            with suppress(OSError):
                line.send(b" ")
        self.sent += 1

    def _connect(self) -> socket.socket:
        line = socket.create_connection(("127.0.0.1", self._port), 5)
        line.settimeout(0.2)
        return line

    def _send_and_read(self, data: bytes) -> None:
        with self._connect() as line:
            line.sendall(data)
            while line.recv(65_536):
                pass

    def _leave(self, data: bytes, held: list[socket.socket], most: int) -> None:
        line = self._connect()
        held.append(line)
        line.sendall(data)
        line.setblocking(False)
        if len(held) > most:
            held.pop(0).close()

    def _cut(self, data: bytes) -> None:
        with self._connect() as line:
            line.sendall(data + b'{"sec')

    def close(self) -> None:
        for line in [*self.held, *self.with_key]:
            line.close()


def _memory(pids: list[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * os.sysconf("SC_PAGE_SIZE")


def test_good_requests_do_not_notice_bad_ones(store: str, desk: Desk, tmp_path: Path) -> None:
    secret = desk.issue(name="client", scopes=("keydesk:verify", "keydesk:keys:read", "keydesk:keys:write")).secret
    settings = {"KEYDESK_STORE": store, "KEYDESK_ACCESS_LOG": "1"}
    with served(tmp_path, settings, "--workers", str(WORKERS)) as server, ExitStack() as stack:
        workers = children_of(server.process.pid)
        with Good(server, secret).going() as first:
            time.sleep(SECONDS / 3)  # until memory is what it is without anything bad
        first.assert_unharmed()
        before = _memory(workers)
        bad = Bad(server.port, secret)
        stack.callback(bad.close)
        with Good(server, secret).going() as good:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not good.errors:
                if len(good.waits) >= bad.sent * GOOD_FOR_EACH_BAD:
                    bad.act()
                else:
                    time.sleep(0.002)
        good.assert_unharmed()
        grown = _memory(workers) - before
        assert bad.sent >= 30
        assert children_of(server.process.pid) == workers  # none was restarted
        assert grown < GROWTH_BYTES
        waits = sorted(good.waits)
        print(
            f"{len(waits)} good requests and {bad.sent} bad ones in {SECONDS:g} s; a good one took "
            f"{waits[len(waits) // 2] * 1000:.1f} ms at the median, {waits[len(waits) * 99 // 100] * 1000:.1f} at p99 "
            f"and {waits[-1] * 1000:.0f} at most; memory grew by {grown / 2**20:.1f} MiB"
        )
    log = server.log.read_text(errors="replace")
    assert secret not in log
    assert "panicked" not in log


def test_slow_bodies_do_not_hold_the_gateways(store: str, desk: Desk, tmp_path: Path) -> None:
    """Whoever has a key can keep others from sending bodies, until the key is revoked; gateways get their answers."""
    secret = desk.issue(name="client", scopes=("keydesk:verify", "keydesk:keys:write")).secret
    with served(tmp_path, {"KEYDESK_STORE": store}, "--workers", "1") as server, ExitStack() as stack:
        for data in [*_left_with_key(secret).values(), *_left(secret).values()] * 5:
            line = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            line.sendall(data)
        time.sleep(0.5)
        for _ in range(20):
            began = time.monotonic()
            assert server.status("/authz/forwarded", secret) == 200
            assert time.monotonic() - began < WAIT_SECONDS
        refused = _verified(server, secret)
        assert (refused.status, refused.getheader("Retry-After")) == (503, "5")
        stack.close()
        end = time.monotonic() + 5
        while _verified(server, secret).status != 200:
            assert time.monotonic() < end


def _verified(server: Served, secret: str) -> http.client.HTTPResponse:
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        headers = {"X-API-Key": secret, "Content-Type": "application/json"}
        line.request("POST", "/v1/verify", json.dumps({"secret": secret}), headers)
        answer = line.getresponse()
        answer.read()
        return answer
    finally:
        line.close()
