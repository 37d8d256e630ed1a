"""Real gateways in front of a backend ask the real server: each with the very file that the docs show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keydesk import Desk, IssuedKey, open_desk
from keydesk.keys.record import MAX_NAME_CHARACTERS, MAX_OWNER_CHARACTERS
from keydesk.keys.scopes import MAX_SCOPES
from keydesk.web.identity import IDENTITY_HEADERS

from ..conftest import ALL_REQUIRED
from ..faults.conftest import upgraded
from ..servers import ServerMissing, wait_until
from .gateways import CLIENT, GATEWAYS, Answer, Backend, Gateway, HAProxy, KeydeskServer, ask

LONGEST = 6.0  # seconds until a client hears that Keydesk does not answer; the files say two


@dataclass
class Site:
    """A gateway with what is before and behind it."""

    kind: str
    gateway: Gateway
    keydesk: KeydeskServer
    backend: Backend
    desk: Desk
    _issued: dict[str, str] = field(default_factory=dict)

    def issue(self, *scopes: str, **fields: Any) -> IssuedKey:
        return self.desk.issue(name=fields.pop("name", "Till 4"), scopes=scopes, **fields)

    def ask(self, *arguments: Any, **more: Any) -> Answer:
        return ask(self.gateway.port, *arguments, **more)

    def received(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        """Return what the backend says of a request that came through to it."""
        answer = self.ask(*arguments, **more)
        assert answer.status == 200, answer.body
        received = json.loads(answer.body)
        assert isinstance(received, dict)
        return received


@dataclass
class House:
    """The server and the backend, which all gateways of this module share."""

    keydesk: KeydeskServer
    backend: Backend
    desk: Desk


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    store = upgraded(f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db")
    keydesk, backend, desk = KeydeskServer(store), Backend(), open_desk({"KEYDESK_STORE": store})
    try:
        keydesk.start()
        backend.start()
        yield House(keydesk, backend, desk)
    finally:
        log = (keydesk.folder / "log").read_text(errors="replace")
        desk.close()
        backend.remove()
        keydesk.remove()
    assert "Traceback" not in log, log[-4000:]


@pytest.fixture(scope="module", params=GATEWAYS)
def site(request: pytest.FixtureRequest, house: House) -> Iterator[Site]:
    try:
        gateway = GATEWAYS[request.param](house.keydesk.port, house.backend.port)
    except ServerMissing as missing:
        (pytest.fail if ALL_REQUIRED else pytest.skip)(str(missing))
    try:
        gateway.start()
        yield Site(request.param, gateway, house.keydesk, house.backend, house.desk)
        gateway.stop()
        logged = "".join(path.read_text(errors="replace") for path in gateway.folder.glob("*log"))
        assert not re.search(r"kd_live_\w{38}", logged), "a secret is in its log"
    finally:
        gateway.remove()


# Allowed


def test_backend_is_told_who_calls(site: Site) -> None:
    issued = site.issue("orders:read", "orders:write", name="Zoë's café", owner="acme & co")
    for headers in ([("X-API-Key", issued.secret)], [("Authorization", f"Bearer {issued.secret}")]):
        received = site.received("/orders?page=2", headers=headers)
        assert received["view"] == "orders"
        assert received["caller"] == {
            "key": issued.key.id,
            "name": "Zoë's café",
            "owner": "acme & co",
            "scopes": ["orders:read", "orders:write"],
            "environment": "live",
        }
        assert issued.secret not in json.dumps(received)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_and_body_come_through(site: Site, method: str) -> None:
    secret, body = site.issue("orders:read").secret, b"x" * 300_000
    received = site.received("/orders", secret, method, body=body)
    assert (received["method"], received["bytes"]) == (method, len(body))
    assert site.ask("/orders", None, method, body=body).status == 401


def test_head(site: Site) -> None:
    allowed, refused = site.ask("/orders", site.issue("orders:read").secret, "HEAD"), site.ask("/orders", None, "HEAD")
    assert (allowed.status, allowed.body) == (200, b"")
    assert (refused.status, refused.body) == (401, b"")


def test_largest_identity_there_is(site: Site) -> None:
    scopes = [f"{number:03}" + "r" * 118 + ":action" for number in range(MAX_SCOPES)]
    name, owner = "\N{GRINNING FACE}" * MAX_NAME_CHARACTERS, "\N{CAT FACE}" * MAX_OWNER_CHARACTERS
    caller = site.received("/", site.issue(*scopes, name=name, owner=owner).secret)["caller"]
    assert (caller["name"], caller["owner"], caller["scopes"]) == (name, owner, scopes)


# Refused


def test_no_key_is_challenged(site: Site) -> None:
    answer = site.ask("/orders")
    assert answer.status == 401
    challenges = answer.headers.get_all("WWW-Authenticate") or []
    assert challenges[0].startswith('Bearer realm="api"')
    assert len(challenges) == len(set(challenges))
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.body)["status"] == 401


def test_wrong_key_is_challenged(site: Site) -> None:
    answer = site.ask("/", "kd_live_" + "0" * 38)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


def test_scope_that_lacks(site: Site) -> None:
    answer = site.ask("/orders", site.issue("stock:read").secret)
    assert answer.status == 403
    challenge = 'Bearer realm="api", error="insufficient_scope", scope="orders:read"'
    assert answer.headers["WWW-Authenticate"] == challenge
    assert json.loads(answer.body)["status"] == 403


def test_two_keys(site: Site) -> None:
    both = [("X-API-Key", site.issue().secret), ("Authorization", f"Bearer {site.issue().secret}")]
    answer = site.ask("/", headers=both)
    assert answer.status == 400
    assert json.loads(answer.body)["status"] == 400


def test_limit(site: Site) -> None:
    secret = site.issue(limits=["2/hour"]).secret
    assert [site.ask("/", secret).status for _ in range(2)] == [200, 200]
    answer = site.ask("/", secret)
    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 7200
    assert answer.headers["RateLimit-Policy"] == '"2/hour";q=2;w=3600'
    assert answer.headers["RateLimit"].startswith('"2/hour";r=0;t=')
    assert json.loads(answer.body)["status"] == 429


def test_revoked_key(site: Site) -> None:
    issued = site.issue()
    assert site.ask("/", issued.secret).status == 200
    site.desk.revoke(issued.key.id)
    site.desk.find_key(issued.key.id)
    assert _until(lambda: site.ask("/", issued.secret).status, 401)


# Number 10: identity headers of the client's own


ALIASES = ["X-Key-Owner", "x-key-owner", "X_Key_Owner", "X-Key_Owner", "X_KEY-Owner", "x_key_OWNER", "X.Key.Owner"]


@pytest.mark.parametrize("owner", [None, "acme"])
@pytest.mark.parametrize("name", ALIASES)
def test_identity_of_the_client_s_own_is_overwritten(site: Site, name: str, owner: str | None) -> None:
    """An alias that a backend takes for the name must not come through either, nor one header twice."""
    secret = site.issue(owner=owner).secret
    received = site.received("/", secret, headers=[(name, "mallory"), (name, "mallory")])
    assert received["caller"]["owner"] == (owner or "")
    assert "mallory" not in json.dumps(received)


@pytest.mark.parametrize("name", IDENTITY_HEADERS)
def test_each_identity_header_is_overwritten(site: Site, name: str) -> None:
    secret = site.issue(name="n").secret
    forged = [(name, "mallory"), (name.replace("-", "_"), "mallory"), (name.lower(), "mallory")]
    assert "mallory" not in json.dumps(site.received("/", secret, headers=forged))


@pytest.mark.parametrize("name", IDENTITY_HEADERS)
def test_identity_cannot_be_called_hop_by_hop(site: Site, name: str) -> None:
    """A proxy takes what Connection names out of the request: a backend would see a caller without an owner."""
    issued = site.issue("a:b", owner="acme")
    caller = {"key": issued.key.id, "name": "Till 4", "owner": "acme", "scopes": ["a:b"], "environment": "live"}
    for values in ([f"close, {name}"], ["close", name.lower()], [f"{name.upper()} ,close"]):
        answer = site.ask("/", issued.secret, headers=[("Connection", value) for value in values])
        assert answer.status == 400 or json.loads(answer.body)["caller"] == caller


# The key stays with the gateway


def test_backend_does_not_see_the_key(site: Site) -> None:
    secret = site.issue().secret
    places: list[list[tuple[str, str]]] = [
        [("X-API-Key", secret)],
        [("x-api-key", secret), ("X-Api-Key", secret)],
        [("Authorization", f"Bearer {secret}")],
        [("authorization", f"bearer {secret}")],
        [("Authorization", f"BEARER  {secret} ")],
        [("Authorization", f"Basic dTpw, Bearer {secret}")],
        [("Authorization", "Basic dTpw"), ("Authorization", f"Bearer {secret}")],
        [("Authorization", f"Bearer {secret}"), ("Authorization", "Basic dTpw")],
        [("X-API-Key", secret), ("Authorization", f"Bearer {secret}")],
        [("X-API-Key", secret), ("X_API_Key", secret), ("X-API_Key", secret)],
    ]
    for headers in places:
        answer = site.ask("/", headers=headers)
        assert answer.status in (200, 400, 401), headers
        assert secret.encode() not in answer.body


def test_key_in_an_alias_of_its_header(site: Site) -> None:
    """Whether it is read or not: the backend does not see it."""
    secret = site.issue().secret
    for name in ("X_API_Key", "X-API_Key", "x_api-key"):
        answer = site.ask("/", headers=[(name, secret)])
        assert answer.status == 401
        assert secret.encode() not in answer.body


def test_other_authorization_comes_through(site: Site) -> None:
    secret = site.issue().secret
    headers = [("X-API-Key", secret), ("Authorization", "Basic dXNlcjpwYXNz")]
    received = site.received("/", headers=headers)
    assert received["headers"]["Authorization"] == "Basic dXNlcjpwYXNz"


# Number 6: the address of the client


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X_Forwarded_For", "X-Forwarded_For", "x_forwarded-for"])
def test_networks_are_judged_by_the_client_s_address(site: Site, name: str) -> None:
    there = site.issue(networks=["203.0.113.0/24"]).secret
    forged = [(name, "203.0.113.7"), (name, "203.0.113.7, 203.0.113.7")]
    assert site.ask("/", there, headers=forged).status == 403
    assert site.ask("/", there, headers=[*forged, ("Connection", f"close, {name}")]).status in (400, 403)
    assert site.ask("/", there, headers=[("Forwarded", "for=203.0.113.7"), ("X-Real-IP", "203.0.113.7")]).status == 403
    here, gateway_s = site.issue(networks=[CLIENT]).secret, site.issue(networks=["127.0.0.1"]).secret
    assert site.ask("/", here, headers=[(name, "203.0.113.7")]).status == 200
    assert site.ask("/", gateway_s, headers=[(name, "127.0.0.1")]).status == 403


# Number 9: odd spellings


ODD_PATHS = [
    "//orders", "/./orders", "/x/../orders", "/%2e%2e/orders", "/x/%2e%2e/orders", "/x%2f..%2forders", "/%6frders",
    "/orders/", "/orders//", "/orders/.", "/orders/x/..", "/orders/%2e%2e/orders", "/orders;x", "/;/orders",
    "/ORDERS", "/Orders", "/orders%20", "/orders%00", "/orders?x", "/orders%3Fx", "/orders#x", "/\\orders",
    "/%5corders", "/orders/7", "//orders/7", "/%2forders", "/%252e%252e/orders", "/.%2e/orders", "/%6Frders/7",
    "/_keydesk/any", "/_keydesk/orders", "/_keydesk/../orders", "http://api.example/orders", "http://elsewhere/orders",
    "/orders%2f7", "/x/..;/orders", "/x;/../orders",
]  # fmt: skip


@pytest.mark.parametrize("path", ODD_PATHS)
def test_odd_path_needs_a_key_and_the_scope(site: Site, path: str) -> None:
    assert site.ask(path).status in (400, 401, 404)
    unscoped = site.ask(path, site.issue("stock:read").secret)
    assert unscoped.status != 200 or json.loads(unscoped.body)["view"] != "orders"


def test_paths_the_gateway_asks_keydesk_at_are_nobody_else_s(site: Site) -> None:
    secret = site.issue("*").secret
    for path in ("/_keydesk/any", "/_keydesk/orders", "/authz/nginx", "/authz/forwarded", "/v1/verify"):
        answer = site.ask(path, secret)
        assert answer.status in (200, 404)
        assert "X-Key-Id" not in answer.headers
        assert answer.status == 404 or json.loads(answer.body)["view"] == "anything"


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "", "localhost", "127.0.0.1:8080", "a b", "API.EXAMPLE", "[::1]"]
)
def test_odd_host_is_no_way_in(site: Site, host: str) -> None:
    answer = site.ask("/orders", host=host)
    assert answer.status in (400, 401)
    assert site.ask("/orders", site.issue("stock:read").secret, host=host).status in (400, 403)


@pytest.mark.parametrize("query", ["scope=stock:read", "scope=", "scopes=x", "x=%00&scope=a:b&scope=*"])
def test_query_of_the_client_changes_nothing(site: Site, query: str) -> None:
    assert site.ask(f"/orders?{query}", site.issue("stock:read").secret).status == 403
    assert site.ask(f"/orders?{query}", site.issue("orders:read").secret).status == 200


@pytest.mark.parametrize("name", ["X-Required-Scope", "X-Original-URI", "X-Original-URL", "X-Rewrite-URL",
                                  "X-Forwarded-Uri", "X-Forwarded-Method", "X-HTTP-Method-Override"])  # fmt: skip
def test_headers_that_name_a_request_change_nothing(site: Site, name: str) -> None:
    secret = site.issue("stock:read").secret
    assert site.ask("/orders", secret, headers=[(name, "OPTIONS" if "Method" in name else "/healthz")]).status == 403
    assert site.ask("/orders", headers=[(name, "OPTIONS" if "Method" in name else "/healthz")]).status == 401


def test_auth_status_of_the_client_s_own(site: Site) -> None:
    assert site.ask("/", headers=[("X-Auth-Status", "200")]).status == 401
    assert site.ask("/orders", site.issue().secret, headers=[("X-Auth-Status", "200")]).status == 403


# Large things


def test_big_headers_are_no_way_in(site: Site) -> None:
    for size in (7_000, 60_000, 2_000_000):
        for name in ("X-Big", "Authorization", "X-API-Key"):
            try:
                status = site.ask("/orders", headers=[(name, "b" * size)]).status
            except OSError:  # closed while we were writing
                continue
            assert 400 <= status < 600, (size, name)
    assert site.ask("/", site.issue().secret).status == 200


# Keydesk does not answer


def test_keydesk_halted_means_refused_and_soon(site: Site, figures: Callable[[str, float], None]) -> None:
    secret = site.issue("orders:read").secret
    assert site.ask("/orders", secret).status == 200
    site.keydesk.halt()
    try:
        with ThreadPoolExecutor() as callers:
            answers = list(callers.map(lambda given: site.ask("/orders", given), (secret, None)))
    finally:
        site.keydesk.go_on()
    assert_unavailable(site, answers)
    slowest = max(answer.took for answer in answers)
    figures(f"{site.kind}: a request is refused while Keydesk hangs, after at most", slowest)
    assert slowest < LONGEST
    assert _until(lambda: site.ask("/orders", secret).status, 200)


def test_keydesk_killed_means_refused(site: Site) -> None:
    secret = site.issue("orders:read").secret
    assert site.ask("/orders", secret).status == 200
    site.keydesk.kill()
    try:
        with ThreadPoolExecutor() as callers:
            answers = list(callers.map(lambda given: site.ask("/orders", given), (secret, None)))
    finally:
        site.keydesk.start()
    assert_unavailable(site, answers)
    assert max(answer.took for answer in answers) < LONGEST
    assert _until(lambda: site.ask("/orders", secret).status, 200)


def assert_unavailable(site: Site, answers: list[Answer]) -> None:
    for answer in answers:
        if site.kind == "caddy":
            assert answer.status in (502, 504)
        else:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert json.loads(answer.body)["status"] == 503
        assert b'"view"' not in answer.body


def _until(found: Callable[[], int], status: int) -> bool:
    """Return whether this status comes, now or after a few tries."""
    return any(found() == status for _ in range(200))


def test_files_name_the_ports_that_the_tests_replace() -> None:
    for kind in GATEWAYS.values():
        text = "".join((Path(__file__).parents[2] / "examples" / "gateways" / file).read_text() for file in kind.files)
        assert all(f":{port}" in text for port in ("8000", "8080", "5000")), kind


def test_haproxy_goes_on_with_nothing_when_the_action_fails(house: House) -> None:
    """HAProxy takes an action that fails for one that has no objection."""
    try:
        gateway = HAProxy(house.keydesk.port, house.backend.port)
    except ServerMissing as missing:
        (pytest.fail if ALL_REQUIRED else pytest.skip)(str(missing))
    script = gateway.folder / "haproxy" / "keydesk.lua"
    text = script.read_text()
    script.write_text(text.replace("    local done, said =", '    error("broken")\n    local done, said ='))
    gateway.try_connect = lambda: None  # type: ignore[method-assign]
    try:
        gateway.start()
        wait_until(lambda: _status(gateway.port) is not None)
        assert script.read_text() != text
        secret = house.desk.issue(name="n").secret
        assert [ask(gateway.port, "/", given).status for given in (None, secret)] == [503, 503]
    finally:
        gateway.remove()


def _status(port: int) -> int | None:
    try:
        return ask(port).status
    except OSError:
        return None
