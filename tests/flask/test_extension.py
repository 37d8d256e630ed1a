"""The extension itself: `init_app`, settings, the application's own engine, signals, classes of views."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView, View
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, create_engine, inspect

from keydesk import Allowed, Denied, Reason, SchemaMismatch, SettingsError
from keydesk.flask import Keydesk, current_key, key_accepted, key_denied
from keydesk.stores.schema import metadata
from keydesk.testing import ManualClock

from .rig import Rig


def _view(rig: Rig, *scopes: str) -> Rig:
    @rig.app.get("/")
    @rig.keys.require(*scopes)
    def view() -> str:
        return current_key.name

    return rig


# init_app


def test_init_app_by_factory(clock: ManualClock) -> None:
    keys = Keydesk()

    def create_app() -> Flask:
        app = Flask("factory")
        app.config["KEYDESK_STORE"] = "memory://"
        keys.init_app(app, clock=clock)
        app.add_url_rule("/", "view", keys.require()(lambda: current_key.name))
        return app

    apps = [create_app() for _ in range(3)]
    with apps[0].app_context():
        secret = keys.desk.issue(name="first").secret
    answers = [app.test_client().get("/", headers={"X-API-Key": secret}).status_code for app in apps]
    assert answers == [200, 401, 401]


def test_init_app_twice(rig: Rig) -> None:
    with pytest.raises(RuntimeError, match="has a Keydesk already"):
        rig.keys.init_app(rig.app)
    with pytest.raises(RuntimeError, match="has a Keydesk already"):
        Keydesk(rig.app)


def test_init_app_again_after_wrong_settings(clock: ManualClock) -> None:
    """What failed has left nothing behind: mend the settings and call it again."""
    app = Flask("app")
    app.config["KEYDESK_STORE"] = "nonsense"
    with pytest.raises(SettingsError):
        Keydesk(app)
    assert "keydesk" not in app.extensions
    assert "keys" not in app.cli.commands
    assert app.before_request_funcs == {}
    app.config["KEYDESK_STORE"] = "memory://"
    Keydesk(app, clock=clock)


def test_constructor_without_app_takes_nothing(clock: ManualClock) -> None:
    with pytest.raises(TypeError, match="init_app"):
        Keydesk(clock=clock)


def test_nothing_of_an_app_in_the_extension(rig: Rig) -> None:
    assert vars(rig.keys) == {}


def test_app_is_not_kept_alive(clock: ManualClock) -> None:
    """Test suites make thousands of applications; the desk of each closes with it."""
    rig = Rig(clock, KEYDESK_QUERY_PARAMETER="api_key")
    _view(rig)
    rig.call(secret=rig.secret())
    gone = weakref.ref(rig.app)
    closed: list[bool] = []
    rig.desk.store.close = lambda: closed.append(True)  # type: ignore[method-assign]
    del rig
    gc.collect()
    assert gone() is None
    assert closed == [True]


def test_default_store_in_the_instance_folder(clock: ManualClock, tmp_path: Path) -> None:
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    keys = Keydesk(app, clock=clock)
    assert not (tmp_path / "instance").exists()  # made on first use
    with app.app_context():
        keys.desk.issue(name="client")
        assert (tmp_path / "instance" / "keydesk.db").exists()
        assert (tmp_path / "instance" / "keydesk.db").stat().st_mode & 0o077 == 0
        keys.desk.close()


@pytest.mark.parametrize("api_key", [None, "", "  "])
def test_config_store_with_an_empty_key_refuses_everybody(
    new_rig: Callable[..., Rig], api_key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    rig = _view(new_rig(KEYDESK_STORE=None, API_KEY=api_key))
    for presented in (None, "", " ", "None", "null", "undefined"):
        assert rig.status(secret=presented) == 401
    assert "every request that needs a key is refused" in caplog.text


def test_config_store_with_one_key(new_rig: Callable[..., Rig]) -> None:
    rig = _view(new_rig(KEYDESK_STORE=None, API_KEY="f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu"))
    assert rig.status(secret="f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu") == 200
    assert rig.status(secret="f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEU") == 401


# Settings


def test_settings_problems_all_at_once() -> None:
    app = Flask("app")
    app.config.update(
        KEYDESK_HEADER="X API Key",
        KEYDESK_REALM='a"b',
        KEYDESK_PEPPER="c2hvcnQ=",
        KEYDESK_PROTECT_OPTIONS="perhaps",
        KEYDESK_STOER="memory://",
        KEYDESK_PREFIX="9",
    )
    with pytest.raises(SettingsError) as raised:
        Keydesk(app)
    text = str(raised.value)
    for name in (
        "KEYDESK_HEADER",
        "KEYDESK_REALM",
        "KEYDESK_PEPPER",
        "KEYDESK_PROTECT_OPTIONS",
        "KEYDESK_PREFIX",
        "KEYDESK_STOER is no setting; did you mean KEYDESK_STORE?",
    ):
        assert name in text
    assert len(raised.value.problems) == 6


def test_settings_problems_with_those_of_the_store() -> None:
    app = Flask("app")
    app.config.update(
        KEYDESK_HEADER="X API Key",
        KEYDESK_CONFIG="keydesk.toml",
        API_KEYS={"a,b": "One", "c,d": "Two", "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu": {"scope": "a:b", "name": "Three"}},
    )
    with pytest.raises(SettingsError) as raised:
        Keydesk(app)
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "KEYDESK_CONFIG is read from the environment only; write what the file holds here, in its place",
        "KEYDESK_HEADER is no header name",
        "API_KEYS, entry 1",
        "API_KEYS, entry 2",
        "API_KEYS, entry 3",
    ]
    assert "keydesk" not in app.extensions


def test_settings_are_of_the_app(new_rig: Callable[..., Rig]) -> None:
    rig = _view(new_rig(KEYDESK_HEADER="X-Shop-Key", KEYDESK_REALM="shop", KEYDESK_PREFIX="my_shop"))
    secret = rig.secret()
    assert secret.startswith("my_shop_live_")
    assert rig.status(headers={"X-Shop-Key": secret}) == 200
    assert rig.status(headers={"Authorization": f"Bearer {secret}"}) == 200
    answer = rig.call(headers={"X-API-Key": secret})
    assert answer.headers.getlist("WWW-Authenticate") == [
        'Bearer realm="shop"',
        'ApiKey realm="shop", header="X-Shop-Key"',
    ]
    assert "X-Shop-Key" in answer.get_json()["detail"]


# The application's own engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    yield engine
    engine.dispose()


def test_engine_plain_sqlalchemy(new_rig: Callable[..., Rig], engine: Engine) -> None:
    metadata.create_all(engine)
    rig = _view(new_rig(engine=engine))
    assert rig.call(secret=rig.secret(name="me")).text == "me"
    assert "keydesk_keys" in inspect(engine).get_table_names()
    rig.desk.close()
    assert rig.call(secret=rig.secret(name="still open")).text == "still open"  # it is the application's to close


def test_engine_without_tables_says_what_to_run(new_rig: Callable[..., Rig], engine: Engine) -> None:
    """Tables in somebody else's database are not made behind their back."""
    rig = _view(new_rig(engine=engine))
    with pytest.raises(SchemaMismatch, match="db upgrade"):
        rig.secret()
    answer = rig.call(secret="wrong-key-wrong-key")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert inspect(engine).get_table_names() == []


