"""`scan`: secrets in files, folders and streams; whose they are; revoking them; rules for other scanners."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

import keydesk
from keydesk.cli import scan_files, scanning
from keydesk.cli.commands import COMMANDS
from keydesk.cli.text import in_program
from keydesk.keys.secret import SecretFormat

from .conftest import CommandLine

SECRETS = [SecretFormat().mint() for _ in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    return folder


def hint(secret: str) -> str:
    return f"kd_live_…{secret[-4:]}"


def assert_none_shown(result: Result) -> None:
    for secret in SECRETS:
        assert secret[8:] not in result.output
        assert secret[8:24] not in result.output


# Finding


def test_scan_prints_each_place(run: CommandLine, folder: Path) -> None:
    (folder / "b.py").write_text(f"\n\nKEY = '{SECRETS[0]}'  # {SECRETS[1]}\n")
    (folder / "a").mkdir()
    (folder / "a" / "access.log.gz").write_bytes(gzip.compress(f"x\nGET /?k={SECRETS[0]}\n".encode()))
    (folder / "clean.txt").write_text("kd_live_…abcd")
    result = run("scan", "sources", code=1)
    assert result.stdout.splitlines() == [
        f"sources/b.py:3:8: {hint(SECRETS[0])}",
        f"sources/b.py:3:59: {hint(SECRETS[1])}",
        f"sources/a/access.log.gz:2:9: {hint(SECRETS[0])}",
    ]
    assert "2 secrets found in 3 places; 3 files read." in result.stderr
    assert_none_shown(result)


def test_scan_of_nothing(run: CommandLine, folder: Path) -> None:
    result = run("scan", "sources")
    assert result.stdout == ""
    assert "No secret of this desk was found in 0 files." in result.stderr
    (folder / "a").write_bytes(b"")
    assert run.json("scan", "sources") == {
        "findings": [], "places": 0, "secrets": 0, "files": 1, "bytes": 0, "unread": [], "unread_count": 0
    }  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
def test_scan_standard_input(run: CommandLine, zipped: bool) -> None:
    data = f"\n{SECRETS[0]}".encode()
    result = run("scan", "-", stdin=gzip.compress(data) if zipped else data, code=1)
    assert result.stdout == f"-:2:1: {hint(SECRETS[0])}\n"
    run("scan", "-", stdin=b"nothing")


def test_scan_json(run: CommandLine, folder: Path) -> None:
    (folder / "a.txt").write_text(f"{SECRETS[0]}\n")
    result = run("scan", "--json", "sources", code=1)
    assert json.loads(result.stdout) == {
        "findings": [{"file": "sources/a.txt", "line": 1, "column": 1, "hint": hint(SECRETS[0])}],
        "places": 1, "secrets": 1, "files": 1, "bytes": 47, "unread": [], "unread_count": 0,
    }  # fmt: skip
    assert_none_shown(result)


@pytest.mark.usefixtures("no_database")
def test_scan_asks_nobody(run: CommandLine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline means: no store is opened, and none is made."""
    (folder / "a.txt").write_text(SECRETS[0])
    run("scan", "sources", code=1)
    assert not (tmp_path / "keydesk.db").exists()
    assert "there is no database" in run.refused("scan", "--live", "sources").lower()
    assert not (tmp_path / "keydesk.db").exists()
    monkeypatch.setenv("KEYDESK_STORE", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    run("scan", "sources", code=1)


def test_scan_goes_by_the_prefix(run: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = SecretFormat("acme_eu").mint()
    (folder / "a.txt").write_text(f"{SECRETS[0]}\n{ours}")
    monkeypatch.setenv("KEYDESK_PREFIX", "acme_eu")
    assert run("scan", "sources", code=1).stdout == f"sources/a.txt:2:1: acme_eu_live_…{ours[-4:]}\n"


def test_scan_wrong_usage(run: CommandLine) -> None:
    assert "Say what to read" in run.refused("scan", code=2)
    assert "does not exist" in run.refused("scan", "nowhere", code=2)
    assert "--rules goes with nothing else" in run.refused("scan", "--rules", "gitleaks", ".", code=2)
    assert "--rules goes with nothing else" in run.refused("scan", "--rules", "gitleaks", "--revoke", code=2)
    assert SECRETS[0][8:] not in run.refused("scan", SECRETS[0], code=2)


def test_scan_names_so_many_places(run: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_PLACES", 3)
    (folder / "a.txt").write_text(f"{SECRETS[0]}\n" * 5)
    result = run("scan", "sources", code=1)
    assert len(result.stdout.splitlines()) == 3
    assert "1 secret found in 5 places, of which the first 3 are shown" in result.stderr
    answer = run.json("scan", "sources", code=1)
    assert (len(answer["findings"]), answer["places"]) == (3, 5)


def test_scan_ends_at_a_list_of_keys(run: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can work out checksums: what is kept of a file of made-up secrets is bounded."""
    monkeypatch.setattr(scanning, "MAX_SECRETS", 2)
    (folder / "a.txt").write_text("\n".join([*SECRETS, *SECRETS]))
    answer = run.json("scan", "sources", code=1)
    assert (answer["secrets"], answer["unread_count"]) == (2, 1)
    assert "more than 2 different secrets" in answer["unread"][0]["problem"]


# What is no plain file


def test_scan_leaves_what_is_no_file_alone(run: CommandLine, folder: Path, tmp_path: Path) -> None:
    """It follows no link out of a folder or in a circle, and waits for no pipe."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.txt").write_text(SECRETS[0])
    (folder / "out").symlink_to(elsewhere)
    (folder / "out.txt").symlink_to(elsewhere / "secret.txt")
    (folder / "circle").symlink_to(folder)
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)  # a socket's path is short
        listener.bind("socket")
        os.chdir(tmp_path)
        assert run.json("scan", "sources") == {
            "findings": [], "places": 0, "secrets": 0, "files": 0, "bytes": 0, "unread": [], "unread_count": 0
        }  # fmt: skip
    # Who names a link means what it leads to.
    assert run.json("scan", "sources/out", "sources/out.txt", code=1)["places"] == 2


@pytest.mark.parametrize("path", ["sources/pipe", "/dev/zero", "/dev/tty"])
def test_scan_refuses_to_wait_for_what_is_no_file(run: CommandLine, folder: Path, path: str) -> None:
    os.mkfifo(folder / "pipe")
    answer = run.json("scan", path, code=1)
    assert (answer["files"], answer["unread_count"]) == (0, 1)


def test_scan_sees_a_file_that_became_a_pipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing of a folder and the opening of a file somebody may put something else there."""
    (folder / "a").write_text("x")
    unread = scan_files.Unread()
    ((path, named),) = scan_files.files_of((str(folder),), unread)
    for put in (lambda: os.mkfifo(folder / "a"), lambda: (folder / "a").symlink_to("/etc/passwd")):
        (folder / "a").unlink()
        put()
        with pytest.raises(OSError, match=r"no file|Too many levels"), scan_files.opened(path, named=named):
            pass


def test_scan_tells_of_what_it_cannot_read(run: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that could not look must not pass for one that found nothing."""
    (folder / "damaged.gz").write_bytes(gzip.compress(SECRETS[0].encode() * 1000)[:60])
    (folder / "fine.txt").write_text(SECRETS[1])
    (folder / "no").write_text(SECRETS[2])
    really_open = os.open

    def refusing(path: Any, *given: Any, **more: Any) -> int:
        if str(path).endswith("/no"):
            raise PermissionError(13, "Permission denied", path)
        return really_open(path, *given, **more)

    monkeypatch.setattr(os, "open", refusing)
    result = run("scan", "sources", code=1)
    assert "sources/fine.txt:1:1" in result.stdout
    assert "sources/no: Permission denied" in result.stderr
    assert "sources/damaged.gz: ends too early as gzip" in result.stderr
    assert "2 places could not be read to the end" in result.stderr
    (folder / "fine.txt").unlink()
    (folder / "damaged.gz").unlink()
    assert run.json("scan", "sources", code=1)["unread"] == [{"file": "sources/no", "problem": "Permission denied"}]


def test_scan_of_a_folder_without_permission(run: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed").mkdir()
    (folder / "open").mkdir()
    (folder / "open" / "a.txt").write_text(SECRETS[0])
    really_scan = os.scandir

    def refusing(path: Any) -> Any:  # whoever runs this may read everything
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied", path)
        return really_scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    answer = run.json("scan", "sources", code=1)
    assert answer["unread"] == [{"file": "sources/closed", "problem": "Permission denied"}]
    assert answer["places"] == 1


@pytest.mark.parametrize(("name", "depth"), [("d", 1200), ("d" * 200, 30)])
def test_scan_of_deep_folders(run: CommandLine, folder: Path, tmp_path: Path, name: str, depth: int) -> None:
    """Deeper than Python recurses: all is read. Deeper than a path may be long: that is told, and all above is read."""
    os.chdir(folder)
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
        Path("a.txt").write_text("x")
    os.chdir(tmp_path)
    try:
        answer = run.json("scan", "sources", code=int(len(name) > 1))
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)  # what pytest clears folders with recurses
    if len(name) == 1:
        assert (answer["files"], answer["unread_count"]) == (depth, 0)
    else:
        assert 15 < answer["files"] < depth
        assert {place["problem"] for place in answer["unread"]} == {"File name too long"}


@pytest.mark.parametrize(
    "name", [b"a\nfake.py:1:1: x", b"\x1b[2J\x07.txt", b"\xff\xfe.txt", "\u202etxt.exe".encode(), b"[bold]x[red]", b"-"]
)
def test_scan_writes_names_as_they_cannot_harm(run: CommandLine, folder: Path, name: bytes) -> None:
    Path(os.fsdecode(bytes(folder) + b"/" + name)).write_text(SECRETS[0])
    result = run("scan", "sources", code=1)
    assert len(result.stdout.splitlines()) == 1
    assert result.stdout.startswith("sources/")
    assert result.stdout.rstrip("\n").isprintable()
    (found,) = run.json("scan", "sources", code=1)["findings"]
    assert os.fsencode(found["file"]) == b"sources/" + name


def test_scan_shows_no_secret_that_is_a_name(run: CommandLine, folder: Path) -> None:
    (folder / SECRETS[0]).write_text(SECRETS[1])
    for arguments in (("scan", "sources"), ("scan", "--json", "sources")):
        assert_none_shown(run(*arguments, code=1))


def test_scan_reads_a_log_as_far_as_it_went(folder: Path) -> None:
    """A log that grows as fast as it is read is read to an end all the same."""
    path = folder / "a.log"
    path.write_bytes(b"x" * 100)
    with scan_files.opened(str(path), named=True) as pieces:
        path.write_bytes(b"x" * 100 + b"y" * 100)
        assert b"".join(pieces) == b"x" * 100


def test_scan_of_what_the_kernel_makes_up(run: CommandLine) -> None:
    answer = run.json("scan", "/proc/self/status")
    assert answer["bytes"] > 100


def test_scan_in_a_pipe_as_it_comes(store: str) -> None:
    """What `tail -f` writes is looked at when it comes. And whoever reads only the beginning ends it quietly."""
    command = [sys.executable, "-c", "from keydesk.cli import main; main()", "scan", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdin is not None
        for piece in (SECRETS[0][:20], SECRETS[0][20:], "\n"):
            done.stdin.write(piece.encode())
            done.stdin.flush()
        out, _ = done.communicate(timeout=30)
    assert out.decode() == f"-:1:1: {hint(SECRETS[0])}\n"
    assert done.returncode == 1


# Whose they are


def write(folder: Path, *secrets: str) -> None:
    (folder / "found.txt").write_text("".join(f"{secret}\n" for secret in secrets))


def test_scan_live_says_whose(run: CommandLine, desk: keydesk.Desk, folder: Path) -> None:
    issued = [desk.issue(name=f"Client {n}", owner="acme" if n else None) for n in range(5)]
    desk.disable(issued[1].key.id)
    desk.revoke(issued[2].key.id)
    rotated = desk.rotate(issued[3].key.id, overlap=timedelta(0))
    phased_out = desk.rotate(issued[4].key.id, overlap=timedelta(hours=1))
    write(folder, *(one.secret for one in issued), rotated.secret, phased_out.secret, SECRETS[0])
    answer = run.json("scan", "--live", "sources", code=1)
    assert [(found["state"], found["key"] and found["key"]["name"]) for found in answer["findings"]] == [
        ("active", "Client 0"), ("disabled", "Client 1"), ("revoked", "Client 2"), ("ended", "Client 3"),
        ("active", "Client 4"), ("active", "Client 3"), ("active", "Client 4"), ("unknown", None),
    ]  # fmt: skip
    assert answer["findings"][1]["key"] == {"id": issued[1].key.id, "name": "Client 1", "owner": "acme"}
    assert not any(found["revoked_now"] for found in answer["findings"])
    lines = run("scan", "--live", "sources", code=1).stdout.splitlines()
    assert lines[0].endswith(f" active: Client 0 ({issued[0].key.id})")
    assert lines[1].endswith(f" disabled: Client 1 of acme ({issued[1].key.id})")
    assert lines[-1].endswith(" unknown")
    assert len(desk.list_events()) == 9  # looking changes nothing
    for one in issued:
        assert one.secret[8:] not in str(answer)


def test_scan_revokes_once(run: CommandLine, desk: keydesk.Desk, folder: Path) -> None:
    """One event for each key, whatever the number of places and secrets; none at the second time."""
    active, disabled, rotated = (desk.issue(name=name) for name in ("active", "disabled", "rotated"))
    desk.disable(disabled.key.id)
    second = desk.rotate(rotated.key.id, overlap=timedelta(hours=1))
    write(folder, active.secret, active.secret, disabled.secret, rotated.secret, second.secret, SECRETS[0])
    before = len(desk.list_events())
    result = run("scan", "--revoke", "sources", code=1)
    assert result.stdout.count("revoked now") == 4
    events = [one.event for one in desk.list_events(after=before)]
    assert [(event.kind, event.key_id) for event in events] == [
        ("key.revoked", one.key.id) for one in (active, disabled, rotated)
    ]
    assert {event.details["reason"] for event in events} == {"leaked: found by scan"}
    assert all(event.actor.startswith("cli:") for event in events)
    assert not any(desk.verify(one.secret).allowed for one in (active, disabled, rotated, second))
    again = run("scan", "--revoke", "sources", code=1)
    assert "revoked now" not in again.stdout
    assert "None of them can be used any more." in again.stderr
    assert len(desk.list_events()) == before + 3


def test_scan_leaves_a_key_whose_old_secret_was_found(run: CommandLine, desk: keydesk.Desk, folder: Path) -> None:
    """A secret that a rotation has ended lies in old logs for years. Its key has another one by now."""
    first = desk.issue(name="A")
    second = desk.rotate(first.key.id, overlap=timedelta(0))
    write(folder, first.secret)
    assert run.json("scan", "--revoke", "sources", code=1)["findings"][0]["state"] == "ended"
    assert desk.verify(second.secret).allowed


def test_scan_revoke_refuses_first_where_nothing_can_be_changed(
    run: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, SECRETS[0])
    monkeypatch.setenv("KEYDESK_STORE", "config://")
    monkeypatch.setenv("API_KEY", SECRETS[0])
    assert run.json("scan", "--live", "sources", code=1)["findings"][0]["state"] == "active"
    assert "change them there" in run.refused("scan", "--revoke", "sources")


def test_scan_writes_names_of_keys_as_they_cannot_harm(
    run: CommandLine, desk: keydesk.Desk, folder: Path, tmp_path: Path
) -> None:
    issued = desk.issue(name="A")
    with sqlite3.connect(tmp_path / "keydesk.db") as connection:
        connection.execute("UPDATE keydesk_keys SET name = ?, owner = ?", ("a\nb\x1b[2J", "[red]"))
    connection.close()
    write(folder, issued.secret)
    (line,) = run("scan", "--live", "sources", code=1).stdout.splitlines()
    assert line.isprintable()


# Rules


@pytest.mark.parametrize("prefix", ["kd", "Acme_eu"])
@pytest.mark.parametrize("tool", ["gitleaks", "trufflehog"])
def test_rules_match_our_secrets(run: CommandLine, monkeypatch: pytest.MonkeyPatch, tool: str, prefix: str) -> None:
    monkeypatch.setenv("KEYDESK_PREFIX", prefix)
    text = run("scan", "--rules", tool).stdout
    if tool == "gitleaks":
        (rule,) = tomllib.loads(text)["rules"]
        assert set(rule) == {"id", "description", "regex", "keywords"}
        shape = rule["regex"]
    else:
        (rule,) = yaml.safe_load(text)["detectors"]
        assert set(rule) == {"name", "keywords", "regex"}
        shape = rule["regex"]["secret"]
    secret = SecretFormat(prefix).mint()
    found = re.findall(shape, f"x='{secret}'; y={secret[:-1]} {secret}x")
    assert found == [secret]
    # Both look for the keywords, in lower case, before they try the expression.
    assert any(keyword in secret.lower() for keyword in rule["keywords"])
    assert all(keyword == keyword.lower() for keyword in rule["keywords"])
    assert run.json("scan", "--rules", tool) == {"tool": tool, "rules": text.rstrip("\n") + "\n"}


def test_scan_is_named_as_it_is_typed() -> None:
    """Every command named in a message is typed as `flask keys ...` inside an application."""
    for command in COMMANDS:
        assert in_program(f"`keydesk {command.name} x`", "flask keys") == f"`flask keys {command.name} x`"
