"""`import`: all or nothing, from three formats, with the number of every wrong line and no secret in any message."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keydesk import HeldKey, InvalidField, KeydeskError
from keydesk.cli import import_lines
from keydesk.cli.import_formats import read_json_lines
from keydesk.cli.imports import import_
from keydesk.keys.digest import Digester
from keydesk.keys.held import Mint
from keydesk.keys.secret import SecretFormat

from .conftest import PEPPER

STRONG = ["pXz8Qm2L-vT4nB7cK_9wRj3Hs6Fd1Gy5", "9f86d081884c7d659a2feaa0c55ad015", "aG7kP2mQ9xV4tR8wZ3nB6yC1dF5hJ0sL"]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def peppered(monkeypatch, store):
    monkeypatch.setenv("KEYDESK_PEPPER", PEPPER)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


# What goes in


def test_import_csv(run, desk, write):
    path = write(
        "keys.csv",
        "secret,name,owner,description,environment,scopes,networks,limits,quotas,expires_at\n"
        f'{STRONG[0]},"Smith, Sons",acme,"two\nlines",test,orders:read; orders:write,10.0.0.0/8,'
        "5 per 10 seconds;100/minute,10000/month,2999-01-01T00:00:00Z\n"
        "\n"
        f"{STRONG[2]},Reports,,,,,,,,\n",
    )
    assert "2 keys imported" in run("import", path).stdout
    key = desk.verify(STRONG[0], client_address="10.0.0.1").key
    assert (key.name, key.owner, key.description) == ("Smith, Sons", "acme", "two\nlines")
    assert (list(key.scopes), list(key.networks)) == (["orders:read", "orders:write"], ["10.0.0.0/8"])
    assert list(map(str, key.limits)) == ["5/10 seconds", "100/minute"]
    assert (key.environment, key.expires_at.year) == ("test", 2999)
    assert desk.verify(STRONG[2]).key.owner is None


def test_import_csv_with_bom_and_crlf(run, desk, write):
    path = write("keys.csv", b"\xef\xbb\xbf" + f"Secret, Name\r\n{STRONG[0]},A\r\n".encode())
    assert run.json("import", path) == {"imported": 1, "weak": 0}
    assert desk.verify(STRONG[0]).allowed


def test_import_json_lines(run, desk, write):
    rows = [
        {"secret": STRONG[0], "name": "A", "scopes": ["orders:read"], "owner": None},
        {"sha256": sha256(STRONG[1]).upper(), "name": "B", "hint": "…d015", "limits": "100/minute"},
    ]
    path = write("keys.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert run.json("import", path)["imported"] == 2
    assert desk.verify(STRONG[0], scopes=["orders:read"]).allowed
    assert desk.verify(STRONG[1]).key.secrets[0].hint == "…d015"


def test_import_yaml_list(run, desk, write):
    path = write(
        "keys.yml", f"- secret: {STRONG[0]}\n  name: A\n  scopes: [a:r, 'b:r']\n- {{secret: {STRONG[2]}, name: 7}}"
    )
    assert run.json("import", path)["imported"] == 2
    assert desk.verify(STRONG[0], scopes=["a:r", "b:r"]).allowed
    assert desk.verify(STRONG[2]).key.name == "7"


def test_import_yaml_as_the_file_store_has_it(run, desk, write, peppered):
    path = write(
        "keys.yaml",
        f"other: 1\napi_keys:\n  12345678901234567890: User 1\n  1e10: App 1\n  sha256:{sha256(STRONG[0])}:\n"
        "    name: Reports\n    scopes: [a:r]\n",
    )
    answer = run.json("import", path)
    assert answer == {"imported": 3, "weak": 2}
    names = [key["name"] for key in run.json("list")["keys"]]
    assert sorted(names) == ["App 1", "Reports", "User 1"]


def test_import_keeps_the_order_of_the_file(run, write):
    path = write("keys.csv", "secret,name\n" + "".join(f"{uuid.uuid4().hex},Client {n}\n" for n in range(50)))
    run("import", path)
    names = [key["name"] for key in run.json("list")["keys"]]
    assert names == [f"Client {number}" for number in reversed(range(50))]
    assert {event["kind"] for event in run.json("events")["events"]} == {"key.imported"}
    assert run.json("events", "--verify")["intact"] is True


def test_import_of_many_batches(run, desk, write):
    secrets = [uuid.uuid4().hex for _ in range(2500)]
    run("import", write("keys.csv", "secret,name\n" + "".join(f"{secret},Client\n" for secret in secrets)))
    assert all(desk.verify(secret).allowed for secret in secrets[::500])
    assert run.json("events", "--verify")["rows"] == 2500


def test_import_into_empty_tables_leaves_all_their_indexes(run, desk, write):
    run("db", "upgrade")
    usual = _indexes(desk.store.engine)
    assert "ix_keydesk_secrets_digest" in usual
    lines = [f"{uuid.uuid4().hex},Client\n" for _ in range(2500)]
    run.refused("import", write("twice.csv", "secret,name\n" + "".join([*lines, lines[0]])))
    assert _indexes(desk.store.engine) == usual
    run("import", write("keys.csv", "secret,name\n" + "".join(lines)))
    assert _indexes(desk.store.engine) == usual


def _indexes(engine):
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema WHERE type = 'index'").all()
    return {name: sql for name, sql in rows if name.startswith("ix_")}


# Weak secrets


def test_import_of_weak_secrets_needs_a_pepper(run, write):
    path = write("keys.csv", f"secret,name\n{STRONG[0]},A\nmy-secret-api-key,B\n")
    said = run.refused("import", path)
    assert "line 3: secret: could be guessed" in said
    assert "KEYDESK_PEPPER" in said
    assert "my-secret" not in said


def test_import_of_weak_secrets_with_a_pepper_is_counted(run, desk, write, peppered):
    result = run("import", write("keys.csv", f"secret,name\n{STRONG[0]},A\nmy-secret-api-key,B\n"))
    assert "2 keys imported" in result.stdout
    assert "1 secret could be guessed" in result.stderr


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("k.csv", "", "line 1: is empty"),
        ("k.csv", "secret,name\n", "the file holds no keys"),
        ("k.csv", f"secret\n{STRONG[0]}\n", "line 1: names no column `name`"),
        ("k.csv", "name\nA\n", "line 1: names neither a column `secret` nor"),
        ("k.csv", "secret,name,onwer\n", "did you mean owner?"),
        ("k.csv", f"{STRONG[0]},A\n", "line 1: a column is not known"),
        ("k.csv", f"secret;name\n{STRONG[0]};A\n", "line 1: has `;` between the columns"),
        ("k.csv", "secret,name,name\n", "line 1: names a column twice"),
        ("k.csv", f"secret,name\n{STRONG[0]}\n", "line 2: has 1 values; the head has 2"),
        ("k.csv", f"secret,name\n{STRONG[0]},\n", "line 2: name: is missing"),
        ("k.csv", "secret,name\n,A\n", "line 2: secret: give either secret or sha256"),
        ("k.csv", f"secret,sha256,name\n{STRONG[0]},{sha256('x')},A\n", "line 2: secret: give either"),
        ("k.csv", "sha256,name\nabc,A\n", "line 2: sha256: is not a SHA-256"),
        ("k.csv", f"secret,name,hint\n{STRONG[0]},A,x\n", "line 2: hint: goes with sha256 only"),
        ("k.csv", f"sha256,name,hint\n{sha256('hunter2')},A,hunter2\n", "line 2: hint: must be one line"),
        ("k.csv", f'secret,name\n{STRONG[0]},"A\nB"\n{STRONG[2]},B\nx y,C\n', "line 5: secret: cannot be sent"),
        ("k.csv", f'secret,name\n{STRONG[0]},"A\n{STRONG[2]},B\n', "line 2: has a quote that is not closed"),
        ("k.csv", b"secret,name\n" + STRONG[0].encode() + b",\xff\n", "line 2: is not UTF-8"),
        ("k.csv", "secret,name\n".encode("utf-16"), "line 1: is not UTF-8"),
        ("k.csv", "secret,name\n" + "x" * 200_000, "line 2: is over 131072 bytes long"),
        ("k.csv", f"secret,name,scopes\n{STRONG[0]},A,orders\n", "line 2: scopes: 'orders' is not a scope"),
        ("k.csv", "secret,name\nkd_live_x,A\n", "line 2: secret: begins with kd_"),
        ("k.jsonl", "", "line 1: is empty"),
        ("k.jsonl", '{"secret": 1\n', "line 1: is no JSON"),
        ("k.jsonl", "\n[1]\n", "line 2: is no JSON object"),
        ("k.jsonl", "[" * 100_000, "line 1: is no JSON"),
        ("k.jsonl", '{"secret": 12345, "name": "A"}', "line 1: secret: must be text, not int"),
        ("k.jsonl", '{"name": "A"}', "line 1: secret: give either"),
        ("k.jsonl", json.dumps({STRONG[0]: "A"}), "line 1: field: number 1 is not known"),
        ("k.jsonl", json.dumps({"secret": STRONG[0], "name": "A", "scopes": {"a": 1}}), "line 1: scopes: must be"),
        ("k.jsonl", json.dumps({"secret": STRONG[0], "name": "A", "scopes": [1]}), "line 1: scopes: must hold texts"),
        ("k.jsonl", json.dumps({"secret": STRONG[0], "name": "A", "limits": [[]]}), "line 1: limits: must hold texts"),
        ("k.jsonl", json.dumps({"secret": STRONG[0], "name": "A", "limits": 5}), "line 1: limits: must be"),
        ("k.jsonl", json.dumps({"secret": STRONG[0], "name": 5}), "line 1: name: must be text"),
        ("k.yml", "", "line 1: holds no keys"),
        ("k.yml", "- a: [\n", "is no YAML"),
        ("k.yml", "just text", "line 1: holds no keys"),
        ("k.yml", b"- secret: x\n- \xff", "line 2: is not UTF-8"),
        ("k.yml", f"- secret: {STRONG[0]}\n  name: A\n- text\n", "line 3: must be a mapping"),
        ("k.yml", f"{STRONG[0]}: A\n{STRONG[2]}: [1]\n", "line 2: must be a mapping"),
        ("k.yml", f"- secret: {STRONG[0]}\n  name: A\n  name: B\n", "line 1: names a field twice"),
        ("k.yml", "[" * 1500, "line 1: is"),
        ("k.yml", f"- secret: {STRONG[0]}\n  name: {{a: b}}\n", "line 1: name: must be text"),
    ],
)  # fmt: skip
def test_import_names_the_wrong_line(run, write, name, content, said):
    message = run.refused("import", write(name, content))
    assert said in message
    assert "Nothing was imported" in message
    assert not any(secret in message for secret in STRONG)
    assert run.json("list")["keys"] == []


def test_import_names_all_wrong_lines_up_to_twenty(run, write):
    wrong = "".join(f"{STRONG[0]},\n" for _ in range(30))
    message = run.refused("import", write("keys.csv", f"secret,name\n{STRONG[2]},A\n{wrong}"))
    assert message.count("name: is missing") == 20
    assert "line 22:" in message
    assert "the rest was not read" in message
    message = run.refused("import", write("few.csv", f"secret,name\n{STRONG[0]},\n{STRONG[2]},A\n{STRONG[1]},\n"))
    assert "line 2:" in message
    assert "line 4:" in message
    assert "the rest was not read" not in message


def test_import_names_both_lines_of_one_secret(run, write):
    filler = "".join(f"{uuid.uuid4().hex},Client\n" for _ in range(3000))
    path = write("keys.csv", f"secret,name\n{STRONG[0]},A\n{filler}{STRONG[0]},B\n")
    assert "line 3003: has the same secret as line 2" in run.refused("import", path)
    assert run.json("list")["keys"] == []


def test_import_names_the_line_of_a_secret_in_the_store(run, write):
    run("import", write("one.csv", f"secret,name\n{STRONG[0]},A\n"))
    filler = "".join(f"{uuid.uuid4().hex},Client\n" for _ in range(1500))
    message = run.refused("import", write("two.csv", f"secret,name\n{filler}{STRONG[0]},B\n{STRONG[2]},C\n"))
    assert "line 1502: another key in the store has this secret already" in message
    assert "line 1503" not in message
    assert len(run.json("list")["keys"]) == 1


def test_import_of_standard_input_or_a_pipe_says_what_to_do(run, tmp_path):
    said = run.refused("import", "-", code=2)
    assert "write the keys to a file first" in said
    assert "keydesk import keys.csv" in said
    os.mkfifo(tmp_path / "keys.csv")
    assert "write the keys to a file first" in run.refused("import", str(tmp_path / "keys.csv"), code=2)
    assert "Standard input and pipes are not read" in " ".join(str(import_.help).split())


def test_import_of_what_is_no_such_file(run, write, tmp_path):
    assert "does not exist" in run.refused("import", str(tmp_path / "none.csv"), code=2)
    assert "its name must end in .csv" in run.refused("import", write("keys.txt", "x"), code=2)
    assert "is a directory" in run.refused("import", str(tmp_path), code=2)


def test_large_file_is_read_by_another_process_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both ways of reading give the same keys, problems with their lines, and count of weak secrets."""
    path = tmp_path / "keys.jsonl"
    rows: list[object] = [
        {"secret": str(uuid.UUID(int=n, version=4)) + "x", "name": f"Client {n}", "scopes": ["orders:read"]}
        for n in range(1, 2500)
    ]
    rows[700] = {"secret": "my-secret-api-key", "name": "Weak", "owner": "acme", "limits": ["5/minute"]}
    rows[1300] = {"secret": "no good", "name": "Bad"}
    rows[1301] = {"name": "Nothing"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    mint = Mint(SecretFormat(), Digester(current=b"p" * 32))
    here = import_lines.Lines(path, read_json_lines, mint, datetime.now(UTC))
    monkeypatch.setattr(import_lines, "LARGE_BYTES", 1)
    told: list[tuple[int, ...]] = []
    elsewhere = import_lines.Lines(path, read_json_lines, mint, here._now)
    expected = list(here.read_here(lambda *_: None))
    found = list(elsewhere.read(lambda *position: told.append(position)))
    assert [line for line, _ in found] == list(range(1, 2501))
    assert [(line, shown(held)) for line, held in found] == [(line, shown(held)) for line, held in expected]
    assert [line for line, held in found if isinstance(held, InvalidField)] == [1301, 1302, 2500]
    assert elsewhere.weak == here.weak >= 1
    assert told
    assert told[-1][1] == path.stat().st_size


def shown(held: HeldKey | InvalidField) -> object:
    return (type(held), str(held)) if isinstance(held, InvalidField) else held


def test_large_file_whose_reader_gets_ctrl_c_from_its_first_moment_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A terminal sends it to both processes. The one that reads must neither end by it nor print a traceback."""
    path = tmp_path / "keys.jsonl"
    path.write_text("".join(json.dumps({"secret": str(uuid.uuid4()), "name": str(n)}) + "\n" for n in range(1500)))
    monkeypatch.setattr(import_lines, "LARGE_BYTES", 1)
    start = multiprocessing.context.SpawnProcess.start

    def start_and_interrupt(process: multiprocessing.context.SpawnProcess) -> None:
        start(process)
        os.kill(process.pid, signal.SIGINT)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", start_and_interrupt)
    lines = import_lines.Lines(path, read_json_lines, Mint(SecretFormat(), Digester()), datetime.now(UTC))
    assert len(list(lines.read(lambda *_: None))) == 1500


def test_large_file_whose_reader_dies_imports_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text("".join(json.dumps({"secret": str(uuid.uuid4()), "name": str(n)}) + "\n" for n in range(5000)))
    monkeypatch.setattr(import_lines, "LARGE_BYTES", 1)
    mint = Mint(SecretFormat(), Digester())
    lines = import_lines.Lines(path, read_json_lines, mint, datetime.now(UTC)).read(lambda *_: None)
    assert next(lines)[0] == 1
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(KeydeskError, match="nothing was imported"):
        list(lines)
