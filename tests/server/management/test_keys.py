"""Keys: list, make, read, change, end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from keydesk import KeydeskError
from keydesk.ports import REMEMBERED

from .rig import ManagementRig, problem_of

FIELDS: dict[str, Any] = {
    "name": "Mobile app",
    "owner": "acme",
    "description": "on phones",
    "environment": "test",
    "scopes": ["orders:read"],
    "networks": ["203.0.113.0/24"],
    "limits": ["100/minute"],
    "quotas": ["1000/month"],
    "expires_at": "2027-06-01T00:00:00Z",
}


def test_issue_key_answers_with_the_secret_and_every_field(api: ManagementRig) -> None:
    tester = api.issue(scopes=["keydesk:*", "*"], environment="test")
    answer = api.post("/v1/keys", FIELDS, by=tester)
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.get_json()
    key = body["key"]
    assert {name: key[name] for name in FIELDS} == FIELDS
    assert key["status"] == "active"
    assert key["version"] == 1
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"/v1/keys/{key['id']}"
    assert api.desk.verify(body["secret"], client_address="203.0.113.9").allowed
    assert api.desk.list_events(key_id=key["id"])[0].event.actor == tester.key.id


def test_issue_key_takes_owner_and_environment_of_the_caller(api: ManagementRig) -> None:
    bound = api.issue(owner="acme", environment="test", scopes=["keydesk:keys:*"])
    key = api.post("/v1/keys", {"name": "x"}, by=bound).get_json()["key"]
    assert (key["owner"], key["environment"]) == ("acme", "test")


def test_get_key_shows_no_secret(api: ManagementRig) -> None:
    made = api.post("/v1/keys", {"name": "x"}).get_json()
    shown = api.get(f"/v1/keys/{made['key']['id']}")
    assert shown.get_json() == made["key"]
    assert shown.headers["ETag"] == '"1"'
    assert "digest" not in shown.get_data(as_text=True)
    assert made["secret"][-32:] not in shown.get_data(as_text=True)


@pytest.mark.parametrize(
    "path", ["key_" + "0" * 28, "key_", "x", "%00", "%F0%9F%92%A5", "kd_live_" + "a" * 38, "..", "key_' OR 1=1 --"]
)
@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/disable"),
        ("POST", "/enable"),
        ("POST", "/revoke"),
        ("GET", "/usage"),
    ],
)
def test_key_that_is_nobodys(still: ManagementRig, path: str, method: str, tail: str) -> None:
    body = problem_of(still.call(method, f"/v1/keys/{path}{tail}", {}), 404, "not_found")
    assert "a" * 30 not in str(body)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("name", None, "valid string"),
        ("name", "", "at least 1"),
        ("name", " ", "one line"),
        ("name", "a\nb", "one line"),
        ("name", "x" * 201, "at most 200"),
        ("name", 5, "valid string"),
        ("name", "kd_live_" + "a" * 38, "secret"),
        ("scopes", "orders:read", "list"),
        ("scopes", ["orders"], "pattern"),
        ("scopes", [5], "valid string"),
        ("scopes", ["a:b"] * 201, "at most 200"),
        ("networks", ["10.0.0.1/8"], "networks"),
        ("networks", ["nowhere"], "networks"),
        ("limits", ["often"], "not a limit"),
        ("limits", ["0/minute"], "not a limit"),
        ("quotas", ["5/week"], "not a quota"),
        ("expires_at", "tomorrow", "no moment"),
        ("expires_at", 1900000000, "no moment"),
        ("expires_at", "2027-01-01T00:00:00", "time zone"),
        ("expires_at", "2027-02-30T00:00:00Z", "no moment"),
        ("expires_at", "2027-01-01T00:00:00Z ", "no moment"),
        ("expires_at", ["2027-01-01T00:00:00Z"], "no moment"),
        ("expires_at", "2020-01-01T00:00:00Z", "future"),
        ("expires_at", "9999-12-31T23:59:59Z", "years"),
        ("environment", "prod", "'live' or 'test'"),
        ("plan", "no-such", "no plan"),
        ("plan", "No Such", "pattern"),
        ("owner", "", "at least 1"),
        ("owner", "\ud800", ""),
        ("secret", "mine", "not permitted"),
        ("id", "key_" + "0" * 28, "not permitted"),
        ("kd_live_" + "b" * 38, 1, "not permitted"),
    ],
)
def test_issue_key_fields_that_cannot_be(still: ManagementRig, field: str, value: Any, problem: str) -> None:
    there = still.desk.list_keys().keys
    answer = still.post("/v1/keys", {"name": "x", field: value})
    body = problem_of(answer, 422, "invalid_field")
    assert problem in body["detail"]
    assert "a" * 30 not in answer.get_data(as_text=True)
    assert "b" * 30 not in answer.get_data(as_text=True)
    assert body["problems"][0]["problem"]
    assert still.desk.list_keys().keys == there


# Lists


def test_list_keys_pages_and_filters(api: ManagementRig) -> None:
    now = api.clock.now()
    api.desk.plans.put("gold", scopes=["stock:*"])
    kept = {
        "a": api.issue(name="alpha", owner="acme", scopes=["orders:read"]),
        "b": api.issue(name="beta", owner="acme", plan="gold"),
        "c": api.issue(name="gamma", owner="other", scopes=["orders:*"], expires_at=now + timedelta(seconds=1)),
    }
    api.clock.advance(timedelta(minutes=5))
    late = api.clock.now()

    def found(**query: Any) -> set[str]:
        text = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
        names, cursor = [], ""
        while True:
            page = api.get(f"/v1/keys?size=1&{text}{cursor}").get_json()
            names += [key["name"] for key in page["keys"]]
            if page["next_cursor"] is None:
                return {*names} - {"admin"}
            cursor = f"&cursor={page['next_cursor']}"

    assert found() == {"alpha", "beta", "gamma"}
    assert found(owner="acme") == {"alpha", "beta"}
    assert found(plan="gold") == {"beta"}
    assert found(status="expired") == {"gamma"}
    assert found(scope="orders:read") == {"alpha", "gamma"}
    assert found(scope="stock:write") == {"beta"}
    assert found(scope="Orders:read") == set()
    assert found(text="ALPH") == {"alpha"}
    assert api.desk.verify(kept["a"].secret).allowed
    assert found(idle_since=late.isoformat()) == {"beta", "gamma"}
    assert found(owner="acme", scope="orders:read", status="active") == {"alpha"}


@pytest.mark.parametrize(
    "query",
    [
        "size=0", "size=1001", "size=x", "size=", "cursor=x", "cursor=", "status=gone", "colour=red", "plan=No",
        "scope=orders", "scope=orders:*", "idle_since=yesterday", "idle_since=2026-01-01T00:00:00", "owner=%00",
        "text=%0A", "owner=a&owner=b", "owner=" + "x" * 201, "idle_since=1700000000",
    ],
)  # fmt: skip
def test_list_keys_queries_that_cannot_be(still: ManagementRig, query: str) -> None:
    problem_of(still.get(f"/v1/keys?{query}"), 422, "invalid_field")


# Changes


def test_update_key_changes_what_is_sent_and_nothing_else(api: ManagementRig) -> None:
    key = api.issue(owner="acme", scopes=["orders:read"], description="old").key
    answer = api.call("PATCH", f"/v1/keys/{key.id}", {"description": "new", "expires_at": "2027-01-01T00:00:00+01:00"})
    body = answer.get_json()
    assert answer.status_code == 200
    assert (body["description"], body["scopes"], body["owner"]) == ("new", ["orders:read"], "acme")
    assert body["expires_at"] == "2026-12-31T23:00:00Z"
    assert answer.headers["ETag"] == '"2"'
    cleared = api.call("PATCH", f"/v1/keys/{key.id}", {"expires_at": None, "owner": None}).get_json()
    assert (cleared["expires_at"], cleared["owner"]) == (None, None)
    assert api.call("PATCH", f"/v1/keys/{key.id}", {}).get_json()["version"] == 3


@pytest.mark.parametrize("field", ["environment", "id", "version", "secrets", "status", "by", "if_version", "actor"])
def test_update_key_fields_that_are_not_to_be_changed(still: ManagementRig, field: str) -> None:
    key = still.issue().key
    problem_of(still.call("PATCH", f"/v1/keys/{key.id}", {field: "live"}), 422, "invalid_field")
    assert still.desk.get_key(key.id) == key


def test_if_match_refuses_a_lost_update(api: ManagementRig) -> None:
    key = api.issue().key
    path = f"/v1/keys/{key.id}"
    first = api.call("PATCH", path, {"name": "mine"}, If_Match='"1"')
    assert first.status_code == 200
    body = problem_of(api.call("PATCH", path, {"name": "theirs"}, If_Match='"1"'), 412, "version_conflict")
    assert body["version"] == 2
    assert api.desk.get_key(key.id).name == "mine"
    for tags in ('"1", "2"', "*", 'W/"9", "2"'):
        assert api.call("PATCH", path, {}, If_Match=tags).status_code == 200, tags
    for tags in ('W/"2"', '"02x"', '""', '"-2"'):
        problem_of(api.call("PATCH", path, {}, If_Match=tags), 412, "version_conflict")
    for tags in ("2", "'2'", '"2', "x" * 201):
        problem_of(api.call("PATCH", path, {}, If_Match=tags), 422, "invalid_field")


@pytest.mark.parametrize("verb", ["rotate", "disable", "revoke"])
def test_if_match_on_every_change(api: ManagementRig, verb: str) -> None:
    path = f"/v1/keys/{api.issue().key.id}"
    problem_of(api.post(f"{path}/{verb}", If_Match='"2"'), 412, "version_conflict")
    assert api.get(path).get_json()["version"] == 1
    assert api.post(f"{path}/{verb}", If_Match='"1"').status_code == 200
    if verb == "disable":
        problem_of(api.post(f"{path}/enable", If_Match='"1"'), 412, "version_conflict")
    if verb == "revoke":
        problem_of(api.call("DELETE", path, If_Match='"1"'), 412, "version_conflict")


def test_if_match_is_decided_within_the_change(api: ManagementRig) -> None:
    """Somebody changes the key after the request has looked at it, and before it changes it."""
    key, change = api.issue().key, api.desk.store.change  # type: ignore[attr-defined]

    def slow(key_id: str, decide: Any) -> Any:
        api.desk.store.change = change  # type: ignore[attr-defined]
        api.desk.update(key_id, name="theirs")
        return change(key_id, decide)

    api.desk.store.change = slow  # type: ignore[attr-defined]
    problem_of(api.call("PATCH", f"/v1/keys/{key.id}", {"name": "mine"}, If_Match='"1"'), 412, "version_conflict")
    assert api.desk.get_key(key.id).name == "theirs"


def test_rotate_key_answers_with_a_new_secret(api: ManagementRig) -> None:
    old = api.issue()
    answer = api.post(f"/v1/keys/{old.key.id}/rotate", {"overlap_seconds": 60})
    body = answer.get_json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(body["key"]["secrets"]) == 2
    assert api.desk.verify(old.secret).allowed
    assert api.desk.verify(body["secret"]).allowed
    api.clock.advance(timedelta(seconds=60))
    assert not api.desk.verify(old.secret).allowed
    assert api.desk.verify(body["secret"]).allowed
    for overlap in (-1, 366 * 86_400 + 1, "1", 1.5, 1e300, True, None):
        wrong = api.post(f"/v1/keys/{old.key.id}/rotate", {"overlap_seconds": overlap})
        problem_of(wrong, 422, "invalid_field")


def test_key_through_all_its_states(api: ManagementRig) -> None:
    issued = api.issue()
    path = f"/v1/keys/{issued.key.id}"
    problem_of(api.call("DELETE", path), 409, "conflict")
    problem_of(api.post(f"{path}/enable"), 409, "conflict")
    assert api.post(f"{path}/disable").get_json()["status"] == "disabled"
    problem_of(api.post(f"{path}/disable"), 409, "conflict")
    problem_of(api.post(f"{path}/rotate"), 409, "conflict")
    assert api.post(f"{path}/enable").get_json()["status"] == "active"
    revoked = api.post(f"{path}/revoke", {"reason": "leaked"}).get_json()
    assert (revoked["status"], revoked["revoke_reason"]) == ("revoked", "leaked")
    assert not api.desk.verify(issued.secret).allowed
    problem_of(api.call("PATCH", path, {"name": "y"}), 409, "conflict")
    problem_of(api.post(f"{path}/revoke"), 409, "conflict")
    gone = api.call("DELETE", path)
    assert (gone.status_code, gone.get_data()) == (204, b"")
    problem_of(api.get(path), 404, "not_found")
    kinds = [row.event.kind for row in api.desk.list_events(key_id=issued.key.id)]
    assert kinds == ["key.issued", "key.disabled", "key.enabled", "key.revoked", "key.deleted"]


# Idempotency


def test_idempotency_key_makes_one_key(api: ManagementRig) -> None:
    body = {"name": "x", "scopes": ["a:b"]}
    first = api.post("/v1/keys", body, Idempotency_Key="order-7")
    again = api.post("/v1/keys", {"scopes": ["a:b"], "name": "x"}, Idempotency_Key="order-7")
    assert first.status_code == 201
    assert again.status_code == 200
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.get_json()["key"] == first.get_json()["key"]
    assert again.get_json()["secret"] is None
    assert "rotate" in again.get_json()["detail"]
    assert len(api.desk.list_events()) == 2  # that of the administrator, and one
    assert api.post("/v1/keys", body, Idempotency_Key="order-8").status_code == 201
    assert api.post("/v1/keys", body).status_code == 201


def test_idempotency_key_of_another_request(api: ManagementRig) -> None:
    api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a")
    problem_of(api.post("/v1/keys", {"name": "y"}, Idempotency_Key="a"), 422, "idempotency_conflict")
    other_route = api.post("/v1/bulk/issue", {"keys": [{"name": "x"}]}, Idempotency_Key="a")
    problem_of(other_route, 422, "idempotency_conflict")
    assert len(api.desk.list_keys().keys) == 2


def test_idempotency_key_of_another_caller(api: ManagementRig) -> None:
    bound = api.issue(owner="acme", scopes=["keydesk:keys:*"])
    api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a")
    assert api.post("/v1/keys", {"name": "x"}, by=bound, Idempotency_Key="a").status_code == 201


def test_idempotency_key_is_forgotten_after_a_day(api: ManagementRig) -> None:
    api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a")
    api.clock.advance(REMEMBERED - timedelta(seconds=1))
    assert api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a").status_code == 200
    api.clock.advance(timedelta(seconds=1))
    assert api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a").status_code == 201


def test_idempotency_key_of_a_request_that_was_refused(api: ManagementRig) -> None:
    problem_of(api.post("/v1/keys", {"name": "x", "plan": "gold"}, Idempotency_Key="a"), 422, "invalid_field")
    api.desk.plans.put("gold", scopes=["a:b"])
    assert api.post("/v1/keys", {"name": "x", "plan": "gold"}, Idempotency_Key="a").status_code == 201


def test_idempotency_key_whose_key_is_gone(api: ManagementRig) -> None:
    key_id = api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a").get_json()["key"]["id"]
    api.desk.revoke(key_id)
    assert api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a").get_json()["key"]["status"] == "revoked"
    api.desk.delete(key_id)
    problem_of(api.post("/v1/keys", {"name": "x"}, Idempotency_Key="a"), 409, "conflict")


@pytest.mark.parametrize("name", ["", "x" * 256, "a b", "ü"])
def test_idempotency_key_that_cannot_be(still: ManagementRig, name: str) -> None:
    problem_of(still.post("/v1/keys", {"name": "x"}, Idempotency_Key=name), 422, "invalid_field")


def test_idempotency_key_is_not_kept_as_it_is(api: ManagementRig) -> None:
    """Somebody may take a secret for it."""
    made = api.post("/v1/keys", {"name": "x"}, Idempotency_Key="kd_live_" + "q" * 38)
    assert made.status_code == 201
    engine = getattr(api.desk.store, "engine", None)
    if engine is not None:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM keydesk_requests").all()
        assert len(rows) == 1
        assert "qqqq" not in str(rows)
        assert made.get_json()["secret"][8:] not in str(rows)


def test_read_only_store(quick: ManagementRig) -> None:
    rig = ManagementRig(quick.clock, KEYDESK_STORE="", API_KEYS={"held-secret-of-admin-0000001": {
        "name": "admin", "scopes": ["keydesk:*"]}})  # fmt: skip
    by = "held-secret-of-admin-0000001"
    (key,) = rig.get("/v1/keys", by=by).get_json()["keys"]
    problem_of(rig.post("/v1/keys", {"name": "x"}, by=by), 409, "read_only")
    problem_of(rig.post(f"/v1/keys/{key['id']}/revoke", by=by), 409, "read_only")
    problem_of(rig.get("/v1/events", by=by), 409, "read_only")
    rig.close()


def test_every_error_of_the_core_has_an_answer() -> None:
    """So that none becomes a 500: all that the desk's methods can raise, but those of other doors."""
    from keydesk.server.management.problems import of_error

    elsewhere = {"SettingsError", "ImportRefused", "Refused", "AddedBefore", "OwnerNotFound", "KeydeskError",
                 "StoreError", "DuplicateSecret", "AccessDenied"}  # fmt: skip
    made: dict[str, tuple[Any, ...]] = {
        "InvalidField": ("a", "b"), "KeyNotFound": ("k",), "PlanNotFound": ("p",), "StateConflict": ("s",),
        "VersionConflict": (1,), "NotPermitted": (["n"],), "LimiterUnavailable": ("l",), "StoreReadOnly": ("r",),
        "StoreUnavailable": ("u",), "SchemaMismatch": ("m",), "OtherRequest": (), "BadBody": ("b",),
    }  # fmt: skip

    def below(error: type[KeydeskError]) -> set[type[KeydeskError]]:
        return {error}.union(*(below(one) for one in error.__subclasses__()))

    for error in below(KeydeskError):
        if error.__module__.startswith(("keydesk.errors", "keydesk.server")) and error.__name__ not in elsewhere:
            assert 400 <= of_error(error(*made[error.__name__])).status < 600, error
