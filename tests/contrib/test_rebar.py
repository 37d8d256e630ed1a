"""flask-rebar's own authenticator and ours agree, and refusals of a desk reach the caller of an API of flask-rebar."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, g
from flask_rebar import HeaderApiKeyAuthenticator as Theirs
from flask_rebar import Rebar, SwaggerV2Generator, SwaggerV3Generator, errors
from flask_rebar.authenticators import USE_DEFAULT
from flask_rebar.authenticators.base import Authenticator
from flask_rebar.authenticators.header_api_key import get_authenticated_app_name as their_app_name
from flask_rebar.swagger_generation.authenticator_to_swagger import AuthenticatorConverterRegistry
from werkzeug.exceptions import TooManyRequests, Unauthorized
from werkzeug.test import TestResponse

from keydesk import InvalidField, Reason, StoreUnavailable
from keydesk.contrib import rebar as contrib
from keydesk.contrib.rebar import HeaderApiKeyAuthenticator as Ours
from keydesk.contrib.rebar import KeydeskAuthenticator, KeydeskConverter, get_authenticated_app_name
from keydesk.flask import AccessDenied, Keydesk, current_key, key_accepted, key_denied
from keydesk.testing import ManualClock

KEY = "9c1f7a52-5a0e-4a55-b5b3-8f1f0a9c7e11"
OTHER = "0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5"
MISSING = {"message": "No auth token provided.", "rebar_error_code": "missing_auth_token"}
INVALID = {"message": "Invalid authentication.", "rebar_error_code": "invalid_auth_token"}


@pytest.fixture(params=[Theirs, Ours], ids=["flask-rebar's", "ours"])
def kind(request: pytest.FixtureRequest) -> type[Theirs]:
    """Either class of authenticators by a header."""
    return request.param  # type: ignore[no-any-return]


def name_of_caller() -> dict[str, str]:
    return {"caller": get_authenticated_app_name()}


def a_view() -> Callable[[], dict[str, str]]:
    """Return a new view: a guard leaves a note on the one it is put around."""
    return lambda: {"status": "ok"}


def api(authenticators: Any, view: Callable[[], Any] = name_of_caller, *, default: Any = ()) -> Flask:
    """Return an application of flask-rebar with one route, `/`."""
    app, rebar = Flask("api"), Rebar()
    registry = rebar.create_handler_registry()
    registry.set_default_authenticators(list(default))
    registry.handles(rule="/", endpoint="index", authenticators=authenticators)(view)
    rebar.init_app(app)
    return app


def get(app: Flask, key: str | None = None, path: str = "/", **headers: str) -> TestResponse:
    return app.test_client().get(path, headers=headers | ({} if key is None else {"X-API-Key": key}))


def told(app: Flask, key: str | None = None, **headers: str) -> tuple[int, Any]:
    response = get(app, key, **headers)
    return response.status_code, response.get_json()


def new(kind: type[Theirs], **keys: str) -> Theirs:
    """Return an authenticator with these keys, by the names of their applications."""
    authenticator = kind(header="X-API-Key")
    for app_name, key in keys.items():
        authenticator.register_key(key, app_name)
    return authenticator


# What both classes do


def test_key_registered_passes_and_its_name_is_known(kind: type[Theirs]) -> None:
    authenticator = kind("X-API-Key")
    authenticator.register_key(KEY)
    authenticator.register_key(key=OTHER, app_name="till")
    seen = []

    def view() -> dict[str, str]:
        seen.append((authenticator.authenticated_app_name, their_app_name(), g.authenticated_app_name))
        return name_of_caller()

    app = api([authenticator], view)
    assert told(app, KEY) == (200, {"caller": "default"})
    assert told(app, OTHER) == (200, {"caller": "till"})
    assert seen == [("default",) * 3, ("till",) * 3]
    assert kind.DEFAULT_APP_NAME == authenticator.DEFAULT_APP_NAME == "default"
    assert (authenticator.header, authenticator.name) == ("X-API-Key", "sharedSecret")
    assert kind("X-Other", name="other").name == "other"


def test_key_missing_and_wrong_are_told_in_the_same_words(kind: type[Theirs]) -> None:
    app = api(new(kind, till=KEY))
    assert told(app) == (401, MISSING)
    for wrong in (OTHER, "", " ", KEY[:-1], KEY + "x", KEY.upper(), f"{KEY},{KEY}"):
        assert told(app, wrong) == (401, INVALID), wrong
    assert told(api(new(kind)), "") == (401, INVALID)


def test_key_several_of_one_app_late_and_renamed(kind: type[Theirs]) -> None:
    authenticator = new(kind, till=KEY)
    app = api(authenticator)
    assert told(app, OTHER) == (401, INVALID)
    authenticator.register_key(OTHER, "till")
    assert told(app, KEY) == told(app, OTHER) == (200, {"caller": "till"})
    authenticator.register_key(KEY, app_name="shop")
    assert told(app, KEY) == (200, {"caller": "shop"})
    assert told(app, OTHER) == (200, {"caller": "till"})


def test_header_is_found_in_any_case_and_each_has_its_own(kind: type[Theirs]) -> None:
    first, second = new(kind, till=KEY), kind("x-second", name="second")
    second.register_key(OTHER, "shop")
    app = api([first, second])
    assert told(app, **{"x-api-key": KEY}) == (200, {"caller": "till"})
    assert told(app, **{"X-Second": OTHER}) == (200, {"caller": "shop"})
    assert told(app, KEY, **{"X-Second": "wrong"}) == (200, {"caller": "till"})
    assert told(app, "wrong", **{"X-Second": OTHER}) == (200, {"caller": "shop"})
    assert told(app, OTHER) == (401, INVALID)  # a key of the other header's
    # Of two errors the first is told
    assert told(app, **{"X-Second": "wrong"}) == (401, MISSING)
    assert told(app, "wrong") == (401, INVALID)


def test_default_authenticators_are_used_where_asked_for(kind: type[Theirs]) -> None:
    first, second = new(kind, till=KEY), kind("X-Second", name="second")
    second.register_key(OTHER, "shop")
    for default in (USE_DEFAULT, [USE_DEFAULT]):
        app = api(default, default=[first])
        assert [told(app, KEY)[0], told(app, OTHER)[0], told(app)[0]] == [200, 401, 401]
    app = api([USE_DEFAULT, second], default=[first])
    assert told(app, KEY) == (200, {"caller": "till"})
    assert told(app, **{"X-Second": OTHER}) == (200, {"caller": "shop"})
    assert told(app) == (401, MISSING)
    assert told(api(None, a_view(), default=[first])) == (200, {"status": "ok"})
    assert told(api([], a_view(), default=[first])) == (200, {"status": "ok"})


def test_default_authenticator_set_alone_or_unset(kind: type[Theirs]) -> None:
    def app_with(default: Any) -> Flask:
        app, rebar = Flask("api"), Rebar()
        registry = rebar.create_handler_registry()
        registry.set_default_authenticator(default)
        registry.handles(rule="/", endpoint="index")(a_view())
        rebar.init_app(app)
        return app

    assert [told(app_with(new(kind, till=KEY)), key)[0] for key in (KEY, OTHER, None)] == [200, 401, 401]
    assert told(app_with(None))[0] == 200


def documents(*authenticators: Any, default: Any = (), app: Flask | None = None) -> list[dict[str, Any]]:
    """Return the OpenAPI documents, 2 and 3.1, of an API whose views have these authenticators."""
    app, rebar = app or Flask("documented"), Rebar()
    for prefix, generator in (("v2", SwaggerV2Generator()), ("v3", SwaggerV3Generator())):
        registry = rebar.create_handler_registry(prefix=prefix, swagger_generator=generator)
        registry.set_default_authenticators(list(default))
        for number, one in enumerate(authenticators):
            registry.handles(rule=f"/{number}", endpoint=f"view{number}", authenticators=one)(a_view())
    rebar.init_app(app)
    return [get(app, path=f"/{prefix}/swagger").get_json() for prefix in ("v2", "v3")]


def securities(document: dict[str, Any]) -> list[Any]:
    return [path["get"].get("security") for _, path in sorted(document["paths"].items())]


def test_documents_say_the_same(kind: type[Theirs]) -> None:
    first, second = kind("X-API-Key"), kind("X-Second", name="second")
    two, three = documents(first, [first, second], None, USE_DEFAULT, [USE_DEFAULT, second], default=[first])
    schemes = {
        "sharedSecret": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "second": {"type": "apiKey", "in": "header", "name": "X-Second"},
    }
    assert two["securityDefinitions"] == three["components"]["securitySchemes"] == schemes
    both = [{"sharedSecret": []}, {"second": []}]
    assert securities(two) == securities(three) == [both[:1], both, [], None, both]
    assert two["security"] == three["security"] == both[:1]
    assert (two["swagger"], three["openapi"]) == ("2.0", "3.1.0")


def test_documents_are_equal_to_the_byte() -> None:
    def written(kind: type[Theirs]) -> list[str]:
        first, second = kind("X-API-Key"), kind("X-Second", "second")
        return [json.dumps(d, sort_keys=True) for d in documents(first, [first, second], USE_DEFAULT, default=[first])]

    assert written(Ours) == written(Theirs)


def test_error_code_can_be_left_out(kind: type[Theirs]) -> None:
    app, rebar = Flask("api"), Rebar()
    rebar.error_code_attr = None  # type: ignore[assignment]
    rebar.create_handler_registry().handles(rule="/", endpoint="index", authenticators=new(kind))(a_view())
    rebar.init_app(app)
    assert told(app) == (401, {"message": MISSING["message"]})


# What ours does otherwise


def test_keys_are_held_as_digests_only() -> None:
    authenticator = new(Ours, till=KEY, shop=OTHER)
    assert isinstance(authenticator, Theirs)  # so that converters made for theirs work
    assert sorted(authenticator.keys.values()) == ["shop", "till"]
    held = repr(vars(authenticator)).encode() + pickle.dumps(authenticator)
    assert not any(key.encode() in held for key in (KEY, OTHER))
    assert bytes(32) != contrib._PROCESS_KEY


def test_digest_presented_as_a_key_is_refused() -> None:
    authenticator = new(Ours, till=KEY)
    assert told(api(authenticator), next(iter(authenticator.keys))) == (401, INVALID)


@pytest.mark.parametrize("key", ["", None])
def test_key_empty_is_refused_at_registration(key: Any) -> None:
    authenticator = Ours("X-API-Key")
    with pytest.raises(InvalidField, match="key: is empty"):
        authenticator.register_key(key)
    assert authenticator.keys == {}


@pytest.mark.parametrize("key", ["schlüssel", " " + KEY, KEY + "\n", "a\tb", "\x7f"])
def test_key_that_no_header_carries_is_refused_at_registration(key: str) -> None:
    """With theirs, one of those that are not ASCII makes a 500 of every request that is compared with it."""
    with pytest.raises(InvalidField, match="printable ASCII") as caught:
        Ours("X-API-Key").register_key(key)
    assert key.strip() not in str(caught.value)


@pytest.mark.parametrize("value", ["schlüssel", "\xff\xfe", "\x80" * 300, KEY + "ÿ"])
def test_header_that_is_not_ascii_is_a_401(value: str) -> None:
    app = api(new(Ours, till=KEY))
    response = app.test_client().get("/", environ_overrides={"HTTP_X_API_KEY": value})
    assert (response.status_code, response.get_json()) == (401, INVALID)
    theirs = api(new(Theirs, till=KEY)).test_client().get("/", environ_overrides={"HTTP_X_API_KEY": value})
    assert theirs.status_code == 500  # so that it is seen here once they have mended it


# The desk


class Api:
    """An application with a desk in memory and flask-rebar, with routes for `/any`, `/orders` and so on."""

    def __init__(self, clock: ManualClock, **config: Any) -> None:
        self.app, self.rebar, self.keys = Flask("api"), Rebar(), Keydesk()
        self.app.config.update({"KEYDESK_STORE": "memory://"} | config)
        self.keys.init_app(self.app, clock=clock)
        self.registry = self.rebar.create_handler_registry()

    def handles(self, *authenticators: Any, view: Any = None, rule: str = "/", **kwargs: Any) -> Api:
        view = view or (lambda: {"caller": current_key.name})
        self.registry.handles(rule=rule, endpoint=rule, authenticators=list(authenticators), **kwargs)(view)
        return self

    def asks(self, *scopes: str, **kwargs: Any) -> KeydeskAuthenticator:
        return KeydeskAuthenticator(self.keys, scopes, **kwargs)

    def ready(self) -> Flask:
        self.rebar.init_app(self.app)
        return self.app

    @property
    def desk(self) -> Any:
        return self.app.extensions["keydesk"].desk

    def secret(self, *scopes: str, **fields: Any) -> str:
        return self.desk.issue(name="client", scopes=scopes, **fields).secret  # type: ignore[no-any-return]


@pytest.fixture
def new_api(clock: ManualClock) -> Iterator[Callable[..., Api]]:
    """Make applications with a desk: `new_api(KEYDESK_REALM="shop")`."""
    made: list[Api] = []

    def make(**config: Any) -> Api:
        made.append(Api(clock, **config))
        return made[-1]

    yield make
    for one in made:
        one.desk.close()


def same_but(response: TestResponse, of_require: TestResponse) -> None:
    """Assert that the authenticator refuses as `@keys.require` does: the same but for rebar's `message` beside it."""
    own = ("Content-Type", "Content-Length")
    headers, expected = ([h for h in r.headers if h[0] not in own] for r in (response, of_require))
    assert (response.status_code, sorted(headers)) == (of_require.status_code, sorted(expected))
    body, problem = response.get_json(), of_require.get_json()
    assert body.pop("message") == problem["detail"]
    body.pop("rebar_error_code", None)
    assert body == problem


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.DUPLICATED])
def test_refusal_is_that_of_require(new_api: Callable[..., Api], clock: ManualClock, reason: Reason) -> None:
    """Status, challenge, `Retry-After` and limits as they are, and the body has rebar's `message` too."""
    api = new_api()
    app = api.handles(api.asks("orders:read")).ready()
    beside = Flask("beside")  # without flask-rebar, on the same desk
    beside.config["KEYDESK_STORE"] = "memory://"
    keys = Keydesk(beside, clock=clock)
    beside.extensions["keydesk"].desk.close()
    beside.extensions["keydesk"].desk = api.desk
    beside.get("/")(keys.require("orders:read")(a_view()))
    secret: str | None = refused_for(reason, api, clock)
    same_but(get(app, secret), get(beside, secret))
    assert get(beside, secret).get_json()["reason"] == reason


