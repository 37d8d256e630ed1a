"""`serve --demo`: what is made up is there, is true to its own log, and goes into no store that holds anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from keydesk import Desk, open_desk
from keydesk.cli import demo_data
from keydesk.cli.demo_life import make_up_life
from keydesk.cli.issuing import find_administrator
from keydesk.keys.record import Key, Status
from keydesk.testing import ManualClock
from keydesk.usage import Span

from ..faults.conftest import upgraded
from ..server.serving import free_port

NOW = datetime(2026, 6, 18, 10, 30, tzinfo=UTC)  # a Thursday
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk over a store that was filled; tests read it only."""
    desk = open_desk({"KEYDESK_STORE": _url(tmp_path_factory.mktemp("demo"))}, clock=ManualClock(NOW))
    make_up_life(desk)
    desk.meter.flush()
    yield desk
    desk.close()


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'demo.db'}"


@pytest.fixture
def keys(made_up: Desk) -> list[Key]:
    return list(made_up.list_keys(size=1000).keys)


def _named(keys: list[Key], name: str) -> Key:
    return next(key for key in keys if key.name == name)


def test_there_is_a_key_in_every_state(made_up, keys):
    assert {key.status_at(NOW) for key in keys} == set(Status)
    assert len(keys) == len(demo_data.KEYS) >= 55
    assert any(key.expires_at and NOW < key.expires_at < NOW + 7 * DAY for key in keys)
    assert any(secret.expires_at and secret.expires_at > NOW for key in keys for secret in key.secrets)
    assert any(key.last_used_at is None for key in keys)
    assert any(key.networks for key in keys)
    assert any(key.description for key in keys)
    assert any(not key.limits and not key.plan for key in keys)
    assert all(key.revoke_reason for key in keys if key.revoked_at)
    idle = made_up.list_keys(idle_since=NOW - 90 * DAY, size=1000).keys
    assert any(key.last_used_at for key in idle)


def test_owners_and_plans(made_up, keys):
    assert len({key.owner for key in keys if key.owner}) == 12
    assert {plan.name for plan in made_up.plans.list()} == {key.plan for key in keys if key.plan}
    assert {terms.owner for terms in made_up.owners.list()} < {key.owner for key in keys}


def test_quotas_and_limits_are_nearly_used_up(made_up, keys):
    def left(name: str) -> int:
        (balance,) = made_up.quotas.balances(_named(keys, name).id)
        return balance.count - balance.leased

    assert left("Appointments widget") == 590
    assert left("stock-sync") == 0
    claims = made_up.terms.claims_of(_named(keys, "Meter readings ingest"))
    assert not made_up.limiter.take(claims, cost=1000, test=True).violated
    assert made_up.limiter.take(claims, cost=2000, test=True).violated
    told = [each.event for each in made_up.list_events(size=1000) if each.event.kind == "quota.reached"]
    assert {event.owner for event in told} >= {"Marrowby Dental", "Kettlebrook Savings"}


def test_events_are_in_order_and_verify(made_up, run, monkeypatch):
    events = [each.event for each in made_up.list_events(size=1000)]
    assert all(earlier.at <= later.at for earlier, later in pairwise(events))
    assert events[0].at < NOW - 400 * DAY
    assert events[-1].at <= NOW
    assert {"key.rotated", "key.disabled", "key.enabled", "key.revoked"} < {event.kind for event in events}
    assert {event.actor for event in events if event.kind == "key.disabled"} <= {demo_data.DANA, demo_data.IBRAHIM}
    monkeypatch.setenv("KEYDESK_STORE", f"sqlite:///{made_up.store.engine.url.database}")
    assert f"event {len(events)} " in run("events", "--verify").stdout


def test_two_weeks_are_counted(made_up, keys):
    report = made_up.usage(since=NOW - 14 * DAY, span=Span.HOUR)
    assert len({usage.start_at for usage in report.counts}) > 14 * 24 - 2
    reasons = {"rate_limited", "scope_denied", "expired", "revoked", "disabled", "network_denied", "quota_exceeded"}
    assert reasons <= set(report.totals())
    minutes = made_up.usage(since=NOW - timedelta(hours=2), span=Span.MINUTE)
    assert len({usage.start_at for usage in minutes.counts}) > 110
    assert max(usage.start_at for usage in report.counts) <= NOW


def test_requests_have_a_rhythm(made_up, keys):
    by_day: Counter[bool] = Counter()
    by_hour: Counter[int] = Counter()
    key_id = _named(keys, "Depot scanners, south").id
    for usage in made_up.usage(key_id, since=NOW - 14 * DAY, span=Span.HOUR).counts:
        by_day[usage.start_at.weekday() >= 5] += usage.count
        by_hour[usage.start_at.hour] += usage.count
    assert by_day[True] / 2 < by_day[False] / 5 / 2
    assert by_hour[9] > 10 * by_hour[2]


