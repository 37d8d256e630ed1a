"""`verify`: every check with its fix, and an exit code that can be relied on."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask

from keydesk import open_desk
from keydesk.cli import keydesk as command_line
from keydesk.flask import Keydesk
from keydesk.testing import ManualClock

NAMES = ["presented", "shape", "known", "status", "network", "scopes", "limits"]


def test_verify_passes(run, desk):
    secret = desk.issue(name="Mobile app", scopes=["orders:read"], networks=["10.0.0.0/8"]).secret
    arguments = ("verify", "--scope", "orders:read", "--address", "10.1.2.3")
    result = run(*arguments, stdin=secret)
    assert "It would pass." in result.stdout
    assert "Mobile app" in result.stdout
    assert secret not in result.output
    answer = run.json(*arguments, stdin=secret + "\r\n")
    assert answer["allowed"] is True
    assert answer["reason"] is None
    assert answer["key"]["name"] == "Mobile app"
    assert [check["name"] for check in answer["checks"]] == NAMES
    assert all(check["passed"] for check in answer["checks"])


def test_verify_names_the_missing_scope_and_the_command_that_gives_it(run, desk):
    issued = desk.issue(name="A", scopes=["orders:*"])
    result = run("verify", "--scope", "invoices:read", stdin=issued.secret, code=1)
    assert "It would be refused: scope_denied." in result.stdout
    assert f"keydesk update {issued.key.id} --scope 'orders:*' --scope invoices:read" in result.stdout
    answer = run.json("verify", "--any-of", "a:r", "--any-of", "b:r", stdin=issued.secret, code=1)
    assert answer["reason"] == "scope_denied"
    assert answer["checks"][5]["fix"] == f"keydesk update {issued.key.id} --scope 'orders:*' --scope a:r"


def test_verify_names_the_network(run, desk):
    issued = desk.issue(name="A", networks=["10.0.0.0/8"])
    answer = run.json("verify", "--address", "192.0.2.1", stdin=issued.secret, code=1)
    assert answer["reason"] == "network_denied"
    assert answer["checks"][4]["fix"] == f"keydesk update {issued.key.id} --network 10.0.0.0/8 --network 192.0.2.1"
    assert "--address" in run("verify", stdin=issued.secret, code=1).stdout


def test_verify_names_since_when_a_key_is_disabled(run, desk):
    issued = desk.issue(name="A")
    desk.disable(issued.key.id)
    assert f"keydesk enable {issued.key.id}" in run("verify", stdin=issued.secret, code=1).stdout
    desk.revoke(issued.key.id, reason="leaked")
    assert "leaked" in run("verify", stdin=issued.secret, code=1).stdout


FAILING: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "scope": ({"scopes": ["orders:*"]}, ("--scope", "invoices:read", "--scope", "invoices:write")),
    "any of": ({}, ("--any-of", "a:r", "--any-of", "b:r")),
    "scope and any of": ({"scopes": ["x:y"]}, ("--scope", "a:b", "--any-of", "c:d", "--any-of", "e:f")),
    "network": ({"networks": ["10.0.0.0/8"]}, ("--address", "203.0.113.7")),
    "network of six": ({"networks": ["2001:db8::/32"]}, ("--address", "fe80::1%eth0")),
    "expiry": ({"expires_at": datetime(2026, 1, 2, tzinfo=UTC)}, ()),
    "disabled": ({"disabled": True}, ()),
    "all": (
        {"disabled": True, "networks": ["10.0.0.0/8"], "expires_at": datetime(2026, 1, 2, tzinfo=UTC)},
        ("--scope", "a:b", "--any-of", "c:d", "--any-of", "e:f", "--address", "203.0.113.7"),
    ),
    "revoked": ({"revoked": True, "scopes": ["*"]}, ("--scope", "a:b")),
    "rotated": ({"rotated": True}, ()),
}


@pytest.mark.parametrize("door", ["keydesk", "flask keys"])
@pytest.mark.parametrize("kind", FAILING)
def test_verify_prints_commands_that_mend_it(store, monkeypatch, kind, door):
    """Each printed command is typed as it stands, at the door that printed it, on a terminal too narrow for it."""
    (fields, asked), then = FAILING[kind], ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    state = {name: value for name, value in fields.items() if name in ("disabled", "revoked", "rotated")}
    past = open_desk({"KEYDESK_STORE": store}, clock=then)
    issued = past.issue(name="keydesk list", **{name: value for name, value in fields.items() if name not in state})
    for change, verb in (("disabled", past.disable), ("revoked", past.revoke)):
        if change in state:
            verb(issued.key.id)
    if "rotated" in state:
        past.rotate(issued.key.id, overlap=timedelta(0))
    past.close()

    app = Flask(__name__, instance_path=os.getcwd())
    app.config["KEYDESK_STORE"] = store
    keys = Keydesk(app)

    def type_in(*words: str, stdin: str = "") -> Any:
        if door == "keydesk":
            return CliRunner().invoke(command_line, words, input=stdin)
        return app.test_cli_runner().invoke(args=["keys", *words], input=stdin)

    monkeypatch.setenv("COLUMNS", "72")
    secret = issued.secret
    first = type_in("verify", *asked, stdin=secret)
    assert first.exit_code == 1
    commands = [line.strip() for line in first.stdout.splitlines() if line.strip().startswith(f"{door} ")]
    assert commands
    for command in commands:
        done = type_in(*shlex.split(command.removeprefix(door)))
        assert done.exit_code == 0, done.output
        if kind in ("revoked", "rotated"):
            secret = done.stdout.strip()
    again = type_in("verify", *asked, "--json", stdin=secret)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["key"]["name"] == "keydesk list"
    with app.app_context():
        keys.desk.close()


def test_verify_names_the_edit_where_keys_are_in_a_file(run, monkeypatch):
    Path("keys.yml").write_text("the-secret-of-the-app-0123456789: {name: Mobile app, scopes: [orders:read]}\n")
    monkeypatch.setenv("KEYDESK_STORE", "file:keys.yml")
    arguments = ("verify", "--scope", "orders:write")
    result = run(*arguments, stdin="the-secret-of-the-app-0123456789", code=1)
    edit = "scopes: [orders:read, orders:write]"
    assert f'in keys.yml, give "Mobile app" {edit}' in result.stdout
    Path("keys.yml").write_text(f"the-secret-of-the-app-0123456789: {{name: Mobile app, {edit}}}\n")
    run(*arguments, stdin="the-secret-of-the-app-0123456789")


def test_verify_says_what_surrounds_a_secret(run, desk):
    secret = desk.issue(name="A").secret
    for around, words in (
        ('"{}"\n', "double quotes"),
        ("Authorization: Bearer {}\r\n", "`Authorization:` and `Bearer`"),
    ):
        result = run("verify", stdin=around.format(secret), code=1)
        assert f"send the secret alone, without {words}" in result.stdout
        assert secret not in result.output


@pytest.mark.parametrize(
    ("stdin", "reason", "fix"),
    [
        ("", "missing", "send the secret"),
        ("\n", "missing", "send the secret"),
        ("kd_live_0000000000000000000000000000000000000x", "invalid", "copy the secret again, whole"),
        ("two words", "invalid", "copy the secret again"),
        (b"\xff\xfe\x00", "invalid", "copy the secret again"),
        ("x" * 100_000, "invalid", "copy the secret again"),
        ("0123456789abcdef-ZYXWVUTSRQPONM", "invalid", "another pepper"),
    ],
)
def test_verify_of_what_is_no_secret_says_what_to_do(run, stdin, reason, fix):
    assert run.json("verify", stdin=stdin, code=1)["reason"] == reason
    assert fix in " ".join(run("verify", stdin=stdin, code=1).stdout.split())


def test_verify_takes_no_secret_as_argument(run):
    said = run.refused("verify", "my-own-imported-secret-0815", code=2)
    assert "never from the command line" in said
    assert "0815" not in said
    assert "No such option" in run.refused("verify", "--scop3", code=2)


@pytest.mark.parametrize("limiter", ["memory://", "sqlite:///limits.db"])
def test_limits_that_each_process_counts_alone_are_said_to_be(run, desk, monkeypatch, limiter):
    """What workers have taken is not seen here, and the answer looked as if it were."""
    limited, free = desk.issue(name="A", limits=["5/minute"]).secret, desk.issue(name="B").secret
    monkeypatch.setenv("KEYDESK_LIMITER", limiter)
    noted = "each process counts requests in its own memory"
    assert (noted in run("verify", stdin=limited).stderr) is (limiter == "memory://")
    assert noted not in run("verify", stdin=free).stderr
