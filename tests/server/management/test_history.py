"""Usage and events."""

from __future__ import annotations

from datetime import timedelta

import pytest

from .rig import ManagementRig, problem_of


def test_usage_of_a_key(api: ManagementRig) -> None:
    issued = api.issue(scopes=["orders:read"])
    api.desk.verify(issued.secret)
    api.desk.verify(issued.secret, scopes=["orders:write"])
    body = api.get(f"/v1/keys/{issued.key.id}/usage?span=hour").get_json()
    assert body["totals"] == {"allowed": 1, "scope_denied": 1}
    assert body["span"] == "hour"
    assert body["counts"][0] == {"start_at": "2026-01-01T12:00:00Z", "outcome": "allowed", "count": 1}
    later = api.get(f"/v1/keys/{issued.key.id}/usage?since=2025-01-01T00:00:00Z&until=2025-02-01T00:00:00Z").get_json()
    assert (later["totals"], later["counts"]) == ({}, [])


def test_usage_of_all_and_of_an_owner(api: ManagementRig) -> None:
    reader = api.issue(scopes=["keydesk:usage:read"], owner="acme")
    for owner, times in (("acme", 2), ("other", 3), (None, 4)):
        issued = api.issue(owner=owner)
        for _ in range(times):
            api.desk.verify(issued.secret)
    assert api.get("/v1/usage?owner=other").get_json()["totals"] == {"allowed": 3}
    assert api.get("/v1/usage?owner=nobody").get_json()["totals"] == {}
    # Those two, and the requests of the reader itself.
    assert api.get("/v1/usage", by=reader).get_json()["totals"] == {"allowed": 3}
    assert api.get("/v1/usage?owner=acme", by=reader).get_json()["totals"] == {"allowed": 4}
    assert api.get("/v1/usage?owner=other", by=reader).get_json()["totals"] == {}
    assert api.get("/v1/usage").get_json()["totals"]["allowed"] > 9


@pytest.mark.parametrize(
    "query",
    [
        "since=x", "span=week", "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "key_id=x", "since=-1",
        "since=1990-01-01T00:00:00Z&span=minute", "since=2026-01-01T00:00:00", "owner=",
    ],
)  # fmt: skip
def test_usage_queries_that_cannot_be(still: ManagementRig, query: str) -> None:
    problem_of(still.get(f"/v1/usage?{query}"), 422, "invalid_field")


@pytest.mark.parametrize("owner", ["%00", "%0a", "x" * 200, "acme%20", "%F0%9F%92%A5", "%25", "' OR 1=1 --"])
def test_owners_that_are_nobody(api: ManagementRig, owner: str) -> None:
    api.issue(owner="acme")
    assert api.get(f"/v1/usage?owner={owner}").get_json()["totals"] == {}
    assert api.get(f"/v1/events?owner={owner}").get_json()["events"] == []


def test_events_page_on_and_on(api: ManagementRig) -> None:
    ids = [api.issue(owner="acme").key.id for _ in range(3)]
    api.admin  # noqa: B018 - made with the first request
    first = api.get("/v1/events?size=2").get_json()
    assert [event["number"] for event in first["events"]] == [1, 2]
    second = api.get(f"/v1/events?cursor={first['next_cursor']}").get_json()
    assert [event["number"] for event in second["events"]] == [3, 4]
    nothing = api.get(f"/v1/events?cursor={second['next_cursor']}").get_json()
    assert (nothing["events"], nothing["next_cursor"]) == ([], second["next_cursor"])
    api.desk.revoke(ids[0])
    later = api.get(f"/v1/events?cursor={nothing['next_cursor']}").get_json()
    assert [event["kind"] for event in later["events"]] == ["key.revoked"]
    assert [event["key_id"] for event in api.get(f"/v1/events?key_id={ids[1]}").get_json()["events"]] == [ids[1]]
    assert len(api.get("/v1/events?owner=acme").get_json()["events"]) == 4
    assert api.get("/v1/events?owner=ACME").get_json()["events"] == []
    for query in ("cursor=x", "cursor=e", "cursor=e-1", "size=0", "after=1", "cursor=e" + "f" * 17):
        problem_of(api.get(f"/v1/events?{query}"), 422, "invalid_field")
    assert api.get("/v1/events?cursor=e" + "f" * 16).get_json()["events"] == []
    assert api.get("/v1/events?key_id=key_" + "0" * 28).get_json()["events"] == []
    problem_of(api.get("/v1/events?key_id=%00"), 422, "invalid_field")


def test_events_of_a_caller_bound_to_an_owner(api: ManagementRig) -> None:
    reader = api.issue(owner="acme", scopes=["keydesk:events:read"])
    theirs = api.issue(owner="other").key.id
    mine = api.issue(owner="acme").key.id
    api.desk.plans.put("gold")
    api.desk.owners.put("other", limits=["5/minute"])
    assert [event["key_id"] for event in api.get("/v1/events", by=reader).get_json()["events"]] == [
        reader.key.id, mine,
    ]  # fmt: skip
    for query in (f"key_id={theirs}", "owner=other", f"owner=other&key_id={mine}"):
        assert api.get(f"/v1/events?{query}", by=reader).get_json()["events"] == []


def test_usage_of_a_deleted_key_is_nobodys(api: ManagementRig) -> None:
    issued = api.issue(owner="acme")
    api.desk.verify(issued.secret)
    api.desk.revoke(issued.key.id)
    api.desk.delete(issued.key.id)
    assert api.get("/v1/usage?owner=acme").get_json()["totals"] == {}
    api.clock.advance(timedelta(seconds=1))
    assert api.get("/v1/usage").get_json()["totals"]["allowed"] >= 1
