"""Leak reports: GitHub's, signed, and those of anybody who has the secret."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.validate import validator

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keydesk import Desk, HeldKey, open_desk
from keydesk.errors import StoreUnavailable
from keydesk.keys.networks import Networks
from keydesk.keys.record import parse_fields
from keydesk.keys.secret import SecretFormat
from keydesk.server import leaks as module
from keydesk.server.deciding import Decider
from keydesk.server.forwarded import ClientAddresses
from keydesk.server.github_keys import ASK_AGAIN_SECONDS, FRESH_SECONDS, KEPT_SECONDS
from keydesk.server.leaks import Leaks
from keydesk.server.metrics import Metrics
from keydesk.testing import ManualClock
from keydesk.web.credentials import CredentialReader
from keydesk.web.responses import Answers

SHORT_WAIT_SECONDS = 0.3  # where GitHub hangs
URL = "https://github.com/octocat/Hello-World/blob/1234/foo/bar.txt"
IMPORTED = "0d9b1b0e-7d3c-4b0e-9b6e-2f1f0a4a9c11"


class GitHub:
    """GitHub's meta endpoint, on loopback, and the keys it signs with."""

    def __init__(self) -> None:
        self.signers: dict[str, Any] = {}
        self.requests: list[dict[str, str]] = []
        self.harm: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.etag = '"1"'
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(
                    {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
                )
                if outer.harm is not None:
                    self.close_connection = True
                    with suppress(OSError):  # nobody listens to it any more
                        outer.harm(self)
                elif self.headers.get("If-None-Match") == outer.etag:
                    self.answer(304, b"")
                else:
                    self.answer(200, outer.body())

            def answer(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in {"ETag": outer.etag, "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.keys = self.body
        self._server.over = threading.Event()  # what hangs, hangs until then
        self.url = f"http://127.0.0.1:{self._server.server_port}/meta/public_keys/secret_scanning"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.add("first")

    def add(self, identifier: str) -> None:
        self.signers[identifier] = ec.generate_private_key(ec.SECP256R1())
        self.etag = f'"{len(self.signers)}"'

    def asked(self, times: int) -> bool:
        """Return whether so many requests came, the last of which may still be on its way in."""
        end = time.monotonic() + 10
        while len(self.requests) < times and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.requests) == times

    def body(self) -> bytes:
        return json.dumps(
            {
                "public_keys": [
                    {"key_identifier": name, "key": public(signer), "is_current": True}
                    for name, signer in self.signers.items()
                ]
            }
        ).encode()

    def sign(self, body: bytes, identifier: str = "first") -> dict[str, str]:
        signature = self.signers[identifier].sign(body, ec.ECDSA(hashes.SHA256()))
        return signed(identifier, base64.b64encode(signature).decode())

    def end_harm(self) -> None:
        """Let go what hangs; what hangs from now on does so until the next time."""
        self._server.over.set()
        self._server.over = threading.Event()

    def close(self) -> None:
        self.end_harm()
        self._server.shutdown()
        self._server.server_close()


def public(signer: Any) -> str:
    return signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed(identifier: str, signature: str) -> dict[str, str]:
    return {"HTTP_GITHUB_PUBLIC_KEY_IDENTIFIER": identifier, "HTTP_GITHUB_PUBLIC_KEY_SIGNATURE": signature}


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    github = GitHub()
    yield github
    github.close()


@pytest.fixture
def desk(clock: ManualClock) -> Iterator[Desk]:
    desk = open_desk({"KEYDESK_STORE": "memory://", "KEYDESK_MAX_STALENESS_SECONDS": 0}, clock=clock)
    yield desk
    desk.close()


@pytest.fixture
def leaks(desk: Desk, github: GitHub) -> Leaks:
    return make_leaks(desk, github.url)


def make_leaks(desk: Desk, url: str) -> Leaks:
    answers = Answers(realm="api", header="X-API-Key")
    decider = Decider(
        desk.verifier, CredentialReader(header="X-API-Key"), ClientAddresses(Networks()), Metrics(desk, None)
    )
    return Leaks(desk, answers, decider, github_url=url)


class Said:
    """What was answered."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = int(status[:3]), dict(headers), body
        assert self.headers["Cache-Control"] == "no-store"
        assert int(self.headers["Content-Length"]) == len(body)
        if self.status != 200:
            assert self.headers["Content-Type"] == "application/problem+json"
            assert {"type", "title", "status", "detail", "reason"} <= self.json().keys()

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return str(self.json()["reason"])


def call(application: Callable[..., Any], body: bytes, **environ: Any) -> Said:
    said: list[Any] = []
    given = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/v1/leaks",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "203.0.113.7",
        "wsgi.input": io.BytesIO(body),
        **environ,
    }
    parts = application(given, lambda status, headers: said.extend((status, headers)))
    return Said(*said, b"".join(parts))


def from_github(leaks: Leaks, github: GitHub, *tokens: str, **more: str) -> Said:
    entries = [{"token": token, "type": "keydesk_api_key", "url": URL, "source": "content", **more} for token in tokens]
    body = json.dumps(entries).encode()
    return call(leaks.github, body, **github.sign(body))


def report(leaks: Leaks, *secrets: str, key: str = "", **more: Any) -> Said:
    body = json.dumps({"leaks": [{"secret": secret, **more} for secret in secrets]}).encode()
    return call(leaks.report, body, **({"HTTP_X_API_KEY": key} if key else {}))


def results(said: Said) -> list[str]:
    assert said.status == 200, said.body
    return [entry["result"] for entry in said.json()["leaks"]]


def revocations(desk: Desk) -> list[Any]:
    return [one.event for one in desk.list_events(size=1000) if one.event.kind == "key.revoked"]


def import_key(desk: Desk, text: str = IMPORTED, **fields: Any) -> None:
    secret = desk.mint.secret(text, number=1, now=desk.clock.now())
    desk.import_keys([HeldKey(parse_fields({"name": "imported", **fields}), secret)])


# What GitHub has signed


def test_github_revokes(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    issued, other = desk.issue(name="A", owner="acme"), desk.issue(name="B")
    unknown = desk.mint.secret_format.mint()
    said = from_github(leaks, github, issued.secret, unknown)
    assert said.status == 200
    assert said.json() == [
        {"token_hash": hashlib.sha256(token.encode()).hexdigest(), "token_type": "keydesk_api_key", "label": label}
        for token, label in ((issued.secret, "true_positive"), (unknown, "false_positive"))
    ]
    assert not desk.verify(issued.secret).allowed
    assert desk.verify(other.secret).allowed
    (event,) = revocations(desk)
    assert (event.key_id, event.actor) == (issued.key.id, "github secret scanning")
    assert event.details == {"reason": f"leaked: reported by GitHub in content: {URL}"}


def test_github_replayed_changes_nothing(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    issued = desk.issue(name="A")
    first = from_github(leaks, github, issued.secret, issued.secret)
    assert [from_github(leaks, github, issued.secret, issued.secret).json() for _ in range(3)] == [first.json()] * 3
    assert len(revocations(desk)) == 1
    assert len(github.requests) == 1


def test_github_leaves_a_key_whose_old_secret_was_found(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    first = desk.issue(name="A")
    second = desk.rotate(first.key.id, overlap=timedelta(0))
    assert from_github(leaks, github, first.secret).json()[0]["label"] == "true_positive"
    assert desk.verify(second.secret).allowed


def test_github_revokes_imported_keys(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    import_key(desk)
    assert from_github(leaks, github, IMPORTED).json()[0]["label"] == "true_positive"
    assert not desk.verify(IMPORTED).allowed


@pytest.mark.parametrize("source", ["commit", "PULL_REQUEST_TITLE", "Content"])
def test_github_source_compares_without_case(leaks: Leaks, github: GitHub, desk: Desk, source: str) -> None:
    from_github(leaks, github, desk.issue(name="A").secret, source=source, url="")
    assert revocations(desk)[0].details["reason"] == f"leaked: reported by GitHub in {source.lower()}"


def test_github_takes_a_thousand_tokens(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    issued = [desk.issue(name="A") for _ in range(500)]
    unknown = [desk.mint.secret_format.mint() for _ in range(500)]
    said = from_github(leaks, github, *(one.secret for one in issued), *unknown)
    assert [entry["label"] for entry in said.json()] == ["true_positive"] * 500 + ["false_positive"] * 500
    assert len(revocations(desk)) == 500
    assert from_github(leaks, github, *unknown, *unknown, "one more").reason == "invalid_field"


def test_github_stops_in_time_and_goes_on_with_the_next(
    leaks: Leaks, github: GitHub, desk: Desk, clock: ManualClock
) -> None:
    """A slow database: GitHub would give up waiting. It sends the same again, which takes up where this left off."""
    issued = [desk.issue(name="A") for _ in range(3)]
    find = desk.store.find_by_digest

    def slow(digests: Any) -> Any:
        clock.advance(module.MAX_SECONDS / 2 + 1)
        return find(digests)

    desk.store.find_by_digest = slow  # type: ignore[method-assign]
    said = from_github(leaks, github, *(one.secret for one in issued))
    assert (said.status, said.headers["Retry-After"]) == (503, "1")
    assert len(revocations(desk)) == 2
    desk.store.find_by_digest = find  # type: ignore[method-assign]
    assert from_github(leaks, github, *(one.secret for one in issued)).status == 200
    assert len(revocations(desk)) == 3


# What it has not


def test_github_wrong_signatures(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    issued = desk.issue(name="A")
    body = json.dumps([{"token": issued.secret, "type": "x", "url": "", "source": "content"}]).encode()
    good = github.sign(body)
    stranger = ec.generate_private_key(ec.SECP256R1()).sign(body, ec.ECDSA(hashes.SHA256()))
    weak = github.signers["first"].sign(body, ec.ECDSA(hashes.SHA1()))
    name, signature = "HTTP_GITHUB_PUBLIC_KEY_IDENTIFIER", "HTTP_GITHUB_PUBLIC_KEY_SIGNATURE"
    for wrong in (
        {**good, signature: base64.b64encode(stranger).decode()},
        {**good, signature: base64.b64encode(weak).decode()},
        {**good, signature: base64.b64encode(b"").decode() or "="},
        {**good, signature: "not base64 é"},
        {**good, signature: good[signature] + "A" * 10_000},
        {**good, signature: base64.b64encode(b"\x30\x06\x02\x01\x00\x02\x01\x00").decode()},  # r = s = 0
        {**good, name: "first\n"},
        {**good, name: "x" * 10_000},
        {**good, name: "../first"},
        github.sign(body + b" "),
        github.sign(body[:-1]),
    ):
        assert call(leaks.github, body, **wrong).reason == "wrong_signature", wrong
    assert call(leaks.github, body).reason == "not_signed"
    assert call(leaks.github, body, **{name: "first"}).reason == "not_signed"
    assert call(leaks.github, body, **{signature: good[signature]}).reason == "not_signed"
    assert desk.verify(issued.secret).allowed
    assert call(leaks.github, body, **good).status == 200


def test_github_odd_bodies(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    """All are signed, so they may be anything: what can be read is done, and nothing goes wrong."""
    secret = desk.issue(name="A").secret
    odd: list[tuple[bytes, int]] = [
        (b"", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"[" + b"9" * 10_000 + b"]", 400),
        (b"{}", 422),
        (b"null", 422),
        (b'"text"', 422),
        (b"[]", 200),
        (b'[null, 1, [], {}, {"token": 1}, {"token": null}, NaN]', 200),
        (b'[{"token": "\\ud800"}, {"token": "\\u0000"}, {"token": ""}, {"token": "a,b"}]', 200),
        (json.dumps([{"token": "x" * 100_000}]).encode(), 200),
        (json.dumps([{"token": "kd_live_" + "0" * 38, "type": ["x"], "url": {}, "source": 1}]).encode(), 200),
        (json.dumps([None, {"token": secret, "type": 1, "url": None, "source": None}]).encode(), 200),
    ]
    for body, status in odd:
        assert call(leaks.github, body, **github.sign(body)).status == status, body[:60]
    assert not desk.verify(secret).allowed
    assert revocations(desk)[0].details["reason"] == "leaked: reported by GitHub in other"


@pytest.mark.parametrize("length", [None, "", "x", "-1", "²", "+5", str(module.MAX_BODY_BYTES + 1), "9" * 5000])
def test_bodies_of_no_stated_length_are_not_read(leaks: Leaks, github: GitHub, length: str | None) -> None:
    for application in (leaks.github, leaks.report):
        said = call(application, b"[]", **{**github.sign(b"[]"), "CONTENT_LENGTH": length, "wsgi.input": None})
        assert (said.status, said.reason) == (413, "too_large")


def test_other_methods(leaks: Leaks) -> None:
    for application in (leaks.github, leaks.report):
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            said = call(application, b"", REQUEST_METHOD=method)
            assert (said.status, said.headers["Allow"]) == (405, "POST")


# The keys of GitHub


def test_keys_are_kept_with_their_etag(leaks: Leaks, github: GitHub, desk: Desk, clock: ManualClock) -> None:
    for _ in range(3):
        assert from_github(leaks, github, "x").status == 200
    assert len(github.requests) == 1
    clock.advance(FRESH_SECONDS + 1)
    assert from_github(leaks, github, "x").status == 200
    assert from_github(leaks, github, "x").status == 200
    assert [request.get("if-none-match") for request in github.requests] == [None, '"1"']
    assert all(request["path"].endswith("/secret_scanning") for request in github.requests)


def test_keys_are_asked_for_again_once_for_an_unknown_identifier(
    leaks: Leaks, github: GitHub, clock: ManualClock
) -> None:
    body = b"[]"
    assert call(leaks.github, body, **github.sign(body)).status == 200
    clock.advance(ASK_AGAIN_SECONDS)
    github.add("second")
    assert call(leaks.github, body, **github.sign(body, "second")).status == 200
    assert len(github.requests) == 2
    assert call(leaks.github, body, **github.sign(body, "first")).status == 200
    assert len(github.requests) == 2


def test_keys_are_not_asked_for_more_often_than_every_two_minutes(
    leaks: Leaks, github: GitHub, clock: ManualClock
) -> None:
    """Anybody may name identifiers. GitHub's own new one is asked for within two minutes, and told to come back."""
    body = b"[]"
    made_up = [call(leaks.github, body, **signed(f"made-up-{n}", "AAAA")) for n in range(20)]
    assert [said.status for said in made_up] == [403] + [503] * 19
    github.add("second")
    said = call(leaks.github, body, **github.sign(body, "second"))
    assert (said.status, said.headers["Retry-After"]) == (503, str(ASK_AGAIN_SECONDS))
    assert call(leaks.github, body, **github.sign(body, "first")).status == 200
    assert len(github.requests) == 1
    clock.advance(ASK_AGAIN_SECONDS)
    assert call(leaks.github, body, **github.sign(body, "second")).status == 200
    assert len(github.requests) == 2


def test_keys_that_github_took_back_are_gone(leaks: Leaks, github: GitHub, clock: ManualClock) -> None:
    body = b"[]"
    taken_back = github.sign(body)
    assert call(leaks.github, body, **taken_back).status == 200
    github.add("second")
    del github.signers["first"]
    clock.advance(FRESH_SECONDS + 1)
    assert call(leaks.github, body, **taken_back).status == 403


def answer(status: int, body: bytes, **headers: str) -> Callable[[Any], None]:
    return lambda handler: handler.answer(status, body, **headers)


def drip(what: bytes) -> Callable[[Any], None]:
    def harm(handler: Any) -> None:
        over = handler.server.over
        handler.wfile.write(what)
        while not over.wait(0.02):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    return harm


def pem(key: Any) -> bytes:
    return json.dumps({"public_keys": [{"key_identifier": "first", "key": public(key), "is_current": True}]}).encode()


HARMS: dict[str, Callable[[Any], Any]] = {
    "hanging": lambda handler: handler.server.over.wait(20),
    "hanging in the headers": drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "hanging in the body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
    "closing": lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
    "no HTTP": lambda handler: handler.wfile.write(b"\x00" * 1000),
    "garbage": answer(200, b"\xff\x00garbage"),
    "10 MB": answer(200, b"[" * 10_000_000),
    "10 MB beside the right keys": lambda handler: handler.answer(
        200, handler.server.keys()[:-1] + b', "more": "' + b"x" * 10_000_000 + b'"}'
    ),
    "10 MB in pieces": lambda handler: handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 160
    ),
    "deep JSON": answer(200, b"[" * 200_000),
    "no object": answer(200, b"[]"),
    "no keys": answer(200, b'{"public_keys": []}'),
    "odd keys": answer(200, b'{"public_keys": [1, null, {}, {"key_identifier": "first", "key": "x"}, {"key": 1}]}'),
    "an RSA key": answer(200, pem(rsa.generate_private_key(65537, 2048))),
    "another curve": answer(200, pem(ec.generate_private_key(ec.SECP384R1()))),
    "an error": answer(500, b"{}"),
    "rate limited": answer(403, b"{}"),
    "a redirect": answer(302, b"", Location="http://127.0.0.1:1/"),
    "not modified": answer(304, b""),
}


@pytest.mark.parametrize("harm", HARMS)
def test_keys_when_github_is_in_trouble(
    leaks: Leaks, github: GitHub, desk: Desk, clock: ManualClock, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without keys a report is told to come back. With keys that are known it is judged by them, for a day."""
    keys, issued = leaks._github_keys, desk.issue(name="A")
    usual_wait = keys._wait_seconds

    def trouble(harm: Callable[[Any], Any] | None) -> None:
        github.end_harm()
        if keys._asking is not None:
            keys._asking.join(10)  # which may have begun only when nobody waited for it any more
        github.harm = harm
        keys._wait_seconds = SHORT_WAIT_SECONDS if harm else usual_wait

    trouble(HARMS[harm])
    with caplog.at_level(logging.WARNING, "keydesk"):
        said = [from_github(leaks, github, issued.secret) for _ in range(3)]
        trouble(None)
    assert {(one.status, one.reason, one.headers["Retry-After"]) for one in said} == {
        (503, "unavailable", str(ASK_AGAIN_SECONDS))
    }
    assert github.asked(1)
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.name == "keydesk"] == [
        "Keydesk cannot get the keys of GitHub's leak reports"
    ]
    assert desk.verify(issued.secret).allowed

    clock.advance(ASK_AGAIN_SECONDS)
    assert from_github(leaks, github, "x").status == 200
    trouble(HARMS[harm])
    clock.advance(FRESH_SECONDS + 1)
    assert from_github(leaks, github, issued.secret).status == 200
    assert not desk.verify(issued.secret).allowed
    trouble(HARMS[harm])
    clock.advance(KEPT_SECONDS)
    # A 304 says that the keys we have are still the right ones.
    assert from_github(leaks, github, "x").status == (200 if harm == "not modified" else 503)
    trouble(None)
    assert github.asked(4)


def test_keys_nobody_waits_for_again_while_github_hangs(leaks: Leaks, github: GitHub) -> None:
    """Who names made-up identifiers while GitHub hangs holds up one request for seconds, and not all of them."""
    leaks._github_keys._wait_seconds = SHORT_WAIT_SECONDS
    github.harm = HARMS["hanging in the headers"]
    assert call(leaks.github, b"[]", **signed("made-up", "AAAA")).status == 503
    assert leaks._github_keys._asking.is_alive()
    leaks._desk.clock.advance(SHORT_WAIT_SECONDS)
    began = time.monotonic()
    for number in range(50):
        assert call(leaks.github, b"[]", **signed(f"made-up-{number}", "AAAA")).status == 503
    assert time.monotonic() - began < SHORT_WAIT_SECONDS * 20
    assert len(github.requests) == 1


def test_keys_when_github_is_down(desk: Desk) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    leaks = make_leaks(desk, url)
    assert call(leaks.github, b"[]", **signed("first", "AAAA")).status == 503
    for nonsense in ("nonsense", "http://", "http://[::1", "ftp://127.0.0.1/"):
        assert call(make_leaks(desk, nonsense).github, b"[]", **signed("first", "AAAA")).status == 503


def test_keys_are_asked_for_by_one_of_many_at_once(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    """The first reports after a start come together: all wait for the one question, and are answered."""
    issued = [desk.issue(name="A") for _ in range(8)]
    said: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: said.append(from_github(leaks, github, one.secret).status))
        for one in issued
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert said == [200] * 8
    assert len(github.requests) == 1


# Others


def test_report_needs_nothing_but_the_secret(leaks: Leaks, desk: Desk) -> None:
    issued = desk.issue(name="A")
    unknown = desk.mint.secret_format.mint()
    said = report(leaks, issued.secret, unknown, issued.secret, url=URL, source="GitLeaks")
    assert results(said) == ["revoked", "unknown", "over"]
    (event,) = revocations(desk)
    assert (event.actor, event.details["reason"]) == ("leak report", f"leaked: reported by gitleaks: {URL}")
    assert results(report(leaks, issued.secret)) == ["over"]
    assert len(revocations(desk)) == 1


def test_report_of_many_at_once_writes_one_event(github: GitHub, clock: ManualClock, tmp_path: Path) -> None:
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path / 'keys.db'}"}, clock=clock)
    leaks, issued = make_leaks(desk, github.url), desk.issue(name="A")
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.extend(results(report(leaks, issued.secret)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(said) == ["over"] * 3 + ["revoked"]
    assert len(revocations(desk)) == 1
    desk.close()


def test_report_ends_no_key_by_guessing(leaks: Leaks, desk: Desk) -> None:
    """An imported secret may be one that people guess. To report such a one takes a key that may revoke keys."""
    guessable = "my-secret-api-key-of-production-1"
    import_key(desk)
    asked: list[Any] = []
    find = desk.store.find_by_digest
    desk.store.find_by_digest = lambda digests: asked.append(digests) or find(digests)  # type: ignore[method-assign]
    wrong = desk.mint.secret_format.mint()[:-1] + "?"
    assert results(report(leaks, IMPORTED, guessable, "", wrong, "kd_live_x")) == [
        "not_checked", "not_checked", "not_checked", "unknown", "unknown"
    ]  # fmt: skip
    assert asked == []
    assert desk.verify(IMPORTED).allowed

    revoker = desk.issue(name="scanner", scopes=["keydesk:keys:write"])
    assert results(report(leaks, IMPORTED, guessable, key=revoker.secret)) == ["revoked", "unknown"]
    assert revocations(desk)[0].actor == revoker.key.id


def test_report_of_a_caller_bound_to_an_owner(leaks: Leaks, desk: Desk) -> None:
    """It learns nothing of the imported keys of others. A secret of ours it may report as anybody may."""
    import_key(desk, owner="bolt")
    import_key(desk, "3c7f2d11-0a5b-4e7e-8d57-51b6b7f0c2aa", owner="acme")
    others = desk.issue(name="theirs", owner="bolt")
    caller = desk.issue(name="scanner", owner="acme", scopes=["keydesk:keys:write"])
    said = report(leaks, IMPORTED, "3c7f2d11-0a5b-4e7e-8d57-51b6b7f0c2aa", others.secret, key=caller.secret)
    assert results(said) == ["unknown", "revoked", "revoked"]
    assert desk.verify(IMPORTED).allowed
    assert results(report(leaks, IMPORTED, key=desk.issue(name="all", scopes=["keydesk:*"]).secret)) == ["revoked"]
    assert results(report(leaks, IMPORTED, key=caller.secret)) == ["unknown"]


def test_report_refuses_a_wrong_key(leaks: Leaks, desk: Desk) -> None:
    """Whoever presents one means to be known: it is not passed over."""
    issued, reader = desk.issue(name="A"), desk.issue(name="reader", scopes=["keydesk:keys:read"])
    elsewhere = desk.issue(name="far", scopes=["keydesk:keys:write"], networks=["198.51.100.0/24"])
    assert report(leaks, issued.secret, key=desk.mint.secret_format.mint()).status == 401
    assert report(leaks, issued.secret, key=f"{reader.secret},{elsewhere.secret}").status == 400
    said = report(leaks, issued.secret, key=reader.secret)
    assert (said.status, said.json()["missing_scopes"]) == (403, ["keydesk:keys:write"])
    assert report(leaks, issued.secret, key=elsewhere.secret).reason == "network_denied"
    assert desk.verify(issued.secret).allowed


def test_report_sizes(leaks: Leaks, desk: Desk) -> None:
    revoker = desk.issue(name="scanner", scopes=["keydesk:keys:write"]).secret
    unknown = SecretFormat().mint()
    assert results(report(leaks, *[unknown] * 20)) == ["unknown"] * 20
    assert report(leaks, *[unknown] * 21).reason == "invalid_field"
    assert results(report(leaks, *[unknown] * 1000, key=revoker)) == ["unknown"] * 1000
    assert report(leaks, *[unknown] * 1001, key=revoker).reason == "invalid_field"
    assert report(leaks, unknown, url="x" * 70_000).reason == "too_large"
    assert report(leaks, unknown, url="x" * 70_000, key=revoker).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"[]", "leaks"),
        (b"null", "leaks"),
        (b"{}", "leaks"),
        (b'{"leaks": {}}', "leaks"),
        (b'{"leaks": [1]}', "leaks[0]"),
        (b'{"leaks": [{"secret": "x"}, {}]}', "leaks[1]"),
        (b'{"leaks": [{"secret": 1}]}', "leaks[0]"),
        (b'{"leaks": [{"secret": "x", "url": 1}]}', "leaks[0]"),
        (b'{"leaks": [{"secret": "x", "token": "y"}]}', "leaks[0]"),
    ],
)
def test_report_odd_bodies(leaks: Leaks, body: bytes, field: str) -> None:
    said = call(leaks.report, body)
    assert (said.status, said.json()["field"]) == (422, field)


def test_report_of_nothing_and_of_no_json(leaks: Leaks) -> None:
    assert call(leaks.report, b'{"leaks": []}').json() == {"leaks": []}
    assert call(leaks.report, b"{").reason == "not_json"
    assert call(leaks.report, b"[" * 60_000).reason == "not_json"
    assert call(leaks.report, b"{}", CONTENT_TYPE="text/plain").reason == "unsupported_media_type"
    assert call(leaks.report, b'{"leaks": []}', CONTENT_TYPE="Application/JSON; charset=utf-8").status == 200
    assert results(report(leaks, "\ud800", "\0", "kd_live_\udc80")) == ["not_checked", "not_checked", "unknown"]


# What ends up in the event and in the log


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("https://github.com/a/b?token=x#L3", "https://github.com/a/b"),
        ("http://203.0.113.7:8080/%20x", "http://203.0.113.7:8080/%20x"),
        ("https://user:hush@example.com/x", ""),
        ("https://example.com/\r\nX-Evil: 1", ""),
        ("https://example.com/a b", ""),
        ("https://example.com/<script>", ""),
        ("https://example.com/\x1b[2J", ""),
        ("https://exämple.com/", ""),
        ("javascript:alert(1)", ""),
        ("file:///etc/passwd", ""),
        ("https://example.com/" + "x" * 280, "https://example.com/" + "x" * 280),
        ("https://example.com/" + "x" * 281, ""),
        ("https://example.com/" + "x" * 50_000, ""),
    ],
)
def test_url_in_the_event_is_harmless(leaks: Leaks, desk: Desk, given: str, kept: str) -> None:
    assert results(report(leaks, desk.issue(name="A").secret, url=given, source="a")) == ["revoked"]
    assert revocations(desk)[0].details["reason"] == "leaked: reported by a" + (f": {kept}" if kept else "")


def test_url_and_source_hold_no_secret(leaks: Leaks, desk: Desk) -> None:
    """Who reports may have the secret in the address itself."""
    for place in ("url", "source"):
        issued = desk.issue(name="A")
        given = {"url": f"https://example.com/{issued.secret}"} if place == "url" else {"source": issued.secret}
        assert results(report(leaks, issued.secret, **given)) == ["revoked"]
    assert {event.details["reason"] for event in revocations(desk)} == {"leaked: reported by other"}


@pytest.mark.parametrize("source", ["", "\n", "x" * 33, "a\x1b[0m", "ß", "-", 'a"b', "a:b"])
def test_source_in_the_event_is_harmless(leaks: Leaks, desk: Desk, source: str) -> None:
    report(leaks, desk.issue(name="A").secret, source=source)
    assert revocations(desk)[0].details["reason"] == "leaked: reported by other"


def test_nothing_is_fetched_but_the_keys(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    address = github.url.rpartition("/meta")[0] + "/leak"
    from_github(leaks, github, desk.issue(name="A").secret, url=address)
    report(leaks, desk.issue(name="B").secret, url=address)
    assert [request["path"] for request in github.requests] == ["/meta/public_keys/secret_scanning"]


def test_log_names_the_key_and_no_secret(
    leaks: Leaks, github: GitHub, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    import_key(desk)
    issued, unknown = desk.issue(name="A"), desk.mint.secret_format.mint()
    with caplog.at_level(logging.DEBUG):
        said = from_github(leaks, github, issued.secret, unknown, IMPORTED)
        report(leaks, issued.secret, unknown, IMPORTED)
    ours = [record.getMessage() for record in caplog.records if record.name == "keydesk"]
    assert len(ours) == 2
    assert ours[0] == (
        f"Keydesk revoked {issued.key.id} ({issued.key.secrets[0].hint}): leaked: reported by GitHub in content: {URL}"
    )
    for secret in (issued.secret, unknown, IMPORTED):
        assert secret[8:] not in caplog.text + said.body.decode() + repr(desk.list_events())


# The store


def test_a_store_that_does_not_answer(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    def fail(digests: Any) -> Any:
        raise StoreUnavailable("The database does not answer")

    issued = desk.issue(name="A")
    desk.store.find_by_digest = fail  # type: ignore[method-assign]
    for said in (from_github(leaks, github, issued.secret), report(leaks, issued.secret)):
        assert (said.status, said.reason, said.headers["Retry-After"]) == (503, "unavailable", "5")


def test_a_store_that_cannot_be_changed(github: GitHub, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can revoke from here: whoever looks after the file is told, by the log."""
    secret = SecretFormat().mint()
    desk = open_desk({"API_KEY": secret}, clock=clock)
    leaks = make_leaks(desk, github.url)
    caplog.clear()
    assert from_github(leaks, github, secret).json()[0]["label"] == "true_positive"
    assert results(report(leaks, secret)) == ["not_revoked"]
    assert [record.levelname for record in caplog.records if record.name == "keydesk"] == ["ERROR", "ERROR"]
    assert "has leaked and is still in force" in caplog.text
    desk.close()


def test_over_real_http(leaks: Leaks, github: GitHub, desk: Desk) -> None:
    """Headers as GitHub writes them, through a server that checks what it is answered (PEP 3333)."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = WSGIServer(("127.0.0.1", 0), Quiet)
    server.set_app(validator(leaks.github))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        issued = desk.issue(name="A")
        body = json.dumps([{"token": issued.secret, "type": "t", "url": URL, "source": "content"}]).encode()
        names = {
            name.removeprefix("HTTP_").replace("_", "-").title(): value for name, value in github.sign(body).items()
        }
        answer = httpx.post(f"http://127.0.0.1:{server.server_port}/", content=body, headers=names, trust_env=False)
        assert (answer.status_code, answer.json()[0]["label"]) == (200, "true_positive")
        assert not desk.verify(issued.secret).allowed
    finally:
        server.shutdown()
        server.server_close()
