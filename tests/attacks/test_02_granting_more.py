"""Number 2: a creator granting more than they hold, on update too; a restricted key minting siblings.

The attacker holds a key that may write keys, and calls views that hand `by=current_key` on, as an application would.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import request

from keydesk import IssuedKey, NotPermitted
from keydesk.flask import current_key

from ..flask.rig import Rig

WRITE = "keydesk:keys:write"


@pytest.fixture
def site(new_rig: Callable[..., Rig]) -> Rig:
    rig = new_rig()
    rig.keys.protect(rig.app, WRITE)

    def changes() -> dict[str, Any]:
        from datetime import datetime

        given = dict(request.get_json())
        if given.get("expires_at"):
            given["expires_at"] = datetime.fromisoformat(given["expires_at"])
        return given

    def made(issued: IssuedKey) -> dict[str, str]:
        return {"id": issued.key.id, "secret": issued.secret}

    app, keys = rig.app, rig.keys
    app.add_url_rule("/", "use", lambda: "in")
    app.add_url_rule("/keys", "issue", lambda: made(keys.desk.issue(**changes(), by=current_key)), methods=["POST"])
    for verb in ("rotate", "disable", "enable", "revoke", "delete", "update"):

        def act(key_id: str, verb: str = verb) -> Any:
            done = getattr(keys.desk, verb)(key_id, **changes(), by=current_key)
            return made(done) if isinstance(done, IssuedKey) else {}

        app.add_url_rule(f"/keys/<key_id>/{verb}", verb, act, methods=["POST"])
    app.register_error_handler(NotPermitted, lambda error: ({"problems": error.problems}, 403))
    return rig


def _try(rig: Rig, secret: str, path: str, **body: Any) -> int:
    return rig.status(path, secret, "POST", json=body)


def _wide(rig: Rig) -> dict[str, dict[str, Any]]:
    """Return ways to hold more than the restricted key below, one field at a time."""
    day = timedelta(days=1)
    later = (rig.clock.now() + 31 * day).isoformat()
    return {
        "another scope": {"scopes": ["orders:write"]},
        "all below": {"scopes": ["orders:*"]},
        "everything": {"scopes": ["*"]},
        "one more beside": {"scopes": ["orders:read", "users:read"]},
        "deeper wildcard": {"scopes": ["keydesk:*"]},
        "no networks": {"networks": []},
        "anywhere": {"networks": ["0.0.0.0/0"]},
        "anywhere v6": {"networks": ["::/0"]},
        "wider network": {"networks": ["10.0.0.0/7"]},
        "beside it": {"networks": ["10.0.0.0/9", "192.0.2.1"]},
        "other family": {"networks": ["::ffff:0:0/96"]},
        "later end": {"expires_at": later},
        "no end": {"expires_at": None},
        "no limits": {"limits": []},
        "looser limit": {"limits": ["101/minute"]},
        "burst in a shorter window": {"limits": ["100/10 seconds"]},
        "no quotas": {"quotas": []},
        "larger quota": {"quotas": ["1001/day"]},
        "quota over another period": {"quotas": ["1000/month"]},
        "another owner": {"owner": "other"},
        "no owner": {"owner": None},
    }


def _same(rig: Rig) -> dict[str, Any]:
    """The fields of the restricted key itself: as much as it may give."""
    return {
        "name": "sibling",
        "owner": "acme",
        "scopes": [WRITE, "orders:read"],
        "networks": ["10.0.0.0/8"],
        "expires_at": (rig.clock.now() + timedelta(days=30)).isoformat(),
        "limits": ["100/minute"],
        "quotas": ["1000/day"],
    }


def _restricted(rig: Rig) -> IssuedKey:
    fields = _same(rig)
    fields["expires_at"] = rig.clock.now() + timedelta(days=30)
    return rig.desk.issue(**{**fields, "name": "restricted"})


WAYS = [
    "another scope", "all below", "everything", "one more beside", "deeper wildcard", "no networks", "anywhere",
    "anywhere v6", "wider network", "beside it", "other family", "later end", "no end", "no limits", "looser limit",
    "burst in a shorter window", "no quotas", "larger quota", "quota over another period", "another owner", "no owner",
]  # fmt: skip

HERE = {"REMOTE_ADDR": "10.1.2.3"}


@pytest.fixture(autouse=True)
def _from_the_network(site: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Rig.call
    monkeypatch.setattr(Rig, "call", lambda *args, **kw: call(*args, **{"environ_base": HERE, **kw}))


def test_ways_are_all_tried(site: Rig) -> None:
    assert list(_wide(site)) == WAYS


@pytest.mark.parametrize("way", WAYS)
def test_issue_more(site: Rig, way: str) -> None:
    restricted = _restricted(site)
    assert _try(site, restricted.secret, "/keys", **{**_same(site), **_wide(site)[way]}) == 403
    assert len(site.desk.list_keys().keys) == 1
    assert len(site.desk.list_events()) == 1


@pytest.mark.parametrize("way", WAYS)
def test_issue_the_same_then_update_to_more(site: Rig, way: str) -> None:
    restricted = _restricted(site)
    answer = site.call("/keys", restricted.secret, "POST", json=_same(site))
    assert answer.status_code == 200
    before = site.desk.get_key(answer.get_json()["id"])
    for target in (before, restricted.key):  # the new key, and its own
        assert _try(site, restricted.secret, f"/keys/{target.id}/update", **_wide(site)[way]) == 403
        assert site.desk.get_key(target.id) == target


@pytest.mark.parametrize("verb", ["rotate", "update", "enable"])
def test_take_over_a_key_that_holds_more(site: Rig, verb: str) -> None:
    """Rotating a key hands out a secret for all that it holds; so does switching it on."""
    restricted = _restricted(site)
    admin = site.issue("*", WRITE, owner="acme", name="admin")
    if verb == "enable":
        site.desk.disable(admin.key.id)
    before = site.desk.get_key(admin.key.id)
    body = {"name": "mine now"} if verb == "update" else {}
    assert _try(site, restricted.secret, f"/keys/{admin.key.id}/{verb}", **body) == 403
    assert site.desk.get_key(admin.key.id) == before


@pytest.mark.parametrize("verb", ["rotate", "update", "enable", "disable", "revoke", "delete"])
@pytest.mark.parametrize("owner", ["other", None, "ACME", "acme "])
def test_touch_a_key_of_another_owner(site: Rig, verb: str, owner: str | None) -> None:
    restricted = _restricted(site)
    fields = _same(site) | {"owner": owner, "expires_at": site.clock.now() + timedelta(days=1), "name": "theirs"}
    theirs = site.desk.issue(**fields)
    if theirs.key.owner == "acme":
        return  # white space around an owner is taken off when it is written, so this one is their own
    if verb == "enable":
        site.desk.disable(theirs.key.id)
    if verb == "delete":
        site.desk.revoke(theirs.key.id)
    before = site.desk.get_key(theirs.key.id)
    assert _try(site, restricted.secret, f"/keys/{theirs.key.id}/{verb}") == 403
    assert site.desk.get_key(theirs.key.id) == before


def test_a_key_without_the_scope_changes_nothing(site: Rig) -> None:
    plain = site.issue("orders:read", "keydesk:keys:read", owner="acme")
    assert _try(site, plain.secret, "/keys", name="x") == 403
    for act in (
        lambda: site.desk.issue(name="x", owner="acme", by=plain.key),
        lambda: site.desk.update(plain.key.id, scopes=["*"], by=plain.key),
        lambda: site.desk.rotate(plain.key.id, by=plain.key),
        lambda: site.desk.revoke(plain.key.id, by=plain.key),
    ):
        with pytest.raises(NotPermitted, match=WRITE):
            act()
    assert site.desk.list_keys().keys == (plain.key,)


@pytest.mark.parametrize("end", ["revoked", "disabled", "expired"])
def test_a_caller_whose_key_has_ended(site: Rig, end: str) -> None:
    """Even where an application holds on to a record: the desk looks at its state."""
    admin = site.issue("*", WRITE, name="admin", expires_at=site.clock.now() + timedelta(days=1))
    if end == "revoked":
        site.desk.revoke(admin.key.id)
    elif end == "disabled":
        site.desk.disable(admin.key.id)
    else:
        site.clock.advance(timedelta(days=1))
    assert _try(site, admin.secret, "/keys", name="x", expires_at=None) == 401
    with pytest.raises(NotPermitted, match=end):
        site.desk.issue(name="x", by=site.desk.get_key(admin.key.id))


def test_names_of_fields_that_are_none(site: Rig) -> None:
    """A body that names what nobody may set: the record, its state, its secrets."""
    restricted = _restricted(site)
    for name in ("id", "secrets", "revoked_at", "disabled_at", "version", "created_at", "by", "actor2", "_x"):
        assert _try(site, restricted.secret, f"/keys/{restricted.key.id}/update", **{name: None}) in (400, 403, 500)
    assert site.desk.get_key(restricted.key.id) == restricted.key


def test_as_much_as_it_holds_it_may_give(site: Rig) -> None:
    """The other side: what does not go beyond is allowed, and the sibling can do no more either."""
    restricted = _restricted(site)
    narrow = {"scopes": ["orders:read", WRITE], "networks": ["10.1.0.0/16"], "limits": ["5/minute"]}
    answer = site.call("/keys", restricted.secret, "POST", json={**_same(site), **narrow})
    assert answer.status_code == 200
    sibling = answer.get_json()["secret"]
    assert _try(site, sibling, "/keys", **_same(site)) == 403
    assert _try(site, sibling, "/keys", **{**_same(site), **narrow}) == 200


# With plans


def test_what_a_plan_bounds_is_bounded_for_the_keys_it_makes(site: Rig) -> None:
    """The caller's limits are its plan's: a key without that plan would have none."""
    desk = site.desk
    desk.plans.put("clerk", scopes=[WRITE, "a:r"], limits=["100/minute"])
    desk.plans.put("wide", scopes=["*"])
    clerk = desk.issue(name="clerk", owner="acme", plan="clerk").secret
    about = {"name": "made", "owner": "acme"}
    for more in (
        {"scopes": ["a:r"]},
        {"scopes": ["a:r"], "limits": ["101/minute"]},
        {"scopes": ["b:r"], "limits": ["1/minute"]},
        {"plan": "wide", "scopes": ["a:r"], "limits": ["1/minute"]},
        {"plan": "wide"},
    ):
        assert _try(site, clerk, "/keys", **about, **more) == 403, more
    assert len(desk.list_keys().keys) == 1
    made = site.call("/keys", clerk, "POST", json={**about, "plan": "clerk"}).get_json()
    for more in ({"plan": None}, {"plan": "wide"}, {"plan": None, "scopes": ["a:r"], "limits": ["200/minute"]}):
        assert _try(site, clerk, f"/keys/{made['id']}/update", **more) == 403, more
    assert desk.get_key(made["id"]).plan == "clerk"


def test_caller_that_its_plan_has_narrowed_gives_no_more_than_is_left(site: Rig) -> None:
    desk = site.desk
    desk.plans.put("clerk", scopes=[WRITE, "a:r"])
    clerk = desk.issue(name="clerk", plan="clerk", scopes=[WRITE, "a:r"]).secret
    assert _try(site, clerk, "/keys", name="made", scopes=["a:r"]) == 200
    desk.plans.put("clerk", scopes=[WRITE])
    site.clock.advance(timedelta(seconds=2))
    assert _try(site, clerk, "/keys", name="made", scopes=["a:r"]) == 403
    desk.plans.put("clerk", scopes=[])
    site.clock.advance(timedelta(seconds=2))
    assert _try(site, clerk, "/keys", name="made") == 403


NARROW: dict[str, Any] = {"scopes": [WRITE, "a:r"], "limits": ["100/minute"], "quotas": ["1000/day"]}


@pytest.mark.parametrize("field", NARROW)
def test_what_a_key_states_under_its_plan_it_leaves_to_the_plan_of_no_key(site: Rig, field: str) -> None:
    """Today the plan gives no more than the caller states. Should it give more tomorrow, that is not for this caller:
    nor for a key that it makes, or takes over, or for itself.
    """
    desk = site.desk
    desk.plans.put("clerk", **NARROW)
    about = {"name": "made", "owner": "acme", "plan": "clerk"}
    clerk = desk.issue(**about, **{field: NARROW[field]})
    open_ = desk.issue(**about)
    assert _try(site, clerk.secret, "/keys", **about) == 403
    made = site.call("/keys", clerk.secret, "POST", json={**about, field: NARROW[field]})
    assert made.status_code == 200
    for key_id in (clerk.key.id, made.get_json()["id"]):
        before = desk.get_key(key_id)
        assert _try(site, clerk.secret, f"/keys/{key_id}/update", **{field: []}) == 403
        assert desk.get_key(key_id) == before
        assert _try(site, clerk.secret, f"/keys/{key_id}/update", description="x") == 200
    assert _try(site, clerk.secret, f"/keys/{open_.key.id}/rotate") == 403
    assert _try(site, open_.secret, "/keys", **about) == 200  # who leaves it to the plan may let others do so

    desk.plans.put("clerk", scopes=[WRITE, "a:r", "a:w"], limits=["1000/minute"], quotas=["9000/day"])
    site.clock.advance(timedelta(seconds=2))
    for key in desk.list_keys().keys:
        assert (getattr(key, field) == getattr(clerk.key, field)) is (key.id in (clerk.key.id, made.get_json()["id"]))
