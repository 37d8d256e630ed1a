"""`events`, `prune`, `db upgrade` and `doctor`: for whoever looks after the store."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from keydesk.errors import StoreUnavailable

from .conftest import PEPPER

SOME_PEPPER = "c29tZSBvdGhlciBwZXBwZXIsIG92ZXIgdGhpcnR5LXR3byBieXRlcyBsb25n"


# events


def test_events_show_what_changed(run):
    key_id = run.json("issue", "Mobile app", "--scope", "a:r")["key"]["id"]
    run("update", key_id, "--scope", "a:r", "--scope", "b:r")
    run("revoke", key_id, "--reason", "leaked")
    output = run("events").stdout
    for text in (key_id, "issued", "updated", "revoked", "Mobile app", "scopes: a:r → a:r b:r", "reason: leaked"):
        assert text in output
    events = run.json("events")["events"]
    assert [event["number"] for event in events] == [1, 2, 3]
    assert events[1]["details"] == {"scopes": [["a:r"], ["a:r", "b:r"]]}
    assert events[1]["previous_hash"] == events[0]["hash"]


def test_events_are_the_newest_unless_told_where_to_begin(run, desk):
    keys = [desk.issue(name=f"Client {number}").key for number in range(5)]
    assert [event["number"] for event in run.json("events", "--size", "2")["events"]] == [4, 5]
    assert [event["number"] for event in run.json("events", "--after", "1", "--size", "2")["events"]] == [2, 3]
    desk.disable(keys[1].id)
    assert [event["number"] for event in run.json("events", keys[1].id)["events"]] == [2, 6]
    assert [event["number"] for event in run.json("events", keys[1].id, "--size", "1")["events"]] == [6]


def test_events_of_a_deleted_key_stay(run, desk):
    key_id = desk.issue(name="A").key.id
    desk.revoke(key_id)
    desk.delete(key_id)
    assert "deleted" in run("events", key_id).stdout
    assert "No key has the id" in run.refused("events", "key_" + "0" * 28)
    assert "There are no events after 99." in run("events", "--after", "99").stderr


@pytest.mark.parametrize("columns", [80, 120])
def test_events_fit_the_terminal(run, monkeypatch, columns):
    key_id = run.json("issue", "A long name " * 10, "--scope", "orders:read")["key"]["id"]
    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments in (("events",), ("events", key_id)):
        assert max(map(len, run(*arguments).stdout.splitlines())) <= columns
    assert key_id in run("events").stdout


def test_events_verify_prints_the_head(run, desk):
    desk.issue(name="A")
    head = desk.list_events()[-1].hash
    result = run("events", "--verify")
    assert head in result.stdout
    assert "The chain is whole" in result.stderr
    answer = run.json("events", "--verify")
    assert (answer["intact"], answer["head_number"], answer["head_hash"]) == (True, 1, head)


def test_events_verify_finds_a_changed_row(run, desk, tmp_path):
    for number in range(3):
        desk.issue(name=f"Client {number}")
    with sqlite3.connect(tmp_path / "keydesk.db") as connection:
        connection.execute("UPDATE keydesk_events SET actor = 'somebody' WHERE number = 2")
    connection.close()
    assert "event 2 was changed" in run("events", "--verify", code=1).stderr
    answer = run.json("events", "--verify", code=1)
    assert (answer["intact"], answer["broken_at"]) == (False, 2)


def test_events_verify_walks_all(run):
    assert "leave out the ID" in run.refused("events", "key_" + "0" * 28, "--verify", code=2)


# prune


def test_prune_removes_what_ended_long_ago(run, desk):
    key = desk.issue(name="A").key
    rotated = desk.issue(name="B").key
    desk.revoke(key.id)
    desk.rotate(rotated.id, overlap=timedelta(0))
    assert run.json("prune", "--older-than", "1d") == {"deleted_keys": 0, "shortened_keys": 0}
    assert "1 key deleted" in run("prune", "--older-than", "0s").stdout
    assert desk.find_key(key.id) is None
    assert len(desk.get_key(rotated.id).secrets) == 1


# db upgrade


@pytest.mark.usefixtures("no_database")
def test_db_upgrade_makes_the_tables_once(run):
    first = run.json("db", "upgrade")
    assert first["before"] is None
    assert run.json("db", "upgrade") == {"before": first["after"], "after": first["after"]}
    assert "already" in run("db", "upgrade").stdout


def test_db_upgrade_of_a_store_without_tables_does_nothing(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_STORE", "memory://")
    assert "nothing to do" in run("db", "upgrade").stdout


def test_db_newer_than_the_code_is_refused(run, tmp_path):
    run("db", "upgrade")
    with sqlite3.connect(tmp_path / "keydesk.db") as connection:
        connection.execute("UPDATE keydesk_version SET version_num = '9999'")
    connection.close()
    assert "newer than this Keydesk" in run.refused("list")
    assert "newer than this Keydesk" in run.refused("db", "upgrade")
    assert "newer than this Keydesk" in " ".join(run("doctor", code=1).stdout.split())


def test_database_without_tables_names_the_command_once(run, no_database):
    with sqlite3.connect(no_database) as connection:
        connection.execute("CREATE TABLE keydesk_keys (id TEXT)")
    connection.close()
    said = run.refused("list")
    assert said.count("`keydesk db upgrade`") == said.count("db upgrade") == 1


# doctor


def found(run, name, code=0):
    return [check for check in run.json("doctor", code=code) if check["name"] == name]


def test_doctor_finds_nothing_wrong(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_PEPPER", PEPPER)
    run("issue", "A")
    assert "All is well." in run("doctor").stdout
    assert all(check["passed"] for check in run.json("doctor"))


def test_doctor_advises_a_pepper(run):
    run("issue", "A")
    (check,) = found(run, "pepper")
    assert check["passed"] is None
    assert "token_urlsafe(48)" in check["fix"]
    assert "1 to consider" in run("doctor").stdout


def test_doctor_lists_all_wrong_settings(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_STORE", "file:/nowhere/keys.yml")
    monkeypatch.setenv("KEYDESK_PREFIX", "-")
    monkeypatch.setenv("KEYDESK_HEADER", "X Key")
    checks = found(run, "settings", code=1)
    assert [check["passed"] for check in checks] == [False] * 3
    assert "KEYDESK_HEADER" in checks[1]["found"]
    assert "X-API-Key" in checks[1]["fix"]
    assert "/nowhere/keys.yml" in checks[2]["found"]


def test_doctor_names_unknown_settings_in_the_environment(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_SERVICE_HOST", "10.0.0.1")
    (check,) = found(run, "environment")
    assert check["passed"] is None
    assert "KEYDESK_SERVICE_HOST" in check["found"]


def test_doctor_finds_digests_under_a_forgotten_pepper(run, monkeypatch):
    monkeypatch.setenv("KEYDESK_PEPPER", PEPPER)
    run("issue", "A")
    monkeypatch.setenv("KEYDESK_PEPPER", SOME_PEPPER)
    (check,) = found(run, "digests", code=1)
    assert check["passed"] is False
    assert "KEYDESK_PREVIOUS_PEPPERS" in check["fix"]
    monkeypatch.setenv("KEYDESK_PREVIOUS_PEPPERS", PEPPER)
    assert [check["passed"] for check in found(run, "digests")] == [True]


def test_doctor_names_keys_that_expire_soon(run):
    key = run.json("issue", "Mobile app", "--expires", "3d")["key"]
    run("issue", "Later", "--expires", "90d")
    (check,) = found(run, "expiry")
    assert check["passed"] is None
    assert "Mobile app" in check["found"]
    assert "Later" not in check["found"]
    assert f"keydesk update {key['id']} --expires 90d" in check["fix"]


def test_doctor_finds_a_wrong_clock(run, desk, monkeypatch, tmp_path):
    desk.issue(name="A")
    late = datetime.now(UTC) + timedelta(hours=1)
    with sqlite3.connect(tmp_path / "keydesk.db") as connection:
        connection.execute("UPDATE keydesk_events SET at = ?", (late.strftime("%Y-%m-%d %H:%M:%S.%f"),))
    connection.close()
    (check,) = found(run, "clock", code=1)
    assert "behind the newest event" in check["found"]
    assert "NTP" in check["fix"]


def test_doctor_of_a_store_that_does_not_answer(run, monkeypatch, tmp_path):
    (tmp_path / "broken.db").write_bytes(b"this is no database, whatever it is called" * 30)
    monkeypatch.setenv("KEYDESK_STORE", f"sqlite:///{tmp_path / 'broken.db'}")
    (check,) = found(run, "store", code=1)
    assert check["passed"] is False
    assert "does not answer" in check["found"]
    assert str(tmp_path / "broken.db") in check["fix"]
    assert "keydesk doctor" not in check["found"] + check["fix"]
    said = run.refused("list")
    assert "does not answer" in said
    assert "Run `keydesk doctor`" in said


def test_doctor_where_no_database_was_made_yet(run, no_database, tmp_path):
    (check,) = found(run, "store")
    assert check["passed"] is None
    assert str(no_database) in check["found"]
    assert "keydesk issue" in check["fix"]
    assert list(tmp_path.iterdir()) == []


def test_doctor_shows_where_the_database_is(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KEYDESK_STORE", "sqlite:///keydesk.db")
    run("issue", "A")
    (check,) = found(run, "store")
    assert check["passed"]
    assert str(tmp_path / "keydesk.db") in check["found"]


@pytest.mark.parametrize("statement", ["DELETE FROM keydesk_chain_head", "UPDATE keydesk_chain_head SET number = 1"])
def test_doctor_finds_a_head_that_was_set_back(run, desk, tmp_path, statement):
    for number in range(2):
        desk.issue(name=f"Client {number}")
    with sqlite3.connect(tmp_path / "keydesk.db") as connection:
        connection.execute(statement)
    connection.close()
    (check,) = found(run, "events", code=1)
    assert check["passed"] is False
    assert "keydesk_chain_head" in check["fix"]
    assert "keydesk events --verify" in run.refused("issue", "B")
    said = run("events", "--verify", code=1).stderr
    assert "head" in said
    assert "keydesk_chain_head" in said


def test_doctor_finds_damaged_rows_and_goes_on(run, desk, tmp_path):
    damaged, soon = (desk.issue(name=name, expires_at=datetime.now(UTC) + timedelta(days=3)).key for name in "AB")
    with sqlite3.connect(tmp_path / "keydesk.db") as connection:
        connection.execute("UPDATE keydesk_keys SET limits = 'plenty' WHERE id = ?", (damaged.id,))
    connection.close()
    (check,) = found(run, "keys", code=1)
    assert check["passed"] is False
    assert damaged.id in check["found"]
    assert "1 of the newest 2" in check["found"]
    (check,) = found(run, "expiry", code=1)
    assert soon.id in check["found"]
    assert [check["passed"] for check in found(run, "events", code=1)] == [True]


def test_doctor_shows_the_rest_where_one_look_fails(run, desk, monkeypatch):
    desk.issue(name="A")

    def fail(*_args, **_options):
        raise StoreUnavailable("the database went away", "Run `keydesk doctor` to see more.")

    monkeypatch.setattr("keydesk.stores.sql.SqlStore.secrets_by_pepper", fail)
    (check,) = found(run, "digests", code=1)
    assert check["found"] == "the database went away"
    assert [check["passed"] for check in found(run, "events", code=1)] == [True]


# No database


READING = (
    ("list",),
    ("list", "--json"),
    ("show", "key_" + "0" * 28),
    ("verify",),
    ("events",),
    ("events", "--verify"),
    ("update", "key_" + "0" * 28, "--owner", "acme"),
    ("rotate", "key_" + "0" * 28),
    ("disable", "key_" + "0" * 28),
    ("enable", "key_" + "0" * 28),
    ("revoke", "key_" + "0" * 28),
    ("delete", "key_" + "0" * 28),
    ("prune",),
)


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_commands_that_make_no_key_make_no_database(run, no_database, tmp_path, monkeypatch, arguments):
    monkeypatch.setenv("KEYDESK_STORE", "sqlite:///keydesk.db")
    said = run.refused(*arguments, stdin="some-imported-secret-0123456789\n")
    assert f"There is no database at {no_database}; `keydesk issue NAME` makes it" in said
    assert "KEYDESK_STORE" in said
    assert list(tmp_path.iterdir()) == []


def test_import_makes_the_database_unless_it_is_refused(run, no_database, tmp_path, monkeypatch):
    monkeypatch.setenv("KEYDESK_PEPPER", PEPPER)
    (tmp_path / "wrong.csv").write_text("secret,name\nsome-imported-secret-0123456789\n")
    run("import", str(tmp_path / "wrong.csv"), code=1)
    assert not no_database.exists()
    (tmp_path / "keys.csv").write_text("secret,name\nsome-imported-secret-0123456789,Mobile app\n")
    run("import", str(tmp_path / "keys.csv"))
    assert "Mobile app" in run("list").stdout


def test_doctor_of_keys_in_the_configuration(run, monkeypatch):
    monkeypatch.delenv("KEYDESK_STORE")
    monkeypatch.setenv("API_KEYS", json.dumps({"hunter2": "Reports"}))
    (check,) = found(run, "strength", code=1)
    assert "could be guessed" in check["found"]
    assert "hunter2" not in run("doctor", code=1).output
