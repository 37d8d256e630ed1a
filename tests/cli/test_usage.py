"""`usage`, and `list --idle`: who sends what, and which keys nobody uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keydesk import open_desk
from keydesk.testing import ManualClock

DAY = timedelta(days=1)


@pytest.fixture
def busy(store):
    """A desk whose keys were used: one much, one little and refused, one long ago."""
    clock = ManualClock(datetime.now(UTC) - 100 * DAY)
    desk = open_desk({"KEYDESK_STORE": store, "KEYDESK_USAGE_FLUSH_SECONDS": 3600}, clock=clock)
    keys = {name: desk.issue(name=name, owner="acme", scopes=["a:b"]) for name in ("Busy", "Refused", "Old")}
    desk.verify(keys["Old"].secret)
    clock.advance(100 * DAY - timedelta(minutes=5))
    for _ in range(30):
        desk.verify(keys["Busy"].secret, scopes=["a:b"])
    for _ in range(10):
        desk.verify(keys["Refused"].secret, scopes=["c:d"])
    for number in range(12):
        desk.verify("nobody-has-this-one-0123456789", client_address=f"203.0.113.{number}")
        desk.verify("kd_live_wrong", client_address=f"2001:db8::{number:x}")
    desk.close()
    return {name: issued.key for name, issued in keys.items()}


def test_usage_shows_bars(run, busy):
    output = run("usage").stdout
    assert "Hour (UTC)" in output
    assert "█" in output
    assert "10 scope_denied" in output
    assert "40 requests, 30 allowed; refused: 10 scope_denied." in output
    assert "24 attempts with what is no key" in output
    assert "203.0.113.0/24" in output
    assert len(output.splitlines()) < 50


def test_usage_of_one_key(run, busy):
    output = run("usage", busy["Busy"].id, "--since", "1h").stdout
    assert "Minute (UTC)" in output
    assert "30 requests, 30 allowed." in output
    assert "203.0.113.0/24" not in output


def test_usage_by_the_day(run, busy):
    found = run.json("usage", busy["Old"].id, "--since", "101d")
    assert found["span"] == "day"
    assert found["totals"] == {"allowed": 1}
    assert run.json("usage", busy["Old"].id)["usage"] == []


def test_usage_json(run, busy):
    found = run.json("usage")
    assert set(found) == {"key_id", "span", "since", "until", "totals", "usage", "mistakes"}
    assert found["totals"] == {"allowed": 30, "scope_denied": 10}
    assert {(one["outcome"], one["count"]) for one in found["usage"]} <= {("allowed", 30), ("scope_denied", 10)}
    assert {(one["mistake"], one["network"], one["count"]) for one in found["mistakes"]} == {
        ("unknown", "203.0.113.0/24", 12),
        ("malformed", "2001:db8::/56", 12),
    }


def test_usage_top(run, busy):
    output = run("usage", "--top").stdout
    assert output.index(busy["Busy"].id) < output.index(busy["Refused"].id)
    assert "75%" in output
    assert "acme" in output
    found = run.json("usage", "--top")
    assert [
        (key["id"], key["name"], key["owner"], key["count"], key["allowed"], key["share"]) for key in found["keys"]
    ] == [
        (busy["Busy"].id, "Busy", "acme", 30, 30, 0.75),
        (busy["Refused"].id, "Refused", "acme", 10, 0, 0.25),
    ]
    assert found["total"] == 40
    assert len(run.json("usage", "--top", "--size", "1")["keys"]) == 1


def test_usage_top_of_a_deleted_key(run, busy, desk):
    desk.revoke(busy["Busy"].id)
    desk.delete(busy["Busy"].id)
    assert "(deleted)" in run("usage", "--top").stdout
    assert run.json("usage", "--top")["keys"][0]["name"] is None
    assert run.json("usage", busy["Busy"].id)["totals"] == {"allowed": 30}


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_usage_fits_the_terminal(run, busy, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments in (("usage",), ("usage", "--top"), ("usage", "--since", "7d"), ("list", "--idle", "1d")):
        output = run(*arguments).stdout
        assert max(map(len, output.splitlines())) <= columns
        assert "…" not in output.replace("kd_live_…", "")
    assert busy["Old"].id in output


def test_usage_without_unicode_has_bars_of_ascii(run, busy, monkeypatch):
    from keydesk.cli.using import _bar

    class Output:
        encoding = "iso-8859-1"

    class Run:
        out = Output()

    assert _bar(Run(), [(5, "green"), (5, "red")], 10).plain == "#" * 30  # type: ignore[arg-type]
    assert _bar(Run(), [(0, "green"), (0, "red")], 0).plain == ""  # type: ignore[arg-type]


def test_usage_of_nothing(run):
    assert "No requests counted yet." in run("usage").stderr
    assert "No requests counted in that time." in run("usage", "--top").stderr
    assert run.json("usage")["usage"] == []
    assert run.json("usage", "--top")["keys"] == []


def test_usage_of_nobody(run):
    assert "No key has the id" in run.refused("usage", "key_" + "0" * 28)


def test_usage_wrong_usage(run):
    assert "--top compares all keys" in run.refused("usage", "key_" + "0" * 28, "--top", code=2)
    assert "no duration" in run.refused("usage", "--since", "yesterday", code=2)
    assert "ask about less" in run.refused("usage", "--since", "10000d")


def test_usage_of_a_store_that_counts_in_memory_says_so(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_STORE", "memory://")
    assert "each process counts in its own memory" in run("usage").stderr


def test_commands_count_nothing_and_start_no_threads(run, busy, desk):
    import threading

    before = threading.active_count()
    secret = run("issue", "New").stdout.strip()
    run("verify", stdin=secret)
    run("usage")
    assert threading.active_count() == before
    assert run.json("usage")["totals"] == {"allowed": 30, "scope_denied": 10}


def test_list_idle(run, busy):
    assert {key["name"] for key in run.json("list", "--idle", "90d")["keys"]} == {"Old", "Refused"}
    assert {key["name"] for key in run.json("list", "--idle", "99d", "--owner", "acme")["keys"]} == {"Old", "Refused"}
    assert run.json("list", "--idle", "101d")["keys"] == []
    output = run("list", "--idle", "90d")
    assert "Last used" in output.stdout
    assert "never" in output.stdout
    assert "No key fits." in run("list", "--idle", "101d").stderr
    assert "--idle 7776000s" in run("list", "--idle", "90d", "--size", "1").stderr


def test_show_says_when_a_key_was_last_used(run, busy):
    assert "last used" in run("show", busy["Busy"].id).stdout
    assert run.json("show", busy["Busy"].id)["last_used_at"] is not None
    assert run.json("show", busy["Refused"].id)["last_used_at"] is None
