"""Traefik, APISIX and Envoy: requests as they send them, made from the files of examples/gateways.

None of them is in Debian. What each sends and takes is modelled here after its documentation and its source; what the
files must say for it to be safe is looked at, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from werkzeug.test import TestResponse

from keydesk.testing import ManualClock
from keydesk.web.identity import IDENTITY_HEADERS

from .rig import ServerRig

EXAMPLES = Path(__file__).parents[2] / "examples" / "gateways"
CLIENT, GATEWAY = "203.0.113.7", "10.0.0.1"
KEY_HEADERS = {"x-api-key", "authorization"}
REFUSAL_HEADERS = {"content-type", "cache-control", "www-authenticate", "retry-after", "ratelimit-policy", "ratelimit"}


def read(file: str) -> Any:
    return yaml.safe_load((EXAMPLES / file).read_text())


TRAEFIK = read("traefik/keydesk.yml")["http"]
APISIX = read("apisix.yaml")
LISTENER = read("envoy.yaml")["static_resources"]["listeners"][0]
ENVOY = LISTENER["filter_chains"][0]["filters"][0]["typed_config"]
EXT_AUTHZ = ENVOY["http_filters"][0]["typed_config"]


@dataclass(frozen=True)
class Asked:
    """What a gateway sends to Keydesk."""

    url: str
    method: str
    headers: dict[str, str]


def names(patterns: dict[str, Any]) -> list[str]:
    """Return the names in a list of Envoy's; all must be exact."""
    return [pattern["exact"] for pattern in patterns["patterns"]]


def passed_on(listed: list[str], client: dict[str, str]) -> dict[str, str]:
    """Return those headers of a client that are on a list; names compare without case, and `_` is no `-`."""
    sent = {name.lower(): value for name, value in client.items()}
    return {name: sent[name.lower()] for name in listed if name.lower() in sent}


def traefik(client: dict[str, str], method: str, path: str) -> Asked:
    auth = TRAEFIK["middlewares"]["keydesk-orders"]["forwardAuth"]
    own = {"X-Forwarded-Method": method, "X-Forwarded-Proto": "http", "X-Forwarded-Host": "api.example",
           "X-Forwarded-Uri": path, "X-Forwarded-For": CLIENT, "User-Agent": "Go-http-client/1.1",
           "Accept-Encoding": "gzip"}  # fmt: skip
    return Asked(auth["address"], "GET", passed_on(auth["authRequestHeaders"], client) | own)


def apisix(client: dict[str, str], method: str, path: str) -> Asked:
    auth = APISIX["plugin_configs"][1]["plugins"]["forward-auth"]
    own = {"X-Forwarded-Proto": "http", "X-Forwarded-Method": method, "X-Forwarded-Host": "api.example",
           "X-Forwarded-Uri": path, "X-Forwarded-For": CLIENT, "User-Agent": "lua-resty-http/0.17.1"}  # fmt: skip
    return Asked(auth["uri"], "GET", passed_on(auth["request_headers"], client) | own)


def envoy(client: dict[str, str], method: str, path: str) -> Asked:
    service = EXT_AUTHZ["http_service"]
    forwarded = ",".join(filter(None, [client.get("X-Forwarded-For"), CLIENT]))
    seen = client | {"X-Forwarded-For": forwarded}
    sent = passed_on([*names(EXT_AUTHZ["allowed_headers"]), "Authorization"], seen)
    added = {each["key"]: each["value"] for each in service["authorization_request"]["headers_to_add"]}
    return Asked(
        service["server_uri"]["uri"] + service["path_prefix"] + path, method, sent | added | {"Content-Length": "0"}
    )


Ask = Callable[[dict[str, str], str, str], Asked]


@pytest.fixture
def behind(clock: ManualClock) -> Iterator[ServerRig]:
    rig = ServerRig(clock, KEYDESK_TRUSTED_PROXIES=GATEWAY)
    yield rig
    rig.close()


def send(rig: ServerRig, asked: Asked) -> TestResponse:
    url = urlsplit(asked.url)
    path = url.path + (f"?{url.query}" if url.query else "")
    return rig.call(path, method=asked.method, headers=asked.headers, peer=GATEWAY)


