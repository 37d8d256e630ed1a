"""Forward-auth: what proxies are answered. Real proxies ask in test_gateways.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from keydesk.testing import ManualClock
from keydesk.web.identity import IDENTITY_HEADERS

from .rig import ServerRig

ROUTES = ["/authz/forwarded", "/authz/nginx", "/authz/envoy", "/authz/envoy/orders/7?page=2"]


def with_scope(route: str, *scopes: str) -> dict[str, Any]:
    """Return how a proxy asks for scopes on a route."""
    if "envoy" in route:
        return {"path": route, "headers": {"X-Required-Scope": " ".join(scopes)}}
    return {"path": f"{route}?" + "&".join(f"scope={scope}" for scope in scopes)}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "PROPFIND"])
def test_allowed_is_exactly_200_for_any_method(rig: ServerRig, route: str, method: str) -> None:
    issued = rig.issue("orders:read", name="Mobile app", owner="acme")
    answer = rig.call(route, issued.secret, method)
    assert (answer.status_code, answer.data) == (200, b"")
    assert {name: answer.headers[name] for name in IDENTITY_HEADERS} == {
        "X-Key-Id": issued.key.id,
        "X-Key-Name": "Mobile%20app",
        "X-Key-Owner": "acme",
        "X-Key-Scopes": "orders:read",
        "X-Key-Environment": "live",
    }
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("route", ROUTES)
def test_every_identity_header_is_there_with_nothing_to_say(rig: ServerRig, route: str) -> None:
    answer = rig.call(route, rig.issue().secret)
    assert [answer.headers.get_all(name) for name in IDENTITY_HEADERS[2:4]] == [[""], [""]]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_who_has_no_key_is_challenged(rig: ServerRig, route: str, method: str) -> None:
    answer = rig.call(route, method=method)
    assert answer.status_code == 401
    assert answer.headers.get_all("WWW-Authenticate") == [
        'Bearer realm="api"',
        'ApiKey realm="api", header="X-API-Key"',
    ]
    assert bool(answer.data) == (method != "HEAD")
    assert not any(name in answer.headers for name in IDENTITY_HEADERS)


def test_preflight_needs_a_key_like_everything_else(rig: ServerRig) -> None:
    """Its method is in a header that a client can write; proxies answer preflights themselves."""
    answer = rig.call("/authz/forwarded", headers={"X-Forwarded-Method": "OPTIONS", "X-Original-Method": "OPTIONS"})
    assert answer.status_code == 401


@pytest.mark.parametrize("route", ROUTES[:3])
def test_required_scopes(rig: ServerRig, route: str) -> None:
    reader, both = rig.issue("orders:read").secret, rig.issue("orders:*").secret
    asked = with_scope(route, "orders:read", "orders:write")
    headers = asked.pop("headers", {})
    answer = rig.call(**asked, headers=headers | {"X-API-Key": reader})
    assert answer.status_code == 403
    assert 'scope="orders:read orders:write"' in answer.headers["WWW-Authenticate"]
    assert answer.get_json()["missing_scopes"] == ["orders:write"]
    assert rig.call(**asked, headers=headers | {"X-API-Key": both}).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["scope=orders", "scope=", "scope=*", "scopes=orders:read", "Scope=orders:read", "scope[]=a:b", "scope=a:b%00",
     "&".join(["p=1"] * 200)],
)  # fmt: skip
def test_requirement_that_cannot_be_read_lets_nobody_in(rig: ServerRig, query: str) -> None:
    """A slip of the pen in a proxy's configuration would else let every key in."""
    everything = rig.issue("*").secret
    for route in ROUTES[:2]:
        answer = rig.call(f"{route}?{query}", everything)
        assert answer.status_code == 500
        assert answer.get_json()["reason"] == "misconfigured"
    if query.startswith("scope="):
        headers = {"X-Required-Scope": query.removeprefix("scope="), "X-API-Key": everything}
        assert rig.call("/authz/envoy", headers=headers).status_code == 500


def test_parameters_of_a_client_change_nothing(rig: ServerRig) -> None:
    """Caddy hands them on where its configuration has none of its own; Envoy always."""
    secret = rig.issue("orders:read").secret
    assert rig.call("/authz/forwarded?page=2&q=scope", secret).status_code == 200
    assert rig.call("/authz/envoy/orders?scope=nothing:held", secret).status_code == 200