def refused_for(reason: Reason, api: Api, clock: ManualClock) -> str | None:
    """Return what to present to be refused for a reason."""
    if reason is Reason.MISSING:
        return None
    if reason is Reason.INVALID:
        return "schlüssel"
    fields: dict[Reason, dict[str, Any]] = {
        Reason.NETWORK_DENIED: {"networks": ["198.51.100.7"]},
        Reason.RATE_LIMITED: {"limits": ["1/minute"]},
        Reason.QUOTA_EXCEEDED: {"quotas": ["1/total"]},
        Reason.SCOPE_DENIED: {"scopes": []},
    }
    issued = api.desk.issue(**{"name": "client", "scopes": ["orders:read"]} | fields.get(reason, {}))
    if reason in (Reason.RATE_LIMITED, Reason.QUOTA_EXCEEDED):
        assert get(api.app, issued.secret).status_code == 200
    elif reason is Reason.REVOKED:
        api.desk.revoke(issued.key.id)
    elif reason is Reason.DISABLED:
        api.desk.disable(issued.key.id)
    elif reason is Reason.EXPIRED:
        api.desk.update(issued.key.id, expires_at=clock.now() + timedelta(days=1))
        clock.advance(timedelta(days=1))
    elif reason is Reason.UNAVAILABLE:
        take_away_the_store(api)
    return issued.secret  # type: ignore[no-any-return]


