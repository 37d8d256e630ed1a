"""Many keys in one request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keydesk.stores import listing

from .rig import ManagementRig, problem_of


def test_issue_keys_makes_a_thousand_with_one_event_each(api: ManagementRig) -> None:
    keys = [{"name": f"client {number}", "scopes": ["orders:read"]} for number in range(1000)]
    answer = api.post("/v1/bulk/issue", {"keys": keys})
    assert answer.status_code == 201
    made = answer.get_json()["keys"]
    assert [each["key"]["name"] for each in made] == [key["name"] for key in keys]
    assert len({each["secret"] for each in made}) == 1000
    assert api.desk.verify(made[999]["secret"], scopes=["orders:read"]).allowed
    assert len(api.desk.list_events(after=1, size=1000)) == 1000


@pytest.mark.parametrize("keys", [[], [{"name": "x"}] * 1001, {}, None, [5]])
def test_issue_keys_that_cannot_be(still: ManagementRig, keys: Any) -> None:
    problem_of(still.post("/v1/bulk/issue", {"keys": keys}), 422, "invalid_field")


def test_issue_keys_all_or_none(api: ManagementRig) -> None:
    bound = api.issue(owner="acme", scopes=["keydesk:keys:*", "orders:read"])
    before = len(api.desk.list_events())
    wrong = api.post("/v1/bulk/issue", {"keys": [{"name": "a"}, {"name": "b", "limits": ["never"]}]}, by=bound)
    assert "keys.1.limits" in problem_of(wrong, 422, "invalid_field")["detail"]
    wrong = api.post("/v1/bulk/issue", {"keys": [{"name": "a"}, {"name": "b", "scopes": ["orders:write"]}]}, by=bound)
    assert "keys.1: the caller does not hold orders:write" in problem_of(wrong, 403, "not_permitted")["problems"]
    wrong = api.post("/v1/bulk/issue", {"keys": [{"name": "a"}, {"name": "b", "owner": "other"}]}, by=bound)
    problem_of(wrong, 403, "not_permitted")
    assert len(api.desk.list_events()) == before


def test_issue_keys_once(api: ManagementRig) -> None:
    body = {"keys": [{"name": "a"}, {"name": "b"}]}
    first = api.post("/v1/bulk/issue", body, Idempotency_Key="z")
    again = api.post("/v1/bulk/issue", body, Idempotency_Key="z")
    assert (first.status_code, again.status_code) == (201, 200)
    assert [each["key"] for each in again.get_json()["keys"]] == [each["key"] for each in first.get_json()["keys"]]
    assert [each["secret"] for each in again.get_json()["keys"]] == [None, None]
    assert len(api.desk.list_keys().keys) == 3


def test_revoke_keys_by_filter_with_one_event_each(api: ManagementRig) -> None:
    mine = [api.issue(owner="acme", name=f"n{number}") for number in range(3)]
    api.desk.disable(mine[1].key.id)
    api.desk.revoke(mine[2].key.id)
    other = api.issue(owner="other")
    answer = api.post("/v1/bulk/revoke", {"where": {"owner": "acme"}, "reason": "left"}).get_json()
    assert (set(answer["revoked"]), answer["more"]) == ({mine[0].key.id, mine[1].key.id}, False)
    assert api.desk.get_key(mine[0].key.id).revoke_reason == "left"
    assert api.desk.verify(other.secret).allowed
    kinds = [row.event.kind for row in api.desk.list_events()]
    assert kinds.count("key.revoked") == 3
    assert api.post("/v1/bulk/revoke", {"where": {"owner": "acme"}}).get_json() == {"revoked": [], "more": False}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"scope": "orders:read"}, {"alpha"}),
        ({"text": "bet"}, {"beta"}),
        ({"status": "expired"}, {"gamma"}),
        ({"status": "revoked"}, set()),
        ({"idle_since": "2026-01-01T12:00:30Z"}, {"alpha", "beta", "gamma"}),
        ({"plan": "gold"}, {"beta"}),
        ({"owner": "acme", "text": "gam"}, set()),
    ],
)
def test_revoke_keys_by_each_filter(api: ManagementRig, where: dict[str, Any], expected: set[str]) -> None:
    start = api.clock.now()
    api.desk.plans.put("gold", scopes=["stock:*"])
    ids = {
        "alpha": api.issue(name="alpha", scopes=["orders:*"]).key.id,
        "beta": api.issue(name="beta", owner="acme", plan="gold").key.id,
        "gamma": api.issue(name="gamma", expires_at=start + timedelta(seconds=10)).key.id,
    }
    api.clock.advance(timedelta(minutes=1))
    answer = api.post("/v1/bulk/revoke", {"where": where})
    assert set(answer.get_json()["revoked"]) == {ids[name] for name in expected}


@pytest.mark.parametrize(
    "body",
    [
        {}, {"where": {}}, {"where": None}, {"where": {"owner": None}},
        {"where": {"owner": None, "text": "a"}}, {"where": {"colour": "red"}},
        {"where": {"owner": "a"}, "reason": "x" * 501}, {"owner": "a"},
        {"where": {"owner": "a"}, "reason": "kd_live_" + "a" * 38},
    ],
)  # fmt: skip
def test_revoke_keys_that_cannot_be(still: ManagementRig, body: Any) -> None:
    still.issue(owner="a")
    problem_of(still.post("/v1/bulk/revoke", body), 422, "invalid_field")
    assert len([key for key in still.desk.list_keys().keys if key.revoked_at]) == 0


def test_revoke_keys_leaves_the_callers_own(api: ManagementRig) -> None:
    bound = api.issue(owner="acme", scopes=["keydesk:keys:*"])
    other = api.issue(owner="acme")
    answer = api.post("/v1/bulk/revoke", {"where": {"owner": "acme"}}, by=bound).get_json()
    assert answer["revoked"] == [other.key.id]


def test_revoke_keys_of_another_owner(api: ManagementRig) -> None:
    bound = api.issue(owner="acme", scopes=["keydesk:keys:*"])
    theirs = api.issue(owner="other", name="target")
    for where in ({"owner": "other"}, {"text": "target"}, {"status": "active"}):
        assert api.post("/v1/bulk/revoke", {"where": where}, by=bound).get_json() == {"revoked": [], "more": False}
    assert api.desk.verify(theirs.secret).allowed


def test_revoke_keys_stops_at_a_thousand(quick: ManagementRig) -> None:
    quick.desk.issue_many([{"name": "x", "owner": "acme"}] * 1000)
    quick.issue(owner="acme")
    first = quick.post("/v1/bulk/revoke", {"where": {"owner": "acme"}}).get_json()
    assert (len(first["revoked"]), first["more"]) == (1000, True)
    assert len(quick.post("/v1/bulk/revoke", {"where": {"owner": "acme"}}).get_json()["revoked"]) == 1


def test_revoke_keys_by_filter_that_few_of_many_meet(api: ManagementRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "KEYS_LOOKED_AT", 2)
    old = [api.issue(name=f"old {number}").key.id for number in range(3)]
    for number in range(9):
        api.issue(name=f"new {number}")
    answer = api.post("/v1/bulk/revoke", {"where": {"text": "old"}}).get_json()
    assert (set(answer["revoked"]), answer["more"]) == (set(old), False)
