"""Room pages: the session of somebody who signed in with a key. It holds which key that was, and never its secret.

Each request looks at the key anew: a session ends with it. The cookie goes over TLS alone, to this host alone, is out
of reach of scripts, and is sent by no other site (RFC 6265bis, `__Host-` and `SameSite`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Request
from itsdangerous import BadSignature, URLSafeSerializer
from werkzeug.wrappers import Response

from ..decision import Allowed
from ..desk import Desk
from ..errors import KeyNotFound
from ..flask.current import real_app
from ..keys.record import Key
from ..verifier import ANY_KEY
from .people import Person

COOKIE = "__Host-keydesk"
IDLE_SECONDS = 30 * 60
MOST_SECONDS = 12 * 60 * 60
PROOF_SECONDS = 5 * 60  # for which the secret need not be shown again
_NOTED_SECONDS = 60  # after so long the cookie says anew when the person was last here
_MEMBERS = ("number", "began", "seen", "proven")
_NOTE = "keydesk_session"


def _serializer() -> URLSafeSerializer:
    secret_key = real_app().secret_key
    assert secret_key is not None  # see `make_pages`
    return URLSafeSerializer(secret_key, salt="keydesk pages session")


def begin(allowed: Allowed, now: datetime) -> str:
    """Return the session of somebody who has just shown the secret of a key."""
    at = int(now.timestamp())
    return _written({"key": allowed.key.id, "number": allowed.secret.number, "began": at, "seen": at, "proven": at})


def note_proven(request: Request, now: datetime) -> None:
    """Note in the session of a request that its person has just shown the secret again."""
    said = _read(request.cookies.get(COOKIE, ""))
    if said:
        at = int(now.timestamp())
        request.__dict__[_NOTE] = _written({**said, "seen": at, "proven": at})


def person_of(desk: Desk, request: Request) -> Person | None:
    """Return whose session a request belongs to; None for nobody's, or where it or its key has ended.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    said, now = _read(request.cookies.get(COOKIE, "")), desk.clock.now()
    at = int(now.timestamp())
    if not said or not said["seen"] <= at + _NOTED_SECONDS or at - said["seen"] > IDLE_SECONDS:
        return None
    if at - said["began"] > MOST_SECONDS:
        return None
    key = _still_good(desk, said["key"], said["number"], request.remote_addr)
    if key is None:
        return None
    if at - said["seen"] > _NOTED_SECONDS:
        request.__dict__[_NOTE] = _written({**said, "seen": at})
    return Person(key.name.replace("\n", " "), key.scopes, key, proven=at - said["proven"] <= PROOF_SECONDS)


def _still_good(desk: Desk, key_id: str, number: int, address: str | None) -> Key | None:
    """Return the key of a session, if it and the secret that was shown may still be used from where the request is."""
    try:
        key = desk.get_in_force(key_id)
    except KeyNotFound:
        return None
    secret = next((each for each in key.secrets if each.number == number), None)
    if secret is None:
        return None
    decision = desk.verifier.judge(key, secret, ANY_KEY, address)
    return key if isinstance(decision, Allowed) else None


def put(response: Response, session: str) -> None:
    """Hand a session to the browser."""
    response.set_cookie(COOKIE, session, secure=True, httponly=True, samesite="Strict", path="/")


def keep(request: Request, response: Response) -> None:
    """Say in the cookie that the person was here."""
    noted = request.__dict__.get(_NOTE)
    if noted is not None and not any(each.startswith(f"{COOKIE}=") for each in response.headers.getlist("Set-Cookie")):
        put(response, noted)


def end(response: Response) -> None:
    """Take the session away from the browser."""
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="Strict", path="/")


def _written(said: dict[str, Any]) -> str:
    text = _serializer().dumps(said)
    return text if isinstance(text, str) else text.decode()


def _read(session: str) -> dict[str, Any]:
    """Return what a session says; nothing where it is not ours."""
    try:
        said = _serializer().loads(session)
    except BadSignature:
        return {}
    good = isinstance(said, dict) and isinstance(said.get("key"), str)
    return said if good and all(isinstance(said.get(member), int) for member in _MEMBERS) else {}