def take_away_the_store(api: Api) -> None:
    def fail(digests: object) -> None:
        raise StoreUnavailable("the database does not answer")

    api.desk.store.find_by_digest = fail


def test_two_keys_at_once_are_a_400(new_api: Callable[..., Api]) -> None:
    """flask-rebar has a handler for 400 itself, which goes before all others: it tells the sentence alone."""
    api = new_api()
    app = api.handles(api.asks(), new(Theirs)).ready()
    response = get(app, api.secret(), Authorization=f"Bearer {api.secret()}")
    assert response.status_code == 400
    assert response.get_json() == {"message": "The request carries more than one key. Send one key, in one place."}
    assert 'error="invalid_request"' in response.headers["WWW-Authenticate"]


def test_codes_of_rebar_are_those_its_clients_know(new_api: Callable[..., Api]) -> None:
    api = new_api()
    app = api.handles(api.asks("orders:read")).ready()
    assert get(app).get_json()["rebar_error_code"] == MISSING["rebar_error_code"]
    assert get(app, OTHER).get_json()["rebar_error_code"] == INVALID["rebar_error_code"]
    assert "rebar_error_code" not in get(app, api.secret()).get_json()


def test_request_permitted_is_that_of_require(new_api: Callable[..., Api]) -> None:
    """Limits and quotas are taken once and told, `current_key` is there, a signal is sent, the request is counted."""
    api = new_api()
    app = api.handles(api.asks("orders:read")).ready()
    issued = api.desk.issue(name="Till", scopes=["orders:*"], limits=["2/minute"], quotas=["10/total"])
    told_of: list[Any] = []
    with key_accepted.connected_to(lambda sender, decision: told_of.append((sender, decision.key.name)), app):
        response = get(app, issued.secret)
    assert (response.status_code, response.get_json()) == (200, {"caller": "Till"})
    assert '"2/minute";r=1' in response.headers["RateLimit"]
    assert "RateLimit-Policy" in response.headers
    assert told_of == [(app, "Till")]
    assert get(app, Authorization=f"Bearer {issued.secret}").status_code == 200
    with key_denied.connected_to(lambda sender, decision: told_of.append((sender, str(decision.reason))), app):
        response = get(app, issued.secret)
    assert (response.status_code, int(response.headers["Retry-After"]) >= 60) == (429, True)
    assert told_of[1:] == [(app, "rate_limited")]
    assert api.desk.usage(issued.key.id).totals() == {"allowed": 2, "rate_limited": 1}


