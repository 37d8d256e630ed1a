"""Standard streams that are closed, full or no longer read; and Ctrl-C. A shell makes them as people do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import uuid
from pathlib import Path

import click
import pytest

from keydesk.cli import import_formats, streams, text
from keydesk.cli.context import Run

BIN = str(Path(sys.executable).parent)
APP = """
from flask import Flask
from keydesk.flask import Keydesk
app = Flask(__name__)
app.config["KEYDESK_STORE"] = "{store}"
Keydesk(app)
"""
NO_ROOM = "Error: standard output could not be written (No space left on device); send it to a"
CLOSED = "Error: standard output could not be written (it is closed); send it to a"
NOTHING_DONE = "Error: standard output is closed, and the secret goes there; nothing was done."
ANOTHER = "Make one: `{} rotate key_"


@pytest.fixture
def shell(store: str, tmp_path: Path):
    (tmp_path / "app.py").write_text(APP.format(store=store))

    def run(line: str) -> tuple[int, str, str]:
        settings = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        settings["PATH"] = BIN + os.pathsep + settings["PATH"]
        done = subprocess.run(
            ["bash", "-c", line], env=settings, capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr
        return done.returncode, done.stdout, " ".join(done.stderr.split())

    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("keydesk list >&-", CLOSED),
        ("keydesk list >/dev/full", NO_ROOM),
        ("keydesk events --json >/dev/full", NO_ROOM),
        ("keydesk --help >/dev/full", NO_ROOM),
        ("keydesk issue x >&-", NOTHING_DONE),
        ("keydesk issue x --json >/dev/full", ANOTHER.format("keydesk")),
        ("keydesk verify <&-", "Error: standard input is closed; send what is to be read there"),
        ("flask keys list <&- >&-", CLOSED),
        ("flask keys --help >/dev/full", NO_ROOM),
        ("flask keys rotate key_1 >&-", NOTHING_DONE),
    ],
    ids=lambda value: value if " keys " in value or value.startswith("keydesk") else "",
)
def test_a_stream_that_is_closed_or_full_is_one_line_and_exit_code_1(shell, desk, line, said):
    desk.issue(name="There is a database, and a key in it")
    code, output, errors = shell(line)
    assert (code, output) == (1, "")
    assert said in errors
    assert errors.count("Error:") == 1
    if said is NOTHING_DONE:
        assert len(desk.list_events()) == 1


@pytest.mark.parametrize("line", ["keydesk issue x <&- 2>&-", "keydesk issue x 2>/dev/full", "flask keys issue x 2>&-"])
def test_a_remark_that_cannot_be_written_does_not_cost_a_secret(shell, desk, line):
    code, output, errors = shell(line)
    assert (code, errors) == (0, "")
    assert desk.verify(output.strip()).allowed


def test_a_pipe_that_nobody_reads_ends_quietly(shell, desk):
    desk.issue(name="A")
    code, output, errors = shell("keydesk list | head -0; exit ${PIPESTATUS[0]}")
    assert code in (0, 1)
    assert (output, errors) == ("", "")


def test_wrong_usage_keeps_its_exit_code_where_it_cannot_be_said(shell):
    assert shell("keydesk nonsense 2>/dev/full") == (2, "", "")


# In this process


def test_closed_streams_are_given_back_as_they_were(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with streams.steady_streams():
        with pytest.raises(OSError, match="descriptor"):
            sys.stdin.read()
        with pytest.raises(OSError, match="descriptor"):
            sys.stdout.write("x")
        assert sys.stderr.write("x") == 1
    assert (sys.stdin, sys.stdout, sys.stderr) == (None, None, None)


def test_an_error_that_is_of_no_stream_is_not_taken_for_one():
    with pytest.raises(FileNotFoundError), streams.steady_streams():
        Path("/there/is/no/such/file").read_text()


def test_what_click_does_to_a_broken_pipe_stays(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    quiet = io.StringIO()
    with streams.steady_streams():
        sys.stdout = quiet
    assert sys.stdout is quiet


def test_what_the_system_refuses_is_a_line(run, desk, monkeypatch):
    desk.issue(name="A")
    monkeypatch.setattr("keydesk.desk.Desk.list_keys", lambda *_, **__: Path("/there/is/no/such/file").read_text())
    assert run.refused("list") == "Error: /there/is/no/such/file: No such file or directory"


# Ctrl-C


def test_ctrl_c_is_one_line_and_exit_code_130(run, desk, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    desk.issue(name="A")
    monkeypatch.setattr("keydesk.desk.Desk.list_keys", interrupt)
    said = run.refused("list", code=130)
    assert said == "Interrupted. `keydesk events` shows what was done before, if anything."


def test_ctrl_c_in_an_import_imports_nothing(run, desk, monkeypatch, tmp_path):
    desk.issue(name="A")
    (tmp_path / "keys.jsonl").write_text("".join(f'{{"secret": "{uuid.uuid4()}", "name": "B"}}\n' for _ in range(3000)))

    def interrupted(file):
        for number, row in enumerate(import_formats.read_json_lines(file)):
            if number == 2500:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr("keydesk.cli.imports.reader_of", lambda _: interrupted)
    assert run.refused("import", "keys.jsonl", code=130).startswith("Interrupted.")
    monkeypatch.undo()
    assert [key.name for key in desk.list_keys().keys] == ["A"]
    assert len(desk.list_events()) == 1
    desk.issue(name="The store is not locked")


# Remarks


def test_a_remark_never_holds_a_secret(desk):
    """Whatever a message is made of: this is the last door before the terminal, and the log of a job."""
    written = io.StringIO()
    console = text.console_of(written)
    run = Run(lambda: None, lambda: None, "flask keys", False, console, console)  # type: ignore[arg-type,return-value]
    secret = desk.issue(name="A").secret
    for told in (
        secret,
        f"key={secret}&x",
        f"'{secret}'",
        f"xx{secret}yy",
        f"\x1b[31m{secret}\x1b[0m",
        f"first line\n{secret}",
        f"acme_eu_test_{secret[8:]}",
    ):
        run.note(told)
        with pytest.raises(click.exceptions.Exit):
            run.refuse(told)
    said = written.getvalue()
    assert said.count(f"…{secret[-4:]}") >= 8
    assert secret[8:20] not in said
    assert "\x1b" not in said