def test_keys_send_nothing_before_they_are_made(made_up, keys):
    young = _named(keys, "experiment-15")
    counts = made_up.usage(young.id, since=NOW - 14 * DAY, span=Span.HOUR).counts
    assert min(usage.start_at for usage in counts) >= young.created_at


def test_keys_are_used_until_they_end(keys):
    """Who has sent for months was used at some time, and not after its end."""
    used = {life.name for life in demo_data.KEYS if life.per_day}
    for key in keys:
        assert (key.last_used_at is not None) == (key.name in used), key.name
        ended = min(end for end in (key.revoked_at, key.disabled_at, key.expires_at, NOW) if end is not None)
        assert key.last_used_at is None or key.created_at <= key.last_used_at <= ended, key.name


def test_mistakes_come_from_a_few_networks_and_one_tries_texts_out(made_up):
    report = made_up.mistakes(since=NOW - 14 * DAY)
    assert {usage.mistake for usage in report.networks} == {"unknown", "malformed"}
    first, second = report.networks[:2]
    assert first.network == "198.51.100.0/24"
    assert first.count > 5 * second.count
    day = made_up.mistakes(since=NOW - DAY)
    assert day.total > report.total / 2


def test_nobody_is_made_an_administrator(made_up):
    """Or `init` and `serve` would make none, and nobody would have a key."""
    assert find_administrator(made_up) is None


def test_it_is_the_same_each_time(made_up, tmp_path):
    again = open_desk({"KEYDESK_STORE": _url(tmp_path)}, clock=ManualClock(NOW))
    make_up_life(again)
    again.meter.flush()
    since = NOW - 14 * DAY
    assert again.usage(since=since).counts == made_up.usage(since=since).counts
    assert again.mistakes(since=since) == made_up.mistakes(since=since)
    hints = [
        {secret.hint for key in desk.list_keys(size=1000).keys for secret in key.secrets} for desk in (again, made_up)
    ]
    assert len(hints[0] & hints[1]) < 3  # four characters may be the same; the secrets are not
    again.close()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_it_is_the_same_in_other_databases(kind, made_up, request):
    other = open_desk({"KEYDESK_STORE": upgraded(request.getfixturevalue(f"{kind}_url"))}, clock=ManualClock(NOW))
    make_up_life(other)
    other.meter.flush()
    since = NOW - 14 * DAY
    assert other.usage(since=since).counts == made_up.usage(since=since).counts
    assert {key.name for key in other.list_keys(size=1000).keys} == {life.name for life in demo_data.KEYS}
    assert other.store.check_chain().problem is None
    other.close()


def test_only_networks_and_names_for_examples_are_used():
    text = Path(demo_data.__file__).read_text()
    networks = re.findall(r"\d+\.\d+\.\d+\.\d+|2001:[0-9a-f:]+", text)
    assert all(n.startswith(("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:")) for n in networks)
    assert set(re.findall(r"\w@([\w.]+)", text)) == {"example.com"}


# What it refuses


@pytest.fixture
def refused(run, monkeypatch):
    """Run it so that it must refuse, and return what it says."""
    monkeypatch.setenv("KEYDESK_DEVELOPMENT", "true")
    return lambda: run.refused("serve", "--demo", "--port", str(free_port()))


def test_store_that_holds_anything_is_left_alone(desk, refused):
    desk.plans.put("gold")
    said = refused()
    assert "the store is not empty" in said
    assert "set KEYDESK_STORE to a new database" in said
    assert "leave --demo out" in said
    assert desk.store.position().number == 1
    assert desk.list_keys().keys == ()


def test_store_that_ends_with_the_process_is_refused(refused, monkeypatch):
    monkeypatch.setenv("KEYDESK_STORE", "memory://")
    assert "set KEYDESK_STORE to a new database" in refused()


def test_store_that_is_changed_elsewhere_is_refused(refused, monkeypatch, tmp_path):
    (tmp_path / "keys.yaml").write_text("{}\n")
    monkeypatch.setenv("KEYDESK_STORE", f"file:{tmp_path / 'keys.yaml'}")
    assert "set KEYDESK_STORE to a new database" in refused()
    monkeypatch.setenv("KEYDESK_STORE", "config://")
    assert "set KEYDESK_STORE to a new database" in refused()


def test_server_that_is_not_tried_out_refuses(desk, refused, monkeypatch):
    """What is made up would stand in its log of events for good."""
    monkeypatch.delenv("KEYDESK_DEVELOPMENT")
    monkeypatch.setenv("KEYDESK_PEPPER", "cGVwcGVyIG9mIHRoZSB0ZXN0cywgb3ZlciB0aGlydHktdHdvIGJ5dGVz")
    assert "Set KEYDESK_DEVELOPMENT=true" in refused()
    assert desk.store.position().number == 0
