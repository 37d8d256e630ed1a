"""`POST /v1/verify`: the same decision as at every door, for whoever may ask."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .rig import ServerRig


@pytest.fixture
def caller(rig: ServerRig) -> str:
    return rig.issue("keydesk:verify", name="a service").secret


def test_allowed(rig: ServerRig, caller: str) -> None:
    issued = rig.issue("orders:*", name="Mobile app", owner="acme", limits=["10/minute"])
    answer = rig.verify(caller, secret=issued.secret, scopes=["orders:read"], client_address="203.0.113.7", cost=3)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.get_json() == {
        "allowed": True,
        "reason": None,
        "key": {
            "id": issued.key.id,
            "name": "Mobile app",
            "owner": "acme",
            "scopes": ["orders:*"],
            "environment": "live",
            "plan": None,
        },
        "limits": [
            {"policy": "10/minute", "limit": 10, "window_seconds": 60, "remaining": 7, "reset_seconds": 62},
        ],
    }


def test_denied_is_200_too(rig: ServerRig, caller: str) -> None:
    issued = rig.issue(limits=["1/hour"])
    assert rig.verify(caller, secret=issued.secret).get_json()["allowed"]
    limited = rig.verify(caller, secret=issued.secret)
    assert limited.status_code == 200
    said = limited.get_json()
    assert (said["allowed"], said["reason"], said["violated_policies"]) == (False, "rate_limited", ["1/hour"])
    assert said["retry_after_seconds"] > 3600
    rig.desk.revoke(issued.key.id)
    assert rig.verify(caller, secret=issued.secret).get_json()["reason"] == "revoked"
    for unknown in ("nothing like a key", "", "kd_live_" + "0" * 38):
        said = rig.verify(caller, secret=unknown).get_json()
        assert (said["allowed"], said["key"]) == (False, None)
        assert said["reason"] in ("invalid", "missing")
    assert rig.verify(caller, secret=rig.issue().secret, scopes=["a:b"]).get_json()["reason"] == "scope_denied"


def test_caller_needs_a_key_with_its_scope(rig: ServerRig) -> None:
    good = rig.issue().secret
    assert rig.verify("", secret=good).status_code == 401
    assert rig.verify("made up", secret=good).status_code == 401
    assert rig.verify(rig.issue("orders:read").secret, secret=good).status_code == 403


def test_caller_of_an_owner_hears_of_that_owners_keys_alone(rig: ServerRig) -> None:
    caller = rig.issue("keydesk:verify", owner="acme").secret
    theirs, others = rig.issue(owner="acme", limits=["9/hour"]), rig.issue(owner="umbrella", limits=["9/hour"])
    assert rig.verify(caller, secret=theirs.secret).get_json()["key"]["id"] == theirs.key.id
    said = rig.verify(caller, secret=others.secret).get_json()
    assert said == {"allowed": False, "reason": "invalid", "key": None, "limits": []}
    everybody = rig.issue("keydesk:verify").secret
    left = rig.verify(everybody, secret=others.secret, cost=0).get_json()["limits"][0]["remaining"]
    assert left == 9  # who may not know of a key takes nothing from it
    rig.desk.revoke(others.key.id)
    assert rig.verify(caller, secret=others.secret).get_json()["reason"] == "invalid"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not_json"),
        (b"{", 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b"[" * 60_000, 400, "not_json"),
        (b"[]", 422, "invalid_field"),
        (b"{}", 422, "invalid_field"),
        (b'{"secret": 5}', 422, "invalid_field"),
        (b'{"secret": "x", "other": 1}', 422, "invalid_field"),
        (b'{"secret": "x", "scopes": "a:b"}', 422, "invalid_field"),
        (b'{"secret": "x", "scopes": ["a"]}', 422, "invalid_field"),
        (b'{"secret": "x", "scopes": ["*"]}', 422, "invalid_field"),
        (b'{"secret": "x", "scopes": {"a:b": 1}}', 422, "invalid_field"),
        (b'{"secret": "x", "cost": -1}', 422, "invalid_field"),
        (b'{"secret": "x", "cost": 1.5}', 422, "invalid_field"),
        (b'{"secret": "x", "cost": true}', 422, "invalid_field"),
        (b'{"secret": "x", "client_address": 7}', 422, "invalid_field"),
        (b'{"secret": "x", "client_address": "' + b"1" * 100 + b'"}', 422, "invalid_field"),
        (b'{"secret": "' + b"x" * 70_000 + b'"}', 413, "too_large"),
    ],
)
def test_what_cannot_be_read(rig: ServerRig, caller: str, body: bytes, status: int, reason: str) -> None:
    answer = rig.call("/v1/verify", caller, "POST", data=body, content_type="application/json")
    assert answer.status_code == status
    problem = answer.get_json()
    assert (problem["reason"], problem["status"]) == (reason, status)
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("secret", ["\0", "é", "x" * 60_000, "a,b", "' OR 1=1", "\ud800"])
def test_odd_secrets_are_invalid(rig: ServerRig, caller: str, secret: str) -> None:
    assert rig.verify(caller, secret=secret).get_json()["reason"] == "invalid"


def test_other_methods_and_types(rig: ServerRig, caller: str) -> None:
    answer = rig.call("/v1/verify", caller)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert rig.call("/v1/verify", caller, "HEAD").data == b""
    data: Any = json.dumps({"secret": "x"})
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = rig.call("/v1/verify", caller, "POST", data=data, headers={"Content-Type": content_type})
        assert answer.status_code == 415


def test_no_answer_repeats_the_secret(rig: ServerRig, caller: str) -> None:
    secret = rig.issue().secret
    for asked in ({"secret": secret}, {"secret": secret, "cost": secret}, {"secret": secret, secret: 1}):
        assert secret not in rig.verify(caller, **asked).text
