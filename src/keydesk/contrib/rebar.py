"""Room contrib: authenticators for flask-rebar (extra `rebar`).

`HeaderApiKeyAuthenticator` takes the place of flask-rebar's own: keys in memory, held as digests.
`KeydeskAuthenticator` asks the desk of the application, as `@keys.require` does.

flask-rebar has an error handler for `Exception`, which makes a 500 of all that is none of its own errors. So refusals
are raised as its errors too, and what its handlers drop of their headers is put back, see `Guard.demand`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from flask import g, request
from flask_rebar import errors, messages
from flask_rebar.authenticators import header_api_key as theirs
from flask_rebar.authenticators.base import Authenticator
from flask_rebar.authenticators.header_api_key import get_authenticated_app_name
from flask_rebar.swagger_generation.authenticator_to_swagger import (
    AuthenticatorConverter,
    authenticator_converter_registry,
)

from ..decision import Denied, Reason
from ..errors import InvalidField
from ..flask import exceptions as ours
from ..flask.access import Access, access_of
from ..flask.current import real_request
from ..flask.extension import Keydesk, find_guard
from ..keys.scopes import Requirement
from ..web.responses import Answer

__all__ = ["HeaderApiKeyAuthenticator", "KeydeskAuthenticator", "KeydeskConverter", "get_authenticated_app_name"]

_PROCESS_KEY = secrets.token_bytes(32)  # digests are worth nothing outside of this process


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), key=_PROCESS_KEY, digest_size=32).hexdigest()


class HeaderApiKeyAuthenticator(theirs.HeaderApiKeyAuthenticator):
    """Authenticates by keys registered in code, sent in a header, as flask-rebar's class of this name does.

    The keys are not held, only digests of them under a random key of the process, in `keys`. A request looks one up,
    which takes the same time however many keys there are.

    Args:
        header: Name of the header.
        name: Of the security scheme in the OpenAPI document; unique among the authenticators of an API.
    """

    DEFAULT_APP_NAME = theirs.HeaderApiKeyAuthenticator.DEFAULT_APP_NAME

    def register_key(self, key: str, app_name: str = DEFAULT_APP_NAME) -> None:
        """Let in whoever sends this key, from now on. Registered again, it gets the new name.

        Args:
            key: Any printable ASCII characters without spaces around them.
            app_name: What `get_authenticated_app_name()` returns; several keys may have the same.

        Raises:
            InvalidField: The key is empty, or no header could carry it.
        """
        if not key:
            raise InvalidField("key", "is empty; is the variable set that it comes from?")
        if not (key.isascii() and key.isprintable()) or key != key.strip():
            raise InvalidField("key", "must be printable ASCII without spaces around it, or no header can carry it")
        self.keys[_digest(key)] = app_name

    def authenticate(self) -> None:
        """Return if the request has a key that was registered, and note its name on `flask.g`.

        Raises:
            errors.Unauthorized: It has none, or another.
        """
        token = request.headers.get(self.header)
        if token is None:
            raise errors.Unauthorized(messages.missing_auth_token)
        digest = _digest(token) if token.isascii() else ""  # no key's
        if digest not in self.keys:
            raise errors.Unauthorized(messages.invalid_auth_token)
        g.authenticated_app_name = self.keys[digest]


class KeydeskAuthenticator(Authenticator):
    """Authenticates by the desk of the application, in all as `@keys.require` does.

    Afterwards `current_key` is there, limits and quotas are taken, and the request is counted. Scopes and limits that
    `@keys.require` and `@keys.limit` ask for below it are taken in the same step. In a list of authenticators a 401 and
    a 403 leave it to the next one; a 429, a 503 and two different keys at once (400) end the request.

    Args:
        keys: The `Keydesk` of the application.
        scopes: Scopes the key needs, all of them. None: any valid key will do.
        name: Of the security scheme in the OpenAPI document; authenticators of one application may share it.

    Raises:
        InvalidField: A scope is not `resource:action`.
        TypeError: `keys` is no `Keydesk`.
    """

    def __init__(self, keys: Keydesk, scopes: Iterable[str] = (), name: str = "apiKey") -> None:
        if not isinstance(keys, Keydesk):
            raise TypeError(f"KeydeskAuthenticator(keys) needs a keydesk.flask.Keydesk, not {type(keys).__name__}.")
        self.name = name
        self._access = Access(Requirement(scopes))
        self._joined: dict[Any, Access] = {}  # by view: as many as the applications have

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that a key needs."""
        return self._access.requirement.scopes

    @property
    def header(self) -> str:
        """The header that keys are sent in, by the settings of the current application.

        Raises:
            RuntimeError: There is no current application, or it has no Keydesk.
        """
        return find_guard().settings.header

    def authenticate(self) -> None:
        """Return if the caller of this request may pass.

        Raises:
            AccessDenied: They may not. It is one of flask-rebar's errors too, that of the same status.
            RuntimeError: The application has no Keydesk, or a decorator hides the limits of the view.
        """
        guard = find_guard()
        view = guard.app.view_functions.get(real_request().endpoint or "")
        access = self._joined.get(view)
        if access is None:
            access = self._joined[view] = self._with_terms_of(view)
        guard.demand(access, _EXCEPTIONS)

    def _with_terms_of(self, view: Any) -> Access:
        """Return what is asked of the callers of a view: what this asks, and what is noted on the view."""
        noted = access_of(view)
        if noted is None:
            return self._access
        # `optional` and `public` are exemptions from `protect`, and not from an authenticator that was named.
        return replace(noted.joined(self.scopes), optional=False, public=False)


