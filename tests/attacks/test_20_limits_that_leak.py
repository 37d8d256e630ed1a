"""Number 20: two applications share their limits; a long limit that refuses charges the short one; memory grows with
every made-up key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keydesk.limiting.memory import MemoryLimiter
from keydesk.testing import ManualClock

from ..flask.rig import Rig


def _statuses(rig: Rig, secret: str, count: int) -> list[int]:
    return [rig.status("/", secret) for _ in range(count)]


def test_two_applications_with_a_desk_each_share_nothing(clock: ManualClock, tmp_path: Path) -> None:
    rigs = [Rig(clock, name="same", KEYDESK_STORE=f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two")]
    for rig in rigs:
        rig.app.add_url_rule("/", "view", rig.keys.require()(rig.keys.limit("2/minute")(lambda: "in")))
    for rig in rigs:
        assert _statuses(rig, rig.secret(owner="acme", limits=["3/minute"]), 3) == [200, 200, 429]
        rig.close()


def test_refusal_of_the_long_limit_charges_no_short_one(new_rig: Callable[..., Rig]) -> None:
    rig = new_rig()
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    issued = rig.issue(limits=["3/minute", "2/day"])
    assert _statuses(rig, issued.secret, 50) == [200, 200, *[429] * 48]
    rig.desk.update(issued.key.id, limits=["3/minute"])
    rig.clock.advance(0.06)  # within which the worker may know the earlier limits
    assert _statuses(rig, issued.secret, 2) == [200, 429]


def test_made_up_keys_leave_no_counter(clock: ManualClock) -> None:
    rig = Rig(clock, KEYDESK_DEFAULT_LIMITS=["5/minute"])
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    limiter = rig.desk.limiter
    assert isinstance(limiter, MemoryLimiter)
    for _ in range(500):
        rig.status("/", rig.desk.mint.secret_format.mint())
    assert not limiter._counters
    rig.status("/", rig.secret())
    assert len(limiter._counters[60].now) == 1
    rig.close()
