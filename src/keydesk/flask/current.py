"""Room flask: the key of this request."""

from __future__ import annotations

from typing import cast

from flask import Flask, Request, current_app, request
from werkzeug.local import LocalProxy

from ..decision import Allowed
from ..keys.record import Key

# On the request object, which belongs to one application and one request. On `flask.g` it would outlive the request
# inside an outer application context; in the environ an application mounted in another would take it over.
_ATTRIBUTE = "_keydesk_allowed"


def real_app() -> Flask:
    """Return the application itself rather than Flask's proxy. Raises RuntimeError where there is none."""
    return cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]


def real_request() -> Request:
    """Return the request itself rather than Flask's proxy, which costs a lookup each time it is touched."""
    return cast("Request", request._get_current_object())  # type: ignore[attr-defined]


def find_allowed(of: Request) -> Allowed | None:
    """Return the decision that let a request pass, or None."""
    return of.__dict__.get(_ATTRIBUTE)


def set_allowed(of: Request, decision: Allowed) -> None:
    """Note the decision that let a request pass."""
    of.__dict__[_ATTRIBUTE] = decision


def _find_key() -> Key:
    allowed = find_allowed(real_request())
    if allowed is None:
        # LocalProxy takes a RuntimeError for "unbound": the proxy is falsy then.
        raise RuntimeError(
            "There is no key on this request. Put @keys.require() on the view, or test `if current_key:` first."
        )
    return allowed.key


current_key: Key = LocalProxy(_find_key)  # type: ignore[assignment]
"""The verified `Key` of this request. Falsy where there is none."""
