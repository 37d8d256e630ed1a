"""What applications with this server for a store may ask, and what becomes of what they may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from werkzeug.test import TestResponse

from keydesk import sync
from keydesk.testing import ManualClock

from .rig import ServerRig

CALLS = [call for call in vars(sync).values() if isinstance(call, sync.Call)]
MINUTE = datetime(2026, 1, 1, 12, tzinfo=UTC).isoformat()
KEY = "key_" + "a" * 28


@pytest.fixture
def rig(clock: ManualClock) -> Iterator[ServerRig]:
    rig = ServerRig(clock)
    yield rig
    rig.close()


@pytest.fixture
def secret(rig: ServerRig) -> str:
    return rig.issue("keydesk:sync", "keydesk:keys:read", "keydesk:usage:read").secret


def ask(rig: ServerRig, call: sync.Call[Any, Any], secret: str | None, body: Any, **more: Any) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rig.call(call.path, secret, "POST", data=data, content_type="application/json", **more)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.path)
def test_who_may_ask(rig: ServerRig, call: sync.Call[Any, Any]) -> None:
    """Nobody without a key, none without the scope, none that is one owner's: such a key would see all owners'."""
    assert ask(rig, call, None, {}).status_code == 401
    verifying = rig.issue("keydesk:verify", "keydesk:keys:read", "keydesk:usage:read").secret
    assert ask(rig, call, verifying, {}).status_code == 403
    owned = ask(rig, call, rig.issue("keydesk:*", owner="acme").secret, {})
    assert (owned.status_code, owned.json["reason"]) == (403, "not_permitted")
    assert rig.call(call.path, rig.issue("keydesk:*").secret).status_code == 405


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.path)
@pytest.mark.parametrize(
    "body", [b"null", b"[]", b"[1]", b"{", b"\xff\xfe", b'{"a":' * 9000, b"9" * 5000], ids=range(7)
)
def test_what_is_no_question(rig: ServerRig, secret: str, call: sync.Call[Any, Any], body: bytes) -> None:
    """422, with nothing of it repeated and nothing in the log that looks like a fault of ours."""
    answer = ask(rig, call, secret, body)
    assert answer.status_code == 422
    assert answer.json["reason"] == "invalid_field"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.path)
def test_question_that_is_too_large(rig: ServerRig, secret: str, call: sync.Call[Any, Any]) -> None:
    body = b'{"x":"' + b"x" * call.most + b'"}'
    assert ask(rig, call, secret, body).status_code == 413


ACCOUNT = [f"key:{KEY}", "day", "UTC", MINUTE]
CLAIM = ["5/minute", "{k}k", 5, 60]
REFUSED = [
    (sync.FIND_BY_DIGEST, {"digests": []}),
    (sync.FIND_BY_DIGEST, {"digests": ["g" * 64]}),
    (sync.FIND_BY_DIGEST, {"digests": ["a" * 64 + "\n"]}),
    (sync.FIND_BY_DIGEST, {"digests": ["a" * 64] * 51}),
    (sync.FEED, {"after": 0, "size": 0}),
    (sync.FEED, {"after": 0, "size": 1001}),
    (sync.FEED, {"after": "0", "size": 1}),
    (sync.FIND_KEY, {"key_id": "key_' or 1=1"}),
    (sync.LIST_KEYS, {"where": {"scope": "*"}, "cursor": None, "size": 1}),
    (sync.LIST_KEYS, {"where": {"idle_since": "2026-01-01T00:00:00"}, "cursor": None, "size": 1}),
    (sync.LIST_KEYS, {"where": {}, "cursor": "!", "size": 1}),
    (sync.LIST_PLANS, {"after": "x" * 211, "size": 1}),
    (sync.NOTE_USED, {"used": {"x": MINUTE}}),
    (sync.ADD_USAGE, {"keys": [["minute", MINUTE, KEY, "paid", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["minute", MINUTE, KEY, "allowed", 0]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["minute", MINUTE, "x", "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["hour", MINUTE.replace("12:00", "12:01"), KEY, "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["minute", "2026-01-01T12:00:00", KEY, "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [], "mistakes": [["minute", MINUTE, "guessed", "203.0.113.0/24", 1]]}),
    (sync.ADD_USAGE, {"keys": [], "mistakes": [["minute", MINUTE, "unknown", "x" * 65, 1]]}),
    (sync.TAKE, {"claims": [CLAIM] * 101, "pools": [], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [["5/minute", "k", 0, 60]], "pools": [], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [["5/minute", "k", 2**32, 60]], "pools": [], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [["5/minute", "k", 5, 10**9]], "pools": [], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [["5/minute", "k" * 8001, 5, 60]], "pools": [], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [["5" * 211, "k", 5, 60]], "pools": [], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [CLAIM, CLAIM], "pools": [], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [], "pools": [["q", "k", 0, 0]], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [], "pools": [["q", "k", 60, -1]], "cost": 1, "test": False}),
    (sync.TAKE, {"claims": [CLAIM], "pools": [], "cost": -1, "test": False}),
    (sync.TAKE, {"claims": [CLAIM], "pools": [], "cost": 1_000_001, "test": False}),
    (sync.LEASE, {"account": ACCOUNT, "count": 10, "least": 0}),
    (sync.LEASE, {"account": ACCOUNT, "count": 10**13, "least": 1}),
    (sync.LEASE, {"account": ["other:x", *ACCOUNT[1:]], "count": 10, "least": 1}),
    (sync.LEASE, {"account": [*ACCOUNT[:1], "week", *ACCOUNT[2:]], "count": 10, "least": 1}),
    (sync.LEASE, {"account": [*ACCOUNT[:2], "x" * 65, MINUTE], "count": 10, "least": 1}),
    (sync.LEASE, {"account": [*ACCOUNT[:3], "2026-01-01T00:00:00"], "count": 10, "least": 1}),
    (sync.TELL, {"account": ACCOUNT, "percent": 101, "key_id": KEY, "owner": None, "quota": "10/day"}),
    (sync.TELL, {"account": ACCOUNT, "percent": 80, "key_id": "x" * 33, "owner": None, "quota": "10/day"}),
]


@pytest.mark.parametrize(
    ("call", "asked"), REFUSED, ids=[f"{n}-{call.path[9:]}" for n, (call, _) in enumerate(REFUSED)]
)
def test_what_no_application_of_ours_asks(rig: ServerRig, secret: str, call: sync.Call[Any, Any], asked: Any) -> None:
    """An application that was broken into can ask anything; nothing of it reaches the database."""
    before = rig.desk.store.position()
    answer = ask(rig, call, secret, asked)
    assert (answer.status_code, answer.json["reason"]) == (422, "invalid_field"), answer.json
    assert rig.desk.store.position() == before


def test_records_are_told_by_digest_and_people_see_none(rig: ServerRig, secret: str) -> None:
    issued = rig.issue("orders:read", owner="acme")
    digest = issued.key.secrets[0].digest
    found = ask(rig, sync.FIND_BY_DIGEST, secret, {"digests": ["0" * 64, digest]})
    assert found.json["id"] == issued.key.id
    assert found.headers["Cache-Control"] == "no-store"
    listed = ask(rig, sync.LIST_KEYS, secret, {"where": {"owner": "acme"}, "cursor": None, "size": 10})
    shown = ask(rig, sync.FIND_KEY, secret, {"key_id": issued.key.id})
    assert listed.json["keys"] == [shown.json]
    assert digest not in listed.text
    assert issued.secret not in found.text + listed.text
