from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from keydesk import (
    Desk,
    DuplicateSecret,
    HeldKey,
    InvalidField,
    Key,
    KeyNotFound,
    NotPermitted,
    Reason,
    Refused,
    StateConflict,
    Status,
)
from keydesk.events import Event
from keydesk.keys.record import MAX_SECRETS, parse_fields
from keydesk.testing import START, ManualClock
from keydesk.testing.stores import all_events

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
NOBODY = "key_" + "0" * 28


def last_event(desk: Desk) -> Event:
    return all_events(desk.store)[-1].event  # type: ignore[arg-type]


def count(desk: Desk) -> int:
    return len(all_events(desk.store))  # type: ignore[arg-type]


def held(desk: Desk, text: str, name: str = "imported", **fields: Any) -> HeldKey:
    return HeldKey(parse_fields({"name": name, **fields}), desk.mint.secret(text, number=1, now=desk.clock.now()))


# Issuing


def test_issue(desk: Desk) -> None:
    issued = desk.issue(
        name=" Mobile app ",
        owner="acme",
        description="for phones",
        environment="test",
        scopes=["orders:read"],
        networks=["10.0.0.0/8"],
        limits=["100/minute"],
        quotas=["5/day"],
        expires_at=START + DAY,
        actor="tester",
    )
    assert issued.secret.startswith("kd_test_")
    assert desk.get_key(issued.key.id) == issued.key
    assert (issued.key.name, issued.key.version, issued.key.created_at) == ("Mobile app", 1, START)
    event = last_event(desk)
    assert (event.kind, event.actor, event.at, event.key_id, event.owner) == (
        "key.issued",
        "tester",
        START,
        issued.key.id,
        "acme",
    )
    assert event.details == {
        "name": "Mobile app",
        "description": "for phones",
        "environment": "test",
        "scopes": ["orders:read"],
        "networks": ["10.0.0.0/8"],
        "limits": ["100/minute"],
        "quotas": ["5/day"],
        "expires_at": (START + DAY).isoformat(),
        "hint": issued.key.secrets[0].hint,
    }


def test_issue_with_nothing_but_a_name(desk: Desk) -> None:
    issued = desk.issue(name="x")
    assert desk.verify(issued.secret).allowed
    assert last_event(desk).details == {"name": "x", "environment": "live", "hint": issued.key.secrets[0].hint}
    assert last_event(desk).actor == "python"


