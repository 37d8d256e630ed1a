"""What applications with this server for a store may ask, and what becomes of what they may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from keydesk import open_desk, sync
from keydesk.allowances import Account
from keydesk.keys.networks import Networks
from keydesk.server import create_app
from keydesk.server.deciding import Decider
from keydesk.server.forwarded import ClientAddresses
from keydesk.server.metrics import Metrics
from keydesk.server.sync import Sync
from keydesk.testing import ManualClock
from keydesk.usage import ALLOWED
from keydesk.web.credentials import CredentialReader
from keydesk.web.responses import Answers

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


LATER = "2026-01-01T12:06:00+00:00"  # than the clock of these tests, by more than clocks may differ
LONG = {"span": "minute", "since": "0001-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
OVER = {"span": "minute", "since": "2025-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
NAIVE = {"span": "day", "since": "2025-12-01T00:00:00", "until": "2026-01-01T00:00:00"}
DAYS = {"span": "day", "since": "2025-12-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
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
    (sync.NOTE_USED, {"used": {KEY: "2026-01-01T12:00:00"}}),
    (sync.NOTE_USED, {"used": {KEY: LATER}}),
    (sync.NOTE_USED, {"used": {KEY: "0001-01-01T00:00:00+05:00"}}),
    *(
        (call, {"range": range_, "key_id": KEY, "owner": None, "size": 5, "key_ids": [KEY]})
        for range_ in (LONG, OVER, NAIVE)
        for call in (
            sync.COUNTS,
            sync.TOP_KEYS,
            sync.TOP_NETWORKS,
            sync.COUNTS_OF_KEYS,
            sync.MISTAKE_COUNTS,
            sync.EARLIER_SECRETS,
        )
    ),
    (sync.COUNTS_OF_KEYS, {"range": DAYS, "key_ids": [KEY] * 1001}),
    (sync.COUNTS_OF_KEYS, {"range": DAYS | {"span": "hour"}, "key_ids": [f"key_{n:028x}" for n in range(200)]}),
    (sync.COUNTS_OF_KEYS, {"range": DAYS, "key_ids": ["x" * 211]}),
    (sync.ADD_USAGE, {"keys": [["hour", "2026-01-01T12:00:00+05:30", KEY, "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["day", "9999-12-31T00:00:00-05:00", KEY, "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["minute", MINUTE, KEY, "allowed", 10**9 + 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [], "mistakes": [["minute", MINUTE, "unknown", "\x1b[2J", 1]]}),
    (sync.ADD_USAGE, {"keys": [["minute", MINUTE, KEY, "paid", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["minute", MINUTE, KEY, "allowed", 0]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["minute", MINUTE, "x", "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["hour", MINUTE.replace("12:00", "12:01"), KEY, "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [["minute", "2026-01-01T12:00:00", KEY, "allowed", 1]], "mistakes": []}),
    (sync.ADD_USAGE, {"keys": [], "mistakes": [["minute", MINUTE, "guessed", "203.0.113.0/24", 1]]}),
    (sync.ADD_USAGE, {"keys": [], "mistakes": [["minute", MINUTE, "unknown", "x" * 65, 1]]}),
    *(
        (sync.ADD_USAGE, {"keys": [], "mistakes": [], "earlier": [used]})
        for used in (
            ["hour", MINUTE.replace("12:00", "12:01"), KEY, 1, "unknown", 1],
            ["minute", "2026-01-01T12:00:00", KEY, 1, "unknown", 1],
            ["minute", MINUTE, "x", 1, "unknown", 1],
            ["minute", MINUTE, KEY, -1, "unknown", 1],
            ["minute", MINUTE, KEY, 2**31, "unknown", 1],
            ["minute", MINUTE, KEY, "1", "unknown", 1],
            ["minute", MINUTE, KEY, 1, "\x1b[2J", 1],
            ["minute", MINUTE, KEY, 1, "x" * 65, 1],
            ["minute", MINUTE, KEY, 1, "unknown", 0],
            ["minute", MINUTE, KEY, 1, "unknown", 10**9 + 1],
        )
    ),
    (sync.EARLIER_SECRETS, {"range": DAYS, "key_id": "x" * 211, "size": 5}),
    (sync.EARLIER_SECRETS, {"range": DAYS, "key_id": KEY, "size": 0}),
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
    (sync.TELL, {"account": ACCOUNT, "percent": 90, "key_id": KEY, "quota": "10/day"}),
    (sync.TELL, {"account": ACCOUNT, "percent": 80, "key_id": "x" * 33, "quota": "10/day"}),
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


def test_counts_of_an_application_without_earlier_secrets(rig: ServerRig, secret: str) -> None:
    """One of an earlier version does not send them."""
    counted = {"keys": [["minute", MINUTE, KEY, "allowed", 3]], "mistakes": []}
    assert ask(rig, sync.ADD_USAGE, secret, counted).json == {"written": True}
    assert rig.desk.usage(KEY).totals() == {"allowed": 3}


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


def test_tells_of_a_quota_that_is_there(rig: ServerRig, secret: str) -> None:
    """An event is about a key of this desk, its own quota or its owner's, and the period that runs; once for each."""
    key = rig.issue(owner="acme", quotas=["10/day"]).key
    today = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    told = {"account": [f"key:{key.id}", "day", "UTC", today], "percent": 80, "key_id": key.id, "quota": "10/day"}
    wrong = [
        {"key_id": "key_" + "b" * 28},
        {"account": ["key:" + "key_" + "b" * 28, "day", "UTC", today]},
        {"account": ["owner:other", "day", "UTC", today]},
        {"account": [f"key:{key.id}", "day", "UTC", "2025-12-30T00:00:00Z"]},
        {"account": [f"key:{key.id}", "day", "Europe/Rome", today]},
        {"quota": "10/month"},
        {"quota": "forged\n10/day"},
    ]
    for changed in wrong:
        answer = ask(rig, sync.TELL, secret, told | changed)
        assert answer.status_code == 422, changed
    rig.desk.store.quotas.lease(Account(f"key:{key.id}", "day", "UTC", datetime(2026, 1, 1, tzinfo=UTC)), 10, 8)  # type: ignore[attr-defined]
    before = rig.desk.store.position().number
    for _ in range(2):
        assert ask(rig, sync.TELL, secret, told).status_code == 200
    events = rig.desk.list_events(after=before)
    assert [(row.event.kind, row.event.key_id, row.event.owner) for row in events] == [
        ("quota.reached", key.id, "acme")
    ]


