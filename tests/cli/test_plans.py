"""The commands `plans` and `owners`, and what the others say of a key with a plan."""

from __future__ import annotations

import json

import pytest

from .conftest import CommandLine


@pytest.fixture
def gold(run: CommandLine) -> CommandLine:
    run("plans", "put", "gold", "--scope", "a:r", "--scope", "b:*", "--limit", "100/minute", "--quota", "1000/month")
    return run


def test_plans_put_makes_and_changes(run, desk):
    made = run.json("plans", "put", "gold", "--description", "For who pays", "--scope", "a:r", "--limit", "100/minute")
    assert (made["name"], made["description"], made["version"]) == ("gold", "For who pays", 1)
    assert (made["scopes"], made["limits"], made["quotas"]) == (["a:r"], ["100/minute"], [])
    changed = run.json("plans", "put", "gold", "--quota", "5 per day", "--no-limits")
    assert (changed["scopes"], changed["limits"], changed["quotas"]) == (["a:r"], [], ["5/day"])
    assert changed["version"] == 2
    assert run.json("plans", "show", "gold") == changed
    assert desk.plans.get("gold").description == "For who pays"
    shown = run("plans", "put", "gold").stdout
    assert "For who pays" in shown
    assert desk.plans.get("gold").version == 2
    assert desk.list_events()[-1].event.actor.startswith("cli:")


def test_plans_put_makes_the_database(run, no_database):
    run("plans", "put", "gold")
    assert no_database.exists()
    assert [plan["name"] for plan in run.json("plans", "list")["plans"]] == ["gold"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("Gold",),
        ("gold", "--scope", "x"),
        ("gold", "--limit", "x"),
        ("gold", "--scope", "a:r", "--no-scopes"),
        (),
        ("gold", "--network", "10.0.0.0/8"),
    ],
)
def test_plans_put_wrong_usage(run, arguments):
    run.refused("plans", "put", *arguments, code=2)


