"""Number 22: decorator order, class-based and async views, blueprints: a view that looks protected and is not.

Each is built the way people get it wrong. It must refuse a caller without a key, or fail loudly; never answer 200.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView, View

from keydesk.flask import Keydesk, current_key
from keydesk.testing import ManualClock

from ..flask.rig import Rig

SECRET = "the view's own words"


@pytest.fixture
def rig(clock: ManualClock) -> Rig:
    return Rig(clock, TESTING=False)


def _never_open(rig: Rig, *paths: str, method: str = "GET") -> None:
    for path in paths:
        answer = rig.call(path, method=method)
        assert answer.status_code in (401, 500), f"{path} answered {answer.status}"
        assert SECRET not in answer.text


def _loud(rig: Rig, path: str = "/", method: str = "GET") -> None:
    """It fails for everybody, so nobody puts it into service. And the message says how to mend it."""
    rig.app.testing = True
    with pytest.raises(RuntimeError, match=r"@app\.route\(\.\.\.\) above @keys\.require"):
        rig.call(path, rig.secret("*"), method)
    rig.app.testing = False
    _never_open(rig, path, method=method)


def _wrapping(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


def _careless(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


# The guard above the route


def test_require_above_route(rig: Rig) -> None:
    @rig.keys.require()
    @rig.app.get("/")
    def view() -> str:
        return SECRET

    _loud(rig)


def test_optional_above_route(rig: Rig) -> None:
    @rig.keys.optional
    @rig.app.get("/")
    def view() -> str:
        return SECRET

    _loud(rig)


def test_require_above_route_of_a_blueprint(rig: Rig) -> None:
    blueprint = Blueprint("b", __name__)

    @rig.keys.require()
    @blueprint.get("/")
    def view() -> str:
        return SECRET

    rig.app.register_blueprint(blueprint)
    _loud(rig)


def test_require_above_route_in_a_factory(clock: ManualClock) -> None:
    """The extension is made first and bound last, as with application factories."""
    keys = Keydesk()
    blueprint = Blueprint("b", __name__)

    @keys.require()
    @blueprint.get("/")
    def view() -> str:
        return SECRET

    rig = Rig(clock, keys=keys, TESTING=False)
    rig.app.register_blueprint(blueprint)
    _loud(rig)


def test_require_above_route_registered_before_init_app() -> None:
    keys, app = Keydesk(), Flask("late")

    @keys.require()
    @app.get("/")
    def view() -> str:
        return SECRET

    app.config["KEYDESK_STORE"] = "memory://"
    keys.init_app(app)
    assert app.test_client().get("/").status_code == 500


def test_require_above_route_of_an_async_view(rig: Rig) -> None:
    @rig.keys.require()
    @rig.app.get("/")
    async def view() -> str:
        return SECRET

    _loud(rig)


@pytest.mark.parametrize("wrapper", [_wrapping, _careless])
def test_require_above_a_wrapper_above_route(rig: Rig, wrapper: Callable[..., Any]) -> None:
    """The guard sees only what the wrapper made of the view; the route has the view itself."""

    @rig.keys.require()
    @wrapper
    @wrapper
    @rig.app.get("/")
    def view() -> str:
        return SECRET

    _loud(rig)


def test_require_of_a_partial_of_a_registered_view(rig: Rig) -> None:
    @rig.app.get("/")
    def view(number: int = 0) -> str:
        return SECRET

    rig.keys.require()(functools.partial(view, number=1))
    _loud(rig)


@pytest.mark.parametrize("wrapper", [_wrapping, _careless])
def test_wrapper_between_route_and_require(rig: Rig, wrapper: Callable[..., Any]) -> None:
    @rig.app.get("/", endpoint="view")
    @wrapper
    @rig.keys.require()
    def view() -> str:
        return SECRET

    _never_open(rig, "/")
    assert rig.call(secret=rig.secret()).text == SECRET


@pytest.mark.parametrize("wrapper", [_wrapping, _careless])
def test_wrapper_below_require(rig: Rig, wrapper: Callable[..., Any]) -> None:
    @rig.app.get("/", endpoint="view")
    @rig.keys.require()
    @wrapper
    def view() -> str:
        return SECRET

    _never_open(rig, "/")
    assert rig.call(secret=rig.secret()).text == SECRET


@pytest.mark.parametrize("wrapper", [_wrapping, _careless])
def test_wrapper_above_a_protected_view(rig: Rig, wrapper: Callable[..., Any]) -> None:
    rig.keys.protect(rig.app)

    @rig.app.get("/", endpoint="view")
    @wrapper
    @rig.keys.optional
    def view() -> str:
        return SECRET

    if wrapper is _wrapping:
        assert rig.call().text == SECRET  # the note came along
    else:
        _never_open(rig, "/")  # it was lost, so the stricter rule holds


# Registered by other ways


def test_the_bare_function_under_a_second_rule(rig: Rig) -> None:
    def view() -> str:
        return SECRET

    guarded = rig.keys.require()(view)
    rig.app.add_url_rule("/guarded", "guarded", guarded)
    rig.app.add_url_rule("/bare", "bare", view)
    _loud(rig, "/bare")
    _never_open(rig, "/guarded")


def test_the_bare_function_marked_public(rig: Rig) -> None:
    """Meant to be open at one address and guarded at another: say so, and it is."""

    def view() -> str:
        return SECRET

    rig.app.add_url_rule("/guarded", "guarded", rig.keys.require()(view))
    rig.app.add_url_rule("/open", "open", rig.keys.public(view))
    assert rig.status("/open") == 200
    _never_open(rig, "/guarded")


def test_the_same_guarded_view_under_two_endpoints(rig: Rig) -> None:
    @rig.keys.require()
    def view() -> str:
        return SECRET

    rig.app.add_url_rule("/a", "a", view)
    rig.app.add_url_rule("/b", "b", view)
    _never_open(rig, "/a", "/b")
    assert rig.status("/b", rig.secret()) == 200


def test_endpoint_replaced_after_requests(rig: Rig) -> None:
    """Extensions put their own wrappers into `view_functions`; so may a bare view come there."""

    def view() -> str:
        return SECRET

    guarded = rig.keys.require()(view)
    rig.app.add_url_rule("/", "view", guarded)
    _never_open(rig, "/")
    assert rig.status(secret=rig.secret()) == 200
    rig.app.view_functions["view"] = view
    _loud(rig)
    rig.app.view_functions["view"] = guarded
    assert (rig.status(), rig.status(secret=rig.secret())) == (401, 200)


@pytest.mark.parametrize(
    "put",
    [
        lambda app, view: app.view_functions.update(view=view),
        lambda app, view: app.view_functions.update({"view": view}),
        lambda app, view: app.view_functions.__ior__({"view": view}),
        lambda app, view: (app.view_functions.pop("view"), app.view_functions.setdefault("view", view)),
    ],
    ids=["update", "update with a dict", "or", "setdefault"],
)
def test_every_way_to_replace_an_endpoint(rig: Rig, put: Callable[[Any, Any], object]) -> None:
    def view() -> str:
        return SECRET

    guarded = rig.keys.require()(view)
    rig.app.add_url_rule("/", "view", guarded)
    _never_open(rig, "/")
    put(rig.app, guarded)
    _never_open(rig, "/")
    put(rig.app, view)
    _loud(rig)


def test_views_in_a_dictionary_of_somebody_else(rig: Rig) -> None:
    """It tells nothing of what is put into it later, so the look goes on with every request."""

    def view() -> str:
        return SECRET

    guarded = rig.keys.require()(view)
    rig.app.view_functions = dict(rig.app.view_functions)
    rig.app.add_url_rule("/", "view", guarded)
    _never_open(rig, "/")
    rig.app.view_functions["view"] = view
    _loud(rig)


def test_endpoint_replaced_while_the_views_are_looked_at(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def view() -> str:
        return SECRET

    guarded = rig.keys.require()(view)
    rig.app.add_url_rule("/", "view", guarded)
    watch = rig.app.extensions["keydesk"].watch
    look = watch.require_guards

    def replaced_meanwhile() -> None:
        look()
        rig.app.view_functions["view"] = view

    monkeypatch.setattr(watch, "require_guards", replaced_meanwhile)
    rig.status()
    monkeypatch.undo()
    _loud(rig)


def test_views_are_looked_at_once(rig: Rig) -> None:
    """With every request it costs as much as finding the key."""

    @rig.app.get("/")
    @rig.keys.require()
    def view() -> str:
        return SECRET

    _never_open(rig, "/")
    assert rig.app.before_request_funcs[None] == []


def test_endpoint_replaced_by_a_wrapper(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.require()
    def view() -> str:
        return SECRET

    _never_open(rig, "/")
    rig.app.view_functions["view"] = _careless(rig.app.view_functions["view"])
    _never_open(rig, "/")
    assert rig.status(secret=rig.secret()) == 200


def test_guarded_after_requests(rig: Rig) -> None:
    """Somebody puts the guard on once the view has been served for a while."""

    @rig.app.get("/")
    def view() -> str:
        return "not secret yet"

    assert rig.status() == 200
    rig.keys.require()(view)
    rig.app.view_functions["other"] = lambda: ""
    rig.app.url_map.add(rig.app.url_rule_class("/other", endpoint="other"))
    _never_open(rig, "/other")  # the next look at the views finds it


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH"])
def test_every_method_of_a_rule(rig: Rig, method: str) -> None:
    @rig.app.route("/", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    @rig.keys.require()
    def view() -> str:
        return SECRET

    _never_open(rig, "/", method=method)


# Decorators misused


def test_require_without_parentheses(rig: Rig) -> None:
    with pytest.raises(TypeError, match="parentheses"):

        @rig.app.get("/")
        @rig.keys.require  # type: ignore[arg-type]
        def view() -> str:
            return SECRET

    assert rig.status() == 404


def test_require_with_any_of_without_parentheses(rig: Rig) -> None:
    with pytest.raises((TypeError, ValueError)):
        rig.keys.require(any_of=lambda: SECRET)  # type: ignore[arg-type]


def test_protect_as_a_decorator(rig: Rig) -> None:
    with pytest.raises((AttributeError, TypeError)):

        @rig.app.get("/")  # type: ignore[type-var]
        @rig.keys.protect  # type: ignore[arg-type]
        def view() -> str:
            return SECRET


@pytest.mark.parametrize("thing", ["text", 7, None, int, Flask])
def test_require_on_what_is_no_view(rig: Rig, thing: Any) -> None:
    with pytest.raises(TypeError):
        rig.keys.require()(thing)


def test_public_above_require_asks_all_the_same(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.public
    @rig.keys.require()
    def view() -> str:
        return SECRET

    _never_open(rig, "/")


def test_public_below_require_asks_all_the_same(rig: Rig) -> None:
    rig.keys.protect(rig.app)

    @rig.app.get("/")
    @rig.keys.require()
    @rig.keys.public
    def view() -> str:
        return SECRET

    _never_open(rig, "/")


def test_optional_above_require_asks_all_the_same(rig: Rig) -> None:
    rig.keys.protect(rig.app)

    @rig.app.get("/")
    @rig.keys.optional
    @rig.keys.require()
    def view() -> str:
        return SECRET

    _never_open(rig, "/")


# Classes of views


def test_class_guarded_above(rig: Rig) -> None:
    @rig.keys.require()
    class Orders(View):
        def dispatch_request(self) -> str:
            return SECRET

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _never_open(rig, "/")
    assert rig.status(secret=rig.secret()) == 200


def test_class_guarded_after_as_view(rig: Rig) -> None:
    class Orders(View):
        def dispatch_request(self) -> str:
            return SECRET

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    rig.keys.require()(Orders)
    _loud(rig)


@pytest.mark.parametrize("way", ["above", "decorators"])
def test_subclass_that_overwrites_decorators(rig: Rig, way: str) -> None:
    """`decorators = [...]` in a subclass silently drops the guard of its base."""

    class Base(MethodView):
        decorators = [rig.keys.require()] if way == "decorators" else []

        def get(self) -> str:
            return SECRET

    if way == "above":
        rig.keys.require()(Base)

    class Orders(Base):
        decorators = [_wrapping]

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _loud(rig)


def test_subclass_that_empties_decorators(rig: Rig) -> None:
    class Base(MethodView):
        decorators = [rig.keys.require()]

        def get(self) -> str:
            return SECRET

    class Between(Base):
        pass

    class Orders(Between):
        decorators = []

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _loud(rig)


@pytest.mark.parametrize("way", ["above", "decorators"])
def test_subclass_that_adds_decorators(rig: Rig, way: str) -> None:
    class Base(MethodView):
        decorators = [rig.keys.require("orders:read")] if way == "decorators" else []

        def get(self) -> str:
            return SECRET

    if way == "above":
        rig.keys.require("orders:read")(Base)

    class Orders(Base):
        decorators = [_wrapping, *Base.decorators, _wrapping]

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _never_open(rig, "/")
    assert rig.status(secret=rig.secret()) == 403
    assert rig.status(secret=rig.secret("orders:read")) == 200


def test_subclass_that_inherits(rig: Rig) -> None:
    @rig.keys.require()
    class Base(MethodView):
        pass

    class Orders(Base):
        def get(self) -> str:
            return SECRET

        def post(self) -> str:
            return SECRET

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _never_open(rig, "/")
    _never_open(rig, "/", method="POST")


def test_subclass_with_a_guard_of_its_own(rig: Rig) -> None:
    @rig.keys.require("a:read")
    class Base(MethodView):
        def get(self) -> str:
            return SECRET

    @rig.keys.require("b:read")
    class Orders(Base):
        pass

    rig.app.add_url_rule("/base", view_func=Base.as_view("base"))
    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    assert rig.status("/base", rig.secret("a:read")) == 200  # the base is as it was
    assert rig.status(secret=rig.secret("a:read")) == 403
    assert rig.status(secret=rig.secret("a:read", "b:read")) == 200


def test_subclass_of_a_public_class_in_a_protected_blueprint(rig: Rig) -> None:
    """An exemption is not inherited: what a subclass adds was never meant by it."""
    blueprint = Blueprint("b", __name__)
    rig.keys.protect(blueprint)

    @rig.keys.public
    class Health(MethodView):
        def get(self) -> str:
            return "well"

    class Admin(Health):
        def delete(self) -> str:
            return SECRET

    blueprint.add_url_rule("/health", view_func=Health.as_view("health"))
    blueprint.add_url_rule("/admin", view_func=Admin.as_view("admin"))
    rig.app.register_blueprint(blueprint)
    assert rig.call("/health").text == "well"
    _never_open(rig, "/admin", method="DELETE")
    _never_open(rig, "/admin")


def test_public_class_with_a_guard_among_its_decorators(rig: Rig) -> None:
    @rig.keys.public
    class Orders(MethodView):
        decorators = [rig.keys.require()]

        def get(self) -> str:
            return SECRET

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _never_open(rig, "/")


def test_one_method_guarded(rig: Rig) -> None:
    class Orders(MethodView):
        @rig.keys.require()
        def get(self) -> str:
            return SECRET

        @rig.keys.require()
        async def put(self) -> str:
            return SECRET

        def post(self) -> str:
            return "open"

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _never_open(rig, "/")
    _never_open(rig, "/", method="HEAD")  # MethodView answers HEAD with `get`
    _never_open(rig, "/", method="PUT")
    assert rig.call("/", method="POST").text == "open"


def test_method_public_in_a_protected_class_is_not(rig: Rig) -> None:
    rig.keys.protect(rig.app)

    class Orders(MethodView):
        @rig.keys.public
        def get(self) -> str:
            return SECRET

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _never_open(rig, "/")


def test_class_whose_views_are_made_once(rig: Rig) -> None:
    @rig.keys.require()
    class Orders(View):
        init_every_request = False

        def dispatch_request(self) -> str:
            return f"{SECRET} {current_key.name}"

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    _never_open(rig, "/")
    assert rig.call(secret=rig.secret(name="one")).text.endswith("one")
    _never_open(rig, "/")


# Async


def test_async_view(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.require()
    async def view() -> str:
        return SECRET

    _never_open(rig, "/")
    assert rig.status(secret=rig.secret()) == 200


def test_async_view_behind_a_careless_wrapper(rig: Rig) -> None:
    """A plain wrapper returns the coroutine of an async view without awaiting it; Flask must not be handed that."""

    def wrapper(view: Callable[..., Any]) -> Callable[..., Any]:
        async def inner(*args: Any, **kwargs: Any) -> Any:
            return await view(*args, **kwargs)

        return inner

    async def view() -> str:
        return SECRET

    rig.app.add_url_rule("/", "view", rig.keys.require()(wrapper(view)))
    _never_open(rig, "/")
    assert rig.call(secret=rig.secret()).text == SECRET


def test_async_callable_object(rig: Rig) -> None:
    """Python cannot tell that this is async. Nobody without a key starts it."""

    class Orders:
        __name__ = "orders"

        async def __call__(self) -> str:
            raise AssertionError("started")

    guarded = rig.keys.require()(Orders())
    rig.app.add_url_rule("/", "orders", guarded)
    _never_open(rig, "/")


# Blueprints


def test_protect_after_registering(rig: Rig) -> None:
    """Too late for Flask to run it: it must not pass in silence."""
    blueprint = Blueprint("b", __name__)

    @blueprint.get("/")
    def view() -> str:
        return SECRET

    rig.app.register_blueprint(blueprint)
    with pytest.raises(AssertionError, match="already been registered"):
        rig.keys.protect(blueprint)


def test_protect_app_after_the_first_request(rig: Rig) -> None:
    rig.status("/")
    with pytest.raises(AssertionError, match="first request"):
        rig.keys.protect(rig.app)


def test_blueprints_nested_in_any_order(rig: Rig) -> None:
    """`protect` before the nesting, after it, and views added to the nested blueprint after both."""
    outer, inner, deepest = Blueprint("outer", __name__), Blueprint("inner", __name__), Blueprint("deepest", __name__)
    outer.register_blueprint(inner, url_prefix="/inner")
    rig.keys.protect(outer)
    inner.register_blueprint(deepest, url_prefix="/deepest")

    @deepest.get("/")
    @inner.get("/")
    @outer.get("/")
    def view() -> str:
        return SECRET

    rig.app.register_blueprint(outer)
    _never_open(rig, "/", "/inner/", "/inner/deepest/")
    assert rig.status("/inner/deepest/", rig.secret()) == 200


def test_view_that_ends_up_in_another_blueprint(rig: Rig) -> None:
    """The address is not what protects: a view of an open blueprint under the prefix of a protected one is open, and
    one of a protected blueprint is protected wherever it is mounted."""
    protected, other = Blueprint("protected", __name__), Blueprint("other", __name__)
    rig.keys.protect(protected)

    @protected.get("/data")
    def data() -> str:
        return SECRET

    rig.app.register_blueprint(protected, url_prefix="/a", name="first")
    rig.app.register_blueprint(protected, url_prefix="/b", name="second")
    rig.app.register_blueprint(other, url_prefix="/a")
    _never_open(rig, "/a/data", "/b/data")
    assert rig.status("/b/data", rig.secret()) == 200


def test_views_open_one_that_a_guarded_one_calls_raises_no_alarm() -> None:
    """A view in a factory may call another, open one: it closes over it as a careless decorator does over its view."""
    app = Flask("factory")
    app.config["API_KEY"] = "f3b0c442-98fc-4c14-9afb-f4c8996fb924"
    keys = Keydesk(app)

    @app.get("/open")
    def open_view() -> str:
        return "open"

    @app.get("/guarded")
    @keys.require()
    def guarded_view() -> str:
        return open_view() + " to you"

    client = app.test_client()
    assert client.get("/open").text == "open"
    assert client.get("/guarded").status_code == 401
    headers = {"X-API-Key": "f3b0c442-98fc-4c14-9afb-f4c8996fb924"}
    assert client.get("/guarded", headers=headers).text == "open to you"
