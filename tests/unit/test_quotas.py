"""Quotas of keys: periods, credits that are leased and spent, reservations, and what people are told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from keydesk import Denied, Desk, IssuedKey, Reason, Refused, open_desk
from keydesk.errors import InvalidField, KeyNotFound, LimiterUnavailable, StoreReadOnly, StoreUnavailable
from keydesk.keys.limits import Period, Quota
from keydesk.quotas import USED_UP_SECONDS
from keydesk.testing import ManualClock


@pytest.fixture
def desk(clock: ManualClock) -> Iterator[Desk]:
    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    yield desk
    desk.close()


def _key(desk: Desk, *quotas: str, **fields: Any) -> IssuedKey:
    return desk.issue(name="client", quotas=quotas, **fields)


def _allowed(desk: Desk, secret: str, count: int, **given: Any) -> int:
    return sum(desk.verify(secret, **given).allowed for _ in range(count))


# Periods


def _period(quota: Quota, moment: str) -> tuple[str, str]:
    start, end = quota.period_at(datetime.fromisoformat(moment).astimezone(UTC))
    assert end is not None
    return start.isoformat(), end.isoformat()


@pytest.mark.parametrize(
    ("quota", "moment", "start", "end"),
    [
        (Quota(1, Period.DAY), "2026-02-28T23:59:59+00:00", "2026-02-28T00:00:00+00:00", "2026-03-01T00:00:00+00:00"),
        (Quota(1, Period.MONTH), "2026-12-31T12:00:00+00:00", "2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        (Quota(1, Period.MONTH), "2028-02-29T00:00:00+00:00", "2028-02-01T00:00:00+00:00", "2028-03-01T00:00:00+00:00"),
        (
            Quota(1, Period.DAY, "America/New_York"),
            "2026-03-08T12:00:00+00:00",  # 23 hours long
            "2026-03-08T05:00:00+00:00",
            "2026-03-09T04:00:00+00:00",
        ),
        (
            Quota(1, Period.MONTH, "Asia/Kathmandu"),
            "2026-06-30T18:15:00+00:00",  # midnight there
            "2026-06-30T18:15:00+00:00",
            "2026-07-31T18:15:00+00:00",
        ),
    ],
)
def test_period(quota: Quota, moment: str, start: str, end: str) -> None:
    assert _period(quota, moment) == (start, end)


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Rome", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Africa/Cairo"]
)
@pytest.mark.parametrize("period", [Period.DAY, Period.MONTH])
def test_periods_follow_each_other_without_a_gap(zone: str, period: Period) -> None:
    """Also where midnight is skipped or comes twice."""
    quota, moment = Quota(1, period, zone), datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(400):
        start, end = quota.period_at(moment)
        assert end is not None
        assert start <= moment < end
        assert quota.period_at(end)[0] == end
        assert quota.period_at(end - timedelta(microseconds=1)) == (start, end)
        assert end.astimezone(ZoneInfo(zone)).day == 1 or period is Period.DAY
        moment = end


def test_total_has_one_period() -> None:
    quota = Quota(1, Period.TOTAL)
    assert quota.period_at(datetime(1999, 1, 1, tzinfo=UTC)) == quota.period_at(datetime(2099, 1, 1, tzinfo=UTC))
    assert quota.period_at(datetime(1999, 1, 1, tzinfo=UTC))[1] is None


# Taking


def test_quota_admits_so_many_in_a_period(desk: Desk, clock: ManualClock) -> None:
    secret = _key(desk, "5/day").secret
    assert _allowed(desk, secret, 10) == 5
    clock.advance(timedelta(hours=12) - timedelta(microseconds=1))
    assert not desk.verify(secret).allowed
    clock.advance(timedelta(seconds=USED_UP_SECONDS))
    assert _allowed(desk, secret, 10) == 5


def test_refusal_says_which_quota_and_until_when(desk: Desk) -> None:
    secret = _key(desk, "1/day", "9/month").secret
    desk.verify(secret)
    decision = desk.verify(secret)
    assert isinstance(decision, Denied)
    assert decision.reason is Reason.QUOTA_EXCEEDED
    assert decision.taken is not None
    assert decision.taken.violated == ("1/day quota",)
    assert decision.taken.retry_after == 12 * 3600  # the clock shows noon


def test_quota_in_total_names_no_time(desk: Desk, clock: ManualClock) -> None:
    secret = _key(desk, "2/total").secret
    assert _allowed(desk, secret, 5) == 2
    clock.advance(timedelta(days=400))
    decision = desk.verify(secret)
    assert isinstance(decision, Denied)
    assert decision.taken is not None
    assert decision.taken.retry_after is None


@pytest.mark.parametrize("quota", ["3/day", "3/month Europe/Rome"])
def test_request_that_costs_more_than_a_quota_is_told_of_no_time(desk: Desk, quota: str) -> None:
    """It waited for the next period once, and was refused there again."""
    secret = _key(desk, quota, "9/day Asia/Tokyo").secret
    for test in (True, False):
        decision = desk.verify(secret, cost=4, test=test)
        assert isinstance(decision, Denied)
        assert decision.taken is not None
        assert decision.taken.retry_after is None
    assert desk.verify(secret, cost=3).allowed
    decision = desk.verify(secret, cost=3)
    assert isinstance(decision, Denied)
    assert decision.taken is not None
    assert decision.taken.retry_after


def test_smaller_of_two_quotas_of_a_period_holds(desk: Desk) -> None:
    assert _allowed(desk, _key(desk, "5/day", "3/day").secret, 10) == 3


def test_all_quotas_are_taken_or_none(desk: Desk, clock: ManualClock) -> None:
    secret = _key(desk, "4/month", "3/day", limits=["50/minute"]).secret
    assert _allowed(desk, secret, 20) == 3
    clock.advance(timedelta(days=1))
    assert _allowed(desk, secret, 20) == 1


def test_request_that_a_limit_refuses_takes_no_credit(desk: Desk, clock: ManualClock) -> None:
    secret = _key(desk, "10/day", limits=["1/minute"]).secret
    for _ in range(10):
        assert _allowed(desk, secret, 4) == 1
        clock.advance(62)
    decision = desk.verify(secret)
    assert decision.reason is Reason.QUOTA_EXCEEDED


def test_limit_and_quota_both_used_up_is_a_limit(desk: Desk) -> None:
    secret = _key(desk, "1/day", limits=["1/minute"]).secret
    desk.verify(secret)
    decision = desk.verify(secret)
    assert isinstance(decision, Denied)
    assert (decision.reason, decision.taken and decision.taken.violated) == (Reason.RATE_LIMITED, ("1/minute",))


def test_cost_is_taken_from_quotas(desk: Desk) -> None:
    secret = _key(desk, "10/day").secret
    assert [desk.verify(secret, cost=4).allowed for _ in range(3)] == [True, True, False]
    assert [desk.verify(secret, cost=1).allowed for _ in range(3)] == [True, True, False]
    assert desk.verify(secret, cost=0).allowed


def test_rotation_keeps_the_quota(desk: Desk) -> None:
    key = _key(desk, "3/total")
    assert _allowed(desk, key.secret, 2) == 2
    rotated = desk.rotate(key.key.id)
    assert _allowed(desk, rotated.secret, 2) == 1
    assert _allowed(desk, key.secret, 2) == 0


def test_changed_quota_counts_on(desk: Desk, clock: ManualClock) -> None:
    key = _key(desk, "3/day")
    assert _allowed(desk, key.secret, 5) == 3
    desk.update(key.key.id, quotas=["5/day"])
    clock.advance(USED_UP_SECONDS)
    assert _allowed(desk, key.secret, 5) == 2
    desk.update(key.key.id, quotas=["4/day"])
    clock.advance(USED_UP_SECONDS)
    assert _allowed(desk, key.secret, 5) == 0


def test_test_takes_nothing_and_leases_nothing(desk: Desk) -> None:
    key = _key(desk, "2/day")
    assert _allowed(desk, key.secret, 5, test=True) == 5
    assert desk.quotas.balances(key.key.id)[0].leased == 0
    assert not desk.verify(key.secret, cost=3, test=True).allowed
    assert _allowed(desk, key.secret, 5) == 2
    assert _allowed(desk, key.secret, 5, test=True) == 0


def test_store_is_asked_seldom_whether_there_is_more(desk: Desk, clock: ManualClock) -> None:
    secret = _key(desk, "5/day").secret
    store: Any = desk.store
    asked = []
    lease = store.lease
    store.lease = lambda *args: (asked.append(args), lease(*args))[1]
    _allowed(desk, secret, 50)
    assert len(asked) == 6
    clock.advance(USED_UP_SECONDS)
    _allowed(desk, secret, 50)
    assert len(asked) == 7


def test_store_that_does_not_answer_oversells_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = _key(desk, "100/day").secret
    assert desk.verify(secret).allowed

    def fail(*_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(desk.store, "lease", fail)
    decision = desk.verify(secret)
    assert decision.reason is Reason.UNAVAILABLE


def test_store_without_quotas_lets_nobody_in(clock: ManualClock) -> None:
    desk = open_desk({"API_KEYS": {"held-secret-of-mobile-app-000001": {"name": "x", "quotas": "5/day"}}}, clock=clock)
    assert desk.verify("held-secret-of-mobile-app-000001").reason is Reason.UNAVAILABLE
    with pytest.raises(StoreReadOnly, match="set KEYDESK_STORE to a database"):
        desk.quotas.balances(desk.list_keys().keys[0].id)
    desk.close()


def test_quota_of_a_plan_is_counted_for_each_key(desk: Desk) -> None:
    desk.plans.put("gold", quotas=["3/total"])
    first, second = (desk.issue(name="client", plan="gold") for _ in range(2))
    assert [_allowed(desk, each.secret, 5) for each in (first, second)] == [3, 3]
    assert [balance.policy for balance in desk.quotas.balances(first.key.id)] == ["3/total quota"]


def test_quota_of_an_owner_is_shared_by_its_keys(desk: Desk, clock: ManualClock) -> None:
    desk.owners.put("acme", quotas=["5/total"])
    first, second = (desk.issue(name="client", owner="acme", quotas=["4/total"]) for _ in range(2))
    assert _allowed(desk, first.secret, 9) == 4
    assert _allowed(desk, second.secret, 9) == 1
    decision = desk.verify(second.secret)
    assert isinstance(decision, Denied)
    assert decision.taken is not None
    assert decision.taken.violated == ("5/total quota per owner",)
    assert [balance.left for balance in desk.quotas.balances(second.key.id)] == [2, 0]  # one more lies in the pool
    clock.advance(USED_UP_SECONDS)
    with pytest.raises(Refused):
        desk.quotas.reserve(desk.get_key(second.key.id), 1)  # a key that was read without what it is under


def test_plan_and_key_together_are_narrower(desk: Desk) -> None:
    desk.plans.put("gold", quotas=["5/total"])
    assert _allowed(desk, _key(desk, "3/total", plan="gold").secret, 9) == 3
    assert _allowed(desk, _key(desk, "9/total", plan="gold").secret, 9) == 5


# What people are told


def test_events_at_80_and_100_percent(desk: Desk, clock: ManualClock) -> None:
    key = _key(desk, "10/day", owner="acme")
    kinds = []
    for _ in range(12):
        desk.verify(key.secret)
        clock.advance(USED_UP_SECONDS)
        kinds.append([row.event.details["percent"] for row in desk.list_events() if row.event.kind == "quota.reached"])
    assert kinds == [[]] * 7 + [[80]] * 3 + [[80, 100]] * 2
    event = desk.list_events()[-1].event
    assert (event.key_id, event.owner, event.actor) == (key.key.id, "acme", "keydesk")
    assert event.details == {
        "quota": "10/day",
        "holder": f"key:{key.key.id}",
        "percent": 100,
        "period_start_at": "2026-01-01T00:00:00+00:00",
    }
    assert desk.check_chain().problem is None


def test_balance(desk: Desk) -> None:
    key = _key(desk, "10/day", "5/total")
    _allowed(desk, key.secret, 3)
    day, total = desk.quotas.balances(key.key.id)
    assert (day.policy, day.leased, day.left) == ("10/day quota", 3, 7)
    assert day.resets_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert (total.policy, total.leased, total.left, total.resets_at) == ("5/total quota", 3, 2, None)


# Refilling


def test_refill(desk: Desk, clock: ManualClock) -> None:
    key = _key(desk, "3/total")
    assert _allowed(desk, key.secret, 5) == 3
    balance = desk.quotas.refill(key.key.id, 2, actor="billing")
    assert (balance.refilled, balance.left) == (2, 2)
    clock.advance(USED_UP_SECONDS)
    assert _allowed(desk, key.secret, 5) == 2
    event = next(row.event for row in desk.list_events() if row.event.kind == "quota.refilled")
    assert (event.actor, event.details["credits"]) == ("billing", 2)


@pytest.mark.parametrize("credits_", [0, -1, 10**12 + 1, True, 1.5, "5"])
def test_refill_out_of_range(desk: Desk, credits_: Any) -> None:
    with pytest.raises(InvalidField, match="credits"):
        desk.quotas.refill(_key(desk, "3/total").key.id, credits_)


def test_refill_of_what_is_not_there(desk: Desk) -> None:
    with pytest.raises(InvalidField, match="has no quota 'total'"):
        desk.quotas.refill(_key(desk, "3/day").key.id, 5)
    with pytest.raises(KeyNotFound):
        desk.quotas.refill("key_" + "0" * 28, 5)


def test_refill_of_one_of_several_quotas_of_a_period(desk: Desk) -> None:
    """The first was refilled once, and of those of an owner none could be."""
    desk.owners.put("acme", quotas=["1000/month"])
    key = _key(desk, "10/month", "10/month Europe/Rome", "7/day", owner="acme").key
    with pytest.raises(InvalidField, match="10/month, 10/month Europe/Rome, 1000/month quota per owner"):
        desk.quotas.refill(key.id, 5, period="month")
    for named in ("10/month Europe/Rome", "1000/month quota per owner", "day"):
        desk.quotas.refill(key.id, 5, period=named)
    refilled = {each.policy: each.refilled for each in desk.quotas.balances(key.id)}
    assert refilled == {
        "10/month quota": 0,
        "10/month Europe/Rome quota": 5,
        "7/day quota": 5,
        "1000/month quota per owner": 5,
    }


# Reserving


def test_reservation_is_settled(desk: Desk) -> None:
    key = _key(desk, "1000/total")
    reservation = desk.quotas.reserve(key.key, 600)
    with pytest.raises(Refused) as caught:
        desk.quotas.reserve(key.key.id, 500)
    assert caught.value.decision.reason is Reason.QUOTA_EXCEEDED
    reservation.settle(150)
    reservation.settle(0)  # nothing more
    reservation.refund()
    desk.quotas.reserve(key.key, 850)
    with pytest.raises(Refused):
        desk.quotas.reserve(key.key, 1)


def test_reservation_of_work_that_breaks_off_goes_back(desk: Desk) -> None:
    key = _key(desk, "1000/total", "1000/day")

    def work() -> None:
        with desk.quotas.reserve(key.key, 1000):
            raise RuntimeError("it broke off")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="it broke off"):
            work()
    with desk.quotas.reserve(key.key, 1000) as reservation:
        assert reservation.reserved == 1000
    with pytest.raises(Refused):
        desk.quotas.reserve(key.key, 1)


@pytest.mark.parametrize("cost", [-1, 11, True, 1.5, None])
def test_settle_out_of_range(desk: Desk, cost: Any) -> None:
    reservation = desk.quotas.reserve(_key(desk, "1000/total").key, 10)
    with pytest.raises(InvalidField, match="reserve the most that the work can cost"):
        reservation.settle(cost)


def test_reservation_takes_nothing_from_limits(desk: Desk) -> None:
    key = _key(desk, "1000/total", limits=["1/minute"])
    desk.quotas.reserve(key.key, 10)
    assert desk.verify(key.secret).allowed


def test_reservation_of_a_key_without_quotas(desk: Desk) -> None:
    with desk.quotas.reserve(_key(desk).key, 1000) as reservation:
        reservation.settle(10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("held", [False, True])
def test_reservation_goes_back_once_where_a_process_was_forked_meanwhile(desk: Desk, held: bool) -> None:
    """Parent and child both leave the block: what was reserved once came back twice."""
    reservation = desk.quotas.reserve(_key(desk, "1000/total").key, 600)
    with reservation._lock if held else nullcontext():
        child = os.fork()
        if not child:
            signal.alarm(10)  # it ends, whatever it waits for
            try:
                given_back: list[int] = []
                reservation._credits.give_back = lambda _, credits_: given_back.append(credits_)  # type: ignore[method-assign]
                reservation.settle(100)
                reservation.refund()
            finally:
                os._exit(len(given_back))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    reservation.settle(100)
    desk.quotas.reserve(_key(desk, "1000/total").key, 900)


def test_desk_without_a_limiter(desk: Desk) -> None:
    bare = Desk(store=desk.store, mint=desk.mint, clock=desk.clock)
    with pytest.raises(LimiterUnavailable, match="no limiter"):
        bare.quotas.reserve(_key(desk, "1/total").key, 1)
