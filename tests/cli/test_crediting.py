"""`quotas` and `refill`."""

from __future__ import annotations

import pytest


def test_quotas(run, desk):
    issued = desk.issue(name="A", quotas=["10000/month", "5/total"])
    desk.verify(issued.secret)
    month, total = run.json("quotas", issued.key.id)
    assert month.pop("resets_at").endswith("-01T00:00:00+00:00")
    assert month == {"policy": "10000/month quota", "count": 10000, "refilled": 0, "leased": 156, "left": 9844}
    assert total == {
        "policy": "5/total quota", "count": 5, "refilled": 0, "leased": 1, "left": 4, "resets_at": None,
    }  # fmt: skip
    shown = run("quotas", issued.key.id).stdout
    assert "10000/month" in shown
    assert "9,844" in shown
    assert "never" in shown


def test_quotas_of_a_key_without(run, desk):
    issued = desk.issue(name="A")
    assert run.json("quotas", issued.key.id) == []
    assert "It has none." in run("quotas", issued.key.id).stdout


def test_refill(run, desk):
    issued = desk.issue(name="A", quotas=["2/total"])
    assert run.json("refill", issued.key.id, "1000")[0]["left"] == 1002
    assert "1,002" in run("quotas", issued.key.id).stdout
    assert "quota.refilled" in run("events", issued.key.id).stdout


def test_refill_of_one_of_several(run, desk):
    issued = desk.issue(name="A", quotas=["2/day", "3/day Europe/Rome"])
    assert "name one of 2/day, 3/day Europe/Rome" in run.refused("refill", issued.key.id, "5", "--period", "day")
    assert run.json("refill", issued.key.id, "5", "--period", "3/day Europe/Rome")[0]["left"] == 8


@pytest.mark.parametrize("credits_", ["0", "1000000000001"])
def test_refill_out_of_range(run, desk, credits_):
    issued = desk.issue(name="A", quotas=["2/total"])
    assert "credits" in run.refused("refill", issued.key.id, credits_)


def test_refill_of_a_quota_it_does_not_have(run, desk):
    issued = desk.issue(name="A", quotas=["2/total"])
    assert "has no quota 'month'" in run.refused("refill", issued.key.id, "5", "--period", "month")
    assert "no key has the id" in run.refused("refill", "key_" + "0" * 28, "5").lower()
