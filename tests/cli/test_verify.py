"""`verify`: every check with its fix, and an exit code that can be relied on."""

from __future__ import annotations

import pytest

NAMES = ["presented", "shape", "known", "status", "network", "scopes"]


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
    assert answer["checks"][-1]["fix"] == f"keydesk update {issued.key.id} --scope 'orders:*' --scope a:r"


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
