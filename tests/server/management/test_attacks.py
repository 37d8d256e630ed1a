"""The numbers of the list of attacks that concern management, against the API itself."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import pytest

from keydesk import IssuedKey

from .rig import ManagementRig, problem_of


def bound_to(api: ManagementRig, owner: str, *scopes: str, **fields: Any) -> IssuedKey:
    return api.issue(name="bound", owner=owner, scopes=scopes or ("keydesk:*", "orders:read"), **fields)


# 1: creating a key without a session by naming the owner in the body


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/bulk/issue"])
def test_01_nobody_makes_a_key_by_naming_an_owner(api: ManagementRig, path: str) -> None:
    one: dict[str, Any] = {"name": "x", "owner": "acme"}
    body = one if path == "/v1/keys" else {"keys": [one]}
    problem_of(api.post(path, body, by=""), 401, "missing")
    problem_of(api.post(path, body, by=bound_to(api, "other")), 403, "not_permitted")
    problem_of(api.post(path, body, by=api.issue(owner="acme", scopes=["keydesk:keys:read"])), 403, "scope_denied")
    assert api.get("/v1/keys?owner=acme").get_json()["keys"][1:] == []


def test_01_owner_is_not_taken_from_anywhere_else(api: ManagementRig) -> None:
    bound = bound_to(api, "acme")
    key = api.post("/v1/keys", {"name": "x"}, by=bound, X_Owner="other", X_Key_Owner="other").get_json()["key"]
    assert key["owner"] == "acme"
    problem_of(api.post("/v1/keys?owner=other", {"name": "x", "owner": None}, by=bound), 403, "not_permitted")


# 2: a creator granting more than they hold, on update too; a restricted key minting siblings

HELD: dict[str, Any] = {
    "scopes": ["keydesk:keys:read", "keydesk:keys:write", "orders:read"],
    "limits": ["10/minute"],
    "quotas": ["100/day"],
    "networks": ["127.0.0.0/8"],
    "expires_at": "2026-06-01T00:00:00Z",
}
MORE: list[dict[str, Any]] = [
    {"scopes": ["orders:write"]},
    {"scopes": ["orders:*"]},
    {"scopes": ["*"]},
    {"scopes": ["keydesk:*"]},
    {"scopes": ["keydesk:plans:write"]},
    {"limits": []},
    {"limits": ["11/minute"]},
    {"limits": ["10/second"]},
    {"quotas": []},
    {"quotas": ["101/day"]},
    {"quotas": ["100/day Europe/Rome"]},
    {"networks": []},
    {"networks": ["0.0.0.0/0"]},
    {"networks": ["126.0.0.0/7"]},
    {"expires_at": None},
    {"expires_at": "2026-06-01T00:00:01Z"},
    {"owner": "other"},
    {"owner": None},
]


@pytest.mark.parametrize("more", MORE, ids=str)
def test_02_nobody_gives_more_than_they_hold(api: ManagementRig, more: dict[str, Any]) -> None:
    caller = api.issue(owner="acme", **HELD | {"expires_at": api.clock.now() + timedelta(days=151, hours=-12)})
    assert caller.key.expires_at is not None
    assert caller.key.expires_at.isoformat() == "2026-06-01T00:00:00+00:00"
    problem_of(api.post("/v1/keys", {"name": "x", **HELD} | more, by=caller), 403, "not_permitted")
    many = {"keys": [{"name": "x", **HELD}, {"name": "x", **HELD} | more]}
    problem_of(api.post("/v1/bulk/issue", many, by=caller), 403, "not_permitted")
    made = api.post("/v1/keys", {"name": "x", **HELD}, by=caller)
    assert made.status_code == 201
    path = f"/v1/keys/{made.get_json()['key']['id']}"
    problem_of(api.call("PATCH", path, more, by=caller), 403, "not_permitted")
    own = api.call("PATCH", f"/v1/keys/{caller.key.id}", more, by=caller)
    problem_of(own, 403, "not_permitted")
    assert api.get(path).get_json()["version"] == 1


def test_02_another_environment_or_plan(api: ManagementRig) -> None:
    caller = api.issue(owner="acme", **{**HELD, "expires_at": None})
    api.desk.plans.put("gold", scopes=["orders:read"])
    rest = {name: value for name, value in HELD.items() if name != "scopes"}
    problem_of(api.post("/v1/keys", {"name": "x", **HELD, "environment": "test"}, by=caller), 403, "not_permitted")
    problem_of(api.post("/v1/keys", {"name": "x", **rest, "plan": "gold"}, by=caller), 403, "not_permitted")


def test_02_no_secret_of_a_key_that_holds_more(api: ManagementRig) -> None:
    """Who could rotate a stronger key, or switch it on again, would hold it."""
    caller = bound_to(api, "acme", "keydesk:keys:write")
    strong = api.issue(owner="acme", scopes=["orders:*"]).key.id
    problem_of(api.post(f"/v1/keys/{strong}/rotate", by=caller), 403, "not_permitted")
    problem_of(api.call("PATCH", f"/v1/keys/{strong}", {"name": "x"}, by=caller), 403, "not_permitted")
    api.desk.disable(strong)
    problem_of(api.post(f"/v1/keys/{strong}/enable", by=caller), 403, "not_permitted")


def test_02_keys_of_others_are_as_none(api: ManagementRig) -> None:
    """The same answer, to the letter, for a key of another owner, for one without an owner and for none."""
    caller = bound_to(api, "acme")
    nobodys = "key_" + "0" * 28
    others = [api.issue(owner="other").key, api.issue().key, api.issue(owner="ACME").key]
    for method, tail, body in (
        ("GET", "", None),
        ("GET", "/usage", None),
        ("PATCH", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("POST", "/rotate", {}),
        ("POST", "/disable", None),
        ("POST", "/enable", None),
        ("POST", "/revoke", {}),
    ):
        none = problem_of(api.call(method, f"/v1/keys/{nobodys}{tail}", body, by=caller), 404, "not_found")
        for other in others:
            for tag in ({}, {"If_Match": '"1"'}, {"If_Match": '"9"'}):
                answer = api.call(method, f"/v1/keys/{other.id}{tail}", body, by=caller, **tag)
                assert problem_of(answer, 404, "not_found") == none
    for other in others:
        assert api.desk.get_key(other.id) == other
    for query in ("", "?owner=other", f"?text={others[0].id}", "?status=active", "?owner=ACME"):
        shown = api.get(f"/v1/keys{query}", by=caller).get_json()["keys"]
        assert {key["owner"] for key in shown} <= {"acme"}


def test_02_cursor_of_somebody_else_shows_nothing_of_theirs(api: ManagementRig) -> None:
    for number in range(3):
        api.issue(owner="other", name=f"theirs {number}")
    cursor = api.get("/v1/keys?size=1").get_json()["next_cursor"]
    caller = bound_to(api, "acme")
    shown = api.get(f"/v1/keys?cursor={cursor}", by=caller).get_json()["keys"]
    assert {key["owner"] for key in shown} <= {"acme"}


def test_02_idempotency_key_of_somebody_else_shows_nothing_of_theirs(api: ManagementRig) -> None:
    api.post("/v1/keys", {"name": "x", "owner": "other"}, Idempotency_Key="a")
    caller = bound_to(api, "acme")
    again = api.post("/v1/keys", {"name": "x", "owner": "other"}, by=caller, Idempotency_Key="a")
    problem_of(again, 403, "not_permitted")
    # And where the same caller may see it no more.
    mine = api.post("/v1/keys", {"name": "mine"}, by=caller, Idempotency_Key="b").get_json()["key"]["id"]
    api.desk.update(mine, owner="other")
    problem_of(api.post("/v1/keys", {"name": "mine"}, by=caller, Idempotency_Key="b"), 409, "conflict")


# 5 and 15: a revoked administrator still managing keys, here and at another server


def test_05_revoked_caller_manages_nothing(api: ManagementRig) -> None:
    caller = bound_to(api, "acme")
    assert api.get("/v1/keys", by=caller).status_code == 200
    api.desk.revoke(caller.key.id)
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/v1/events")):
        problem_of(api.call(method, path, {"name": "x"} if method == "POST" else None, by=caller), 401, "revoked")


def test_05_caller_that_is_narrowed(api: ManagementRig) -> None:
    caller = bound_to(api, "acme", "keydesk:keys:write", "orders:read")
    assert api.post("/v1/keys", {"name": "x", "scopes": ["orders:read"]}, by=caller).status_code == 201
    api.desk.update(caller.key.id, scopes=["keydesk:keys:write"])
    wrong = api.post("/v1/keys", {"name": "x", "scopes": ["orders:read"]}, by=caller)
    problem_of(wrong, 403, "not_permitted")
    api.desk.update(caller.key.id, expires_at=api.clock.now() + timedelta(seconds=1))
    api.clock.advance(timedelta(seconds=1))
    problem_of(api.post("/v1/keys", {"name": "x"}, by=caller), 401, "expired")


# 13: keys in errors or logs


def test_13_no_secret_in_errors_or_logs(api: ManagementRig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = "q7" * 16 + "A" * 6
    secret = f"kd_live_{body}"
    requests: list[tuple[str, str, Any]] = [
        ("GET", f"/v1/keys/{secret}", None),
        ("GET", f"/v1/keys?text={secret}", None),
        ("GET", f"/v1/keys?{secret}=1", None),
        ("GET", f"/v1/keys?cursor={secret}", None),
        ("GET", f"/{secret}", None),
        ("GET", f"/v1/events?key_id={secret}", None),
        ("PUT", f"/v1/plans/{secret}", {}),
        ("POST", "/v1/keys", {"name": secret}),
        ("POST", "/v1/keys", {"name": "x", "owner": secret}),
        ("POST", "/v1/keys", {"name": "x", "description": f"it is {secret}"}),
        ("POST", "/v1/keys", {"name": "x", "plan": secret}),
        ("POST", "/v1/keys", {"name": "x", "scopes": [secret]}),
        ("POST", "/v1/keys", {"name": "x", "limits": [secret]}),
        ("POST", "/v1/keys", {"name": "x", "quotas": [secret]}),
        ("POST", "/v1/keys", {"name": "x", "networks": [secret]}),
        ("POST", "/v1/keys", {"name": "x", "expires_at": secret}),
        ("POST", "/v1/keys", {"name": "x", secret: 1}),
        ("POST", "/v1/keys", {"name": {secret: secret}}),
        ("POST", "/v1/bulk/revoke", {"where": {"text": secret}}),
        ("POST", "/v1/bulk/revoke", {"where": {"owner": "a"}, "reason": secret}),
    ]
    key_id = api.issue().key.id
    requests.append(("POST", f"/v1/keys/{key_id}/revoke", {"reason": secret}))
    for method, path, sent in requests:
        for headers in ({}, {"X_Request_Id": secret, "If_Match": secret, "If_None_Match": secret}):
            answer = api.call(method, path, sent, **headers)
            assert answer.status_code in (200, 404, 422), (method, path)
            assert body not in answer.get_data(as_text=True) + str(answer.headers), (method, path, sent)
    assert body not in caplog.text
    assert body not in str([row.event for row in api.desk.list_events(size=1000)])


# 14: a default administrator's secret


def test_14_there_is_no_key_that_nobody_made(quick: ManagementRig) -> None:
    for secret in ("admin", "keydesk", "changeme", "secret", "edd1c9f034335f136f87ad84b625c8f1", "null", "0"):
        problem_of(quick.get("/v1/keys", by=secret), 401, "invalid")
        problem_of(quick.post("/v1/keys", {"name": "x"}, by=secret), 401, "invalid")
    assert quick.desk.list_keys().keys == ()


# 16: a GET that mints or reveals; a secret in a cookie or URL


def test_16_reading_changes_nothing_and_reveals_nothing(api: ManagementRig) -> None:
    issued = api.issue(owner="acme")
    made = api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a").get_json()
    api.desk.plans.put("gold")
    before = api.desk.store.position()
    reads = [
        "/v1/keys", f"/v1/keys/{issued.key.id}", f"/v1/keys/{issued.key.id}/usage", "/v1/usage", "/v1/events",
        "/v1/plans", "/v1/plans/gold", "/openapi.json", "/docs", "/v1/keys?name=x", f"/v1/keys/{issued.key.id}/rotate",
        f"/v1/keys/{issued.key.id}/revoke", "/v1/bulk/issue", f"/v1/keys/{made['key']['id']}",
    ]  # fmt: skip
    digests = [secret.digest for key in api.desk.list_keys().keys for secret in key.secrets]
    for path in reads:
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = api.call(method, path, X_HTTP_Method_Override="POST", X_Method_Override="DELETE")
            text = answer.get_data(as_text=True) + str(answer.headers)
            for secret in (issued.secret, made["secret"], api.admin.secret):
                assert secret[8:-4] not in text, (method, path)
            assert not any(digest in text for digest in digests), (method, path)
            assert "Set-Cookie" not in answer.headers
    assert api.desk.store.position() == before


def test_16_secret_is_in_the_body_and_nowhere_else(api: ManagementRig) -> None:
    answer = api.post("/v1/keys", {"name": "x"})
    secret = answer.get_json()["secret"]
    assert secret[8:] not in str(answer.headers)
    assert answer.get_data(as_text=True).count(secret) == 1
    assert "Set-Cookie" not in answer.headers


# 17: failures counting against the victim's quota, or locking the key


def test_17_failures_cost_the_victim_nothing(api: ManagementRig) -> None:
    victim = api.issue(scopes=["keydesk:keys:read"], limits=["2/minute"], quotas=["2/day"])
    for _ in range(5):
        assert api.get("/v1/keys", by=victim.secret[:-1] + "!").status_code == 401
        assert api.get(f"/v1/keys/{victim.key.id}", by="").status_code == 401
        assert api.post("/v1/keys", {"name": "x"}, by=victim).status_code == 403
    assert [api.get("/v1/keys", by=victim).status_code for _ in range(3)] == [200, 200, 429]


# And many at once


def test_two_updates_at_the_same_time_one_is_refused(api: ManagementRig) -> None:
    key = api.issue().key
    ready, answers = threading.Barrier(4), list[int]()

    def update(name: str) -> None:
        ready.wait()
        answers.append(api.call("PATCH", f"/v1/keys/{key.id}", {"name": name}, If_Match='"1"').status_code)

    threads = [threading.Thread(target=update, args=(f"name {number}",)) for number in range(4)]
    api.admin  # noqa: B018 - made before
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 412, 412, 412]


def test_the_same_request_at_the_same_time_makes_one_key(api: ManagementRig) -> None:
    ready, answers = threading.Barrier(4), list[Any]()
    api.admin  # noqa: B018 - made before

    def issue() -> None:
        ready.wait()
        answers.append(api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a"))

    threads = [threading.Thread(target=issue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.get_json()["key"]["id"] for answer in answers}) == 1
    assert len([answer for answer in answers if answer.get_json()["secret"]]) == 1
