"""Room flask: the extension. It opens a desk for each application and puts guards around views."""

from __future__ import annotations

import functools
import inspect
import logging
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Blueprint, Flask
from flask.views import View

from ..build import build_desk
from ..clock import Clock
from ..desk import Desk
from ..keys.limits import parse_limit
from ..keys.scopes import Requirement
from ..quotas import Reservation
from ..redaction import RedactSecrets
from ..settings import survey_settings
from ..web.credentials import CredentialReader
from ..web.responses import Answers
from .access import Access, access_of, joined_by, note, note_guarded
from .commands import KeysGroup
from .current import real_app, real_request
from .guard import Guard
from .watch import Watch

if TYPE_CHECKING:
    from sqlalchemy import Engine

NAME = "keydesk"
# Servers that write the whole URL of each request into a log, and the loggers they do it with.
_ACCESS_LOGGERS = ("werkzeug", "gunicorn.access")

V = TypeVar("V", bound=Callable[..., Any])


class Keydesk:
    """API keys for Flask applications. One object serves any number of them; each has a desk of its own.

    Args:
        app: The application; None to call `init_app` later.
        engine: Keep keys in this SQLAlchemy engine's database, such as `db.engine` of Flask-SQLAlchemy. The tables of
            `keydesk.stores.schema.metadata` are then made by the application's migrations, or `flask keys db upgrade`.
        clock: What tells the time; the system's by default.

    Raises:
        SettingsError: Settings in `app.config` cannot be used. All problems are in it.
        RuntimeError: The application has a Keydesk already.
        TypeError: There is an engine or a clock, but no application.
    """

    def __init__(self, app: Flask | None = None, *, engine: Engine | None = None, clock: Clock | None = None) -> None:
        if app is not None:
            self.init_app(app, engine=engine, clock=clock)
        elif engine is not None or clock is not None:
            raise TypeError("Keydesk(engine=..., clock=...) needs the app; without one, hand them to init_app.")

    def init_app(self, app: Flask, *, engine: Engine | None = None, clock: Clock | None = None) -> None:
        """Read the settings in `app.config` and open the desk. Arguments as for `Keydesk`.

        Raises:
            SettingsError: Settings cannot be used. All problems are in it.
            RuntimeError: The application has a Keydesk already.
        """
        if NAME in app.extensions:
            raise RuntimeError("This application has a Keydesk already. Call init_app once for each application.")
        settings, problems = survey_settings(app.config, default_store=f"sqlite:///{app.instance_path}/keydesk.db")
        if engine is not None and app.config.get("KEYDESK_STORE"):
            problems.insert(0, "KEYDESK_STORE is not read, since an engine was given; remove one or the other")
        guard = Guard(
            app=app,
            desk=build_desk(settings, problems=problems, engine=engine, clock=clock),
            settings=settings,
            credentials=CredentialReader(header=settings.header, query_parameter=settings.query_parameter),
            answers=Answers(realm=settings.realm, header=settings.header),
            watch=Watch(app),
        )
        app.extensions[NAME] = guard
        if settings.protect_options:
            app.before_request(guard.check_options)
        app.cli.add_command(KeysGroup(guard), "keys")
        weakref.finalize(app, guard.desk.close)
        if settings.query_parameter is not None:
            for name in _ACCESS_LOGGERS:
                logging.getLogger(name).addFilter(_blanking(settings.query_parameter))

    @property
    def desk(self) -> Desk:
        """The `Desk` of the current application.

        Raises:
            RuntimeError: There is no current application, or `init_app` was not called on it.
        """
        return find_guard().desk

    def require(self, *scopes: str, any_of: Iterable[str] = (), cost: int = 1) -> Callable[[V], V]:
        """Return a decorator that lets only callers with a key into a view. It stands below `@app.route`.

        It works on functions, on async functions and on classes of views, whose `decorators` it may stand in too.

        Args:
            scopes: Scopes the key needs, all of them. None: any valid key will do.
            any_of: Scopes of which the key needs at least one.
            cost: How many requests one call counts for with the limits of the key, 0 to 1,000,000.

        Raises:
            InvalidField: A scope is not `resource:action`, or the cost is out of range.
            TypeError: The decorator stands without its parentheses.
        """
        if len(scopes) == 1 and callable(scopes[0]):
            raise TypeError("Write @keys.require() with its parentheses.")
        return _guarding(Access(Requirement(scopes, any_of), cost))

    def limit(self, *limits: str) -> Callable[[V], V]:
        """Return a decorator that limits how often each key may call a view. It stands below `@keys.require`.

        All of a request's limits are taken in one step, these and those of the key, or none. Where the decorator
        stands alone, the view needs a key, as under `@keys.require()`.

        Args:
            limits: Such as `10/minute` or `5 per 10 seconds`; at least one.

        Raises:
            InvalidField: One of them is no limit.
            TypeError: The decorator stands without a limit, or above `@keys.require`.
        """
        if not limits or callable(limits[0]):
            raise TypeError('Write @keys.limit("10/minute"), with one limit or several.')
        return _guarding(Access(Requirement(), limits=tuple(map(parse_limit, limits))))

    def reserve(self, credits_: int) -> Reservation:
        """Take credits from the quotas of the key of this request, for work whose cost is known afterwards.

        See `QuotaDesk.reserve`. On a view of its own price write `@keys.require(cost=0)`.

        Args:
            credits_: The most that the work can cost; 0 to 1,000,000.

        Raises:
            LimitExceeded: A quota has not as many left. The answer is a 429.
            StoreUnavailable: Nobody can say at the moment. The answer is a 503.
            InvalidField: The number is out of range.
            RuntimeError: There is no key on this request.
        """
        return find_guard().reserve(credits_)

    def optional(self, view: V) -> V:
        """Let callers without a key into a view too. A wrong key is still refused; `current_key` is there or falsy."""
        return _guarding(Access(Requirement(), optional=True))(view)

    def public(self, view: V) -> V:
        """Exempt a view from `protect`: everybody passes, and what they present is not looked at."""
        note(view, Access(Requirement(), public=True))
        return view

    def protect(self, target: Flask | Blueprint, *scopes: str) -> None:
        """Ask for a key on every view of an application or of a blueprint, and of those nested in it.

        A view's own `require` adds its scopes to these. `public` and `optional` exempt a view.

        Args:
            target: The application or the blueprint.
            scopes: Scopes the key needs, all of them.

        Raises:
            InvalidField: A scope is not `resource:action`.
        """
        base = Access(Requirement(scopes))
        joined: dict[Any, Access] = {}  # by view: as many as the application has

        def check() -> Any:
            endpoint = real_request().endpoint
            if endpoint is None:  # no view is there, so Flask answers 404 or 405
                return None
            guard = find_guard()
            view = guard.app.view_functions[endpoint]
            access = joined.get(view)
            if access is None:
                noted = access_of(view)
                access = joined[view] = base if noted is None else noted.joined(scopes)
            return None if access.public else guard.check(access)

        target.before_request(check)