@pytest.mark.parametrize(
    "given",
    [{"name": ""}, {"scopes": ["x"]}, {"environment": "prod"}, {"expires_at": START}, {"expires_at": START - TICK}],
)
def test_issue_refused_writes_nothing(desk: Desk, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        desk.issue(**{"name": "x", **given})
    assert desk.list_keys().keys == ()
    assert count(desk) == 0


ACTORS = ["", " ", "x" * 201, "a\nb", "a\0b", "\x1b[31m", "\ud800"]


@pytest.mark.parametrize("actor", ACTORS)
def test_actor_refused_everywhere(desk: Desk, actor: str) -> None:
    """On PostgreSQL such an actor would have failed in the database, on SQLite it would have gone into the log."""
    key = desk.issue(name="x").key
    calls: list[Callable[[], object]] = [
        lambda: desk.issue(name="x", actor=actor),
        lambda: desk.update(key.id, name="y", actor=actor),
        lambda: desk.rotate(key.id, actor=actor),
        lambda: desk.disable(key.id, actor=actor),
        lambda: desk.revoke(key.id, actor=actor),
        lambda: desk.import_keys([held(desk, "imported-secret-0123456789")], actor=actor),
        lambda: list(desk.prune(ended_for=DAY, actor=actor)),
    ]
    for call in calls:
        with pytest.raises(InvalidField, match="actor"):
            call()
    assert count(desk) == 1
    assert desk.get_key(key.id) == key


# Importing


def test_import_keys(desk: Desk) -> None:
    assert desk.import_keys(held(desk, f"imported-secret-{n:020}", f"n{n}") for n in range(3)) == 3
    assert desk.verify(f"imported-secret-{1:020}").key.name == "n1"  # type: ignore[union-attr]
    assert last_event(desk).kind == "key.imported"
    assert desk.import_keys([]) == 0


def test_import_keys_all_or_none(desk: Desk) -> None:
    desk.import_keys([held(desk, "imported-secret-0123456789")])

    def broken() -> Iterator[HeldKey]:
        yield held(desk, "another-secret-0123456789")
        raise LookupError("line 2")

    with pytest.raises(LookupError, match="line 2"):
        desk.import_keys(broken())
    with pytest.raises(DuplicateSecret):
        desk.import_keys([held(desk, "another-secret-0123456789"), held(desk, "imported-secret-0123456789")])
    assert len(desk.list_keys().keys) == count(desk) == 1


# Rotating


def test_rotate(desk: Desk, clock: ManualClock) -> None:
    first = desk.issue(name="x", owner="acme", scopes=["a:b"])
    clock.advance(DAY)
    second = desk.rotate(first.key.id, overlap=timedelta(hours=24), actor="me")
    assert second.key.id == first.key.id
    assert second.key.scopes == first.key.scopes
    assert second.key.version == 2
    assert [s.number for s in second.key.secrets] == [1, 2]
    assert [s.expires_at for s in second.key.secrets] == [START + 2 * DAY, None]
    assert desk.verify(first.secret).allowed
    assert desk.verify(second.secret).allowed
    event = last_event(desk)
    assert event.kind == "key.rotated"
    assert event.details == {
        "secret": 2,
        "hint": second.key.secrets[1].hint,
        "previous_end_at": (START + 2 * DAY).isoformat(),
    }


def test_rotate_with_overlap_0_ends_the_others_at_once(desk: Desk, clock: ManualClock) -> None:
    first = desk.issue(name="x")
    clock.advance(1)
    second = desk.rotate(first.key.id)
    clock.advance(1)
    third = desk.rotate(first.key.id, overlap=timedelta(0))
    assert [desk.verify(i.secret).reason for i in (first, second, third)] == [Reason.EXPIRED, Reason.EXPIRED, None]


def test_rotate_never_lengthens_a_secret_that_is_ending(desk: Desk, clock: ManualClock) -> None:
    first = desk.issue(name="x")
    second = desk.rotate(first.key.id, overlap=timedelta(hours=1))
    third = desk.rotate(first.key.id, overlap=timedelta(hours=5))
    assert [s.expires_at for s in third.key.secrets] == [START + timedelta(hours=1), START + timedelta(hours=5), None]
    clock.advance(timedelta(hours=1))
    assert [desk.verify(i.secret).allowed for i in (first, second, third)] == [False, True, True]


def test_rotate_up_to_ten_secrets_that_go_on(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x")
    secrets = [issued.secret] + [desk.rotate(issued.key.id).secret for _ in range(MAX_SECRETS - 1)]
    assert all(desk.verify(secret).allowed for secret in secrets)
    with pytest.raises(StateConflict, match="10 secrets"):
        desk.rotate(issued.key.id)
    assert all(desk.verify(secret).allowed for secret in secrets)
    assert count(desk) == MAX_SECRETS
    ended = desk.rotate(issued.key.id, overlap=timedelta(0))
    assert len(ended.key.secrets) == MAX_SECRETS
    assert [desk.verify(secret).allowed for secret in (*secrets, ended.secret)] == [False] * MAX_SECRETS + [True]


def test_rotate_drops_the_oldest_ended_ones(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x")
    for _ in range(30):
        clock.advance(2 * DAY)
        last = desk.rotate(issued.key.id)
    assert len(last.key.secrets) == MAX_SECRETS
    assert [s.number for s in last.key.secrets] == list(range(22, 32))
    assert desk.verify(issued.secret).reason is Reason.INVALID  # dropped for good


@pytest.mark.parametrize("overlap", [-TICK, timedelta(days=366) + TICK, timedelta.max])
def test_rotate_wrong_overlap(desk: Desk, overlap: timedelta) -> None:
    with pytest.raises(InvalidField, match="overlap"):
        desk.rotate(desk.issue(name="x").key.id, overlap=overlap)


# States


# What each state refuses.
TRANSITIONS = {
    "active": {"enable", "delete"},
    "expired": {"enable", "rotate", "delete"},
    "disabled": {"disable", "rotate", "delete"},
    "revoked": {"disable", "enable", "rotate", "revoke", "update"},
}


@pytest.mark.parametrize("state", TRANSITIONS)
@pytest.mark.parametrize("change", ["disable", "enable", "rotate", "revoke", "update", "delete"])
def test_change_in_each_state(desk: Desk, clock: ManualClock, state: str, change: str) -> None:
    key_id = desk.issue(name="x", expires_at=START + DAY).key.id
    if state == "expired":
        clock.advance(DAY)
    elif state != "active":
        getattr(desk, {"disabled": "disable", "revoked": "revoke"}[state])(key_id)
    before, events = desk.get_key(key_id), count(desk)
    call = getattr(desk, change)
    arguments = {"description": "new"} if change == "update" else {}
    if change in TRANSITIONS[state]:
        with pytest.raises(StateConflict, match=key_id) as caught:
            call(key_id, **arguments)
        assert before.status_at(clock.now()) in str(caught.value)
        assert desk.get_key(key_id) == before
        assert count(desk) == events
    else:
        call(key_id, **arguments)
        assert count(desk) == events + 1
        after = desk.find_key(key_id)
        assert (after is None) == (change == "delete")
        assert after is None or after.version == before.version + 1


def test_disable_and_enable(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x")
    at = clock.advance(1)
    assert desk.disable(issued.key.id, actor="me").disabled_at == at
    assert (last_event(desk).kind, last_event(desk).actor, last_event(desk).at) == ("key.disabled", "me", at)
    assert desk.verify(issued.secret).reason is Reason.DISABLED
    assert desk.enable(issued.key.id).disabled_at is None
    assert last_event(desk).kind == "key.enabled"
    assert desk.verify(issued.secret).allowed


def test_revoke(desk: Desk) -> None:
    issued = desk.issue(name="x", owner="acme")
    revoked = desk.revoke(issued.key.id, reason=" leaked ")
    assert (revoked.revoke_reason, revoked.revoked_at) == ("leaked", START)
    assert (last_event(desk).kind, last_event(desk).details) == ("key.revoked", {"reason": "leaked"})
    for reason in ("x" * 501, "a\0b"):
        with pytest.raises(InvalidField, match="reason"):
            desk.revoke(desk.issue(name="y").key.id, reason=reason)


def test_delete_keeps_the_events(desk: Desk) -> None:
    issued = desk.issue(name="x")
    desk.revoke(issued.key.id)
    desk.delete(issued.key.id)
    assert desk.find_key(issued.key.id) is None
    assert desk.verify(issued.secret).reason is Reason.INVALID
    assert [row.event.kind for row in desk.list_events(key_id=issued.key.id)] == [
        "key.issued",
        "key.revoked",
        "key.deleted",
    ]
    assert last_event(desk).details == {"name": "x"}


# Updating


def test_update(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x", scopes=["a:b"], owner="acme")
    at = clock.advance(1)
    after = desk.update(issued.key.id, name="y", scopes=["a:b", "c:d"], owner=None, expires_at=START + DAY, actor="me")
    assert (after.name, list(after.scopes), after.owner, after.version) == ("y", ["a:b", "c:d"], None, 2)
    assert (after.updated_at, after.created_at) == (at, START)
    assert after.secrets == issued.key.secrets
    event = last_event(desk)
    assert event.details == {
        "name": ["x", "y"],
        "scopes": [["a:b"], ["a:b", "c:d"]],
        "owner": ["acme", None],
        "expires_at": [None, (START + DAY).isoformat()],
    }


@pytest.mark.parametrize("fields", [{}, {"name": "x"}, {"name": " x ", "scopes": ("a:b", "a:b")}])
def test_update_to_the_same_writes_nothing(desk: Desk, fields: dict[str, Any]) -> None:
    key = desk.issue(name="x", scopes=["a:b"]).key
    assert desk.update(key.id, **fields) == key
    assert count(desk) == 1


@pytest.mark.parametrize(
    "fields", [{"environment": "test"}, {"id": "x"}, {"secrets": ()}, {"revoked_at": None}, {"name": ""}]
)
def test_update_refused(desk: Desk, fields: dict[str, Any]) -> None:
    key = desk.issue(name="x").key
    with pytest.raises(InvalidField):
        desk.update(key.id, **fields)
    assert desk.get_key(key.id) == key
    assert count(desk) == 1


def test_update_expired_key_to_go_on(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x", expires_at=START + DAY)
    clock.advance(DAY)
    desk.update(issued.key.id, expires_at=clock.now() + DAY)
    assert desk.verify(issued.secret).allowed


@pytest.mark.parametrize(
    "call",
    [
        lambda desk: desk.get_key(NOBODY),
        lambda desk: desk.update(NOBODY, name="x"),
        lambda desk: desk.rotate(NOBODY),
        lambda desk: desk.disable(NOBODY),
        lambda desk: desk.enable(NOBODY),
        lambda desk: desk.revoke(NOBODY),
        lambda desk: desk.delete(NOBODY),
    ],
)
def test_no_such_key(desk: Desk, call: Callable[[Desk], object]) -> None:
    with pytest.raises(KeyNotFound, match=NOBODY):
        call(desk)
    assert desk.find_key(NOBODY) is None
    assert count(desk) == 0


# On behalf of a key


@pytest.fixture
def caller(desk: Desk) -> Key:
    return desk.issue(
        name="caller",
        owner="acme",
        scopes=["keydesk:keys:write", "orders:*"],
        networks=["10.0.0.0/8"],
        limits=["100/minute"],
    ).key


INSIDE: dict[str, Any] = {"owner": "acme", "scopes": ["orders:read"], "networks": ["10.0.0.1"], "limits": ["10/minute"]}


def test_by_is_the_actor(desk: Desk, caller: Key) -> None:
    key = desk.issue(name="x", **INSIDE, by=caller, actor="somebody else").key
    for change in (
        lambda: desk.update(key.id, name="y", by=caller),
        lambda: desk.rotate(key.id, by=caller),
        lambda: desk.disable(key.id, by=caller),
        lambda: desk.enable(key.id, by=caller),
        lambda: desk.revoke(key.id, by=caller),
        lambda: desk.delete(key.id, by=caller),
    ):
        assert last_event(desk).actor == caller.id
        change()
    assert last_event(desk).actor == caller.id


@pytest.mark.parametrize(
    "more",
    [{"owner": "other"}, {"owner": None}, {"scopes": ["*"]}, {"networks": []}, {"limits": []}, {"environment": "test"}],
)
def test_by_may_give_no_more_than_it_holds(desk: Desk, caller: Key, more: dict[str, Any]) -> None:
    events = count(desk)
    with pytest.raises(NotPermitted):
        desk.issue(name="x", **{**INSIDE, **more}, by=caller)
    assert count(desk) == events
    key = desk.issue(name="x", **INSIDE).key
    if "environment" not in more:
        with pytest.raises(NotPermitted):
            desk.update(key.id, **more, by=caller)
    assert desk.get_key(key.id) == key


def test_by_may_not_touch_a_key_that_holds_more(desk: Desk, caller: Key) -> None:
    """Rotating it would hand its new secret to somebody with less."""
    stronger = desk.issue(name="stronger", owner="acme", scopes=["*"]).key
    for call in (
        lambda: desk.rotate(stronger.id, by=caller),
        lambda: desk.update(stronger.id, description="x", by=caller),
        lambda: desk.update(stronger.id, scopes=["orders:read"], by=caller),
    ):
        with pytest.raises(NotPermitted):
            call()
    desk.disable(stronger.id, by=caller)  # ending is always less
    with pytest.raises(NotPermitted):
        desk.enable(stronger.id, by=caller)
    desk.revoke(stronger.id, by=caller)


def test_by_of_another_owner_may_touch_nothing(desk: Desk, caller: Key) -> None:
    other = desk.issue(name="x", **{**INSIDE, "owner": "other"}).key
    for name in ("disable", "enable", "rotate", "revoke", "delete"):
        with pytest.raises(NotPermitted, match="owner 'acme'"):
            getattr(desk, name)(other.id, by=caller)
    with pytest.raises(NotPermitted):
        desk.update(other.id, owner="acme", by=caller)
    assert desk.get_key(other.id) == other


# Pruning


def test_prune(desk: Desk, clock: ManualClock) -> None:
    issued = {name: desk.issue(name=name, expires_at=START + DAY if name == "expired" else None) for name in (
        "active", "disabled", "revoked", "revoked later", "expired", "rotated", "rotating")}  # fmt: skip
    ids = {name: one.key.id for name, one in issued.items()}
    desk.disable(ids["disabled"])
    desk.revoke(ids["revoked"])
    desk.rotate(ids["rotated"], overlap=timedelta(0))
    desk.rotate(ids["rotating"], overlap=20 * DAY)
    clock.advance(10 * DAY)
    desk.revoke(ids["revoked later"])
    events = count(desk)
    done = dict(desk.prune(ended_for=5 * DAY, actor="cron"))
    assert done == {ids["revoked"]: "key.deleted", ids["expired"]: "key.deleted", ids["rotated"]: "key.pruned"}
    assert {key.name for key in desk.list_keys().keys} == {"active", "disabled", "revoked later", "rotated", "rotating"}
    assert [s.number for s in desk.get_key(ids["rotated"]).secrets] == [2]
    assert [s.number for s in desk.get_key(ids["rotating"]).secrets] == [1, 2]
    assert count(desk) == events + 3
    assert last_event(desk).actor == "cron"
    assert dict(desk.prune(ended_for=5 * DAY)) == {}


@pytest.mark.parametrize("ended_for", [-TICK, timedelta.max, timedelta.min])
def test_prune_wrong_duration(desk: Desk, ended_for: timedelta) -> None:
    with pytest.raises(InvalidField, match="ended_for"):
        list(desk.prune(ended_for=ended_for))


def test_prune_of_a_key_that_somebody_deletes_meanwhile(desk: Desk, clock: ManualClock) -> None:
    keys = [desk.issue(name=f"n{n}").key for n in range(3)]
    for key in keys:
        desk.revoke(key.id)
    clock.advance(DAY)
    pruning = desk.prune(ended_for=timedelta(0))
    first, _ = next(pruning)
    other = next(key.id for key in keys if key.id != first)
    desk.delete(other)
    assert {key_id for key_id, _ in pruning} == {key.id for key in keys} - {first, other}


# Reading


def test_require(desk: Desk) -> None:
    issued = desk.issue(name="x", scopes=["a:b"])
    assert desk.require(issued.secret, scopes=["a:b"]) == issued.key
    with pytest.raises(Refused, match="scope_denied") as caught:
        desk.require(issued.secret, scopes=["c:d"])
    assert caught.value.decision.missing_scopes == ("c:d",)


@pytest.mark.parametrize("scopes", ["orders:read", "a", ["orders:*"], ["x"]])
def test_verify_wrong_requirement_is_the_callers_error(desk: Desk, scopes: Any) -> None:
    for call in (desk.verify, desk.require, desk.explain):
        with pytest.raises(InvalidField, match=r"scopes|list"):
            call("some-imported-secret", scopes=scopes)
        with pytest.raises(InvalidField):
            call("some-imported-secret", any_of=scopes)


def test_list_keys_and_events(desk: Desk) -> None:
    keys = [desk.issue(name=f"n{n}", owner="odd" if n % 2 else "even").key for n in range(5)]
    assert {key.id for key in desk.list_keys(owner="odd").keys} == {keys[1].id, keys[3].id}
    assert len(desk.list_keys(status=Status.ACTIVE, text="n1").keys) == 1
    page = desk.list_keys(size=3)
    assert len(desk.list_keys(size=3, cursor=page.next_cursor).keys) == 2
    assert [row.number for row in desk.list_events(after=3)] == [4, 5]
    assert desk.check_chain().rows == 5
    for wrong in ({"owner": "a\0"}, {"text": "x" * 201}, {"cursor": "x"}, {"size": 0}):
        with pytest.raises(InvalidField):
            desk.list_keys(**wrong)  # type: ignore[arg-type]


def test_change_from_threads_loses_nothing(desk: Desk) -> None:
    key = desk.issue(name="x").key
    threads = [threading.Thread(target=lambda n=n: desk.update(key.id, description=f"d{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert desk.get_key(key.id).version == 21
    changes = [row.event.details["description"] for row in desk.list_events(after=1)]
    assert all(before[1] == after[0] for before, after in pairwise(changes))


def test_clock_in_another_zone(desk: Desk) -> None:
    from zoneinfo import ZoneInfo

    ends = datetime(2027, 1, 31, 12, tzinfo=ZoneInfo("Asia/Kathmandu"))
    key = desk.issue(name="x", expires_at=ends).key
    assert key.expires_at == ends
    assert key.expires_at is not None
    assert key.expires_at.utcoffset() == timedelta(0)
