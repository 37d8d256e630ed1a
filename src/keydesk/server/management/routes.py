"""Room server: how a view of the management API is put in: its guard, its path, and what the document says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import Response
from flask_openapi3.models.tag import Tag
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel

from ...desk import Desk
from ...errors import KeyNotFound, NotPermitted
from ...flask.extension import Keydesk
from ...keys.authority import KEYS_READ, KEYS_WRITE, PLANS_WRITE
from ...keys.record import Key
from .requests import caller

V = TypeVar("V", bound=Callable[..., Any])
T = TypeVar("T")

ANY_PLANS = (KEYS_READ, KEYS_WRITE, PLANS_WRITE)

ETAG = {"ETag": {"description": "Its version, for `If-Match`.", "schema": {"type": "string"}}}
_SECURITY: list[dict[str, list[Any]]] = [{"apiKey": []}, {"bearer": []}]
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_TAGS = {"bulk": "keys"}  # under which a path is shown, where that is not its first part
_WRONG = {
    400: "The body is no JSON object, or there are two keys",
    401: "There is no key, or none that is good",
    403: "The key lacks a scope, or would give more than it holds",
    404: "There is none that the caller may see",
    409: "It is not in a state that allows this, or keys are kept in a file",
    412: "It is at another version",
    413: "The body is over 1 MiB",
    415: "The body is not application/json",
    422: "A field or a parameter cannot be used",
    429: "The caller's key has used up a limit",
    503: "The store does not answer",
}
_OF_READING = (400, 401, 403, 422, 429, 503)
_OF_WRITING = (*_OF_READING, 409, 413, 415)


class Routes:
    """Puts views into the application, each behind the guard of its scopes.

    Args:
        app: The application.
        keys: Its guards.
    """

    def __init__(self, app: OpenAPI, keys: Keydesk) -> None:
        self._app = app
        self._keys = keys

    def add(
        self,
        method: str,
        path: str,
        answers: Mapping[int, type[BaseModel] | dict[str, Any] | None],
        *scopes: str,
        any_of: tuple[str, ...] = (),
        wrong: tuple[int, ...] = (),
    ) -> Callable[[V], V]:
        """Return a decorator that puts a view in.

        Args:
            method, path: Where.
            answers: What it answers, by the status.
            scopes, any_of: What its caller needs, see `Keydesk.require`.
            wrong: What else can go wrong, by the status.
        """

        def decorate(view: V) -> V:
            needed = " or ".join(f"`{scope}`" for scope in (*scopes, *any_of))
            usual = _OF_READING if method == "GET" else _OF_WRITING
            problems = {code: {"description": _WRONG[code], "content": _PROBLEM} for code in sorted({*usual, *wrong})}
            responses: dict[Any, Any] = {**answers, **problems}
            put_in: Any = getattr(self._app, method.lower())
            put_in(
                path,
                operation_id=view.__name__,
                tags=[Tag(name=_TAGS.get(part := path.split("/")[2], part))],
                summary=(view.__doc__ or "").partition("\n")[0],
                description=f"{(view.__doc__ or '').strip()}\n\nNeeds the scope {needed}.",
                responses=responses,
                security=_SECURITY,
            )(self._keys.require(*scopes, any_of=any_of)(view))
            return view

        return decorate


def shown(model: BaseModel, status: int = 200, **headers: str) -> Response:
    """Return an answer with a body. Underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(model.model_dump_json() + "\n", status, named, mimetype="application/json")


def etag(version: int) -> str:
    """Return the `ETag` of something at a version."""
    return f'"{version}"'


def visible(desk: Desk, key_id: str) -> Key:
    """Return a key that the caller may see.

    Raises:
        KeyNotFound: There is none, or it is of an owner that is not the caller's, which nobody can tell apart.
        StoreUnavailable: The store does not answer.
    """
    found, by = desk.find_key(key_id), caller()
    if found is None or by.owner not in (None, found.owner):
        raise KeyNotFound(key_id)
    return found


def changed(desk: Desk, key_id: str, change: Callable[[], T]) -> T:
    """Make a change of a key that the caller may see, and return what came of it.

    Raises:
        KeyNotFound: There is none that the caller may see, or there was none when it was made.
        NotPermitted: The caller may not.
        StoreUnavailable: The store does not answer.
    """
    visible(desk, key_id)
    try:
        return change()
    except NotPermitted:
        visible(desk, key_id)  # somebody may have given it to another owner meanwhile
        raise
