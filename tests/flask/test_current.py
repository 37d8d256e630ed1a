"""`current_key` and `keys.desk`: there in the request, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Response, copy_current_request_context, stream_with_context
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import run_wsgi_app

from keydesk import Key
from keydesk.flask import current_key

from .rig import Rig


@pytest.fixture
def shop(rig: Rig) -> Rig:
    @rig.app.get("/")
    @rig.keys.require()
    def who() -> str:
        return current_key.name

    @rig.app.get("/anybody")
    def anybody() -> str:
        return current_key.name if current_key else "nobody"

    return rig


def test_current_key_is_the_key(shop: Rig) -> None:
    seen: list[Any] = []

    @shop.app.get("/look")
    @shop.keys.require()
    def look() -> str:
        seen.append(current_key._get_current_object())  # type: ignore[attr-defined]
        assert isinstance(current_key, Key)
        assert current_key == seen[0]
        assert bool(current_key)
        return current_key.id

    issued = shop.issue("orders:read", owner="acme")
    assert shop.call("/look", issued.secret).text == issued.key.id
    assert seen == [issued.key]


def test_current_key_falsy_without_a_guard(shop: Rig) -> None:
    """A view without a guard has no key, even if the caller sent a good one."""
    assert shop.call("/anybody", shop.secret()).text == "nobody"


def test_current_key_outside_of_a_request(shop: Rig) -> None:
    assert not current_key
    with shop.app.app_context():
        assert not current_key
        with pytest.raises(RuntimeError, match="request context"):
            _ = current_key.name


def test_current_key_clear_error(shop: Rig) -> None:
    with (
        shop.app.test_request_context("/"),
        pytest.raises(RuntimeError, match=r"Put @keys\.require\(\) on the view, or test `if current_key:` first"),
    ):
        _ = current_key.name


def test_current_key_not_leaking_inside_an_outer_app_context(shop: Rig) -> None:
    """A test suite or a job may hold one application context around many requests; `flask.g` would live as long."""
    with shop.app.app_context():
        assert shop.call("/", shop.secret(name="me")).text == "me"
        assert not current_key
        assert shop.call("/anybody").text == "nobody"
        assert shop.status("/") == 401


def test_current_key_gone_after_the_request(shop: Rig) -> None:
    client = shop.app.test_client()
    with client:  # the test client keeps the context of the last request
        client.get("/", headers={"X-API-Key": shop.secret(name="me")})
        assert current_key.name == "me"
        client.get("/anybody")
        assert not current_key
    assert not current_key


def test_current_key_of_a_refused_request(shop: Rig) -> None:
    seen: list[bool] = []
    shop.app.teardown_request(lambda error: seen.append(bool(current_key)))
    revoked = shop.issue()
    shop.desk.revoke(revoked.key.id)
    for secret in (None, "wrong-key-wrong-key", revoked.secret):
        shop.call("/", secret)
    assert seen == [False, False, False]


def test_current_key_in_hooks(shop: Rig) -> None:
    """Hooks that run after the guard know the caller."""
    seen: list[str] = []

    @shop.app.after_request
    def after(response: Response) -> Response:
        seen.append(current_key.name)
        return response

    @shop.app.teardown_request
    def down(error: object) -> None:
        seen.append(current_key.name)

    shop.call("/", shop.secret(name="me"))
    assert seen == ["me", "me"]


def test_current_key_in_a_stream(shop: Rig) -> None:
    @shop.app.get("/stream")
    @shop.keys.require()
    def stream() -> Response:
        def lines() -> Iterator[str]:
            for _ in range(3):
                yield current_key.name

        return Response(stream_with_context(lines()))

    assert shop.call("/stream", shop.secret(name="me")).text == "mememe"


def test_current_key_in_a_stream_without_context(shop: Rig) -> None:
    """Flask's generators run after the request is over; there the proxy is empty, never another's."""

    @shop.app.get("/stream")
    @shop.keys.require()
    def stream() -> Response:
        def lines() -> Iterator[str]:
            yield "somebody" if current_key else "nobody"

        return Response(lines())

    assert shop.call("/stream", shop.secret(name="me")).text == "nobody"


def test_current_key_in_a_thread_with_the_context(shop: Rig) -> None:
    @shop.app.get("/thread")
    @shop.keys.require()
    def thread() -> str:
        seen: list[str] = []

        @copy_current_request_context
        def work() -> None:
            seen.append(current_key.name)

        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        bare = threading.Thread(target=lambda: seen.append(str(bool(current_key))))
        bare.start()
        bare.join()
        return " ".join(seen)

    assert shop.call("/thread", shop.secret(name="me")).text == "me False"


def test_current_key_in_an_async_view(shop: Rig) -> None:
    @shop.app.get("/async")
    @shop.keys.require()
    async def view() -> str:
        return current_key.name

    assert shop.call("/async", shop.secret(name="me")).text == "me"


def test_current_key_never_mixed_up_between_threads(shop: Rig) -> None:
    """Two keys and nobody, on eight threads at once, each asked again after others ran in between."""
    meet = threading.Barrier(8)

    @shop.app.get("/meet")
    @shop.keys.optional
    def meeting() -> str:
        before = current_key.name if current_key else "nobody"
        meet.wait(10)
        after = current_key.name if current_key else "nobody"
        return f"{before} {after}"

    secrets = {"one": shop.secret(name="one"), "two": shop.secret(name="two"), "nobody": None}
    names = ["one", "two", "nobody", "two", "one", "nobody", "one", "two"] * 25

    def ask(name: str) -> str:
        return shop.call("/meet", secrets[name]).text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, names)) == [f"{name} {name}" for name in names]


# Several applications


@pytest.fixture
def two(new_rig: Callable[..., Rig]) -> tuple[Rig, Rig]:
    """Two applications with stores of their own; each answers who it thinks calls."""
    rigs = new_rig(name="one"), new_rig(name="two")
    for rig in rigs:

        @rig.app.get("/", endpoint="who")
        @rig.keys.optional
        def who() -> str:
            return current_key.name if current_key else "nobody"

        @rig.app.get("/plain", endpoint="plain")
        def plain() -> str:
            return current_key.name if current_key else "nobody"

    return rigs


def test_two_apps_have_their_own_stores(two: tuple[Rig, Rig]) -> None:
    one, two_ = two
    secret = one.secret(name="one")
    assert one.call(secret=secret).text == "one"
    assert two_.status(secret=secret) == 401


def test_one_keydesk_on_two_apps(new_rig: Callable[..., Rig]) -> None:
    """One object, two applications: the views are shared, the desks are not."""
    one = new_rig(name="one")
    two_ = new_rig(name="two", keys=one.keys)
    assert one.desk is not two_.desk

    @one.app.get("/")
    @two_.app.get("/")
    @one.keys.require()
    def who() -> str:
        return current_key.name

    secret = one.secret(name="one")
    assert one.call(secret=secret).text == "one"
    assert two_.status(secret=secret) == 401
    assert two_.call(secret=two_.secret(name="two")).text == "two"


def test_one_blueprint_on_two_apps(new_rig: Callable[..., Rig]) -> None:
    from flask import Blueprint

    one = new_rig(name="one")
    two_ = new_rig(name="two", keys=one.keys)
    blueprint = Blueprint("api", __name__)
    one.keys.protect(blueprint, "orders:read")

    @blueprint.get("/")
    def who() -> str:
        return current_key.name

    one.app.register_blueprint(blueprint)
    two_.app.register_blueprint(blueprint)
    secret = one.secret("orders:read", name="one")
    assert (one.status(secret=secret), two_.status(secret=secret)) == (200, 401)


def test_app_mounted_under_another(two: tuple[Rig, Rig]) -> None:
    """The identity of one application is nothing to the other, on the same server and the same environ."""
    outer, inner = two
    outer.app.wsgi_app = DispatcherMiddleware(outer.app.wsgi_app, {"/inner": inner.app.wsgi_app})  # type: ignore[method-assign]
    secret = outer.secret(name="outer")
    assert outer.call("/", secret).text == "outer"
    assert outer.call("/inner/", secret).status_code == 401
    assert outer.call("/inner/", inner.secret(name="inner")).text == "inner"


def test_app_called_with_anothers_environ(two: tuple[Rig, Rig]) -> None:
    """A view hands its own environ on, after its caller was accepted. No identity goes with it, nor comes back."""
    outer, inner = two

    @outer.app.get("/hand")
    @outer.keys.require()
    def hand() -> str:
        from flask import request

        environ = dict(request.environ, PATH_INFO="/plain")
        body, status, _ = run_wsgi_app(inner.app.wsgi_app, environ)
        plain = b"".join(body).decode()
        environ = dict(request.environ, PATH_INFO="/")
        _, status, _ = run_wsgi_app(inner.app.wsgi_app, environ)
        return f"{plain} {status[:3]} {current_key.name}"

    assert outer.call("/hand", outer.secret(name="outer")).text == "nobody 401 outer"


def test_app_called_within_a_request_of_another(two: tuple[Rig, Rig]) -> None:
    outer, inner = two
    secret = inner.secret(name="inner")

    @outer.app.get("/ask")
    @outer.keys.require()
    def ask() -> str:
        return f"{inner.call('/', secret).text} {inner.call('/').text} {current_key.name}"

    assert outer.call("/ask", outer.secret(name="outer")).text == "inner nobody outer"


def test_desk_of_the_current_app(two: tuple[Rig, Rig]) -> None:
    one, two_ = two
    with one.app.app_context():
        outer = one.keys.desk
        with two_.app.app_context():
            assert two_.keys.desk is not outer
            assert one.keys.desk is two_.keys.desk  # it goes by the application, not by the object
        assert one.keys.desk is outer


def test_desk_without_an_app(rig: Rig) -> None:
    with pytest.raises(RuntimeError, match="application context"):
        _ = rig.keys.desk


def test_desk_of_an_app_without_keydesk(rig: Rig) -> None:
    with Flask("other").app_context(), pytest.raises(RuntimeError, match=r"keys\.init_app\(app\)"):
        _ = rig.keys.desk


def test_no_context_left_behind(shop: Rig) -> None:
    """Flask's own suite looks for contexts that stay pushed; so does this one, after every way a request can go."""
    from flask.globals import _cv_app

    @shop.app.get("/bang")
    @shop.keys.require()
    def bang() -> str:
        raise ZeroDivisionError

    @shop.app.get("/async")
    @shop.keys.require()
    async def quiet() -> str:
        return ""

    shop.app.testing = False
    secret = shop.secret("orders:read")
    for path in ("/", "/anybody", "/bang", "/async", "/nowhere"):
        for presented in (None, secret, "wrong-key-wrong-key", "a,b", "\x80"):
            shop.call(path, presented)
            assert _cv_app.get(None) is None
    assert shop.status("/bang", secret) == 500
