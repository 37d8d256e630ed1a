"""`flask keys`: the commands of the command line, on the desk of the application."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .rig import Rig


def test_flask_keys_list(rig: Rig) -> None:
    issued = rig.issue("orders:read", name="Mobile app")
    result = rig.app.test_cli_runner().invoke(args=["keys", "list", "--json"])
    assert result.exit_code == 0, result.output
    assert issued.key.id in result.output
    assert "Mobile app" in result.output


def test_flask_keys_issue_and_use(rig: Rig) -> None:
    """What is issued on the command line opens the view: the same desk, the same store in memory."""
    rig.app.add_url_rule("/", "view", rig.keys.require("orders:read")(lambda: "in"))
    result = rig.app.test_cli_runner().invoke(args=["keys", "issue", "cli", "--scope", "orders:read", "--json"])
    assert result.exit_code == 0, result.output
    issued = json.loads(result.stdout)
    assert rig.call(secret=issued["secret"]).text == "in"
    assert rig.desk.get_key(issued["key"]["id"] if "key" in issued else issued["id"]).name == "cli"


def test_flask_keys_of_each_app(new_rig: Callable[..., Rig]) -> None:
    """The commands are shared objects; the desk they work on is not."""
    one, two = new_rig(name="one"), new_rig(name="two")
    one.issue(name="only here")
    runs = [rig.app.test_cli_runner().invoke(args=["keys", "list", "--json"]) for rig in (one, two, one)]
    assert [run.exit_code for run in runs] == [0, 0, 0]
    assert ["only here" in run.output for run in runs] == [True, False, True]


def test_flask_keys_help(rig: Rig) -> None:
    result = rig.app.test_cli_runner().invoke(args=["keys", "--help"])
    assert result.exit_code == 0
    for name in ("issue", "list", "show", "update", "rotate", "disable", "enable", "revoke", "verify", "events",
                 "import", "prune", "db", "doctor", "delete"):  # fmt: skip
        assert f"  {name} " in result.output


def test_flask_keys_unknown_command(rig: Rig) -> None:
    assert rig.app.test_cli_runner().invoke(args=["keys", "nonsense"]).exit_code == 2


def test_flask_keys_leaves_the_desk_open(rig: Rig) -> None:
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    secret = rig.secret()
    rig.app.test_cli_runner().invoke(args=["keys", "list"])
    assert rig.status(secret=secret) == 200


def test_a_worker_does_not_load_the_commands(tmp_path: Path) -> None:
    """Nor what they need: a web worker pays for rich and alembic in time and memory."""
    program = (
        "import sys; from flask import Flask; from keydesk.flask import Keydesk; app = Flask('x');"
        "app.config['KEYDESK_STORE'] = 'memory://'; keys = Keydesk(app);"
        "app.add_url_rule('/', 'v', keys.require()(lambda: ''));"
        "assert app.test_client().get('/').status_code == 401;"
        "print([name for name in ('keydesk.cli', 'rich', 'alembic', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"


def test_flask_application_without_a_database_refuses_keys_until_one_is_issued(
    new_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    """Who asks gets 401 and not 503, nothing is made, and a key that another process issues opens at once."""
    config = {"KEYDESK_STORE": f"sqlite:///{tmp_path}/instance/keydesk.db"}
    rig, other = new_rig(**config), new_rig(**config)
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    assert rig.status(secret="kd_live_" + "0" * 38) == 401
    assert rig.status(secret="some-imported-secret-0123456789") == 401
    result = rig.app.test_cli_runner().invoke(args=["keys", "list"])
    assert result.exit_code == 1
    assert f"There is no database at {tmp_path}/instance/keydesk.db; `flask keys issue NAME` makes it" in result.stderr
    assert list(tmp_path.iterdir()) == []
    result = other.app.test_cli_runner().invoke(args=["keys", "issue", "Mobile app"])
    assert result.exit_code == 0, result.output
    assert rig.status(secret=result.stdout.strip()) == 200
    assert rig.status(secret="some-imported-secret-0123456789") == 401


def test_flask_keys_on_a_database_without_tables_name_the_command_once(
    new_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        connection.execute("CREATE TABLE keydesk_keys (id TEXT)")
    connection.close()
    rig = new_rig(KEYDESK_STORE=f"sqlite:///{tmp_path}/keys.db")
    result = rig.app.test_cli_runner().invoke(args=["keys", "list"])
    assert result.exit_code == 1
    assert result.stderr.count("`flask keys db upgrade`") == result.stderr.count("db upgrade") == 1
