"""The docs are true: every code block runs, every setting and command is there, every link leads somewhere.

A page's blocks run in order, in one empty folder. Python blocks share one namespace; with `file=NAME` they are written
to that file. In console blocks `$ ` begins a command, `> ` goes on with it, and what follows is what it prints, where
`...` stands for anything; a command that ends in ` &` is a server and is ended with the page. A block with
`file=examples/NAME` shows that file, whole. Ports are replaced by free ones, in commands and in the examples they use.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask

from keydesk import Desk, Reason
from keydesk.server.management.problems import _REASONS
from keydesk.settings import NAMES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
# Writes the variables that later commands of a page may use.
KEEP = """for name in ${!KEYDESK_@} ${!FLASK_@} KEY ID OLD NEW SECRET; do
[ -z "${!name+set}" ] || printf 'export %s=%q\\n' "$name" "${!name}"; done"""
# Where programs of the docs listen: a Flask application, a gateway, Keydesk's server, a second one.
DOCUMENTED_PORTS = ("5000", "8000", "8080", "8081")
PORT = re.compile(rf"\b(?:{'|'.join(DOCUMENTED_PORTS)})\b")
NEEDED = {"nginx": "nginx-light", "caddy": "caddy", "haproxy": "haproxy"}  # programs of Debian's that pages start
BLOCK = re.compile(r"^```(\w*)[ ]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands behind that, its text, and its line on the page."""

    language: str
    argument: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2], m[3], text.count("\n", 0, m.start()) + 1) for m in BLOCK.finditer(text)]


def name_of(page: Path) -> str:
    """Return the path of a page within the repository."""
    return page.relative_to(ROOT).as_posix()


def test_blocks_every_language_is_known() -> None:
    known = {"python", "console", "json", "yaml", "toml", "text", "nginx", "caddy", "haproxy", "lua"}
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("\n```") % 2 == 0, f"{name_of(page)}: a block is not closed"
        for block in blocks_of(page):
            assert block.language in known, f"{name_of(page)}:{block.line}: ```{block.language} is never run"


def pages_to_run() -> list[Any]:
    """Return the pages that have blocks. One that shows the filter for logs logs a secret, to see it blanked."""
    return [
        pytest.param(page, marks=[pytest.mark.shows_secrets] if "RedactSecrets()" in page.read_text("utf-8") else [])
        for page in PAGES
        if blocks_of(page)
    ]


@pytest.mark.parametrize("page", pages_to_run(), ids=name_of)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_without_programs(page)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "documentation"}
    shell = Shell(tmp_path)
    try:
        for block in blocks_of(page):
            run(block, f"{name_of(page)}:{block.line}", namespace, shell)
    finally:
        shell.end_servers()
        close_what_is_open(namespace)


def refuse_without_programs(page: Path) -> None:
    """Skip a page whose commands start a program that is not installed; where nothing may be skipped that fails."""
    commands = [command for block in blocks_of(page) if block.language == "console" for command in block.text.split()]
    for program, package in NEEDED.items():
        if program in commands and shutil.which(program, path=Shell.PATH) is None:
            pytest.skip(f"{program} is not installed; on Debian: apt-get install {package}")


def run(block: Block, place: str, namespace: dict[str, Any], shell: Shell) -> None:
    """Run one block."""
    if block.argument.startswith("file=examples/"):
        shown = (ROOT / block.argument.removeprefix("file=")).read_text(encoding="utf-8")
        assert block.text == shown, f"{place}: the block is not what is in that file"
    if block.language == "python" and block.argument.startswith("file="):
        Path(block.argument.removeprefix("file=")).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        exec(compile(block.text, place, "exec"), namespace)
    elif block.language == "console":
        shell.run(block.text, place)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)


def close_what_is_open(namespace: dict[str, Any]) -> None:
    """Close the desks and engines a page opened, as its process would by ending."""
    for value in list(namespace.values()):
        if type(value) is Desk:
            value.close()
        elif type(value) is Flask and "keydesk" in value.extensions:
            value.extensions["keydesk"].desk.close()
            if "sqlalchemy" in value.extensions:
                with value.app_context():
                    value.extensions["sqlalchemy"].engine.dispose()


