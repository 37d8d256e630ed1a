"""Number 11: repeated headers folded into one value with a comma; `Bearer ` giving an empty token that passes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keydesk import StoreUnavailable
from keydesk.events import KeyIssued

from ..flask.rig import Rig

NOTHING: list[dict[str, str]] = [
    {"X-API-Key": ""},
    {"X-API-Key": " "},
    {"X-API-Key": "\t"},
    {"X-API-Key": ","},
    {"X-API-Key": ", ,\t,"},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer \t"},
    {"Authorization": "bearer ,Bearer , BEARER"},
    {"Authorization": "Bearer", "X-API-Key": ""},
    {"Authorization": "Basic "},
]


@pytest.mark.parametrize("headers", NOTHING)
def test_nothing_is_missing(rig: Rig, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It never reaches the store: not even one that would answer."""

    def explode(*_: object) -> Any:
        raise AssertionError("the store was asked for an empty secret")

    monkeypatch.setattr(rig.desk.store, "find_by_digest", explode)
    answer = rig.call(headers=headers)
    assert (answer.status_code, answer.get_json()["reason"]) == (401, "missing")


@pytest.mark.parametrize("headers", NOTHING)
def test_nothing_matches_no_empty_secret_in_the_store(rig: Rig, headers: dict[str, str]) -> None:
    """Somebody put the digest of nothing into the table. It opens no door."""
    issued = rig.issue()
    empty = replace(issued.key.secrets[0], digest=hashlib.sha256(b"").hexdigest())
    key = replace(issued.key, id="key_" + "0" * 28, secrets=(empty,))
    event = KeyIssued(at=rig.clock.now(), actor="attacker", key_id=key.id, owner=None, details={})
    rig.desk.store.add([(key, event)])  # type: ignore[attr-defined]
    assert rig.status(headers=headers) == 401
    assert rig.desk.verify("").reason == "missing"
    assert rig.desk.verify(None).reason == "missing"


def test_folded_pairs(rig: Rig) -> None:
    one, two = rig.secret(), rig.secret()
    assert rig.status(secret=f"{one},{one}") == 200
    for folded in (f"{one},{two}", f"{two}, {one}", f"{one},wrong", f"wrong,{one}", f"{one},{one},{two}"):
        answer = rig.call(secret=folded)
        assert (answer.status_code, answer.get_json()["reason"]) == (400, "duplicated")
    assert rig.status(secret=one, headers={"Authorization": f"Bearer {two}"}) == 400
    assert rig.status(secret=one, headers={"Authorization": f"Bearer {one}"}) == 200
    assert rig.status(headers={"Authorization": f"Bearer {one},Bearer {two}"}) == 400


def test_folded_pair_is_decided_before_the_store(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two secrets is good must not show, nor may a valid one be tried out behind a wrong one."""

    def broken(*_: object) -> Any:
        raise StoreUnavailable("down")

    one = rig.secret()
    monkeypatch.setattr(rig.desk.store, "find_by_digest", broken)
    assert rig.status(secret=f"{one},other") == 400


@pytest.mark.parametrize("api_key", [None, "", " ", "\t"])
def test_empty_configuration_meets_empty_header(new_rig: Callable[..., Rig], api_key: str | None) -> None:
    """`request.headers.get("X-API-Key") == app.config.get("API_KEY")` is true where both are missing."""
    rig = new_rig(KEYDESK_STORE=None, API_KEY=api_key)
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    for headers in [{}, *NOTHING]:
        assert rig.status(headers=headers) == 401
