"""Plans and what owners share: at the desk, in the terms of a key, and in what a request is judged by."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keydesk import (
    Desk,
    InvalidField,
    Key,
    NotPermitted,
    OwnerNotFound,
    PlanNotFound,
    Reason,
    StateConflict,
    StoreReadOnly,
    open_desk,
)
from keydesk.claims import Claim
from keydesk.events import Event
from keydesk.keys.effective import in_force
from keydesk.keys.limits import Limit, Quota, parse_limit, parse_quota
from keydesk.keys.scopes import Scopes
from keydesk.stores.memory import MemoryStore
from keydesk.terms import Terms
from keydesk.testing import ManualClock
from keydesk.testing.stores import all_events

PLANS = "keydesk:plans:write"
WRITE = "keydesk:keys:write"


def events(desk: Desk) -> list[Event]:
    return [row.event for row in all_events(desk.store)]  # type: ignore[arg-type]


def key_of(desk: Desk, secret: str) -> Key:
    """Return the key of a request."""
    return desk.require(secret)


# Plans at the desk


def test_put_makes_a_plan(desk: Desk, clock: ManualClock) -> None:
    plan = desk.plans.put(
        "gold", scopes=["a:r", "b:*"], limits=["100/minute"], quotas=["5/day"], description=" paid ", actor="tester"
    )
    assert (plan.name, plan.description, plan.version) == ("gold", "paid", 1)
    assert (plan.created_at, plan.updated_at) == (clock.now(), clock.now())
    assert desk.plans.get("gold") == desk.plans.find("gold") == plan
    assert desk.plans.list() == (plan,)
    (event,) = events(desk)
    assert (event.kind, event.actor, event.key_id, event.owner) == ("plan.created", "tester", "", None)
    assert event.details == {
        "plan": "gold",
        "description": "paid",
        "scopes": ["a:r", "b:*"],
        "limits": ["100/minute"],
        "quotas": ["5/day"],
    }


def test_put_changes_what_is_named(desk: Desk, clock: ManualClock) -> None:
    made = desk.plans.put("gold", scopes=["a:r"], limits=["100/minute"])
    clock.advance(timedelta(seconds=1))
    changed = desk.plans.put("gold", limits=["50/minute"])
    assert (changed.scopes, changed.limits, changed.version) == (made.scopes, (Limit(50, 60),), 2)
    assert (changed.created_at, changed.updated_at) == (made.created_at, clock.now())
    assert events(desk)[-1].kind == "plan.updated"
    assert events(desk)[-1].details == {"plan": "gold", "limits": [["100/minute"], ["50/minute"]]}
    assert desk.plans.put("gold", limits=["50/minute"], scopes=["a:r"]) == changed  # nothing differs
    assert len(events(desk)) == 2
    assert desk.plans.put("gold", scopes=[]).scopes == Scopes()


@pytest.mark.parametrize("name", ["", "Gold", "g d", "x" * 65, "a/b", "göld", "gold\n", None, 3])
def test_put_odd_name(desk: Desk, name: Any) -> None:
    with pytest.raises(InvalidField, match="plan: "):
        desk.plans.put(name)
    assert events(desk) == []


@pytest.mark.parametrize(
    "fields", [{"scopes": ["x"]}, {"limits": ["0/minute"]}, {"quotas": ["x"]}, {"description": "x" * 2001}]
)
def test_put_what_cannot_be(desk: Desk, fields: Any) -> None:
    with pytest.raises(InvalidField, match=next(iter(fields))):
        desk.plans.put("gold", **fields)
    assert events(desk) == []


def test_delete(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:r"])
    issued = desk.issue(name="x", plan="gold")
    with pytest.raises(StateConflict, match=r"1 key has it.*keydesk list --plan gold"):
        desk.plans.delete("gold")
    desk.update(issued.key.id, plan=None)
    desk.plans.delete("gold", actor="tester")
    assert desk.plans.find("gold") is None
    assert (events(desk)[-1].kind, events(desk)[-1].actor, events(desk)[-1].details) == (
        "plan.deleted",
        "tester",
        {"plan": "gold"},
    )
    for call in (desk.plans.get, desk.plans.delete):
        with pytest.raises(PlanNotFound, match="gold"):
            call("gold")


def test_revoked_keys_do_not_keep_a_plan(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:r"])
    issued = desk.issue(name="x", plan="gold")
    desk.revoke(issued.key.id)
    desk.plans.delete("gold")
    assert desk.verify(issued.secret).reason is Reason.REVOKED


def test_plans_where_keys_are_in_the_configuration() -> None:
    desk = open_desk({"API_KEY": "some-secret-of-forty-characters-0123456789"})
    assert desk.plans.find("gold") is None
    assert desk.plans.list() == desk.owners.list() == ()
    for change in (
        lambda: desk.plans.put("gold"),
        lambda: desk.plans.delete("gold"),
        lambda: desk.owners.put("acme"),
        lambda: desk.owners.delete("acme"),
        lambda: desk.issue(name="x", plan="gold"),
    ):
        with pytest.raises(StoreReadOnly):
            change()
    desk.close()


def test_plan_in_the_configuration_is_refused() -> None:
    with pytest.raises(Exception, match="have no plans"):
        open_desk({"API_KEYS": {"some-secret-of-forty-characters-0123456789": {"name": "x", "plan": "gold"}}})


# Keys with plans


def test_key_has_what_its_plan_grants(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:r", "b:*"])
    issued = desk.issue(name="x", plan="gold")
    assert (issued.key.plan, issued.key.scopes) == ("gold", Scopes())
    assert events(desk)[-1].details["plan"] == "gold"
    assert key_of(desk, issued.secret).scopes == Scopes(["a:r", "b:*"])
    assert desk.verify(issued.secret, scopes=["b:w"]).allowed
    assert desk.verify(issued.secret, scopes=["c:r"]).reason is Reason.SCOPE_DENIED
    assert desk.get_key(issued.key.id).scopes == Scopes()


def test_key_narrows_its_plan(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:r", "b:*"])
    issued = desk.issue(name="x", plan="gold", scopes=["b:w"])
    assert key_of(desk, issued.secret).scopes == Scopes(["b:w"])
    with pytest.raises(InvalidField, match=r"the plan gold does not grant c:r") as caught:
        desk.issue(name="x", plan="gold", scopes=["a:r", "c:r"])
    assert caught.value.field == "scopes"
    for fields in ({"scopes": ["c:r"]}, {"scopes": ["*"]}, {"scopes": ["a:*"]}):
        with pytest.raises(InvalidField, match="does not grant"):
            desk.update(issued.key.id, **fields)
    desk.plans.put("silver", scopes=["a:r"])
    with pytest.raises(InvalidField, match="the plan silver does not grant b:w"):
        desk.update(issued.key.id, plan="silver")
    desk.update(issued.key.id, plan="silver", scopes=[])
    assert key_of(desk, issued.secret).scopes == Scopes(["a:r"])


def test_plan_that_grants_less_takes_it_from_its_keys(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:*", "b:w"])
    issued = desk.issue(name="x", plan="gold", scopes=["a:*", "b:w"])
    desk.plans.put("gold", scopes=["a:r"])
    assert key_of(desk, issued.secret).scopes == Scopes(["a:r"])  # of what it states, as far as the plan grants it
    desk.update(issued.key.id, description="what it states may stay as it is")
    desk.plans.put("gold", scopes=["c:r"])
    assert key_of(desk, issued.secret).scopes == Scopes()
    desk.plans.put("gold", scopes=["*"])
    assert key_of(desk, issued.secret).scopes == Scopes(["a:*", "b:w"])


@pytest.mark.parametrize("plan", ["silver", "Gold", "x" * 65, 3])
def test_unknown_plan(desk: Desk, plan: Any) -> None:
    desk.plans.put("gold")
    issued = desk.issue(name="x")
    for call in (lambda: desk.issue(name="y", plan=plan), lambda: desk.update(issued.key.id, plan=plan)):
        with pytest.raises(InvalidField, match="plan: "):
            call()
    assert [event.kind for event in events(desk)] == ["plan.created", "key.issued"]


def test_import_with_a_plan(desk: Desk) -> None:
    from keydesk import HeldKey
    from keydesk.keys.record import parse_fields

    desk.plans.put("gold", scopes=["a:r"])

    def held(**fields: Any) -> HeldKey:
        text = desk.mint.secret_format.mint("live")
        return HeldKey(parse_fields({"name": "x", **fields}), desk.mint.secret(text, number=1, now=desk.clock.now()))

    assert desk.import_keys([held(plan="gold"), held(plan="gold", scopes=["a:r"]), held()]) == 3
    for fields in ({"plan": "gold", "scopes": ["b:r"]}, {"plan": "silver"}):
        with pytest.raises(InvalidField):
            desk.import_keys([held(), held(**fields)])
    assert len(desk.list_keys().keys) == 3
    assert len(desk.list_keys(plan="gold").keys) == 2


def test_key_whose_plan_was_removed_by_hand_is_let_in_nowhere(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:r"])
    issued = desk.issue(name="x", plan="gold")
    store = desk.store
    assert isinstance(store, MemoryStore)
    assert desk.verify(issued.secret).allowed
    plan = store.plans.by_name.pop("gold")
    assert desk.verify(issued.secret).allowed  # it tells no event
    desk.update(issued.key.id, description="read anew")
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    decision, checks = desk.explain(issued.secret)
    assert decision.reason is Reason.UNAVAILABLE
    assert any("keydesk plans put gold" in check.found for check in checks)
    assert desk.get_key(issued.key.id).plan == "gold"
    with pytest.raises(InvalidField, match="no plan gold"):
        desk.update(issued.key.id, scopes=["z:z"])
    store.plans.by_name["gold"] = plan
    desk.update(issued.key.id, description="read anew again")
    assert desk.verify(issued.secret).allowed


def test_explain_names_the_plan(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:r"])
    issued = desk.issue(name="x", plan="gold")
    check = desk.explain(issued.secret, scopes=["a:r"])[1][5]
    assert check.passed
    assert "held: a:r (under the plan gold)" in check.found
    check = desk.explain(issued.secret, scopes=["b:r"])[1][5]
    assert not check.passed
    assert "keydesk plans put gold --scope a:r --scope b:r" in check.fix
    desk.update(issued.key.id, scopes=["a:r"])
    desk.plans.put("gold", scopes=["a:r", "b:r"])
    fix = desk.explain(issued.secret, scopes=["b:r"])[1][5].fix
    assert fix == f"keydesk update {issued.key.id} --scope a:r --scope b:r"
    desk.revoke(issued.key.id)
    assert "--plan gold" in desk.explain(issued.secret)[1][3].fix


# Limits and quotas


def claims(desk: Desk, secret: str, terms: Terms | None = None) -> list[Claim]:
    return list((terms or Terms()).claims_of(key_of(desk, secret)))


def test_limits_of_a_plan_are_counted_per_key(desk: Desk) -> None:
    desk.plans.put("gold", limits=["100/minute", "1000/hour"])
    one = desk.issue(name="x", plan="gold", limits=["200/60 seconds", "10/hour", "5/day"])
    home = f"{{{one.key.id}}}{one.key.id}"
    assert claims(desk, one.secret) == [
        Claim("100/minute", home, 100, 60),  # of two of one window the tighter holds: a key narrows and never widens
        Claim("10/hour", home, 10, 3600),
        Claim("5/day", home, 5, 86_400),
    ]


def test_default_limits_are_for_keys_without_any(desk: Desk) -> None:
    terms = Terms((Limit(7, 60),))
    desk.plans.put("gold", limits=["100/minute"])
    desk.plans.put("bare")
    for fields, most in (
        ({"plan": "gold"}, 100),
        ({"plan": "bare"}, 7),
        ({}, 7),
        ({"plan": "bare", "limits": ["9/day"]}, 9),
    ):
        secret = desk.issue(name="x", **fields).secret  # type: ignore[arg-type]
        assert [claim.most for claim in claims(desk, secret, terms)] == [most]


def test_limits_of_an_owner_are_counted_for_all_its_keys(desk: Desk) -> None:
    desk.owners.put("acme", limits=["100/minute", "5 per 10 seconds"])
    one = desk.issue(name="x", owner="acme", limits=["3/minute"])
    two, other = desk.issue(name="y", owner="acme"), desk.issue(name="z", owner="ACME")
    shared = [
        Claim("100/minute per owner", "{owner:acme}owner", 100, 60),
        Claim("5/10 seconds per owner", "{owner:acme}owner", 5, 10),
    ]
    assert claims(desk, one.secret) == [Claim("3/minute", f"{{owner:acme}}{one.key.id}", 3, 60), *shared]
    assert claims(desk, two.secret) == shared
    assert claims(desk, other.secret) == []


def test_quotas_of_key_plan_and_owner(desk: Desk) -> None:
    desk.plans.put("gold", quotas=["100/month", "7/day"])
    desk.owners.put("acme", quotas=["1000/month", "50/total"])
    issued = desk.issue(name="x", owner="acme", plan="gold", quotas=["10/month", "9/day", "3/total"])
    own = f"key:{issued.key.id}"
    assert Terms().quotas_of(key_of(desk, issued.secret)) == (
        (own, parse_quota("10/month")),
        (own, parse_quota("7/day")),
        (own, parse_quota("3/total")),
        ("owner:acme", parse_quota("1000/month")),
        ("owner:acme", parse_quota("50/total")),
    )


def test_plan_is_folded_in_once(desk: Desk) -> None:
    desk.plans.put("gold", scopes=["a:r"], limits=["5/minute"])
    issued = desk.issue(name="x", plan="gold", scopes=["a:r"])
    desk.plans.put("gold", scopes=["b:r"])
    key = key_of(desk, issued.secret)
    assert (key.scopes, key.limits) == (Scopes(), (Limit(5, 60),))
    assert in_force(key) is key  # a second time, no scopes of its own would mean all of the plan's
    assert in_force(desk.issue(name="y").key).in_force is False


# What owners share


def test_owner_put_and_deleted(desk: Desk, clock: ManualClock) -> None:
    terms = desk.owners.put(" acme ", limits=["5/minute"], actor="tester")
    assert (terms.owner, terms.limits, terms.quotas, terms.version) == ("acme", (Limit(5, 60),), (), 1)
    assert desk.owners.get("acme") == desk.owners.find("acme") == terms
    assert desk.owners.list() == (terms,)
    clock.advance(timedelta(seconds=1))
    assert desk.owners.put("acme", limits=["5/minute"]) == terms
    changed = desk.owners.put("acme", quotas=["9/day"])
    assert (changed.limits, changed.quotas, changed.version) == (terms.limits, (parse_quota("9/day"),), 2)
    desk.owners.delete("acme")
    assert [(event.kind, event.owner, event.details) for event in events(desk)] == [
        ("owner.created", "acme", {"limits": ["5/minute"]}),
        ("owner.updated", "acme", {"quotas": [[], ["9/day"]]}),
        ("owner.deleted", "acme", {}),
    ]
    for call in (desk.owners.get, desk.owners.delete):
        with pytest.raises(OwnerNotFound):
            call("acme")


@pytest.mark.parametrize("owner", ["", " ", "a\nb", "x" * 201, None, 3, "\0"])
def test_owner_odd(desk: Desk, owner: Any) -> None:
    with pytest.raises(InvalidField, match="owner"):
        desk.owners.put(owner)


# Who may


def test_caller_of_plans(desk: Desk, clock: ManualClock) -> None:
    desk.plans.put("gold", scopes=["a:r"])
    desk.owners.put("acme", limits=["5/minute"])
    scopes = [PLANS, "a:r"]
    refused = [
        desk.issue(name="no scope", scopes=["a:r", WRITE]).key,
        desk.issue(name="bound", owner="acme", scopes=scopes).key,
        desk.disable(desk.issue(name="off", scopes=scopes).key.id),
    ]
    before = len(events(desk))
    for by in refused:
        for change in (
            lambda by: desk.plans.put("gold", limits=["1/day"], by=by),
            lambda by: desk.plans.put("gold", by=by),
            lambda by: desk.plans.put("new", by=by),
            lambda by: desk.plans.delete("gold", by=by),
            lambda by: desk.owners.put("acme", limits=[], by=by),
            lambda by: desk.owners.delete("acme", by=by),
        ):
            with pytest.raises(NotPermitted):
                change(by)
    assert len(events(desk)) == before
    by = desk.issue(name="may", scopes=scopes).key
    desk.plans.put("gold", limits=["1/day"], by=by)
    assert events(desk)[-1].actor == by.id
    desk.owners.delete("acme", by=by)
    desk.plans.delete("gold", by=by)


def test_caller_gives_a_plan_no_more_than_it_holds(desk: Desk) -> None:
    by = desk.issue(name="may", scopes=[PLANS, "a:*"], limits=["10/minute"], quotas=["100/day"]).key
    inside: dict[str, Any] = {"scopes": ["a:r"], "limits": ["10/minute"], "quotas": ["100/day"]}
    desk.plans.put("mine", **inside, by=by)
    for more in ({"scopes": ["b:r"]}, {"scopes": ["*"]}, {"limits": []}, {"limits": ["11/minute"]}, {"quotas": []}):
        for name in ("new", "mine"):
            with pytest.raises(NotPermitted):
                desk.plans.put(name, **{**inside, **more}, by=by)
    desk.plans.put("wide", scopes=["b:r"])
    for change in (lambda: desk.plans.put("wide", **inside, by=by), lambda: desk.plans.delete("wide", by=by)):
        with pytest.raises(NotPermitted, match="b:r"):
            change()


@pytest.mark.parametrize("raw", [False, True])
def test_caller_with_a_plan_holds_what_the_plan_leaves_it(desk: Desk, raw: bool) -> None:
    desk.plans.put("clerk", scopes=[WRITE, "a:r"], limits=["10/minute"], quotas=["100/day"])
    desk.plans.put("wide", scopes=["b:r", WRITE])
    issued = desk.issue(name="clerk", plan="clerk")
    by = desk.get_key(issued.key.id) if raw else key_of(desk, issued.secret)
    bounds: dict[str, Any] = {"limits": ["10/minute"], "quotas": ["100/day"]}
    assert desk.issue(name="same", plan="clerk", by=by)
    mine = desk.issue(name="less", scopes=["a:r"], **bounds, by=by)
    for fields in (
        {"scopes": ["a:r"]},
        {"scopes": ["a:r"], "limits": ["10/minute"]},
        {"scopes": ["b:r"], **bounds},
        {"plan": "wide", **bounds},
    ):
        with pytest.raises(NotPermitted):
            desk.issue(name="more", **fields, by=by)
    for fields in ({"plan": "wide", "scopes": []}, {"limits": []}, {"scopes": ["b:r"]}):
        with pytest.raises(NotPermitted):
            desk.update(mine.key.id, **fields, by=by)
    wide = desk.issue(name="wide", plan="wide").key
    for call in (desk.rotate, desk.enable):
        with pytest.raises(NotPermitted, match="b:r"):
            call(wide.id, by=by)
    with pytest.raises(NotPermitted, match="b:r"):
        desk.update(wide.id, plan="clerk", by=by)


def test_caller_narrowed_by_its_plan_loses_what_it_may(desk: Desk) -> None:
    desk.plans.put("clerk", scopes=[WRITE, "a:r"])
    issued = desk.issue(name="clerk", plan="clerk", scopes=[WRITE, "a:r"])
    desk.plans.put("clerk", scopes=["a:r"])
    victim = desk.issue(name="x")
    for by in (key_of(desk, issued.secret), desk.get_key(issued.key.id)):
        for change in (desk.revoke, desk.disable, desk.delete, desk.rotate):
            with pytest.raises(NotPermitted, match=WRITE):
                change(victim.key.id, by=by)


def test_caller_of_an_owner_gives_no_plan_but_its_own(desk: Desk) -> None:
    """What another plan will give tomorrow would be theirs without anybody giving it to them."""
    for name in ("gold", "free"):
        desk.plans.put(name, scopes=[WRITE, "a:r"])
    head = desk.issue(name="head", owner="acme", plan="free")
    theirs = desk.issue(name="till", owner="acme", plan="gold").key
    by = key_of(desk, head.secret)
    own = desk.issue(name="own", owner="acme", plan="free", by=by)
    desk.rotate(theirs.id, by=by)  # others may have given it one
    desk.update(theirs.id, description="till", by=by)
    for change in (
        lambda: desk.issue(name="more", owner="acme", plan="gold", by=by),
        lambda: desk.update(own.key.id, plan="gold", by=by),
    ):
        with pytest.raises(NotPermitted, match="no plan but its own"):
            change()
    service = desk.issue(name="service", scopes=[WRITE, "a:r"]).key
    desk.issue(name="more", owner="acme", plan="gold", by=service)


def test_default_limits_bound_a_caller_without_its_own(clock: ManualClock) -> None:
    desk = open_desk({"KEYDESK_STORE": "memory://", "KEYDESK_DEFAULT_LIMITS": ["10/minute"]}, clock=clock)
    by = desk.issue(name="clerk", scopes=[WRITE]).key
    desk.issue(name="same", by=by)
    desk.issue(name="less", limits=["9/minute"], by=by)
    with pytest.raises(NotPermitted, match="10/minute"):
        desk.issue(name="more", limits=["11/minute"], by=by)
    desk.close()


def test_scopes_within() -> None:
    for own, plan, both in (
        (["a:r"], ["a:r"], ["a:r"]),
        (["a:r"], ["a:*"], ["a:r"]),
        (["a:*"], ["a:r"], ["a:r"]),
        (["*"], ["a:r", "b:*"], ["a:r", "b:*"]),
        (["a:r"], [], []),
        (["a:b:*", "c:d"], ["a:*", "c:e"], ["a:b:*"]),
        (["a:*"], ["a:b:*", "a:c"], ["a:b:*", "a:c"]),
        (["ab:r"], ["a:*"], []),
    ):
        assert Scopes(own).within(Scopes(plan)) == Scopes(both)
    many = [f"a:{n}" for n in range(199)], [f"b:{n}" for n in range(199)]
    crossed = Scopes([*many[0], "b:*"]).within(Scopes([*many[1], "a:*"]))
    assert len(crossed) == 398
    assert crossed.allow("a:7")
    assert crossed.allow("b:7")
    assert not crossed.allow("a:r")


def test_quota_and_limit_texts_are_those_of_keys() -> None:
    assert (parse_limit("5/minute"), parse_quota("5/day")) == (Limit(5, 60), Quota(5, parse_quota("1/day").period))
