"""Imports go one way. The contracts are in pyproject.toml under `[tool.importlinter]`; `make lint` runs them too."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "keydesk"

# What each import may load at most of other people's packages. A web worker pays for them in time and in memory.
ALLOWED = {
    "keydesk": set(),
    "keydesk.settings": set(),
    "keydesk.web.responses": set(),
    "keydesk.web.credentials": set(),
    "keydesk.stores.memory": set(),
    "keydesk.flask": {"flask", "werkzeug", "click", "blinker", "jinja2"},
    "keydesk.contrib": set(),
    "keydesk.contrib.rebar": {"flask", "werkzeug", "click", "blinker", "jinja2"},
    "keydesk.stores.sql": {"sqlalchemy"},
    "keydesk.cli": {"click", "rich", "yaml"},
}
HEAVY = {"flask", "werkzeug", "jinja2", "blinker", "click", "sqlalchemy", "alembic", "rich", "yaml", "psycopg",
         "pymysql", "redis", "pytest", "hypothesis", "asyncio"}  # fmt: skip


def test_import_contracts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("module", ALLOWED)
def test_import_loads_no_more_than_it_needs(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert (loaded & HEAVY) - ALLOWED[module] <= ({"asyncio"} if ALLOWED[module] else set())


def test_no_import_of_ours_for_types_only() -> None:
    """A module that imports another only to name its types hides a circle; and Sphinx, mypy and people trip over it."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                for line in node.body:
                    assert not isinstance(line, ast.ImportFrom) or line.level == 0, f"{path}:{line.lineno}"
                    assert "keydesk" not in ast.unparse(line), f"{path}:{line.lineno}"


def test_public_names_are_there() -> None:
    import keydesk
    import keydesk.contrib.rebar
    import keydesk.flask
    import keydesk.testing

    for module in (keydesk, keydesk.contrib.rebar, keydesk.flask, keydesk.testing):
        for name in module.__all__:
            assert hasattr(module, name), name