def test_nginx_is_told_of_everything_else_by_403_and_a_header(rig: ServerRig) -> None:
    """It passes 401 and 403 on and turns the rest into 500."""
    limited = rig.issue(limits=["1/hour"]).secret
    assert rig.call("/authz/nginx", limited).status_code == 200
    refused = rig.call("/authz/nginx", limited)
    assert (refused.status_code, refused.headers["X-Auth-Status"]) == (403, "429")
    assert refused.headers["Retry-After"]
    assert rig.call("/authz/forwarded", limited).status_code == 429
    twice = rig.call("/authz/nginx", headers={"X-API-Key": "a", "Authorization": "Bearer b"})
    assert (twice.status_code, twice.headers["X-Auth-Status"]) == (403, "400")
    assert rig.call("/authz/nginx").headers["X-Auth-Status"] == "401"


def test_limits_go_out_with_a_permitted_request(rig: ServerRig) -> None:
    answer = rig.call("/authz/forwarded", rig.issue(limits=["5/minute"]).secret)
    assert answer.headers["RateLimit"].startswith('"5/minute";r=4;t=')
    assert answer.headers["RateLimit-Policy"] == '"5/minute";q=5;w=60'


def test_key_that_ends_soon_says_so(rig: ServerRig, clock: ManualClock) -> None:
    ends = clock.now() + timedelta(days=3)
    answer = rig.call("/authz/forwarded", rig.issue(expires_at=ends).secret)
    assert answer.headers["API-Key-Expires"] == f"@{int(ends.timestamp())}"


@pytest.mark.parametrize(
    ("name", "owner"),
    [("Zoë's café", "ak:me\t;,\"%"), ("名前", "Σ"), ("a" * 100, "x=y&z")],
)  # fmt: skip
def test_identities_are_header_safe(rig: ServerRig, name: str, owner: str) -> None:
    owner = owner.replace("\t", " ")
    answer = rig.call("/authz/forwarded", rig.issue(name=name, owner=owner).secret)
    said = answer.headers["X-Key-Name"], answer.headers["X-Key-Owner"]
    assert all(value.isascii() and value.isprintable() and " " not in value for value in said)
    assert tuple(map(unquote, said)) == (name, owner)


def test_identity_follows_a_change(rig: ServerRig) -> None:
    issued = rig.issue(name="before")
    assert rig.call("/authz/forwarded", issued.secret).headers["X-Key-Name"] == "before"
    rig.desk.update(issued.key.id, name="after")
    assert rig.call("/authz/forwarded", issued.secret).headers["X-Key-Name"] == "after"


@pytest.mark.parametrize(
    "path",
    ["//authz/forwarded", "/authz/forwarded/", "/authz/forwarded;x", "/AUTHZ/forwarded", "/authz", "/authz/",
     "/authz/other", "/authz/envoyx", "/authz/nginx/orders", "/authz/forwarded%00", "/authz/./forwarded"],
)  # fmt: skip
def test_odd_paths_are_nowhere(rig: ServerRig, path: str) -> None:
    """Number 9 of the list: what decides is the route that was matched, and nothing matches nearly."""
    assert rig.call(path, rig.issue("*").secret).status_code == 404


def test_secret_in_the_query_is_not_read(rig: ServerRig, clock: ManualClock) -> None:
    """The query is the proxy's, or the client's through it; either way it is in logs."""
    other = ServerRig(clock, KEYDESK_QUERY_PARAMETER="key")
    secret = other.issue().secret
    assert other.call(f"/authz/forwarded?key={secret}").status_code == 401
    other.close()


def test_made_up_queries_are_not_kept(rig: ServerRig) -> None:
    secret = rig.issue().secret
    for number in range(3000):
        rig.call(f"/authz/forwarded?q={number}", secret)
    for number in range(100):
        rig.call(f"/authz/forwarded?q={number}{'x' * 60_000}", secret)
    authz: Any = rig.server._envoy[1]
    kept = authz.__self__._requirements
    assert len(kept) <= 1001
    assert sum(map(len, kept)) < 1_000_000
