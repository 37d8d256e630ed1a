"""Requests: who may send them, what they may hold, and what is answered where they go wrong."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client

from keydesk.errors import StoreUnavailable

from .rig import ManagementRig, problem_of

KEY = "key_" + "0" * 28
ROUTES = (
    ("GET", "/v1/keys", "keydesk:keys:read"),
    ("POST", "/v1/keys", "keydesk:keys:write"),
    ("GET", f"/v1/keys/{KEY}", "keydesk:keys:read"),
    ("PATCH", f"/v1/keys/{KEY}", "keydesk:keys:write"),
    ("DELETE", f"/v1/keys/{KEY}", "keydesk:keys:write"),
    ("POST", f"/v1/keys/{KEY}/rotate", "keydesk:keys:write"),
    ("POST", f"/v1/keys/{KEY}/disable", "keydesk:keys:write"),
    ("POST", f"/v1/keys/{KEY}/enable", "keydesk:keys:write"),
    ("POST", f"/v1/keys/{KEY}/revoke", "keydesk:keys:write"),
    ("POST", "/v1/bulk/issue", "keydesk:keys:write"),
    ("POST", "/v1/bulk/revoke", "keydesk:keys:write"),
    ("GET", f"/v1/keys/{KEY}/usage", "keydesk:usage:read"),
    ("GET", "/v1/usage", "keydesk:usage:read"),
    ("GET", "/v1/events", "keydesk:events:read"),
    ("GET", "/v1/plans", None),
    ("GET", "/v1/plans/gold", None),
    ("PUT", "/v1/plans", "keydesk:plans:write"),
    ("PUT", "/v1/plans/gold", "keydesk:plans:write"),
    ("DELETE", "/v1/plans/gold", "keydesk:plans:write"),
)
SCOPES = {
    "keydesk:verify", "keydesk:keys:read", "keydesk:keys:write", "keydesk:usage:read", "keydesk:events:read",
    "keydesk:plans:write", "orders:read",
}  # fmt: skip


def test_routes_are_all_there(still: ManagementRig) -> None:
    """A new one has to be added above, and so to the tests of who may call it."""
    named = {(method, path.replace(KEY, "<key_id>").replace("gold", "<name>")) for method, path, _ in ROUTES}
    there = {
        (method, rule.rule)
        for rule in still.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1/")
    }
    assert there == named


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_route_needs_its_scope(still: ManagementRig, method: str, path: str, scope: str | None) -> None:
    # The body is no JSON and the query is wrong, and who may not call hears nothing of that.
    wrong = f"{path}?colour=red"
    problem_of(still.call(method, wrong, b"{", by=""), 401, "missing")
    problem_of(still.call(method, wrong, b"{", by="kd_live_" + "a" * 38), 401, "invalid")
    allowed = {"keydesk:keys:read", "keydesk:keys:write", "keydesk:plans:write"} if scope is None else {scope}
    lacking = still.issue(scopes=sorted(SCOPES - allowed))
    problem_of(still.call(method, wrong, b"{", by=lacking), 403, "scope_denied")
    for one in allowed:
        answer = still.call(method, path, by=still.issue(scopes=[one]))
        assert answer.status_code not in (401, 405, 500, 503)
        assert answer.get_json(silent=True) is None or answer.get_json().get("reason") != "scope_denied"


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_bearer_and_two_keys(still: ManagementRig, method: str, path: str, scope: str | None) -> None:
    issued = still.admin.secret
    ok = still.call(method, path, by="", Authorization=f"Bearer {issued}")
    assert ok.status_code not in (401, 403)
    both = still.call(method, path, by=issued, Authorization="Bearer kd_live_" + "b" * 38)
    problem_of(both, 400, "duplicated")


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_secret_in_the_query_is_not_read(clock: Any, method: str, path: str, scope: str | None) -> None:
    rig = ManagementRig(clock, KEYDESK_QUERY_PARAMETER="api_key")
    problem_of(rig.call(method, f"{path}?api_key={rig.admin.secret}", by=""), 401, "missing")
    rig.close()


@pytest.mark.parametrize(
    ("body", "type_", "status", "reason"),
    [
        (b"{", "application/json", 400, "invalid_body"),
        (b"[]", "application/json", 400, "invalid_body"),
        (b'"{}"', "application/json", 400, "invalid_body"),
        (b"null", "application/json", 400, "invalid_body"),
        (b'{"name": NaN}', "application/json", 400, "invalid_body"),
        (b'{"name": "a", "name": "b"}', "application/json", 400, "invalid_body"),
        (b'{"name": "\xff"}', "application/json", 400, "invalid_body"),
        ('{"name": "a"}'.encode("utf-16"), "application/json", 400, "invalid_body"),
        (b"[" * 100_000, "application/json", 400, "invalid_body"),
        (b'{"name": ' + b"9" * 5000 + b"}", "application/json", 400, "invalid_body"),
        (b'{"name": "a"}', "text/plain", 415, "unsupported_media_type"),
        (b'{"name": "a"}', "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b'{"name": "a"}', "application/merge-patch+json", 415, "unsupported_media_type"),
        (b'{"name": "a"}', None, 415, "unsupported_media_type"),
        (b'{"name": "' + b"a" * 2**20 + b'"}', "application/json", 413, "too_large"),
        (b"", "application/json", 422, "invalid_field"),
        (b"{}", "application/json; charset=utf-8", 422, "invalid_field"),
    ],
)
def test_bodies_that_cannot_be(still: ManagementRig, body: bytes, type_: str | None, status: int, reason: str) -> None:
    headers = {"X-API-Key": still.admin.secret} | ({"Content-Type": type_} if type_ else {})
    there = still.desk.list_keys().keys
    answer = still.app.test_client().post("/v1/keys", data=body, headers=headers)
    problem_of(answer, status, reason)
    assert still.desk.list_keys().keys == there


def test_body_without_a_length_is_bounded_too(quick: ManagementRig) -> None:
    """As a server hands over a request in chunks."""
    from io import BytesIO

    class Endless(BytesIO):
        read_so_far = 0

        def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
            self.read_so_far += size or 0
            assert self.read_so_far < 4_000_000
            return b" " * (size if size and size > 0 else 1000)

        def readinto(self, into: Any) -> int:
            into[:] = b" " * len(into)
            self.read_so_far += len(into)
            assert self.read_so_far < 4_000_000
            return len(into)

    answer = quick.app.test_client().post(
        "/v1/keys",
        input_stream=Endless(),
        headers={"X-API-Key": quick.admin.secret, "Content-Type": "application/json"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    problem_of(answer, 413, "too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/keys/", 404, "not_found"),
        ("GET", "/v1//keys", 404, "not_found"),
        ("GET", "//v1/keys", 404, "not_found"),
        ("GET", "/V1/keys", 404, "not_found"),
        ("GET", "/v1/keys;x", 404, "not_found"),
        ("GET", f"/v1/keys/{KEY}/secrets", 404, "not_found"),
        ("GET", "/docs/../../pyproject.toml", 404, "not_found"),
        ("GET", "/docs/%2e%2e%2fapp.py", 404, "not_found"),
        ("GET", "/docs/js", 404, "not_found"),
        ("PUT", "/v1/keys", 405, "method_not_allowed"),
        ("POST", f"/v1/keys/{KEY}", 405, "method_not_allowed"),
        ("GET", "/v1/bulk/issue", 405, "method_not_allowed"),
        ("TRACE", "/v1/keys", 405, "method_not_allowed"),
        ("MADEUP", "/v1/keys", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there(still: ManagementRig, method: str, path: str, status: int, reason: str) -> None:
    answer = still.call(method, path)
    problem_of(answer, status, reason)
    assert ("Allow" in answer.headers) == (status == 405)


def test_store_that_does_not_answer(quick: ManagementRig, caplog: pytest.LogCaptureFixture) -> None:
    admin = quick.admin

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the database at db.internal:5432 does not answer")

    quick.desk.store.list_keys = fail  # type: ignore[method-assign]
    answer = quick.get("/v1/keys", by=admin)
    problem_of(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "db.internal" not in answer.get_data(as_text=True)
    assert "db.internal" in caplog.text


def test_what_nobody_expected(quick: ManagementRig, caplog: pytest.LogCaptureFixture) -> None:
    admin = quick.admin
    quick.desk.store.list_keys = lambda *_, **__: 1 // 0  # type: ignore[assignment, method-assign]
    answer = quick.get("/v1/keys", by=admin, X_Request_Id="seven")
    problem_of(answer, 500, "internal")
    assert answer.headers["X-Request-Id"] == "seven"
    assert "ZeroDivisionError" not in answer.get_data(as_text=True)
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "seven" in line.getMessage()
    assert line.exc_info is not None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-1._Z", True), ("x" * 128, True), ("x" * 129, False), ("", False), ("a b", False), ("a\tb", False),
        ("ü", False), ('"><script>', False), ("kd_live_" + "a" * 38, False), ("a,b", False),
    ],
)  # fmt: skip
def test_request_id(still: ManagementRig, given: str, kept: bool) -> None:
    for path in ("/v1/keys", "/nowhere", "/docs", "/openapi.json"):
        first, second = (still.get(path, X_Request_Id=given).headers["X-Request-Id"] for _ in range(2))
        assert (first == second == given) == kept
        assert kept or (first != second and len(first) == 32)


def test_every_answer_of_the_api_is_kept_by_nobody(quick: ManagementRig) -> None:
    for method, path, _ in ROUTES:
        assert quick.call(method, path).headers["Cache-Control"] == "no-store", path


def test_mounted_under_a_path(quick: ManagementRig) -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    client = Client(DispatcherMiddleware(Flask("outer"), {"/keydesk": quick.app}))
    headers = {"X-API-Key": quick.admin.secret}
    made = client.post("/keydesk/v1/keys", json={"name": "x"}, headers=headers)
    assert made.headers["Location"].startswith("/keydesk/v1/keys/key_")
    assert client.get(made.headers["Location"], headers=headers).status_code == 200
    assert json.loads(client.get("/keydesk/openapi.json").data)["servers"] == [{"url": "/keydesk"}]


def test_limits_of_the_caller_hold_here_too(quick: ManagementRig) -> None:
    few = quick.issue(scopes=["keydesk:keys:read"], limits=["2/minute"])
    assert quick.get("/v1/keys", by=few).headers["RateLimit"]
    quick.get("/v1/keys", by=few)
    problem_of(quick.get("/v1/keys", by=few), 429, "rate_limited")
