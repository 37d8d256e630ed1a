"""Room server: forward-auth. A proxy asks about each request, and lets it through on 200 and nothing else.

What each proxy sends and takes: docs/explanation/gateways.md. Nothing is believed for which the proxy has to be asked
to overwrite what the client sent: the method, the path and the host of the original request decide nothing here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from ..clock import Clock
from ..decision import Denied
from ..errors import InvalidField
from ..keys.scopes import Requirement, requirement_of
from ..keys.secret import shown
from ..usage import ALLOWED
from ..verifier import ANY_KEY
from ..web.identity import Identities
from ..web.responses import Answer, Answers, expiry_notice, problem_answer, rate_limit_headers
from .deciding import Decider

logger = logging.getLogger("keydesk")

SCOPE_PARAMETER = "scope"
SCOPE_HEADER = "HTTP_X_REQUIRED_SCOPE"  # for Envoy, which has no query string of its own
STATUS_HEADER = "X-Auth-Status"
_PASSED = (("Cache-Control", "no-store"), ("Content-Length", "0"))
_PASSED_BY_NGINX = frozenset({401, 403})  # every other refusal it turns into 500
_MISCONFIGURED = problem_answer(
    HTTPStatus.INTERNAL_SERVER_ERROR, "misconfigured", "The gateway asks for scopes that cannot be read; see its log."
)
MAX_PARAMETERS = 100
_MOST_REQUIREMENTS = 1000  # kept; behind some proxies a client can write query strings
_LONGEST_KEPT = 500  # characters


class ForwardAuth:
    """Answers proxies. One object for all requests; any number of threads.

    Args:
        clock, answers: As every door has them.
        decider: Decides about callers.
    """

    def __init__(self, clock: Clock, answers: Answers, decider: Decider) -> None:
        self._now = clock.now
        self._answers = answers
        self._decide = decider.decide
        self._count = decider.count
        self._identities = Identities()
        self._requirements: dict[str, Requirement] = {"": ANY_KEY}

    def forwarded(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer Traefik, Caddy, APISIX and HAProxy, which relay a refusal as it is."""
        requirement = self._requirement(environ.get("QUERY_STRING", ""))
        return self._answer(environ, start_response, requirement)

    def nginx(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer nginx, which passes 401 and 403 on: another refusal goes out as 403 and names itself in a header."""
        requirement = self._requirement(environ.get("QUERY_STRING", ""))
        return self._answer(environ, start_response, requirement, nginx=True)

    def envoy(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer Envoy. The path behind ours and its query are the client's; required scopes come in a header."""
        scopes = environ.get(SCOPE_HEADER)
        return self._answer(environ, start_response, self._requirement("" if scopes is None else f"scope={scopes}"))

    def _requirement(self, query: str) -> Requirement | Answer:
        """Return the scopes that the proxy's configuration asks for. What it spells wrong must let nobody in."""
        found = self._requirements.get(query)
        if found is None:
            try:
                found = _read(query)
            except ValueError as error:
                logger.error("What a proxy asks of a caller cannot be read, so the caller is refused: %s", error)
                return _MISCONFIGURED
            if len(self._requirements) >= _MOST_REQUIREMENTS:
                self._requirements.clear()
            if len(query) <= _LONGEST_KEPT:
                self._requirements[query] = found
        return found

    def _answer(
        self, environ: dict[str, Any], start_response: Any, requirement: Requirement | Answer, *, nginx: bool = False
    ) -> Iterable[bytes]:
        if isinstance(requirement, Answer):
            return _refuse(environ, start_response, requirement, nginx)
        decision = self._decide(environ, requirement)
        if isinstance(decision, Denied):
            return _refuse(environ, start_response, self._answers.answer(decision), nginx)
        self._count(ALLOWED)
        headers = [*_PASSED, *self._identities.of(decision.key)]
        if decision.taken is not None:
            headers += rate_limit_headers(decision.taken)
        if decision.secret.expires_at is not None or decision.key.expires_at is not None:
            notice = expiry_notice(decision, self._now())
            headers += (notice,) if notice else ()
        start_response("200 OK", headers)
        return []


def _refuse(environ: dict[str, Any], start_response: Any, answer: Answer, nginx: bool) -> Iterable[bytes]:
    """Send a refusal, of 400 and more in every case."""
    status_line, headers = answer.status_line, list(answer.headers)
    if nginx:
        headers.append((STATUS_HEADER, str(answer.status)))
        if answer.status < 500 and answer.status not in _PASSED_BY_NGINX:
            status_line = "403 Forbidden"
    start_response(status_line, headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


def _read(query: str) -> Requirement:
    """Return the required scopes: one parameter for each, or several in one, with blanks or commas between.

    Other parameters are passed over, since Caddy hands on the client's where its configuration has none of its own. But
    none that may be a slip of the pen: a requirement that is lost would let everybody with a key in.

    Raises:
        InvalidField: A scope is none, or a parameter nearly has the name of ours.
        ValueError: There are too many parameters.
    """
    scopes: list[str] | None = None
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS):
        if name == SCOPE_PARAMETER:
            scopes = [*(scopes or ()), *value.replace(",", " ").split()]
        elif name.lower().startswith(SCOPE_PARAMETER):
            raise InvalidField(shown(name, 40), "is no parameter; write scope=orders:read")
    if scopes == []:
        raise InvalidField(SCOPE_PARAMETER, "names no scope; write scope=orders:read, or leave it out")
    return requirement_of(tuple(scopes), ()) if scopes else ANY_KEY
