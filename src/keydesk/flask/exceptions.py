"""Room flask: a refusal as an exception, for applications that shape refusals themselves.

    AccessDenied              any refusal
    ├── CredentialsMissing    401  nothing presented
    ├── CredentialsInvalid    401  malformed, unknown, expired, revoked or disabled
    ├── CredentialsDuplicated 400  two different secrets
    ├── NetworkDenied         403  not from this address
    ├── ScopeDenied           403  a scope is missing
    ├── LimitExceeded         429  a limit or a quota is used up
    └── StoreUnavailable      503  the store does not answer

Each is also werkzeug's exception of its status, since Flask looks for `@app.errorhandler(401)` by that class. They
are raised only where an error handler takes them: `@app.errorhandler` for one of them, for their status, or for
`HTTPException` or `Exception`. Elsewhere the same answer is returned, which is several times cheaper.
"""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)

from ..decision import Denied, Reason, Refused
from ..web.responses import Answer


class AccessDenied(Refused, HTTPException):
    """A request was refused.

    Attributes:
        decision: The `Denied` decision: reason, key, hint, missing scopes.
        code: The HTTP status.
        description: One sentence for the caller.
    """

    def __init__(self, decision: Denied, answer: Answer) -> None:
        HTTPException.__init__(self, description=answer.detail)
        self.decision = decision
        self.code = answer.status
        self._answer = answer

    def get_response(self, environ: Any = None, scope: Any = None) -> Response:  # noqa: ARG002
        """Return the answer that is sent where nobody shapes another: problem details with their headers."""
        return response_of(self._answer)

    def get_headers(self, environ: Any = None, scope: Any = None) -> list[tuple[str, str]]:  # noqa: ARG002
        """Return the headers of that answer."""
        return list(self._answer.headers)

    def get_body(self, environ: Any = None, scope: Any = None) -> str:  # noqa: ARG002
        """Return the body of that answer."""
        return self._answer.body.decode()


class CredentialsMissing(AccessDenied, Unauthorized):
    """Nothing was presented."""


class CredentialsInvalid(AccessDenied, Unauthorized):
    """What was presented is malformed or unknown, or the key is expired, revoked or disabled."""


class CredentialsDuplicated(AccessDenied, BadRequest):
    """Two different secrets were presented."""


class NetworkDenied(AccessDenied, Forbidden):
    """The key may not be used from this address."""


class ScopeDenied(AccessDenied, Forbidden):
    """The key lacks a scope; `decision.missing_scopes` names it."""


class LimitExceeded(AccessDenied, TooManyRequests):
    """A limit or a quota is used up; `decision.taken` says which, and when to try again."""


class StoreUnavailable(AccessDenied, ServiceUnavailable):
    """The store does not answer, so nobody can say whose key it is."""


EXCEPTIONS: dict[Reason, type[AccessDenied]] = {
    Reason.MISSING: CredentialsMissing,
    Reason.DUPLICATED: CredentialsDuplicated,
    Reason.INVALID: CredentialsInvalid,
    Reason.EXPIRED: CredentialsInvalid,
    Reason.REVOKED: CredentialsInvalid,
    Reason.DISABLED: CredentialsInvalid,
    Reason.NETWORK_DENIED: NetworkDenied,
    Reason.SCOPE_DENIED: ScopeDenied,
    Reason.RATE_LIMITED: LimitExceeded,
    Reason.QUOTA_EXCEEDED: LimitExceeded,
    Reason.UNAVAILABLE: StoreUnavailable,
}


def response_of(answer: Answer) -> Response:
    """Return an answer as a Flask response. Status line and length are given, so that nobody works them out again."""
    return Response([answer.body], answer.status_line, answer.headers)
