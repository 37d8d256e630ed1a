"""No sequence of calls by a restricted caller yields a key that can do more than it (property)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from keydesk import Key

from .rig import ManagementRig

OWNERS = st.sampled_from(["acme", "other", None])
SCOPES = [
    "*", "orders:*", "orders:read", "orders:write", "keydesk:*", "keydesk:keys:write", "keydesk:keys:read",
    "keydesk:plans:write",
]  # fmt: skip
# One or two fields, as more are hardly ever permitted; where a key is made, the rest is as the caller's own.
FIELDS = st.lists(
    st.one_of(
        st.tuples(st.just("owner"), OWNERS),
        st.tuples(st.just("environment"), st.sampled_from(["live", "test"])),
        st.tuples(st.just("plan"), st.sampled_from(["wide", "narrow", "none", None])),
        st.tuples(st.just("scopes"), st.lists(st.sampled_from(SCOPES), max_size=2)),
        st.tuples(st.just("networks"), st.sampled_from([[], ["127.0.0.1"], ["0.0.0.0/0"], ["10.0.0.0/8"]])),
        st.tuples(st.just("limits"), st.sampled_from([[], ["5/minute"], ["1000/minute"], ["1000/second"]])),
        st.tuples(st.just("quotas"), st.sampled_from([[], ["5/day"], ["10000/day"], ["10001/day"], ["9/total"]])),
        st.tuples(st.just("expires_at"), st.sampled_from([None, 1, 100, 101, 1000])),  # in days
    ),
    max_size=2,
).map(dict)
PLAN = st.fixed_dictionaries(
    {}, optional={"scopes": st.lists(st.sampled_from(["*", "orders:read", "orders:*"]), max_size=2)}
)
WHICH = st.integers(0, 7)  # of the keys there are by then, and of the secrets the caller has seen
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), WHICH, WHICH, FIELDS),
        st.tuples(st.just("many"), WHICH, WHICH, FIELDS),
        st.tuples(st.just("update"), WHICH, WHICH, FIELDS),
        st.tuples(st.sampled_from(["rotate", "disable", "enable"]), WHICH, WHICH, st.just({})),
        st.tuples(st.just("plan"), WHICH, WHICH, PLAN),
        st.tuples(st.just("wait"), WHICH, WHICH, st.just({})),
    ),
    max_size=10,
)
CALLER = st.fixed_dictionaries(
    {
        "owner": OWNERS,
        "scopes": st.sampled_from(
            [("keydesk:keys:write",), ("keydesk:keys:*", "orders:read"), ("keydesk:*", "orders:read")]
        ),
        "networks": st.sampled_from([(), ("127.0.0.0/8",)]),
        "limits": st.sampled_from([(), ("1000/minute",)]),
        "quotas": st.sampled_from([(), ("10000/day",)]),
        "expires_at": st.sampled_from([None, 100]),
        "plan": st.sampled_from([None, "narrow", "own"]),
    }
)
ASKED = ("orders:read", "orders:write", "stock:read", "keydesk:keys:write", "keydesk:plans:write", "keydesk:verify")


def what_it_can_do(api: ManagementRig, secret: str) -> tuple[Key | None, set[str], set[str]]:
    """Return the key of a secret as it is judged, the scopes it passes with, and the places it passes from."""
    decision = api.desk.verify(secret, client_address="127.0.0.1", test=True)
    if not decision.allowed or decision.key is None:
        return None, set(), set()
    scopes = {s for s in ASKED if api.desk.verify(secret, scopes=[s], client_address="127.0.0.1", test=True).allowed}
    places = {
        place
        for place in ("127.0.0.1", "127.9.9.9", "10.0.0.1", "8.8.8.8")
        if api.desk.verify(secret, client_address=place, test=True).allowed
    }
    return decision.key, scopes, places


def require_no_more(api: ManagementRig, own: tuple[Key, set[str], set[str]], yielded: str) -> None:
    """See that a secret can do no more than its maker could, before the first call."""
    held, held_scopes, held_places = own
    key, scopes, places = what_it_can_do(api, yielded)
    if key is None:
        return
    assert scopes <= held_scopes
    assert places <= held_places
    assert held.owner is None or key.owner == held.owner
    assert key.environment == held.environment
    assert held.expires_at is None or (key.expires_at is not None and key.expires_at <= held.expires_at)
    for limit in held.limits:
        tighter = [mine.count <= limit.count and mine.window_seconds >= limit.window_seconds for mine in key.limits]
        assert any(tighter), (limit, key.limits)
    for quota in held.quotas:
        smaller = [mine.count <= quota.count and mine.period == quota.period for mine in key.quotas]
        assert any(smaller), (quota, key.quotas)


@settings(max_examples=100)
@given(fields=CALLER, calls=CALLS)
def test_no_sequence_of_calls_yields_more_than_the_caller_holds(
    still: ManagementRig, fields: dict[str, Any], calls: list[tuple[str, int, int, dict[str, Any]]]
) -> None:
    api, begin = still, still.clock.now()

    def dated(given_fields: dict[str, Any]) -> dict[str, Any]:
        days = given_fields.get("expires_at")
        return given_fields if days is None else {**given_fields, "expires_at": begin + timedelta(days=days)}

    def sent(given_fields: dict[str, Any]) -> dict[str, Any]:
        found = dated(given_fields)
        return found if found.get("expires_at") is None else {**found, "expires_at": found["expires_at"].isoformat()}

    api.desk.plans.put("wide", scopes=["*"], limits=[])
    api.desk.plans.put("narrow", scopes=["keydesk:keys:write", "orders:read"], limits=["10/minute"])
    api.desk.plans.put("own", scopes=["keydesk:*", "orders:*"], limits=["2000/minute"])
    # Keys that were there before, some stronger, of the caller's owner and of others.
    there = [api.issue(scopes=["*"], owner=owner).key.id for owner in ("acme", "other", None)]
    caller = api.issue(**dated(fields if fields["plan"] is None else {**fields, "scopes": ()}))
    key, scopes, places = what_it_can_do(api, caller.secret)
    assert key is not None
    own = {name: value for name, value in fields.items() if fields["plan"] is None or name != "scopes"}
    ids, secrets = [*there, caller.key.id], [caller.secret]
    for verb, which, who, given_fields in calls:
        by, path = secrets[who % len(secrets)], f"/v1/keys/{ids[-1 - which % len(ids)]}"
        made = {"name": "x", **sent(own), **sent(given_fields)}
        if verb == "issue":
            answer = api.post("/v1/keys", made, by=by)
        elif verb == "many":
            answer = api.post("/v1/bulk/issue", {"keys": [made] * 2}, by=by)
        elif verb == "update":
            change = {name: value for name, value in sent(given_fields).items() if name != "environment"}
            answer = api.call("PATCH", path, change, by=by)
        elif verb == "plan":
            answer = api.call("PUT", "/v1/plans/" + ("narrow", "wide", "own")[which % 3], given_fields, by=by)
        elif verb == "wait":
            api.clock.advance(timedelta(days=20))
            continue
        else:
            answer = api.post(f"{path}/{verb}", by=by)
        assert answer.status_code < 500
        body = answer.get_json()
        new = [body] if "secret" in body else body.get("keys", [])
        secrets += [each["secret"] for each in new if each.get("secret")]
        ids += [each["key"]["id"] for each in new if "key" in each]
        for secret in secrets:
            require_no_more(api, (key, scopes, places), secret)