def find_guard() -> Guard:
    """Return the guard of the current application.

    Raises:
        RuntimeError: There is no current application, or `init_app` was not called on it.
    """
    guard = real_app().extensions.get(NAME)
    if guard is None:
        raise RuntimeError("Keydesk does not know this application. Call keys.init_app(app) first.")
    return guard  # type: ignore[no-any-return]


@functools.cache
def _blanking(parameter: str) -> RedactSecrets:
    """Return the one filter for this parameter. A logger takes it once, however many applications a process makes."""
    return RedactSecrets(parameter=parameter)


def _guarding(access: Access) -> Callable[[V], V]:
    def decorate(view: V) -> V:
        if inspect.isclass(view):
            return _guarded_class(view, access, decorate)  # type: ignore[no-any-return]
        if not callable(view):
            raise TypeError(f"@keys.require() stands above a view, not above {type(view).__name__}.")
        joined = joined_by(access, view)
        guarded: Any = _guarded_async(view, joined) if inspect.iscoroutinefunction(view) else _guarded(view, joined)
        note(guarded, joined)
        note_guarded(view, guarded)
        return guarded  # type: ignore[no-any-return]

    note(decorate, access)  # in the `decorators` of a class it shows that its views were to be guarded
    return decorate


def _guarded(view: Callable[..., Any], access: Access) -> Callable[..., Any]:
    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        refusal = find_guard().check(access)
        return view(*args, **kwargs) if refusal is None else refusal

    return guarded


def _guarded_async(view: Callable[..., Any], access: Access) -> Callable[..., Any]:
    @functools.wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        refusal = find_guard().check(access)
        return await view(*args, **kwargs) if refusal is None else refusal

    return guarded


def _guarded_class(view: Any, access: Access, decorate: Callable[[V], V]) -> Any:
    if not issubclass(view, View):
        raise TypeError(f"{view.__name__} is no class of Flask views; put @keys.require() on a View or MethodView.")
    note(view, access)
    view.decorators = [*view.decorators, decorate]
    return view