def test_refusal_is_logged_without_the_key(new_api: Callable[..., Api], caplog: pytest.LogCaptureFixture) -> None:
    api = new_api()
    app, secret = api.handles(api.asks("orders:read")).ready(), api.secret()
    get(app, secret)
    assert [record.getMessage()[:21] for record in caplog.records] == ["refused: scope_denied"]
    assert secret not in caplog.text


def test_key_of_a_request_is_gone_with_it(new_api: Callable[..., Api]) -> None:
    api = new_api()
    app = api.handles(api.asks(), new(Ours, till=KEY), view=lambda: {"key": bool(current_key)}).ready()
    assert told(app, api.secret()) == (200, {"key": True})
    assert told(app, KEY) == (200, {"key": False})


def test_several_in_one_api_ask_for_their_scopes(new_api: Callable[..., Api]) -> None:
    api = new_api()
    api.handles(api.asks(), rule="/any").handles(api.asks("orders:read"), rule="/read")
    app = api.handles(api.asks("orders:read", "orders:write"), rule="/write").ready()
    reader, writer, nobody = api.secret("orders:read"), api.secret("orders:*"), api.secret()
    for path, expected in (("/any", (200, 200, 200)), ("/read", (200, 200, 403)), ("/write", (403, 200, 403))):
        assert tuple(get(app, key, path).status_code for key in (reader, writer, nobody)) == expected, path
    assert get(app, reader, "/write").get_json()["missing_scopes"] == ["orders:write"]


