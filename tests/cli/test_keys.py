"""The commands that make, show, change and end keys: what people and programs see."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

import keydesk
from keydesk.cli import keydesk as command_line
from keydesk.stores import listing

from .conftest import CommandLine

UNKNOWN = "key_" + "0" * 28


def issue(run: CommandLine, *arguments: str) -> dict:
    return run.json("issue", "Mobile app", *arguments)


# issue


def test_issue_prints_the_secret_alone_on_standard_output(run, desk):
    result = run("issue", "Mobile app", "--owner", "acme", "--scope", "orders:read")
    assert result.stdout.count("\n") == 1
    assert desk.verify(result.stdout.strip(), scopes=["orders:read"]).allowed
    assert result.stdout.strip() not in result.stderr
    assert "Mobile app" in result.stderr
    assert "acme" in result.stderr


def test_issue_json_has_all_fields(run):
    answer = issue(
        run, "--owner", "acme", "--description", "For phones", "--environment", "test", "--scope", "b:w", "--scope",
        "a:r", "--network", "10.0.0.0/8", "--limit", "100/minute", "--quota", "5 in total", "--expires", "2999-01-31",
    )  # fmt: skip
    key = answer["key"]
    assert answer["secret"].startswith("kd_test_")
    assert key["name"] == "Mobile app"
    assert key["owner"] == "acme"
    assert key["description"] == "For phones"
    assert key["environment"] == "test"
    assert key["scopes"] == ["a:r", "b:w"]
    assert key["networks"] == ["10.0.0.0/8"]
    assert key["limits"] == ["100/minute"]
    assert key["quotas"] == ["5/total"]
    assert key["expires_at"] == "2999-01-31T00:00:00+00:00"
    assert key["status"] == "active"
    assert key["created_at"].endswith("+00:00")
    assert [secret["number"] for secret in key["secrets"]] == [1]
    assert "digest" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("90d", timedelta(days=90)),
        ("24h", timedelta(hours=24)),
        ("30m", timedelta(minutes=30)),
        ("2w", timedelta(weeks=2)),
        ("45s", timedelta(seconds=45)),
    ],
)
def test_issue_expires_after_a_duration(run, when, expected):
    key = issue(run, "--expires", when)["key"]
    ends, begins = datetime.fromisoformat(key["expires_at"]), datetime.fromisoformat(key["created_at"])
    assert abs(ends - begins - expected) < timedelta(seconds=5)


def test_issue_expires_at_a_time_in_another_zone(run):
    key = issue(run, "--expires", "2999-01-31T12:00:00+02:00")["key"]
    assert key["expires_at"] == "2999-01-31T10:00:00+00:00"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--expires", "soon", "write 90d, 24h"),
        ("--expires", "2027-01-31T12:00:00", "has no time zone"),
        ("--expires", "2027-02-31", "is no moment"),
        ("--expires", "never", "is no moment"),
        ("--expires", "99999999w", "over a hundred years"),
        ("--expires", "9999999999w", "over a hundred years"),
        ("--scope", "orders", "write resource:action"),
        ("--network", "10.0.0.1/8", "bits set behind its mask"),
        ("--limit", "many", "write 100/minute"),
        ("--quota", "1/week", "write 10000/day"),
        ("--owner", "a\x1b[31m", "control characters"),
        ("--description", "x" * 2001, "at most 2000 fit"),
        ("--environment", "staging", "'live', 'test'"),
    ],
)
def test_issue_wrong_value_is_wrong_usage(run, option, value, said):
    assert said in run.refused("issue", "A", option, value, code=2)


def test_issue_in_the_past_is_refused(run):
    assert "is not in the future" in run.refused("issue", "A", "--expires", "2001-01-01")


def test_issue_without_name_is_wrong_usage(run):
    assert "Missing argument 'NAME'" in run.refused("issue", code=2)
    assert "one line of text" in run.refused("issue", " ", code=2)


def test_issue_does_not_repeat_a_secret_typed_in_a_wrong_place(run, desk):
    secret = desk.issue(name="A").secret
    for arguments, code in (
        (("issue", secret), 2),
        (("issue", "A", "--scope", secret), 2),
        (("issue", "A", "--expires", secret), 2),
        (("issue", "A", secret), 2),
        (("show", secret), 1),
        (("rotate", UNKNOWN, "--overlap", secret), 2),
        (("revoke", UNKNOWN, "--reason", secret), 1),
        (("list", "--cursor", secret), 1),
        (("verify", secret), 2),
        (("verify", "--scope", secret), 2),
    ):
        assert secret not in run.refused(*arguments, code=code)


# list and show


def test_list_shows_keys_newest_first(run):
    first, second = issue(run)["key"], run.json("issue", "Second", "--owner", "acme")["key"]
    output = run("list").stdout
    assert output.index(second["id"]) < output.index(first["id"])
    assert [key["id"] for key in run.json("list")["keys"]] == [second["id"], first["id"]]
    assert [key["id"] for key in run.json("list", "--owner", "acme")["keys"]] == [second["id"]]
    assert [key["id"] for key in run.json("list", "--text", "mobile")["keys"]] == [first["id"]]
    assert run.json("list", "--status", "revoked")["keys"] == []


def test_list_pages(run):
    ids = [issue(run)["key"]["id"] for _ in range(3)]
    page = run.json("list", "--size", "2")
    rest = run.json("list", "--size", "2", "--cursor", page["next_cursor"])
    assert [key["id"] for key in page["keys"] + rest["keys"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert f"keydesk list --size 2 --cursor {page['next_cursor']}" in run("list", "--size", "2").stderr


def test_list_of_nothing_says_what_to_do(run):
    assert "keydesk issue" in run("list").stderr
    assert run.json("list") == {"keys": [], "next_cursor": None}
    issue(run)
    assert "No key fits" in run("list", "--owner", "nobody").stderr


def test_list_wrong_cursor(run):
    assert "begin again without it" in run.refused("list", "--cursor", "x")
    assert "0 is not in the range" in run.refused("list", "--size", "0", code=2)


@pytest.mark.parametrize("columns", [80, 120])
def test_list_keeps_ids_whole_and_lines_short(run, monkeypatch, columns):
    key = run.json("issue", "A name that goes on and on " * 6, "--owner", "o" * 60, "--scope", "orders:read")["key"]
    monkeypatch.setenv("COLUMNS", str(columns))
    output = run("list").stdout
    assert key["id"] in output
    assert max(map(len, output.splitlines())) <= columns
    assert ("orders:read" in output) == (columns == 120)


@pytest.mark.parametrize("columns", ["20", "0", "²", "9" * 30, "-1", ""])
def test_list_leaves_nothing_out_on_a_terminal_of_odd_width(run, monkeypatch, columns):
    key = run.json("issue", "Mobile app", "--owner", "acme", "--expires", "2999-01-31")["key"]
    run("revoke", key["id"])
    monkeypatch.setenv("COLUMNS", columns)
    output = run("list").stdout
    for text in (key["id"], "Mobile app", "acme", "revoked", "2999-01-31"):
        assert text in output
    assert key["id"] in run("show", key["id"]).stdout
    assert key["id"] in run("events").stdout


def test_show_leaves_out_what_is_empty(run):
    key = issue(run)["key"]
    output = run("show", key["id"]).stdout
    assert "Mobile app" in output
    assert key["secrets"][0]["hint"] in output
    assert "owner" not in output
    assert "quotas" not in output
    in_force = {"scopes": [], "limits": [], "quotas": []}
    assert run.json("show", key["id"]) == {**key, "in_force": in_force, "earlier_secrets": []}


def test_show_unknown_key_says_where_to_look(run):
    assert "`keydesk list` shows the ids" in run.refused("show", UNKNOWN)
    assert "No key has the id" in run.refused("show", "x", "--json")


def test_arguments_cannot_steer_the_terminal(store):
    """Click prints some of them as they are; a script may have them from anywhere."""
    for arguments in (
        ["show", "x", "\x1b[2J\x07\u202e"],
        ["list", "--s\x1b[2J\x07"],
        ["issue", "A", "--scope", "\x9b2J"],
    ):
        result = CliRunner().invoke(command_line, arguments, color=True)
        assert result.exit_code == 2
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(result.stderr)


def test_texts_of_the_store_cannot_steer_the_terminal(run, desk):
    key = desk.issue(name="A", description="[red]x[/red] :smile:").key
    with desk.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE keydesk_keys SET name = ?", ("[bold]\x1b[2J\x07\u202e",))
    for arguments in (("show", key.id), ("list",)):
        output = run(*arguments).stdout
        assert "[bold]\\x1b[2J\\x07\\u202e" in output
        assert "\x1b" not in output
    assert "[red]x[/red] :smile:" in run("show", key.id).stdout


# update


def test_update_replaces_named_lists_and_keeps_the_rest(run):
    key = issue(run, "--scope", "a:r", "--scope", "b:r", "--network", "10.0.0.0/8", "--expires", "90d")["key"]
    after = run.json("update", key["id"], "--scope", "c:r", "--owner", "acme", "--name", "New")
    assert (after["scopes"], after["networks"], after["owner"]) == (["c:r"], ["10.0.0.0/8"], "acme")
    assert (after["name"], after["expires_at"]) == ("New", key["expires_at"])
    after = run.json("update", key["id"], "--no-networks", "--no-scopes", "--owner", "", "--expires", "never")
    assert (after["scopes"], after["networks"], after["owner"], after["expires_at"]) == ([], [], None, None)


def test_update_nothing_is_wrong_usage(run):
    assert "Nothing to change" in run.refused("update", UNKNOWN, code=2)
    said = run.refused("update", UNKNOWN, "--scope", "a:r", "--no-scopes", code=2)
    assert "--no-scopes does not go with --scope" in said


# rotate, disable, enable, revoke, delete


def test_rotate_prints_the_new_secret_and_when_the_old_one_ends(run, desk):
    first = issue(run)
    result = run("rotate", first["key"]["id"], "--overlap", "2h")
    assert desk.verify(result.stdout.strip()).allowed
    assert desk.verify(first["secret"]).allowed
    assert "The earlier secrets end on" in result.stderr
    answer = run.json("rotate", first["key"]["id"], "--overlap", "0s")
    assert desk.verify(answer["secret"]).allowed
    assert not desk.verify(result.stdout.strip()).allowed


def test_show_says_who_uses_earlier_secrets(run, desk):
    """Of each secret that a rotation replaced, on one line: how often, from where, and when last."""
    first = issue(run)
    key_id = first["key"]["id"]
    assert run.json("show", key_id)["earlier_secrets"] == []
    run("rotate", key_id)
    assert "1: " in run("show", key_id).stdout
    assert "not used since there is a newer one" in run("show", key_id).stdout
    for number, times in enumerate((1, 2, 3, 4, 5), 1):
        for _ in range(times):
            desk.verify(first["secret"], client_address=f"203.0.{number}.7")
    desk.close()
    (used,) = run.json("show", key_id)["earlier_secrets"]
    assert used["number"] == 1
    assert used["last_used_at"].endswith(":00+00:00")
    assert used["networks"][0] == {"network": "203.0.5.0/24", "count": 5}
    shown = " ".join(run("show", key_id).stdout.split())
    assert "within 24 hours: 5 from 203.0.5.0/24, 4 from 203.0.4.0/24, 3 from 203.0.3.0/24, 3 from elsewhere" in shown
    run("rotate", key_id, "--overlap", "0s")
    shown = run("show", key_id).stdout
    assert "within 24 hours: 5 from" in shown  # who still sends it is refused now
    assert "not used" not in shown


def test_rotate_wrong_overlap(run):
    assert "write 45s, 30m" in run.refused("rotate", UNKNOWN, "--overlap", "1 day", code=2)
    assert "366 days" in run.refused("rotate", UNKNOWN, "--overlap", "53w")


def test_a_key_is_disabled_enabled_revoked_and_deleted(run):
    key_id = issue(run)["key"]["id"]
    assert run.json("disable", key_id)["status"] == "disabled"
    assert "enable it first" in run.refused("rotate", key_id)
    assert run.json("enable", key_id)["status"] == "active"
    assert "revoke it first" in run.refused("delete", key_id)
    assert "leaked" in run("revoke", key_id, "--reason", "leaked").stdout
    assert "issue another key" in run.refused("enable", key_id)
    assert run.json("delete", key_id) == {"id": key_id, "deleted": True}
    assert "No key has the id" in run.refused("show", key_id)


def test_changes_name_the_user_of_the_operating_system(run, desk):
    issue(run)
    actor = desk.list_events()[0].event.actor
    assert actor.startswith("cli:")
    assert len(actor) > len("cli:")


def test_a_read_only_store_says_where_to_change_keys(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_STORE", "config://")
    monkeypatch.setenv("API_KEYS", json.dumps({"0123456789abcdef-ZYXWVUTSRQPONM": "Reports"}))
    assert "Reports" in run("list").stdout
    for arguments in (("issue", "A"), ("revoke", UNKNOWN), ("events",), ("events", "--verify"), ("prune",)):
        assert "change them there" in run.refused(*arguments)


def test_wrong_settings_are_all_named(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_PREFIX", "-")
    monkeypatch.setenv("KEYDESK_PEPPER", "short")
    said = run.refused("list")
    assert "KEYDESK_PREFIX" in said
    assert "KEYDESK_PEPPER" in said


def test_an_expired_key_shows_as_such(run, desk):
    key = desk.issue(name="A", expires_at=datetime.now(UTC) + timedelta(days=1)).key
    after = desk.update(key.id, expires_at=datetime.now(UTC) - timedelta(days=1))
    assert isinstance(after, keydesk.Key)
    assert run.json("show", key.id)["status"] == "expired"
    assert [k["id"] for k in run.json("list", "--status", "expired")["keys"]] == [key.id]


def test_list_fills_its_page_over_all_keys(run, desk, monkeypatch):
    """A store that looks at few keys at a time hands out short pages; who reads a terminal gets a whole one."""
    monkeypatch.setattr(listing, "KEYS_LOOKED_AT", 2)
    ids = [desk.issue(name=f"{'old' if number < 3 else 'new'} {number}").key.id for number in range(9)][::-1]
    assert [key["id"] for key in run.json("list", "--text", "OLD")["keys"]] == ids[6:]
    first = run.json("list", "--text", "old", "--size", "2")
    assert [key["id"] for key in first["keys"]] == ids[6:8]
    rest = run.json("list", "--text", "old", "--size", "2", "--cursor", first["next_cursor"])
    assert ([key["id"] for key in rest["keys"]], rest["next_cursor"]) == (ids[8:], None)
    assert "No key fits" in run("list", "--text", "none").stderr
