"""Room pages: why a secret or a key is let in or refused: every check in order, each with its fix."""

from __future__ import annotations

from flask import Response

from ..decision import Check
from ..errors import InvalidField, StoreUnavailable
from ..flask.current import real_request
from ..keys.authority import KEYS_READ
from .keys import visible
from .people import person, the_desk
from .routes import Routes, shown

_ASKED = ("key", "scopes", "address")
_NOT_YOURS = [Check("known", False, "no key of yours has this secret", "see that all of it was pasted, and no more")]


def add_explaining(routes: Routes) -> None:
    """Put in the page that explains."""

    @routes.add("/explain", KEYS_READ, post=True)
    def explain() -> Response:
        request = real_request()
        asked = {name: request.values.get(name, "").strip() for name in _ASKED}
        if request.method == "GET":
            return shown("explain.html", asked=asked, checks=None, allowed=None, errors={})
        try:
            allowed, checks = _explained(request.form.get("secret", "").strip(), asked)
        except InvalidField as error:
            errors = {error.field: error.problem}
            return shown("explain.html", 422, asked=asked, checks=None, allowed=None, errors=errors)
        return shown("explain.html", asked=asked, checks=checks, allowed=allowed, errors={})


def _explained(secret: str, asked: dict[str, str]) -> tuple[bool, list[Check]]:
    """Return whether a request would pass, and every check of it.

    Raises:
        InvalidField: Something of the question cannot be used, or there is neither a secret nor a key.
        KeyNotFound: There is no such key that the person may see.
        StoreUnavailable: The store does not answer.
    """
    desk, scopes, address = the_desk(), asked["scopes"].split(), asked["address"] or None
    if secret:
        decision, checks = desk.explain(secret, scopes=scopes, client_address=address)
        if not person().sees(decision.key.owner if decision.key else None):
            return False, _NOT_YOURS
        return decision.allowed, checks
    if not asked["key"]:
        raise InvalidField("secret", "is empty; paste what the client sends, or write the id of a key")
    key = visible(asked["key"])
    try:
        decision, checks = desk.explain_key(key.id, scopes=scopes, client_address=address)
    except StoreUnavailable as error:
        return False, [Check("known", False, "nobody can say what this key may do", str(error))]
    return decision.allowed, checks
