"""Plans."""

from __future__ import annotations

from typing import Any

import pytest

from .rig import ManagementRig, problem_of

GOLD = {"description": "much", "scopes": ["orders:*"], "limits": ["100/minute"], "quotas": ["5/day"]}


def test_put_plan_makes_replaces_and_deletes(api: ManagementRig) -> None:
    made = api.call("PUT", "/v1/plans/gold", GOLD)
    assert made.status_code == 201
    assert {name: made.get_json()[name] for name in GOLD} == GOLD
    assert made.headers["ETag"] == '"1"'
    assert api.get("/v1/plans/gold").get_json() == made.get_json()
    replaced = api.call("PUT", "/v1/plans/gold", {"scopes": ["orders:read"]})
    assert replaced.status_code == 200
    assert (replaced.get_json()["limits"], replaced.get_json()["description"]) == ([], "")
    issued = api.issue(plan="gold")
    problem_of(api.call("DELETE", "/v1/plans/gold"), 409, "conflict")
    api.desk.revoke(issued.key.id)
    assert api.call("DELETE", "/v1/plans/gold").status_code == 204
    problem_of(api.get("/v1/plans/gold"), 404, "not_found")
    problem_of(api.call("DELETE", "/v1/plans/gold"), 404, "not_found")


def test_put_plan_by_name_in_the_body(api: ManagementRig) -> None:
    assert api.call("PUT", "/v1/plans", {"name": "gold", **GOLD}).status_code == 201
    assert api.call("PUT", "/v1/plans", {"name": "gold", **GOLD}).get_json()["version"] == 1
    problem_of(api.call("PUT", "/v1/plans", GOLD), 422, "invalid_field")
    problem_of(api.call("PUT", "/v1/plans/gold"), 422, "invalid_field")  # without a body it is not emptied
    assert api.get("/v1/plans/gold").get_json()["scopes"] == GOLD["scopes"]


def test_plan_preconditions(api: ManagementRig) -> None:
    problem_of(api.call("PUT", "/v1/plans/gold", GOLD, If_Match="*"), 412, "version_conflict")
    problem_of(api.call("PUT", "/v1/plans/gold", GOLD, If_Match='"1"'), 412, "version_conflict")
    assert api.call("PUT", "/v1/plans/gold", GOLD, If_None_Match="*").status_code == 201
    problem_of(api.call("PUT", "/v1/plans/gold", {}, If_None_Match="*"), 412, "version_conflict")
    assert api.call("PUT", "/v1/plans/gold", {}, If_Match='"1"').status_code == 200
    problem_of(api.call("PUT", "/v1/plans/gold", GOLD, If_Match='"1"'), 412, "version_conflict")
    problem_of(api.call("DELETE", "/v1/plans/gold", If_Match='"1"'), 412, "version_conflict")
    assert api.call("DELETE", "/v1/plans/gold", If_Match='"2"').status_code == 204


def test_list_plans_pages(api: ManagementRig) -> None:
    for name in ("c", "a", "b"):
        api.desk.plans.put(name)
    first = api.get("/v1/plans?size=2").get_json()
    assert [plan["name"] for plan in first["plans"]] == ["a", "b"]
    rest = api.get(f"/v1/plans?size=1&cursor={first['next_cursor']}").get_json()
    assert ([plan["name"] for plan in rest["plans"]], rest["next_cursor"]) == (["c"], None)
    for query in ("cursor=x", "cursor=p-", "cursor=p-%00", "size=0", "name=a"):
        problem_of(api.get(f"/v1/plans?{query}"), 422, "invalid_field")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("Gold", {}), ("%00", {}), ("x" * 65, {}), ("gold", {"scopes": "a:b"}), ("gold", {"limits": ["x"]}),
        ("gold", {"name": "gold"}), ("gold", {"description": "kd_live_" + "a" * 38}), ("%F0%9F%92%A5", {}),
    ],
)  # fmt: skip
def test_put_plan_that_cannot_be(still: ManagementRig, name: str, body: Any) -> None:
    problem_of(still.call("PUT", f"/v1/plans/{name}", body), 422, "invalid_field")


@pytest.mark.parametrize("name", ["nowhere", "%00", "Gold", "%F0%9F%92%A5", "x" * 300])
def test_plan_that_is_not_there(api: ManagementRig, name: str) -> None:
    problem_of(api.get(f"/v1/plans/{name}"), 404, "not_found")
    problem_of(api.call("DELETE", f"/v1/plans/{name}"), 404, "not_found")


def test_caller_bound_to_an_owner_sees_the_plan_of_its_own_key(api: ManagementRig) -> None:
    api.desk.plans.put("gold", scopes=["keydesk:keys:read"])
    api.desk.plans.put("secret", scopes=["orders:read"])
    bound = api.issue(owner="acme", plan="gold")
    plain = api.issue(owner="acme", scopes=["keydesk:keys:read"])
    assert [plan["name"] for plan in api.get("/v1/plans", by=bound).get_json()["plans"]] == ["gold"]
    assert api.get("/v1/plans", by=plain).get_json()["plans"] == []
    assert api.get("/v1/plans/gold", by=bound).status_code == 200
    for name in ("secret", "nowhere"):
        problem_of(api.get(f"/v1/plans/{name}", by=bound), 404, "not_found")


def test_caller_gives_no_plan_more_than_it_holds(api: ManagementRig) -> None:
    planner = api.issue(scopes=["keydesk:plans:write", "orders:read"], limits=["10/minute"])
    problem_of(api.call("PUT", "/v1/plans/p", {"scopes": ["orders:write"]}, by=planner), 403, "not_permitted")
    problem_of(api.call("PUT", "/v1/plans/p", {"scopes": ["orders:read"]}, by=planner), 403, "not_permitted")
    mine = {"scopes": ["orders:read"], "limits": ["5/minute"]}
    assert api.call("PUT", "/v1/plans/p", mine, by=planner).status_code == 201
    bound = api.issue(owner="acme", scopes=["keydesk:*", "*"])
    problem_of(api.call("PUT", "/v1/plans/p", {}, by=bound), 403, "not_permitted")
    problem_of(api.call("DELETE", "/v1/plans/p", by=bound), 403, "not_permitted")