def test_plans_list(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert "keydesk plans put NAME" in run("plans", "list").stderr
    assert run.json("plans", "list") == {"plans": []}
    for name in ("silver", "gold"):
        run("plans", "put", name, "--limit", "5/day")
    lines = run("plans", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["gold", "silver"]
    one = run("plans", "list", "--size", "1")
    assert "--after gold" in one.stderr
    assert [plan["name"] for plan in run.json("plans", "list", "--after", "gold")["plans"]] == ["silver"]


def test_plans_delete(gold):
    issued = gold.json("issue", "Portal", "--plan", "gold")
    assert "1 key has it" in gold.refused("plans", "delete", "gold")
    gold("revoke", issued["key"]["id"])
    assert gold.json("plans", "delete", "gold") == {"name": "gold", "deleted": True}
    assert "No plan has the name 'gold'" in gold.refused("plans", "show", "gold")
    assert "gold" in gold.refused("plans", "delete", "gold")


def test_issue_and_update_with_a_plan(gold, desk):
    issued = gold.json("issue", "Portal", "--plan", "gold")
    key_id = issued["key"]["id"]
    assert (issued["key"]["plan"], issued["key"]["scopes"]) == ("gold", [])
    assert "the plan gold does not grant c:r" in gold.refused("issue", "Portal", "--plan", "gold", "--scope", "c:r")
    assert "there is no plan silver" in gold.refused("issue", "Portal", "--plan", "silver")
    assert "there is no plan silver" in gold.refused("update", key_id, "--plan", "silver")
    gold.refused("issue", "Portal", "--plan", "Gold", code=2)
    gold.refused("update", key_id, "--plan", "gold", "--no-plan", code=2)
    assert gold.json("update", key_id, "--no-plan")["plan"] is None
    assert not desk.verify(issued["secret"], scopes=["a:r"]).allowed
    assert gold.json("update", key_id, "--plan", "gold")["plan"] == "gold"
    assert desk.verify(issued["secret"], scopes=["a:r"]).allowed
    assert gold.json("update", key_id, "--plan", "")["plan"] is None


def test_list_of_a_plan(gold):
    issued = gold.json("issue", "Portal", "--plan", "gold")
    gold("issue", "Other")
    assert [key["id"] for key in gold.json("list", "--plan", "gold")["keys"]] == [issued["key"]["id"]]
    assert "No key fits" in gold("list", "--plan", "silver").stderr
    gold("issue", "Portal", "--plan", "gold")
    assert "--plan gold" in gold("list", "--plan", "gold", "--size", "1").stderr


def test_show_says_what_is_in_force_and_where_it_comes_from(gold, monkeypatch):
    monkeypatch.setenv("KEYDESK_DEFAULT_LIMITS", "7/minute")
    gold("owners", "put", "acme", "--limit", "1000/minute", "--quota", "9000/month")
    key_id = gold.json(
        "issue", "Portal", "--plan", "gold", "--owner", "acme", "--scope", "b:w", "--limit", "5/day"
    )["key"]["id"]  # fmt: skip
    shared = "owner acme, for all its keys together"
    assert gold.json("show", key_id)["in_force"] == {
        "scopes": ["b:w"],
        "limits": [
            {"limit": "5/day", "from": "key"},
            {"limit": "100/minute", "from": "plan gold"},
            {"limit": "1000/minute", "from": shared},
        ],
        "quotas": [{"quota": "1000/month", "from": "plan gold"}, {"quota": "9000/month", "from": shared}],
    }
    text = gold("show", key_id).stdout
    for words in ("plan", "may do", "100/minute (plan gold)", f"1000/minute ({shared})", "5/day (key)"):
        assert words in text
    bare = gold.json("issue", "Bare")["key"]["id"]
    assert gold.json("show", bare)["in_force"]["limits"] == [{"limit": "7/minute", "from": "KEYDESK_DEFAULT_LIMITS"}]
    assert "may do" not in gold("show", bare).stdout


def test_verify_shows_the_scopes_in_force(gold):
    secret = gold.json("issue", "Portal", "--plan", "gold")["secret"]
    answer = gold.json("verify", "--scope", "a:r", stdin=secret)
    assert answer["key"]["scopes"] == ["a:r", "b:*"]
    said = gold("verify", "--scope", "c:r", stdin=secret, code=1).output
    assert "keydesk plans put gold --scope a:r --scope 'b:*' --scope c:r" in said


def test_owners(run):
    assert "keydesk owners put" in run("owners", "list").stderr
    made = run.json("owners", "put", "ACME Inc.", "--limit", "5/minute")
    assert (made["owner"], made["limits"], made["quotas"], made["version"]) == ("ACME Inc.", ["5/minute"], [], 1)
    assert run.json("owners", "put", "ACME Inc.", "--quota", "9/day", "--no-limits")["limits"] == []
    assert run.json("owners", "show", "ACME Inc.")["quotas"] == ["9/day"]
    assert "9/day" in run("owners", "show", "ACME Inc.").stdout
    assert [terms["owner"] for terms in run.json("owners", "list")["owners"]] == ["ACME Inc."]
    assert "ACME Inc." in run("owners", "list", "--size", "1").stdout
    assert run.json("owners", "delete", "ACME Inc.") == {"owner": "ACME Inc.", "deleted": True}
    for command in ("show", "delete"):
        assert "Nothing was agreed" in run.refused("owners", command, "ACME Inc.")


def test_events_of_plans_and_owners(gold, monkeypatch):
    gold("plans", "put", "gold", "--limit", "50/minute")
    gold("owners", "put", "acme", "--limit", "5/minute")
    gold("owners", "delete", "acme")
    events = gold.json("events")["events"]
    assert [event["kind"] for event in events] == ["plan.created", "plan.updated", "owner.created", "owner.deleted"]
    assert {event["key_id"] for event in events} == {""}
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        shown = gold("events").stdout
        assert "plan.updated" in shown
        assert "acme" in shown
    assert gold.json("events", "--verify")["intact"]


def test_import_with_plans(gold, tmp_path, monkeypatch):
    monkeypatch.setenv("KEYDESK_PEPPER", "cGVwcGVyIG9mIHRoZSB0ZXN0cywgb3ZlciB0aGlydHktdHdvIGJ5dGVz")
    good = [{"secret": f"imported-secret-number-{n:08}", "name": f"client {n}", "plan": "gold"} for n in range(3)]
    wrong = {"secret": "imported-secret-number-00000009", "name": "x", "plan": "gold", "scopes": ["z:z"]}
    missing = {"secret": "imported-secret-number-00000008", "name": "x", "plan": "silver"}
    file = tmp_path / "keys.jsonl"
    for last, words in ((wrong, "line 4: scopes: the plan gold does not grant z:z"), (missing, "no plan silver")):
        file.write_text("\n".join(map(json.dumps, [*good, last])))
        assert words in gold.refused("import", str(file))
    file.write_text("\n".join(map(json.dumps, good)))
    gold("import", str(file))
    assert {key["plan"] for key in gold.json("list")["keys"]} == {"gold"}
