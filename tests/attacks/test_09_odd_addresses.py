"""Number 9: an odd Host, `//`, `%2e`, `;`, case or a trailing dot changing what is protected.

The guard goes by the endpoint that was matched, so it does not matter what the address looks like: whatever reaches
the view has passed it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.serving import make_server
from werkzeug.test import create_environ, run_wsgi_app

from ..flask.rig import Rig
from ..flask.test_served import send

SECRET = "what only clients with a key may read"


def _site(rig: Rig) -> Rig:
    """One view guarded by itself, one by its blueprint, one with anything behind it; beside them an open one."""
    api = Blueprint("api", __name__, url_prefix="/api")
    rig.keys.protect(api)

    @api.get("/orders")
    @api.get("/orders/<path:rest>")
    def orders(rest: str = "") -> str:
        return SECRET

    @rig.app.get("/admin")
    @rig.app.get("/admin/<path:rest>")
    @rig.keys.require()
    def admin(rest: str = "") -> str:
        return SECRET

    @rig.app.get("/public/<path:rest>")
    @rig.app.get("/")
    def public(rest: str = "") -> str:
        return "open"

    rig.app.register_blueprint(api)
    return rig


PATHS = [
    "/admin", "/admin/", "//admin", "///admin", "/./admin", "/../admin", "/admin/.", "/admin/..", "/admin/../admin",
    "/public/../admin", "/public/..;/admin", "/public/%2e%2e/admin", "/public/%2E%2E/admin", "/%2e/admin",
    "/%61dmin", "/%2561dmin", "/admin%2f", "/admin%00", "/admin;", "/admin;x=1", "/;/admin", "/admin.", "/admin.json",
    "/ADMIN", "/Admin", "/admin?", "/admin#", "/admin%20", "/admin%09", "/admin\\", "/\\admin", "/admin//x",
    "/api/orders", "/api//orders", "//api/orders", "/api/./orders", "/api/x/../orders", "/API/orders", "/api/orders/",
    "/api%2forders", "/api/orders%2fx", "/api/orders;public", "/public/../api/orders", "/api/orders/..%2f..%2fpublic",
    "/api/orders/../../public/x", "/ａdmin", "/adm\u0131n", "/%c0%ae%c0%ae/admin", "/admin/%ff", "/public/%ff/admin",
]  # fmt: skip

HEADERS: list[dict[str, str]] = [
    {},
    {"Host": "localhost."},
    {"Host": "LOCALHOST"},
    {"Host": "evil.example"},
    {"Host": "localhost:80@evil"},
    {"Host": ""},
    {"Host": "[::1]"},
    {"Host": "a" * 5000},
    {"X-Original-URL": "/public/x"},
    {"X-Rewrite-URL": "/public/x"},
    {"X-Forwarded-Prefix": "/public"},
    {"X-Forwarded-Host": "public"},
    {"X-Forwarded-Uri": "/public/x"},
    {"X-HTTP-Method-Override": "OPTIONS"},
    {"X-Script-Name": "/public"},
]


@pytest.mark.parametrize("path", PATHS)
def test_path_without_a_key(new_rig: Callable[..., Rig], path: str) -> None:
    rig = _site(new_rig())
    client = rig.app.test_client()
    for headers in HEADERS:
        answer = client.get(path, headers=headers)
        assert SECRET not in answer.text
        assert answer.status_code in (200, 308, 400, 401, 404, 405)
        if answer.status_code == 200:
            assert answer.text == "open"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "TRACE", "CONNECT", "get", "FOO", "", "GET "])
def test_method_without_a_key(new_rig: Callable[..., Rig], method: str) -> None:
    rig = _site(new_rig())
    for path in ("/admin", "/api/orders"):
        answer = rig.call(path, method="GET", environ_overrides={"REQUEST_METHOD": method})
        assert SECRET not in answer.text


@pytest.mark.parametrize("config", [{"SERVER_NAME": "shop.example"}, {"APPLICATION_ROOT": "/root"}])
def test_host_and_root_set(new_rig: Callable[..., Rig], config: dict[str, Any]) -> None:
    rig = _site(new_rig(**config))
    for path in PATHS:
        for headers in ({}, {"Host": "shop.example"}, {"Host": "shop.example."}, {"Host": "SHOP.example:443"}):
            assert SECRET not in rig.call(path, headers=headers).text


def test_script_name_says_nothing(new_rig: Callable[..., Rig]) -> None:
    rig = _site(new_rig())
    for name in ("/public", "/admin", "//", "/..", "\xff"):
        assert rig.status("/admin", environ_overrides={"SCRIPT_NAME": name, "PATH_INFO": "/admin"}) == 401
        assert SECRET not in rig.call("/", environ_overrides={"SCRIPT_NAME": name, "PATH_INFO": "/api/orders"}).text


def test_with_a_key_it_is_there(new_rig: Callable[..., Rig]) -> None:
    """So that the rest of this file proves something."""
    rig = _site(new_rig())
    for path in ("/admin", "/admin/x/y", "/api/orders", "/api/orders/;/%2e"):
        assert rig.call(path, rig.secret()).text == SECRET


def test_raw_paths_over_a_socket(new_rig: Callable[..., Rig]) -> None:
    """A test client tidies addresses up; a socket does not."""
    rig = _site(new_rig())
    server = make_server("127.0.0.1", 0, rig.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        extra = [
            "http://evil/admin",
            "http://localhost/api/orders",
            "admin",
            "*",
            "/admin HTTP/1.1\r\nX: y",
            "//x/admin",
        ]
        for path in PATHS + extra:
            status, answer = send(server.server_port, start=b"GET " + path.encode() + b" HTTP/1.1")
            assert SECRET.encode() not in answer
            assert status != 500, path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PIECES = st.sampled_from(
    [
        "admin",
        "api",
        "orders",
        "public",
        "/",
        "//",
        ".",
        "..",
        ";",
        "%2e",
        "%2f",
        "%5c",
        "\\",
        "%00",
        "?",
        "#",
        "A",
        "x",
    ]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=8))
def test_any_path_without_a_key(new_rig: Callable[..., Rig], pieces: list[str]) -> None:
    rig = _RIGS.get(new_rig) or _RIGS.setdefault(new_rig, _site(new_rig()))
    path, _, query = "".join(["/", *pieces]).partition("?")
    # Not through the test client, which takes what follows `//` for a host.
    body, _, _ = run_wsgi_app(rig.app, create_environ() | {"PATH_INFO": path, "QUERY_STRING": query})
    assert SECRET not in b"".join(body).decode()


_RIGS: dict[Any, Rig] = {}