def test_list_lets_in_whom_one_lets_in_and_takes_limits_once(new_api: Callable[..., Api]) -> None:
    api = new_api()
    app = api.handles(api.asks("orders:read"), api.asks("reports:read"), new(Ours, till=KEY)).ready()
    secret = api.secret("reports:read", limits=["2/minute"])
    assert '"2/minute";r=1' in get(app, secret).headers["RateLimit"]
    assert '"2/minute";r=0' in get(app, secret).headers["RateLimit"]
    limited = get(app, secret)
    assert limited.status_code == 429
    # The first error is told, and its challenge
    refused = get(app, api.secret("stock:read"))
    assert refused.get_json()["missing_scopes"] == ["orders:read"]
    assert refused.headers.getlist("WWW-Authenticate") == [
        'Bearer realm="api", error="insufficient_scope", scope="orders:read"'
    ]


@pytest.mark.parametrize("first", [True, False])
def test_list_with_a_key_in_memory(new_api: Callable[..., Api], first: bool) -> None:
    """Old keys beside new ones in one header, in both orders. 429 ends the request; nobody else is asked."""
    api = new_api()
    both = [api.asks(), new(Ours, till=KEY)]
    app = api.handles(*(both if first else reversed(both)), view=a_view()).ready()
    secret = api.secret(limits=["1/minute"])
    assert [get(app, key).status_code for key in (KEY, secret, secret, OTHER, None)] == [200, 200, 429, 401, 401]
    assert ("reason" in get(app, OTHER).get_json()) is first
    assert "WWW-Authenticate" in get(app, OTHER).headers  # put back on either's 401