@pytest.mark.parametrize("asks", [traefik, apisix, envoy])
class TestAsking:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
    @pytest.mark.parametrize("header", ["X-API-Key", "Authorization", "x-api-key"])
    def test_allowed(self, behind: ServerRig, asks: Ask, method: str, header: str) -> None:
        issued = behind.issue("orders:read", networks=[CLIENT])
        value = f"Bearer {issued.secret}" if header == "Authorization" else issued.secret
        answer = send(behind, asks({header: value}, method, "/orders/7?scope=stock:read&page=2"))
        assert (answer.status_code, answer.data) == (200, b"")
        assert answer.headers["X-Key-Id"] == issued.key.id
        assert all(len(answer.headers.get_all(name)) == 1 for name in IDENTITY_HEADERS)

    @pytest.mark.parametrize(
        "path", ["/", "/orders", "//orders", "/../nginx", "/%2e%2e/forwarded", "/;", "/?scope=", "/?scopes=x", "/a%00b"]
    )
    def test_path_and_query_of_the_client_change_nothing(self, behind: ServerRig, asks: Ask, path: str) -> None:
        for scope, status in (("orders:read", 200), ("stock:read", 403)):
            assert send(behind, asks({"X-API-Key": behind.issue(scope).secret}, "GET", path)).status_code == status
        assert send(behind, asks({}, "GET", path)).status_code == 401

    def test_refusals_reach_the_client_as_they_are(self, behind: ServerRig, asks: Ask) -> None:
        limited = {"X-API-Key": behind.issue("orders:read", limits=["1/hour"]).secret}
        assert send(behind, asks(limited, "GET", "/")).status_code == 200
        answer = send(behind, asks(limited, "GET", "/"))
        assert answer.status_code == 429
        assert {name for name in REFUSAL_HEADERS if name in answer.headers} == REFUSAL_HEADERS - {"www-authenticate"}
        missing = send(behind, asks({}, "GET", "/"))
        assert (missing.status_code, missing.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
        both = {"X-API-Key": behind.issue().secret, "Authorization": f"Bearer {behind.issue().secret}"}
        assert send(behind, asks(both, "GET", "/")).status_code == 400

    @pytest.mark.parametrize("name", ["X-Forwarded-For", "X_Forwarded_For", "X-Forwarded_For"])
    def test_forged_address(self, behind: ServerRig, asks: Ask, name: str) -> None:
        """An alias must not reach Keydesk: a WSGI server could take it for the name."""
        elsewhere = {"X-API-Key": behind.issue("orders:read", networks=["198.51.100.0/24"]).secret}
        for forged in ("198.51.100.1", f"198.51.100.1, {GATEWAY}"):
            assert send(behind, asks(elsewhere | {name: forged}, "GET", "/")).status_code == 403

    @pytest.mark.parametrize("name", ["X-Required-Scope", "X_Required_Scope", "X-Required_Scope"])
    def test_client_does_not_say_what_is_required(self, behind: ServerRig, asks: Ask, name: str) -> None:
        secret = behind.issue("stock:read").secret
        for value in ("", "stock:read"):
            assert send(behind, asks({"X-API-Key": secret, name: value}, "GET", "/")).status_code == 403


# What the files must say


def lowered(listed: list[str]) -> list[str]:
    return [name.lower() for name in listed]


def test_backend_is_told_by_identity_headers_and_nothing_else() -> None:
    told = [middleware["forwardAuth"]["authResponseHeaders"] for name, middleware in TRAEFIK["middlewares"].items()
            if name.startswith("keydesk")]  # fmt: skip
    told += [each["plugins"]["forward-auth"]["upstream_headers"] for each in APISIX["plugin_configs"]]
    told.append(names(EXT_AUTHZ["http_service"]["authorization_response"]["allowed_upstream_headers"]))
    assert len(told) == 5
    assert all(lowered(listed) == lowered(list(IDENTITY_HEADERS)) for listed in told)


def test_key_stays_with_the_gateway() -> None:
    hidden = [TRAEFIK["middlewares"]["hide-key"]["headers"]["customRequestHeaders"]]
    assert set(hidden[0].values()) == {""}
    hidden += [each["plugins"]["proxy-rewrite"]["headers"]["remove"] for each in APISIX["plugin_configs"]]
    hidden.append(ENVOY["route_config"]["virtual_hosts"][0]["request_headers_to_remove"])
    assert all({name.lower() for name in listed} == KEY_HEADERS for listed in hidden)


def test_every_route_asks() -> None:
    for router in TRAEFIK["routers"].values():
        asking, hiding = router["middlewares"]
        assert "forwardAuth" in TRAEFIK["middlewares"][asking]
        assert hiding == "hide-key"  # the other way round Keydesk would never see a key
    configs = {each["id"]: each["plugins"] for each in APISIX["plugin_configs"]}
    assert all("forward-auth" in configs[route["plugin_config_id"]] for route in APISIX["routes"])
    assert "typed_per_filter_config" not in (EXAMPLES / "envoy.yaml").read_text()
    assert [each["name"] for each in ENVOY["http_filters"]] == [
        "envoy.filters.http.ext_authz",
        "envoy.filters.http.router",
    ]


def test_while_keydesk_is_down_nobody_comes_through() -> None:
    for each in APISIX["plugin_configs"]:
        auth = each["plugins"]["forward-auth"]
        assert (auth["allow_degradation"], auth["status_on_error"]) == (False, 503)
        assert auth["timeout"] <= 3000
    assert EXT_AUTHZ["failure_mode_allow"] is False
    assert EXT_AUTHZ["status_on_error"] == {"code": "ServiceUnavailable"}
    assert not {"filter_enabled", "deny_at_disable"} & EXT_AUTHZ.keys()


def test_aliases_of_headers_are_taken_away() -> None:
    assert read("traefik/traefik.yml")["entryPoints"]["web"]["http"]["aliasHeadersStrategy"] in ("delete", "reject")
    assert 'underscores_in_headers: "off"' in (EXAMPLES / "apisix.yaml").read_text()
    assert ENVOY["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"


def test_client_hears_all_that_a_refusal_says() -> None:
    response = EXT_AUTHZ["http_service"]["authorization_response"]
    heard = [names(response["allowed_client_headers"])]
    heard += [each["plugins"]["forward-auth"]["client_headers"] for each in APISIX["plugin_configs"]]
    assert all(set(lowered(listed)) == REFUSAL_HEADERS for listed in heard)


def test_envoy_reads_the_address_and_the_path_as_it_should() -> None:
    assert ENVOY["use_remote_address"] is True
    assert (ENVOY["normalize_path"], ENVOY["merge_slashes"]) == (True, True)
    assert ENVOY["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
