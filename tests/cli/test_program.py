"""The program as a process: the script, pipes, exit codes, and what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import keydesk
from keydesk.cli.command import Command
from keydesk.cli.commands import COMMANDS
from keydesk.cli.context import OPEN_DESK, PROGRAM, READ_SETTINGS
from keydesk.cli.text import in_program

PROGRAM_PATH = str(Path(sys.executable).parent / "keydesk")


def keydesk_process(*arguments, stdin="", **settings):
    return subprocess.run(
        [PROGRAM_PATH, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False, **settings
    )


def all_commands():
    for command in COMMANDS:
        yield from command.commands.values() if isinstance(command, click.Group) else [command]


def test_a_secret_goes_from_issue_to_verify_through_a_pipe(store):
    issued = keydesk_process("issue", "Mobile app")
    assert issued.returncode == 0
    verified = keydesk_process("verify", stdin=issued.stdout)
    assert verified.returncode == 0, verified.stdout
    assert keydesk_process("verify", stdin=issued.stdout.strip()[:-1]).returncode == 1
    assert keydesk_process("show", "nothing").returncode == 1
    assert keydesk_process("show").returncode == 2


def test_a_broken_pipe_is_no_traceback(store, desk):
    for number in range(200):
        desk.issue(name=f"Client {number} " + "x" * 150)
    for options in ([], ["--json"]):
        process = subprocess.Popen([PROGRAM_PATH, "list", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(10)
        process.stdout.close()
        errors = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait(60) in (0, 1)
        assert "Traceback" not in errors
        assert "Broken" not in errors


def test_a_terminal_that_knows_no_unicode_gets_escapes(store, desk):
    issued = desk.issue(name="Müller 日本")
    result = keydesk_process("show", issued.key.id, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0
    assert "M\\xfcller" in result.stdout


def test_version(run):
    assert run("--version").stdout == f"keydesk {keydesk.__version__}\n"


def test_help_loads_no_database(store):
    code = (
        "import sys; from keydesk.cli import keydesk; keydesk(['--help'], standalone_mode=False);"
        "sys.exit(str([n for n in ('sqlalchemy', 'flask', 'alembic') if n in sys.modules]) if "
        "{'sqlalchemy', 'flask', 'alembic'} & set(sys.modules) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", list(all_commands()), ids=lambda command: command.name)
def test_every_command_is_documented(command):
    assert command.help
    assert isinstance(command, Command)
    assert command.examples
    assert all(f" {command.name}" in example for example in command.examples)
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert "--json" in [name for option in options for name in option.opts]
    assert all(option.help for option in options)


def test_commands_inside_an_application_use_its_desk_and_leave_it_open(store, desk):
    @contextmanager
    def open_desk():
        yield desk

    group = click.Group("keys", commands={str(command.name): command for command in COMMANDS})
    meta = {OPEN_DESK: open_desk, READ_SETTINGS: lambda: None, PROGRAM: "flask keys"}

    def run(*arguments, stdin=""):
        with group.make_context("keys", list(arguments)) as context:
            context.meta.update(meta)
            with pytest.raises(click.exceptions.Exit) if "x:y" in arguments else _nothing():
                group.invoke(context)

    issued = desk.issue(name="Mobile app")
    run("disable", issued.key.id)
    assert desk.get_key(issued.key.id).disabled_at is not None
    assert in_program("run `keydesk doctor`; keydesk enable key_1", "flask keys") == (
        "run `flask keys doctor`; flask keys enable key_1"
    )
    assert CliRunner().invoke(group, ["show", "--help"]).exit_code == 0


def test_in_program_shows_a_command_of_both_doors_once():
    both = "Run `keydesk db upgrade` (where `app.config` names the store: `flask keys db upgrade`). Or not."
    assert in_program(both, "keydesk") == "Run `keydesk db upgrade`. Or not."
    assert in_program(both, "flask keys") == "Run `flask keys db upgrade`. Or not."


@contextmanager
def _nothing():
    yield


def test_issue_where_the_secret_cannot_be_written_says_how_to_get_another(store: str) -> None:
    """A full disk must not leave a key whose secret nobody has, with nothing said."""
    program = str(Path(sys.executable).with_name("keydesk"))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([program, "issue", "Lost"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "keydesk rotate key_" in " ".join(done.stderr.split())
