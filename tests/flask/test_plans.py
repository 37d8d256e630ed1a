"""A plan edited is in force on the next request once `max_staleness` has passed; what a view sees is what counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keydesk import Desk, open_desk
from keydesk.flask import current_key
from keydesk.testing import ManualClock

from .rig import Rig


def _with_views(rig: Rig) -> Rig:
    @rig.app.get("/")
    @rig.keys.require("orders:read")
    def index() -> dict[str, list[str]]:
        return {"scopes": list(current_key.scopes), "limits": list(map(str, current_key.limits))}

    return rig


@pytest.fixture
def workers(clock: ManualClock, tmp_path: Path) -> Iterator[tuple[Rig, Desk]]:
    """A worker of an application, and a desk elsewhere on the same database."""
    settings = {"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db", "KEYDESK_MAX_STALENESS_SECONDS": 1.0}
    rig = _with_views(Rig(clock, **settings))
    desk = open_desk(settings, clock=clock)
    yield rig, desk
    rig.close()
    desk.close()


def test_plan_edited_is_in_force_within_max_staleness(workers: tuple[Rig, Desk], clock: ManualClock) -> None:
    rig, desk = workers
    desk.plans.put("gold", scopes=["orders:read", "stock:read"], limits=["100/minute"])
    secrets = [desk.issue(name=f"{n}", plan="gold").secret for n in range(3)]
    for secret in secrets:
        answer = rig.call("/", secret)
        assert answer.get_json() == {"scopes": ["orders:read", "stock:read"], "limits": ["100/minute"]}
        assert answer.headers["RateLimit-Policy"] == '"100/minute";q=100;w=60'
    desk.plans.put("gold", limits=["50/minute"])
    clock.advance(1.01)
    for secret in secrets:
        assert rig.call("/", secret).headers["RateLimit-Policy"] == '"50/minute";q=50;w=60'
    desk.plans.put("gold", scopes=["stock:read"])
    clock.advance(1.01)
    assert [rig.status("/", secret) for secret in secrets] == [403, 403, 403]
    desk.plans.put("gold", scopes=["*"])
    clock.advance(1.01)
    assert [rig.status("/", secret) for secret in secrets] == [200, 200, 200]


def test_owners_limit_is_shared_by_its_keys(workers: tuple[Rig, Desk], clock: ManualClock) -> None:
    rig, desk = workers
    issue = lambda **fields: desk.issue(name="x", scopes=["orders:read"], **fields).secret  # noqa: E731
    one, two = issue(owner="acme", limits=["2/minute"]), issue(owner="acme")
    other = issue(owner="other")
    assert rig.status("/", two) == 200
    desk.owners.put("acme", limits=["3/minute"])
    clock.advance(1.01)
    assert [rig.status("/", one) for _ in range(3)] == [200, 200, 429]
    assert rig.call("/", one).get_json()["violated_policies"] == ["2/minute"]
    assert [rig.status("/", two) for _ in range(2)] == [200, 429]
    answer = rig.call("/", two)
    assert answer.get_json()["violated_policies"] == ["3/minute per owner"]
    assert answer.headers["RateLimit-Policy"] == '"3/minute per owner";q=3;w=60'
    assert rig.status("/", other) == 200
    desk.owners.delete("acme")
    clock.advance(1.01)
    assert rig.status("/", two) == 200


def test_key_may_narrow_its_plan(workers: tuple[Rig, Desk]) -> None:
    rig, desk = workers
    desk.plans.put("gold", scopes=["orders:read", "stock:read"], limits=["5/minute"])
    narrow = desk.issue(name="x", plan="gold", scopes=["orders:read"], limits=["3/minute"]).secret
    wide = desk.issue(name="x", plan="gold", limits=["9/minute"]).secret
    assert rig.call("/", narrow).get_json() == {"scopes": ["orders:read"], "limits": ["3/minute"]}
    assert rig.call("/", wide).get_json()["limits"] == ["5/minute"]
    assert [rig.status("/", narrow) for _ in range(3)] == [200, 200, 429]
    assert [rig.status("/", wide) for _ in range(5)] == [200, 200, 200, 200, 429]


def test_plan_removed_by_hand_is_503(workers: tuple[Rig, Desk], clock: ManualClock) -> None:
    rig, desk = workers
    desk.plans.put("gold", scopes=["orders:read"])
    secret = desk.issue(name="x", plan="gold").secret
    with desk.store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("DELETE FROM keydesk_plans")
    assert rig.status("/", secret) == 503
    desk.plans.put("gold", scopes=["orders:read"])
    clock.advance(1.01)
    assert rig.status("/", secret) == 200
