"""Room server: a request to the management API: its body, read strictly, its id, and who sent it."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from ...errors import InvalidField
from ...flask.current import find_allowed, real_request
from ...keys.record import Key
from ...keys.secret import redact
from .problems import MAX_BODY_BYTES, BadBody

REQUEST_ID = "X-Request-Id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ID = "_keydesk_request_id"
_BODY = "_keydesk_body"


class JsonRequest(Request):
    """A request whose body is a JSON object (RFC 8259) in UTF-8, or is not there."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """Return the body, or None. The arguments are Flask's, and change nothing.

        Raises:
            BadBody: It is no JSON object.
            UnsupportedMediaType: It is of another type.
            RequestEntityTooLarge: It is over 1 MiB.
        """
        if _BODY not in self.__dict__:
            data = self.get_data()
            if len(data) >= MAX_BODY_BYTES and self.content_length != len(data):  # Werkzeug cuts off what has no length
                raise RequestEntityTooLarge
            self.__dict__[_BODY] = _parsed(data, self.mimetype)
        return self.__dict__[_BODY]


def _parsed(data: bytes, mimetype: str) -> dict[str, Any] | None:
    if not data:
        return None
    if mimetype != "application/json":
        raise UnsupportedMediaType
    try:
        body = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError; what they say shows what was sent
        raise BadBody("The body is no JSON (RFC 8259) in UTF-8. Correct it and send it again.") from None
    if not isinstance(body, dict):
        raise BadBody("The body is no JSON object. Put what you send between { and }.")
    return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that names something twice: which of the two counts, programs do not agree on."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError  # NaN and Infinity are no JSON


def read_body() -> None:
    """Run before each view, behind its guard: refuse a body or a query that no view takes.

    Raises:
        BadBody: The body is no JSON object.
        InvalidField: Something is given twice in the query.
        UnsupportedMediaType: The body is of another type.
        RequestEntityTooLarge: It is over 1 MiB.
    """
    request = real_request()
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        request.get_json()
    for name in request.args:
        if len(request.args.getlist(name)) > 1:
            raise InvalidField(name, "is given more than once; give it once")


def request_id() -> str:
    """Return the id of this request: that of the header, if it is sane and no secret, or one made here."""
    request = real_request()
    found: str | None = request.__dict__.get(_ID)
    if found is None:
        given = request.headers.get(REQUEST_ID, "")
        sane = _SANE_ID.fullmatch(given) and redact(given) == given
        found = request.__dict__[_ID] = given if sane else secrets.token_hex(16)
    return found


def caller() -> Key:
    """Return the key of the caller, as it is judged."""
    allowed = find_allowed(real_request())
    assert allowed is not None  # every view of the API stands behind a guard
    return allowed.key


def decode_number(cursor: str | None) -> int:
    """Return the number that a cursor of events continues after; 0 without one."""
    return int(cursor[1:], 16) if cursor else 0


def encode_number(number: int) -> str:
    """Return the cursor that continues after this event."""
    return f"e{number:x}"


def decode_name(cursor: str | None) -> str:
    """Return the name that a cursor of plans continues after; empty without one."""
    return cursor[2:] if cursor else ""


def encode_name(name: str) -> str:
    """Return the cursor that continues after this plan."""
    return f"p-{name}"
