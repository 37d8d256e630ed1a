"""Number 19: expiry at the edge. A key ends at the very instant it names: not a microsecond later, nor earlier."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from keydesk import Desk, InvalidField, Reason
from keydesk.flask import current_key
from keydesk.testing import ManualClock

from ..flask.rig import Rig

TICK = timedelta(microseconds=1)
SPANS = [TICK, timedelta(seconds=1), timedelta(days=1, microseconds=999_999), timedelta(days=365, microseconds=1)]


@pytest.mark.parametrize("span", SPANS)
def test_key_over_http(rig: Rig, span: timedelta) -> None:
    end = rig.clock.now() + span
    secret = rig.secret(expires_at=end)
    rig.clock.advance(span - TICK)
    assert rig.status(secret=secret) == 200
    rig.clock.advance(TICK)
    answer = rig.call(secret=secret)
    assert (answer.status_code, answer.get_json()["reason"]) == (401, "expired")
    assert end.isoformat(timespec="seconds") in answer.get_json()["detail"]
    rig.clock.advance(TICK)
    assert rig.status(secret=secret) == 401


@pytest.mark.parametrize("overlap", [timedelta(0), *SPANS])
def test_rotation_over_http(rig: Rig, overlap: timedelta) -> None:
    old = rig.issue()
    new = rig.desk.rotate(old.key.id, overlap=overlap)
    if overlap:
        rig.clock.advance(overlap - TICK)
        assert (rig.status(secret=old.secret), rig.status(secret=new.secret)) == (200, 200)
        rig.clock.advance(TICK)
    assert rig.call(secret=old.secret).get_json()["reason"] == "expired"
    assert rig.status(secret=new.secret) == 200


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-11, minutes=-30))])
def test_every_store_keeps_the_microsecond(everywhere: Callable[..., Desk], clock: ManualClock, zone: timezone) -> None:
    """A column that rounds would let a key live half a second longer, or end it as early."""
    desk = everywhere()
    end = (clock.now() + timedelta(seconds=1, microseconds=500_001)).astimezone(zone)
    issued = desk.issue(name="client", expires_at=end)
    assert desk.get_key(issued.key.id).expires_at == end
    rotated = desk.issue(name="rotated")
    desk.rotate(rotated.key.id, overlap=timedelta(seconds=1, microseconds=500_001))
    clock.advance(timedelta(seconds=1, microseconds=500_000))
    assert desk.verify(issued.secret).allowed
    assert desk.verify(rotated.secret).allowed
    clock.advance(TICK)
    assert desk.verify(issued.secret).reason is Reason.EXPIRED
    assert desk.verify(rotated.secret).reason is Reason.EXPIRED


def test_every_store_lists_by_the_same_edge(everywhere: Callable[..., Desk], clock: ManualClock) -> None:
    """What the list calls expired is what the verifier refuses."""
    from keydesk import Status

    desk = everywhere()
    issued = desk.issue(name="client", expires_at=clock.now() + timedelta(seconds=1, microseconds=1))
    clock.advance(timedelta(seconds=1))
    for _ in range(3):
        active = [key.id for key in desk.list_keys(status=Status.ACTIVE).keys]
        expired = [key.id for key in desk.list_keys(status=Status.EXPIRED).keys]
        assert (issued.key.id in active) == desk.verify(issued.secret).allowed
        assert (issued.key.id in expired) != desk.verify(issued.secret).allowed
        clock.advance(TICK)


def test_extended_after_its_end(rig: Rig) -> None:
    issued = rig.issue(expires_at=rig.clock.now() + TICK)
    rig.clock.advance(TICK)
    assert rig.status(secret=issued.secret) == 401
    rig.desk.update(issued.key.id, expires_at=rig.clock.now() + TICK)
    assert rig.status(secret=issued.secret) == 200
    rig.clock.advance(TICK)
    assert rig.status(secret=issued.secret) == 401


def test_shortened_takes_effect_at_once(rig: Rig) -> None:
    issued = rig.issue(expires_at=rig.clock.now() + timedelta(days=30))
    assert rig.status(secret=issued.secret) == 200
    rig.desk.update(issued.key.id, expires_at=rig.clock.now())
    assert rig.status(secret=issued.secret) == 401


def test_second_rotation_does_not_prolong_the_first(rig: Rig) -> None:
    first = rig.issue()
    rig.desk.rotate(first.key.id, overlap=timedelta(hours=1))
    rig.desk.rotate(first.key.id, overlap=timedelta(days=300))
    rig.clock.advance(timedelta(hours=1))
    assert rig.status(secret=first.secret) == 401


def test_issue_in_the_past(rig: Rig) -> None:
    for end in (rig.clock.now(), rig.clock.now() - TICK):
        with pytest.raises(InvalidField, match="not in the future"):
            rig.issue(expires_at=end)
    with pytest.raises(InvalidField, match="no time zone"):
        rig.issue(expires_at=datetime(2030, 1, 1))  # noqa: DTZ001


def test_expires_while_the_view_runs(rig: Rig) -> None:
    """A request that was let in is served; a guard further in asks anew."""

    @rig.keys.require()
    def inner() -> str:
        return "inner"

    @rig.app.get("/slow")
    @rig.keys.require()
    def slow() -> str:
        rig.clock.advance(timedelta(seconds=2))
        return current_key.name + str(getattr(inner(), "status_code", "inner"))

    assert rig.call("/slow", rig.secret(expires_at=rig.clock.now() + timedelta(seconds=2))).text == "client401"
