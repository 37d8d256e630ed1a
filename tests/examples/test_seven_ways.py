"""The seven ways in that people have today: each example is loaded as it stands and called as its users would."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from flask import Flask
from flask.testing import FlaskClient

from keydesk import open_desk
from keydesk.testing import ManualClock

EXAMPLES = Path(__file__).parents[2] / "examples"
Load = Callable[..., ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Load an example as a module, in a folder of its own and with this environment."""
    monkeypatch.chdir(tmp_path)

    def load(name: str, **environment: str) -> ModuleType:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        spec = importlib.util.spec_from_file_location("example_" + re.sub(r"\W", "_", name), EXAMPLES / name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def get(app: Flask, path: str, key: str | None = None, **environ: str) -> tuple[int, object]:
    """Return the status and the JSON, or the text, of a GET with this key."""
    headers = {} if key is None else {"X-API-Key": key}
    response = app.test_client().get(path, headers=headers, environ_overrides=environ)
    return response.status_code, response.get_json(silent=True) or response.text


def run(app: Flask, *arguments: str) -> str:
    """Run `flask keys` with these arguments and return what it printed."""
    result = app.test_cli_runner().invoke(args=["keys", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


# 1


def test_one_key_right_key_passes(load: Load) -> None:
    app = load("one_key.py", API_KEY="f3b0c442-98fc-4c14-9afb-f4c8996fb924").app
    assert get(app, "/weather", "f3b0c442-98fc-4c14-9afb-f4c8996fb924") == (200, {"weather": "fine"})


def test_one_key_refusal_has_the_shape_of_the_service(load: Load) -> None:
    app = load("one_key.py", API_KEY="f3b0c442-98fc-4c14-9afb-f4c8996fb924").app
    for key in (None, "wrong", ""):
        status, body = get(app, "/weather", key)
        assert status == 401
        assert isinstance(body, dict)
        assert set(body) == {"status", "error", "message"}


@pytest.mark.parametrize("value", [None, ""])
def test_one_key_unset_or_empty_lets_nobody_in(load: Load, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("API_KEY", raising=False)
    app = load("one_key.py", **({} if value is None else {"API_KEY": value})).app
    for key in (None, "", " ", "None", "f3b0c442-98fc-4c14-9afb-f4c8996fb924"):
        assert get(app, "/weather", key)[0] == 401


# 2


def test_keys_in_a_file_view_knows_who_called(load: Load) -> None:
    app = load("keys_in_a_file/app.py").app
    assert get(app, "/report", "u1-9Jq2vXb7LrT0wYc5Ks8d") == (200, {"report": "all well", "for": "User 1"})
    assert get(app, "/report", "a1-Xw4nBq8ZrE6tGm1HuP3k") == (200, {"report": "all well", "for": "App 1"})


def test_keys_in_a_file_missing_and_wrong_differ(load: Load) -> None:
    app = load("keys_in_a_file/app.py").app
    (_, missing), (_, wrong) = get(app, "/report"), get(app, "/report", "u1-9Jq2vXb7LrT0wYc5Ks8e")
    assert isinstance(missing, dict)
    assert isinstance(wrong, dict)
    assert (missing["reason"], wrong["reason"]) == ("missing", "invalid")
    assert missing["detail"] != wrong["detail"]


# 3


def test_own_handlers_answer_in_their_own_words(load: Load) -> None:
    app = load("own_handlers.py", API_KEY="f3b0c442-98fc-4c14-9afb-f4c8996fb924").app
    assert get(app, "/") == (401, "You need an API key. Write to api@example.com.")
    assert get(app, "/", "wrong") == (401, "Your API key does not work: invalid.")
    assert get(app, "/", "f3b0c442-98fc-4c14-9afb-f4c8996fb924") == (200, "Welcome.")


# 4


def stock(load: Load, tmp_path: Path) -> Flask:
    """Load the example with its database in a folder of the test's."""
    app = load("keys_in_sqlite.py", FLASK_KEYDESK_STORE=f"sqlite:///{tmp_path}/keys.db").app
    assert isinstance(app, Flask)
    return app


def issue(app: Flask, *arguments: str) -> tuple[str, str]:
    """Issue a key from the command line and return its id and its secret."""
    output = run(app, "issue", *arguments)
    secret, key_id = re.search(r"kd_live_\w{38}", output), re.search(r"key_[0-9a-f]{28}", output)
    assert secret is not None
    assert key_id is not None
    return key_id[0], secret[0]


def test_sqlite_key_for_one_address(load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = stock(load, tmp_path)
    _, secret = issue(app, "Warehouse", "--network", "198.51.100.7", "--description", "The scanner at the gate")
    assert get(app, "/stock", secret, REMOTE_ADDR="198.51.100.7") == (
        200,
        {"boxes": 7, "for": "Warehouse", "about": "The scanner at the gate"},
    )
    assert get(app, "/stock", secret, REMOTE_ADDR="198.51.100.8")[0] == 403
    assert "network_denied" in caplog.text
    assert "198.51.100.8" in caplog.text
    assert secret not in caplog.text


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "0.0.0.0/0"])
def test_sqlite_key_for_all_addresses(load: Load, tmp_path: Path, everywhere: str) -> None:
    app = stock(load, tmp_path)
    _, secret = issue(app, "Partner", "--network", everywhere)
    for address in ("198.51.100.7", "2001:db8::1", "127.0.0.1"):
        assert get(app, "/stock", secret, REMOTE_ADDR=address)[0] == 200


def test_sqlite_list_show_and_delete_from_the_command_line(load: Load, tmp_path: Path) -> None:
    app = stock(load, tmp_path)
    key_id, secret = issue(app, "Warehouse", "--description", "The scanner at the gate")
    for output in (run(app, "list"), run(app, "show", key_id)):
        assert "Warehouse" in output
        assert secret not in output
    run(app, "revoke", key_id)
    run(app, "delete", key_id)
    assert "Warehouse" not in run(app, "list")
    assert get(app, "/stock", secret)[0] == 401


def test_sqlite_key_in_the_query_string(load: Load, tmp_path: Path) -> None:
    app = stock(load, tmp_path)
    _, secret = issue(app, "Till")
    assert get(app, f"/stock?api_key={secret}")[0] == 200
    assert get(app, "/stock?api_key=wrong")[0] == 401
    assert get(app, "/health")[0] == 200


# 5


def test_own_database_holds_keys_and_orders(load: Load, tmp_path: Path) -> None:
    module = load("own_database.py")
    app = module.create_app(f"sqlite:///{tmp_path}/shop.db")
    with app.app_context():
        issued = module.keys.desk.issue(name="Shop", owner="acme", scopes=["orders:write"])
    client: FlaskClient = app.test_client()
    answer = client.post("/orders/tea", headers={"X-API-Key": issued.secret})
    assert (answer.status_code, answer.get_json()) == (201, {"id": 1, "customer": "acme"})
    assert client.post("/orders/tea").status_code == 401
    with app.app_context():
        assert "keydesk_keys" in module.db.metadata.tables
        module.db.engine.dispose()


# 6


def test_rotation_both_secrets_work_then_the_old_one_ends(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load("rotation.py").main()
    assert capsys.readouterr().out.splitlines() == [
        "in the overlap:   old True   new True",
        "after 24 hours:   old expired   new True",
        "the key is the same: True - its secrets: 2",
    ]


def test_rotation_over_http_without_downtime(load: Load, tmp_path: Path) -> None:
    clock, app = ManualClock(), Flask("rotating")
    app.config["KEYDESK_STORE"] = f"sqlite:///{tmp_path}/keys.db"
    from keydesk.flask import Keydesk

    keys = Keydesk(app, clock=clock)
    app.get("/")(keys.require()(lambda: "ok"))
    with app.app_context():
        issued = keys.desk.issue(name="Mobile app")
        rotated = keys.desk.rotate(issued.key.id, overlap=timedelta(hours=24))
    assert [get(app, "/", secret)[0] for secret in (issued.secret, rotated.secret)] == [200, 200]
    clock.advance(timedelta(hours=24))
    assert [get(app, "/", secret)[0] for secret in (issued.secret, rotated.secret)] == [401, 200]


# 7


def test_import_keys_that_clients_hold(load: Load, tmp_path: Path) -> None:
    app = load("import_keys/app.py", FLASK_KEYDESK_STORE=f"sqlite:///{tmp_path}/keys.db").app
    run(app, "import", str(EXAMPLES / "import_keys" / "keys.csv"))
    uuid, md5, base64 = (
        "0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5",
        "9e107d9d372bb6826bd81d3542a419d6",
        "Qm9vZ2llLXdvb2dpZS0yMDI2LTExLTIy_x-Z",
    )
    assert get(app, "/orders", uuid) == (200, {"orders": [], "for": "Till 4", "owner": "shop-berlin"})
    assert get(app, "/orders", md5) == (200, {"orders": [], "for": "Old website", "owner": "web"})
    assert get(app, "/orders", base64, REMOTE_ADDR="203.0.113.9")[0] == 200
    assert get(app, "/orders", base64, REMOTE_ADDR="192.0.2.1")[0] == 403
    assert get(app, "/orders", uuid.upper())[0] == 401


def test_import_keys_app_and_config_keys_work_without_a_database() -> None:
    desk = open_desk(
        {"API_KEYS": {"0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5": {"name": "Till", "scopes": ["orders:write"]}}}
    )
    assert desk.verify("0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5", scopes=["orders:write"]).allowed


# Inside flask-rebar


def test_rebar_takes_keys_of_the_environment_and_of_a_desk(load: Load, tmp_path: Path) -> None:
    secret_of_metrics = "f3b0c442-98fc-4c14-9afb-f4c8996fb924"
    module = load("with_rebar.py", METRICS_KEY=secret_of_metrics, FLASK_KEYDESK_STORE=f"sqlite:///{tmp_path}/keys.db")
    app = module.app
    _, reader = issue(app, "Reader")
    _, writer = issue(app, "Writer", "--scope", "orders:write")
    assert get(app, "/orders", reader) == (200, {"orders": [], "for": "Reader"})
    client = app.test_client()
    added = [client.post("/orders", headers={"X-API-Key": key}).status_code for key in (reader, writer)]
    assert added == [403, 201]
    by_metrics = client.get("/metrics", headers={"X-Metrics-Key": secret_of_metrics})
    assert by_metrics.get_json() == {"orders": 0, "for": "prometheus"}
    assert get(app, "/metrics", reader) == (200, {"orders": 0, "for": "Reader"})
    status, body = get(app, "/orders", secret_of_metrics)
    assert isinstance(body, dict)
    assert (status, body["rebar_error_code"]) == (401, "invalid_auth_token")
    document = client.get("/swagger").get_json()
    assert document["paths"]["/orders"]["post"]["security"] == [{"apiKey": ["orders:write"]}]


# Behind a gateway; tests/server/test_gateways.py puts real ones before it


def test_backend_reads_who_calls(load: Load) -> None:
    client = load("gateways/backend.py").app.test_client()
    headers = {"X-Key-Name": "Zo%C3%AB", "X-Key-Owner": "", "X-Key-Scopes": "orders:read,orders:write"}
    caller = client.post("/orders", headers=headers, data=b"tea").get_json()["caller"]
    assert (caller["name"], caller["owner"], caller["scopes"]) == ("Zoë", "", ["orders:read", "orders:write"])


# The walk


def test_demo_walks_and_ends_with_the_pages_and_the_key_to_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    answers = re.findall(r"< (\d{3}) ", done.stdout)
    assert answers == ["401", "200", "403", "403", "200", "200", "401"]
    walk, _, pages = done.stdout.partition("\nThe pages for all this: http://localhost:")
    assert not re.search(r"kd_live_\w{38}", walk)
    assert re.match(r"\d+/admin/   sign in with kd_live_\w{38}\n", pages)


def test_demo_serves_on_another_port_where_its_own_is_taken(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    demo = load("demo.py")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.free_or_any(port) == 0
    assert demo.free_or_any(port) == port


def test_examples_every_one_is_named_here() -> None:
    tests = Path(__file__), Path(__file__).parents[1] / "server" / "gateways.py"
    here, listed = "".join(path.read_text() for path in tests), (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.rglob("*.py"):
        name = path.relative_to(EXAMPLES).as_posix()
        assert name in here or name == "orders_api.py", f"{name} has no test"
        assert name in listed, f"{name} is not in examples/README.md"