def test_engine_of_flask_sqlalchemy(clock: ManualClock, tmp_path: Path) -> None:
    app = Flask("app", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.db'}"
    db = SQLAlchemy(app)

    class Order(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)

    with app.app_context():
        keys = Keydesk(app, engine=db.engine, clock=clock)
        db.create_all()
        metadata.create_all(db.engine)
        secret = keys.desk.issue(name="me").secret

    @app.get("/")
    @keys.require()
    def view() -> str:
        db.session.add(Order())
        db.session.commit()
        return f"{current_key.name} {db.session.query(Order).count()}"

    assert app.test_client().get("/", headers={"X-API-Key": secret}).text == "me 1"
    with app.app_context():
        db.engine.dispose()


def test_engine_and_another_store(engine: Engine) -> None:
    """Two places for keys: one of them would be passed over in silence. Other problems are named with it."""
    app = Flask("app")
    app.config.update(KEYDESK_STORE="memory://", KEYDESK_HEADER="X Y", KEYDESK_REALM='"')
    with pytest.raises(SettingsError) as raised:
        Keydesk(app, engine=engine)
    assert len(raised.value.problems) == 3
    assert "KEYDESK_STORE is not read, since an engine was given" in str(raised.value)
    app.config.update(KEYDESK_HEADER="X-Y", KEYDESK_REALM="api")
    with pytest.raises(SettingsError, match="remove one or the other"):
        Keydesk(app, engine=engine)


@pytest.mark.parametrize("config", [{"API_KEY": "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu"}, {"API_KEYS": {"a1" * 16: "a"}}])
def test_engine_and_configured_keys(
    new_rig: Callable[..., Rig], engine: Engine, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """They are there for something else, perhaps; it is said that they open nothing here."""
    metadata.create_all(engine)
    rig = _view(new_rig(engine=engine, **config))
    assert "API_KEY and API_KEYS are not read" in caplog.text
    for text in ("f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu", "a1" * 16):
        assert rig.status(secret=text) == 401


# Signals


def test_signals(rig: Rig) -> None:
    _view(rig, "orders:read")
    seen: list[tuple[Any, Any]] = []

    def note(sender: Any, decision: Any) -> None:
        seen.append((sender, decision))

    issued = rig.issue("orders:read")
    with key_accepted.connected_to(note), key_denied.connected_to(note):
        rig.call(secret=issued.secret)
        rig.call()
        rig.call(secret=rig.secret())
    (first, accepted), (_, missing), (_, scopes) = seen
    assert first is rig.app
    assert isinstance(accepted, Allowed)
    assert accepted.key == issued.key
    assert isinstance(missing, Denied)
    assert missing.reason is Reason.MISSING
    assert scopes.missing_scopes == ("orders:read",)
    rig.call()
    assert len(seen) == 3


def test_signals_of_one_app(new_rig: Callable[..., Rig]) -> None:
    one, other = _view(new_rig()), _view(new_rig())
    seen: list[Any] = []

    def note(sender: Any, decision: Any) -> None:
        seen.append(sender)

    with key_denied.connected_to(note, one.app):
        one.call()
        other.call()
    assert seen == [one.app]


@pytest.mark.parametrize("presented", ["good", "bad"])
def test_signals_receiver_that_raises_lets_nobody_in(rig: Rig, presented: str) -> None:
    _view(rig)
    rig.app.testing = False

    def receiver(sender: Any, decision: Any) -> None:
        raise ZeroDivisionError

    secret = rig.secret() if presented == "good" else None
    with key_accepted.connected_to(receiver), key_denied.connected_to(receiver):
        assert rig.status(secret=secret) == 500
    assert rig.status(secret=secret) == (200 if secret else 401)


# Classes of views


def test_class_of_views_by_decorator(rig: Rig) -> None:
    @rig.keys.require("orders:read")
    class Orders(View):
        methods = ["GET", "POST"]

        def dispatch_request(self, number: int) -> str:
            return f"{current_key.name} {number}"

    rig.app.add_url_rule("/<int:number>", view_func=Orders.as_view("orders"))
    assert rig.status("/7") == 401
    assert rig.status("/7", rig.secret()) == 403
    assert rig.call("/7", rig.secret("orders:read", name="me"), method="POST").text == "me 7"


def test_class_of_views_by_list(rig: Rig) -> None:
    class Orders(MethodView):
        decorators = [rig.keys.require("orders:read"), rig.keys.require("shop:enter")]

        def get(self) -> str:
            return current_key.name

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    assert rig.status(secret=rig.secret("orders:read")) == 403
    assert rig.call(secret=rig.secret("orders:read", "shop:enter", name="me")).text == "me"


def test_class_of_views_keeps_other_decorators(rig: Rig) -> None:
    order: list[str] = []

    def noting(view: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(**kwargs: Any) -> Any:
            order.append("view")
            return view(**kwargs)

        return wrapper

    @rig.keys.require()
    class Orders(MethodView):
        decorators = [noting]

        def get(self) -> str:
            return ""

    rig.app.add_url_rule("/", view_func=Orders.as_view("orders"))
    assert rig.status() == 401
    assert order == []  # the guard stands outside
    assert rig.status(secret=rig.secret()) == 200
    assert order == ["view"]


def test_class_of_views_async(rig: Rig) -> None:
    @rig.keys.require()
    class Orders(MethodView):
        async def get(self) -> str:
            return current_key.name

    class Guarded(MethodView):
        @rig.keys.require("orders:write")
        async def get(self) -> str:
            return current_key.name

    rig.app.add_url_rule("/class", view_func=Orders.as_view("class"))
    rig.app.add_url_rule("/method", view_func=Guarded.as_view("method"))
    assert (rig.status("/class"), rig.status("/method")) == (401, 401)
    assert rig.call("/class", rig.secret(name="me")).text == "me"
    assert rig.status("/method", rig.secret()) == 403


def test_blueprint_registered_twice(rig: Rig) -> None:
    blueprint = Blueprint("api", __name__)
    rig.keys.protect(blueprint)

    @blueprint.get("/")
    @rig.keys.require("orders:read")
    def view() -> str:
        return ""

    rig.app.register_blueprint(blueprint, url_prefix="/v1", name="v1")
    rig.app.register_blueprint(blueprint, url_prefix="/v2", name="v2")
    for path in ("/v1/", "/v2/"):
        assert rig.status(path) == 401
        assert rig.status(path, rig.secret()) == 403
        assert rig.status(path, rig.secret("orders:read")) == 200


# Access logs


@pytest.fixture
def access_logs() -> Iterator[None]:
    """Give the loggers of the servers back as they were."""
    loggers = [logging.getLogger(name) for name in ("werkzeug", "gunicorn.access")]
    before = [list(logger.filters) for logger in loggers]
    yield
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters = filters


@pytest.mark.usefixtures("access_logs")
def test_access_logs_are_blanked(new_rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture) -> None:
    rig = _view(new_rig(KEYDESK_QUERY_PARAMETER="api_key"))
    rig.call(f"/?page=2&api_key={rig.secret()}&x=1")
    caplog.set_level(logging.INFO)
    uuid = "0d9b1b0e-7d3c-4b0e-9b6e-2f1f0a4a9c11"
    logging.getLogger("werkzeug").info('%s - - "%s" %s', "127.0.0.1", f"GET /?api_key={uuid}&page=2 HTTP/1.1", 200)
    logging.getLogger("gunicorn.access").info("%(r)s %(f)s", {"r": f"GET /?a=1&api_key={uuid}", "f": "-"})
    assert uuid not in caplog.text
    assert "?api_key=…&page=2" in caplog.text


@pytest.mark.usefixtures("access_logs")
def test_access_logs_filtered_once(new_rig: Callable[..., Rig]) -> None:
    """However many applications a process makes, a log line passes one filter."""
    before = len(logging.getLogger("werkzeug").filters)
    for _ in range(5):
        new_rig(KEYDESK_QUERY_PARAMETER="key_of_many_apps")
    assert len(logging.getLogger("werkzeug").filters) == before + 1


@pytest.mark.usefixtures("access_logs")
def test_access_logs_left_alone_without_the_setting(new_rig: Callable[..., Rig]) -> None:
    before = [list(logging.getLogger(name).filters) for name in ("werkzeug", "gunicorn.access")]
    new_rig()
    assert [logging.getLogger(name).filters for name in ("werkzeug", "gunicorn.access")] == before


# The query string


@pytest.mark.usefixtures("access_logs")
def test_query_parameter_on(new_rig: Callable[..., Rig]) -> None:
    rig = _view(new_rig(KEYDESK_QUERY_PARAMETER="api_key"))
    secret = rig.secret()
    assert rig.status(f"/?api_key={secret}") == 200
    assert rig.status(f"/?API_KEY={secret}") == 401
    assert rig.status(f"/?api_key={secret}", secret) == 200
    assert rig.status(f"/?api_key={secret}", rig.secret()) == 400
    assert rig.status("/?api_key=") == 401


def test_query_parameter_off(rig: Rig) -> None:
    _view(rig)
    secret = rig.secret()
    assert rig.status(f"/?api_key={secret}&X-API-Key={secret}&key={secret}") == 401
    assert rig.status("/", method="GET", data={"api_key": secret}, headers={"Cookie": f"X-API-Key={secret}"}) == 401