def test_server_that_asks_another_serves_no_applications(clock: ManualClock) -> None:
    """Its peppers are not those that the digests of the other are under."""
    settings = {"KEYDESK_STORE": "http://127.0.0.1:9", "KEYDESK_SERVER_KEY": "secret", "KEYDESK_DEVELOPMENT": True}
    middle = create_app(settings, clock=clock)
    answers, callers = Answers(realm="api", header="X-API-Key"), open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    key = callers.issue(name="application", scopes=["keydesk:sync"])
    reader = CredentialReader(header="X-API-Key", query_parameter=None)
    decider = Decider(callers.verifier, reader, ClientAddresses(Networks()), Metrics(callers, None))
    served = Client(Sync(middle.desk, answers, decider))
    answer = served.post(sync.HEAD.path, json={}, headers={"X-API-Key": key.secret})
    assert (answer.status_code, answer.json["reason"]) == (503, "unavailable")
    assert "let KEYDESK_STORE name that one" in answer.json["detail"]
    middle.close()
    callers.close()


def test_counts_of_a_clock_that_was_ahead_are_of_now(rig: ServerRig, secret: str) -> None:
    """One that is refused would keep back all others, which come with it, until that moment has come."""
    key = rig.issue().key
    keys = [["minute", at, key.id, "allowed", 3] for at in ("2027-01-01T12:00:00Z", "2028-01-01T12:00:00Z", MINUTE)]
    assert ask(rig, sync.ADD_USAGE, secret, {"keys": keys, "mistakes": []}).status_code == 200
    assert rig.desk.usage(key.id).totals() == {ALLOWED: 9}