class KeydeskConverter(AuthenticatorConverter):
    """Puts `KeydeskAuthenticator` into OpenAPI documents: an API key in a header.

    It is registered with flask-rebar's own registry of converters. An application that gives its generator another one
    registers it there. The header is a setting of the application, so documents are made in its context.
    """

    AUTHENTICATOR_TYPE = KeydeskAuthenticator

    def get_security_schemes(self, obj: Any, context: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """Return the scheme by its name.

        Raises:
            RuntimeError: There is no current application.
        """
        return {obj.name: {"type": "apiKey", "in": "header", "name": obj.header}}

    def get_security_requirements(self, obj: Any, context: Any = None) -> list[Any]:
        """Return the requirement, with the scopes from OpenAPI 3.1 on: in version 2 only OAuth has any."""
        return [{obj.name: list(obj.scopes) if context is not None and context.openapi_version >= 3 else []}]


authenticator_converter_registry.register_type(KeydeskConverter())


class _Refusal(ours.AccessDenied, errors.HttpJsonError):
    """A refusal that flask-rebar's own error handler takes, which makes JSON with a `message` of it."""

    def __init__(self, decision: Denied, answer: Answer) -> None:
        super().__init__(decision, answer)
        code = None
        if answer.status == errors.Unauthorized.http_status_code:
            missing = decision.reason is Reason.MISSING
            code = messages.ErrorCode.MISSING_AUTH_TOKEN if missing else messages.ErrorCode.INVALID_AUTH_TOKEN
        self.error_message = messages.ErrorMessage(answer.detail, code)
        self.additional_data = json.loads(answer.body)


class _CredentialsMissing(_Refusal, ours.CredentialsMissing, errors.Unauthorized):
    pass


class _CredentialsInvalid(_Refusal, ours.CredentialsInvalid, errors.Unauthorized):
    pass


class _CredentialsDuplicated(_Refusal, ours.CredentialsDuplicated, errors.BadRequest):
    pass


class _NetworkDenied(_Refusal, ours.NetworkDenied, errors.Forbidden):
    pass


class _ScopeDenied(_Refusal, ours.ScopeDenied, errors.Forbidden):
    pass


class _LimitExceeded(_Refusal, ours.LimitExceeded, errors.TooManyRequests):
    pass


class _StoreUnavailable(_Refusal, ours.StoreUnavailable, errors.ServiceUnavailable):
    pass


_BOTH: dict[type[ours.AccessDenied], type[ours.AccessDenied]] = {
    ours.CredentialsMissing: _CredentialsMissing,
    ours.CredentialsInvalid: _CredentialsInvalid,
    ours.CredentialsDuplicated: _CredentialsDuplicated,
    ours.NetworkDenied: _NetworkDenied,
    ours.ScopeDenied: _ScopeDenied,
    ours.LimitExceeded: _LimitExceeded,
    ours.StoreUnavailable: _StoreUnavailable,
}
_EXCEPTIONS = {reason: _BOTH[exception] for reason, exception in ours.EXCEPTIONS.items()}