def test_429_stops_where_another_would_let_in(new_api: Callable[..., Api]) -> None:
    asked = []

    class Open(Authenticator):
        def authenticate(self) -> None:
            asked.append(1)

    api = new_api()
    app = api.handles(api.asks("orders:read"), Open(), view=a_view()).ready()
    secret = api.secret("orders:read", limits=["1/minute"])
    assert [get(app, key).status_code for key in (secret, secret)] == [200, 429]
    assert asked == []
    assert get(app).status_code == get(app, OTHER).status_code == get(app, api.secret()).status_code == 200
    assert asked == [1, 1, 1]
    take_away_the_store(api)
    response = get(app, "6d1f5f6e-6a55-4a0e-9a43-0a4a6a7ff1f5")
    assert (response.status_code, "Retry-After" in response.headers) == (503, True)


def test_answer_of_the_next_one_has_no_challenge(new_api: Callable[..., Api]) -> None:
    api = new_api()
    app = api.handles(api.asks(), new(Ours, till=KEY), view=a_view()).ready()
    assert "WWW-Authenticate" not in get(app, KEY).headers


def test_view_with_limits_and_scopes_of_its_own(new_api: Callable[..., Api]) -> None:
    """`@keys.limit` and `@keys.require` below an authenticator are asked in the same step, and exempt nobody."""
    api = new_api()
    limited = api.keys.limit("1/minute")(a_view())
    api.handles(api.asks("orders:read"), view=limited, rule="/limited")
    api.handles(api.asks("orders:read"), view=api.keys.require("stock:read", cost=2)(a_view()), rule="/both")
    api.handles(api.asks("orders:read"), view=api.keys.optional(a_view()), rule="/optional")
    app = api.handles(api.asks("orders:read"), view=api.keys.public(a_view()), rule="/public").ready()
    secret = api.secret("orders:read")
    assert [get(app, secret, "/limited").status_code for _ in range(2)] == [200, 429]
    assert get(app, secret, "/both").get_json()["missing_scopes"] == ["stock:read"]
    both = api.secret("orders:read", "stock:read", limits=["10/minute"])
    assert '"10/minute";r=8' in get(app, both, "/both").headers["RateLimit"]
    for path in ("/optional", "/public"):
        assert [get(app, key, path).status_code for key in (secret, api.secret(), None)] == [200, 403, 401]


def test_protected_application_asks_once(new_api: Callable[..., Api]) -> None:
    api = new_api()
    api.keys.protect(api.app)
    app = api.handles(api.asks("orders:read")).ready()
    app.register_error_handler(AccessDenied, AccessDenied.get_response)
    secret = api.secret("orders:read", limits=["5/minute"])
    assert '"5/minute";r=4' in get(app, secret).headers["RateLimit"]
    assert [get(app, api.secret()).status_code, get(app).status_code] == [403, 401]


def test_documents_have_scopes_from_3_on(new_api: Callable[..., Api]) -> None:
    api = new_api(KEYDESK_HEADER="X-Shop-Key")
    shop, named = api.asks("orders:read", "orders:write"), api.asks(name="shopKey")
    two, three = documents(shop, [shop, api.asks()], named, [named, new(Ours)], app=api.app)
    scheme = {"type": "apiKey", "in": "header", "name": "X-Shop-Key"}
    schemes = {"apiKey": scheme, "shopKey": scheme, "sharedSecret": scheme | {"name": "X-API-Key"}}
    assert two["securityDefinitions"] == three["components"]["securitySchemes"] == schemes
    last = [{"shopKey": []}, {"sharedSecret": []}]
    scopes = ["orders:read", "orders:write"]
    assert securities(two) == [[{"apiKey": []}], [{"apiKey": []}, {"apiKey": []}], [{"shopKey": []}], last]
    assert securities(three) == [[{"apiKey": scopes}], [{"apiKey": scopes}, {"apiKey": []}], [{"shopKey": []}], last]