class Shell:
    """Runs the commands of a page one after another; variables that one exports or sets are there for the next."""

    PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / ".variables"
        self._state.write_text("")
        self._servers: list[subprocess.Popen[bytes]] = []
        self._ports = {port: str(free_port()) for port in DOCUMENTED_PORTS}
        self._environment = {**os.environ, "PATH": self.PATH, "COLUMNS": "200"}

    def run(self, text: str, place: str) -> None:
        """Run the commands of a block and compare what they print."""
        if "examples/gateways" in text:
            self._copy_gateways()
        for command, expected in commands_of(self._with_free_ports(text)):
            if command.endswith(" &"):
                self._serve(command.removesuffix(" &"))
                continue
            script = f". {self._state}\n{command}\nstatus=$?\n{KEEP} > {self._state}; exit $status\n"
            done = subprocess.run(
                ["bash", "-c", script], env=self._environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, f"{place}: $ {command}\n{done.stdout}{done.stderr}"
            if expected:
                pattern = ".*".join(re.escape(part) for part in expected.rstrip("\n").split("..."))
                assert re.fullmatch(pattern, done.stdout.rstrip("\n"), re.DOTALL), (
                    f"{place}: $ {command}\nprinted\n{done.stdout}{done.stderr}"
                )

    def _with_free_ports(self, text: str) -> str:
        return PORT.sub(lambda match: self._ports[match[0]], text)

    def _copy_gateways(self) -> None:
        copy = self._folder / "examples" / "gateways"
        if not copy.exists():
            shutil.copytree(ROOT / "examples" / "gateways", copy, ignore=shutil.ignore_patterns("__pycache__"))
            for file in filter(Path.is_file, copy.rglob("*")):
                file.write_text(self._with_free_ports(file.read_text(encoding="utf-8")), encoding="utf-8")

    def _serve(self, command: str) -> None:
        # A gateway's port is in its file.
        port = next((port for port in self._ports.values() if port in command), self._ports["8000"])
        with (self._folder / ".server.log").open("ab") as log:
            self._servers.append(
                subprocess.Popen(
                    ["bash", "-c", f". {self._state}\nexec {command}"],
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    return
            assert self._servers[-1].poll() is None, (self._folder / ".server.log").read_text()
            time.sleep(0.05)
        raise AssertionError(f"$ {command} & does not listen")

    def end_servers(self) -> None:
        """End what was started with `&`."""
        for server in self._servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(10)


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and what it is to print."""
    command, expected = "", ""
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], ""
        elif line.startswith("> ") and not expected:
            command += "\n" + line[2:]
        else:
            expected += line + "\n"
    if command:
        yield command, expected


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def reference() -> dict[str, str]:
    """Return the pages of docs/generate_reference.py, made in a process of its own.

    A command that was run before shows the help options of the group that it was run in.
    """
    program = "import json, generate_reference; print(json.dumps(generate_reference.pages()))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "docs", capture_output=True, text=True, check=True
    )
    pages = json.loads(done.stdout)
    assert isinstance(pages, dict)
    return pages


def test_reference_is_what_the_code_says() -> None:
    for file_name, text in reference().items():
        assert (ROOT / "docs" / "reference" / file_name).read_text(encoding="utf-8") == text, (
            f"docs/reference/{file_name} is not what the code says; run `make docs`"
        )


def test_reasons_every_one_is_documented() -> None:
    """Whoever reads a `reason` in an answer finds what it means."""
    text = (ROOT / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
    reasons = {str(reason) for reason in Reason} | set(_REASONS.values())
    for module in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "problem_answer":
                reasons |= {arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)}
    assert len(reasons) > 20
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in text] == []


def test_settings_every_one_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []


def test_commands_every_one_is_documented_with_an_example() -> None:
    from keydesk.cli.commands import COMMANDS

    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        section = page.split(f"\n## {command.name}\n")[1].split("\n## ")[0]
        assert "keydesk " in section.split("Usage:")[1].split("\n", 1)[1], f"{command.name} has no example"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


def test_pages_every_one_is_reachable_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/**/*.md"):
        path = page.relative_to(ROOT / "docs").as_posix()
        assert path == "index.md" or f"({path})" in index, f"docs/index.md does not link {path}"


def test_files_named_in_the_docs_are_there() -> None:
    """`request-flow.md`, `security.md` and others name files for each step and promise."""
    named = re.compile(r"`((?:src|tests|docs|bench|examples)/[\w/.-]+\.(?:py|md))`")
    for page in PAGES:
        for path in named.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{name_of(page)} names {path}"
    flow = (ROOT / "docs" / "request-flow.md").read_text(encoding="utf-8")
    for path in re.findall(r"\| `([\w/]+\.py)` \|", flow):
        assert (ROOT / "src" / "keydesk" / path).exists(), f"request-flow.md names {path}"