def test_converter_goes_into_a_registry_of_its_own(new_api: Callable[..., Api]) -> None:
    api, registry = new_api(), AuthenticatorConverterRegistry()
    registry.register_type(KeydeskConverter())
    asks = api.asks("orders:read")
    assert registry.get_security_requirements(asks) == [{"apiKey": []}]
    assert registry.get_security_requirements(asks, openapi_version=3) == [{"apiKey": ["orders:read"]}]
    with api.app.app_context():
        assert registry.get_security_schemes(asks)["apiKey"]["name"] == "X-API-Key"


def test_authenticator_refuses_what_cannot_be(new_api: Callable[..., Api]) -> None:
    api = new_api()
    with pytest.raises(TypeError, match="not Flask"):
        KeydeskAuthenticator(api.app)  # type: ignore[arg-type]
    for scopes in (["orders"], ["orders:*"], "orders:read"):
        with pytest.raises(InvalidField):
            KeydeskAuthenticator(api.keys, scopes)
    assert KeydeskAuthenticator(api.keys, scopes=["a:b", "c:d", "a:b"]).scopes == ("a:b", "c:d")


def test_application_without_a_desk_says_so() -> None:
    app = api([KeydeskAuthenticator(Keydesk())], a_view())
    app.debug = True  # in which flask-rebar raises what it would make a 500 of
    with pytest.raises(RuntimeError, match="init_app"):
        get(app, KEY)


# Traps of flask-rebar 3.5, so that it is seen here once they are gone


class Raising(Authenticator):
    """Refuses with a given error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def authenticate(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [Unauthorized("no"), TooManyRequests("slower")])
def test_errors_of_werkzeug_become_a_500(error: Exception) -> None:
    assert told(api([Raising(error)])) == (500, {"message": "Sorry, there was an internal error.",
                                                 "rebar_error_code": "internal_server_error"})  # fmt: skip


@pytest.mark.parametrize("error", [errors.Unauthorized("no"), errors.TooManyRequests("slower")])
def test_errors_of_rebar_have_no_headers(error: errors.HttpJsonError) -> None:
    response = get(api([Raising(error)]))
    assert response.status_code == error.http_status_code
    assert not {"WWW-Authenticate", "Retry-After", "Cache-Control"} & set(response.headers.keys())


@pytest.mark.parametrize("before", [True, False])
def test_handler_for_refusals_wins_in_both_orders(new_api: Callable[..., Api], before: bool) -> None:
    """Whoever wants problem details and nothing else registers a handler, before `Rebar.init_app` or after it."""
    api = new_api()
    api.handles(api.asks()).handles(view=api.keys.require()(a_view()), rule="/required")
    handler = (AccessDenied, AccessDenied.get_response)
    if before:
        api.app.register_error_handler(*handler)
    app = api.ready()
    if not before:
        app.register_error_handler(*handler)
    for path in ("/", "/required"):
        missing = get(app, path=path)
        assert (missing.status_code, missing.content_type) == (401, "application/problem+json")
        assert missing.get_json()["reason"] == "missing"
        assert len(missing.headers.getlist("WWW-Authenticate")) == 2
        secret = api.secret(limits=["1/minute"])
        get(app, secret, path)
        limited = get(app, secret, path)
        assert (limited.status_code, limited.content_type) == (429, "application/problem+json")
        assert int(limited.headers["Retry-After"]) >= 60
        assert "message" not in limited.get_json()


def test_require_needs_the_handler_in_an_api_of_rebar(new_api: Callable[..., Api]) -> None:
    """Its exceptions are none of rebar's, so rebar makes a 500 of them: said in docs/how-to/flask-rebar.md."""
    api = new_api()
    app = api.handles(view=api.keys.require()(a_view())).ready()
    assert get(app).status_code == 500


def test_handler_of_the_application_for_a_status_is_asked(new_api: Callable[..., Api]) -> None:
    api = new_api()
    app = api.handles(api.asks()).ready()
    app.register_error_handler(401, lambda error: ({"say": error.description}, 401))
    response = get(app)
    assert response.get_json() == {"say": "Send your key in the header X-API-Key, or as Authorization: Bearer."}
    assert "WWW-Authenticate" in response.headers
