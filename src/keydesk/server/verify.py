"""Room server: `POST /v1/verify`, for services that are behind no gateway and in no language of ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import ceil
from typing import Any

from ..decision import Decision, Denied, Reason
from ..desk import Desk
from ..errors import InvalidField
from ..keys.limits import check_cost
from ..keys.networks import MAX_NETWORK_CHARACTERS
from ..keys.record import Key
from ..keys.scopes import Requirement, requirement_of
from ..usage import ALLOWED
from ..web.credentials import CredentialReader
from ..web.refusals import log_refusal
from ..web.responses import Answer, Answers, problem_answer
from .access_log import KEY_ID
from .forwarded import ClientAddresses
from .metrics import Metrics

MAX_BODY_BYTES = 65_536
MAX_SCOPES = 100
_CALLER = requirement_of(("keydesk:verify",), ())
_FIELDS = frozenset({"secret", "scopes", "client_address", "cost"})
_NOT_THEIRS = Denied(Reason.INVALID)


@dataclass(frozen=True, slots=True)
class _Question:
    """What a caller wants to know of a secret. It is left out of the repr."""

    secret: str
    requirement: Requirement
    client_address: str | None
    cost: int

    def __repr__(self) -> str:
        return "_Question()"


class Verify:
    """Answers `POST /v1/verify`. A denial is an answer too, with 200.

    Args:
        desk, credentials, answers: As every door has them.
        addresses: Finds the address of the caller.
        metrics: Where decisions are counted.
    """

    def __init__(
        self,
        desk: Desk,
        credentials: CredentialReader,
        answers: Answers,
        addresses: ClientAddresses,
        metrics: Metrics,
    ) -> None:
        self._desk = desk
        self._credentials = credentials
        self._answers = answers
        self._addresses = addresses
        self._count = metrics.count

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        answer = self._answer(environ)
        start_response(answer.status_line, list(answer.headers))
        return (answer.body,)

    def _answer(self, environ: dict[str, Any]) -> Answer:
        if environ["REQUEST_METHOD"] != "POST":
            answer = problem_answer(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Send a POST.")
            return replace(answer, headers=(*answer.headers, ("Allow", "POST")))
        presented, address = self._credentials.read(environ), self._addresses.of(environ)
        caller: Decision
        caller = self._desk.verifier.verify(presented, _CALLER, address) if isinstance(presented, str) else presented
        if caller.key is not None:
            environ[KEY_ID] = caller.key.id
        if isinstance(caller, Denied):
            self._count(caller.reason)
            log_refusal(caller, address, environ["PATH_INFO"])
            return self._answers.answer(caller)
        question = _read(environ)
        if isinstance(question, Answer):
            return question
        decision = self._decide(caller.key, question)
        self._count(decision.reason or ALLOWED)
        return _said(decision)

    def _decide(self, caller: Key, asked: _Question) -> Decision:
        """Return the decision about a secret; a caller of one owner is told of that owner's keys alone."""
        verify = self._desk.verifier.verify
        if caller.owner is not None:
            seen = verify(asked.secret, asked.requirement, asked.client_address, cost=asked.cost, test=True)
            if seen.key is not None and seen.key.owner != caller.owner:
                return _NOT_THEIRS
        return verify(asked.secret, asked.requirement, asked.client_address, cost=asked.cost)


def _read(environ: dict[str, Any]) -> _Question | Answer:
    """Return what the body asks, or the answer that says what is wrong with it; nothing of it is repeated."""
    content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        return problem_answer(status, "unsupported_media_type", "Send JSON, with Content-Type: application/json.")
    body = _body(environ)
    if body is None:
        detail = f"Send a body of at most {MAX_BODY_BYTES} bytes, and its Content-Length."
        return problem_answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail)
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return problem_answer(HTTPStatus.BAD_REQUEST, "not_json", "The body is no JSON.")
    try:
        return _question(asked)
    except InvalidField as error:
        status, detail = HTTPStatus.UNPROCESSABLE_ENTITY, f"The field {error.field} {error.problem}."
        return problem_answer(status, "invalid_field", detail, field=error.field)


def _body(environ: dict[str, Any]) -> bytes | None:
    """Return the body; None where it is too large, or nobody says how large it is."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()) or len(length) > 9 or int(length) > MAX_BODY_BYTES:
        return None
    body: bytes = environ["wsgi.input"].read(int(length))
    return body


def _question(asked: object) -> _Question:
    """Return what is asked.

    Raises:
        InvalidField: A field is missing, unknown, or cannot be used.
    """
    if not isinstance(asked, dict) or not asked.keys() <= _FIELDS:
        raise InvalidField("body", f"must be an object with secret and, if need be, {', '.join(sorted(_FIELDS))}")
    secret, address = asked.get("secret"), asked.get("client_address")
    if not isinstance(secret, str):
        raise InvalidField("secret", "must be there, as text: what the client presented")
    if address is not None and not (isinstance(address, str) and len(address) <= MAX_NETWORK_CHARACTERS):
        raise InvalidField("client_address", "must be an address as text, such as 203.0.113.7")
    scopes = asked.get("scopes") or []
    if not isinstance(scopes, list) or len(scopes) > MAX_SCOPES or not all(isinstance(each, str) for each in scopes):
        raise InvalidField("scopes", f"must be a list of at most {MAX_SCOPES} texts")
    return _Question(secret, requirement_of(tuple(scopes), ()), address, check_cost(asked.get("cost", 1)))


def _said(decision: Decision) -> Answer:
    """Return a decision as JSON."""
    key, taken = decision.key, decision.taken
    said: dict[str, Any] = {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "key": _identity(key) if key else None,
        "limits": [
            {
                "policy": claim.policy,
                "limit": claim.most,
                "window_seconds": claim.window_seconds,
                "remaining": remaining,
                "reset_seconds": ceil(reset),
            }
            for claim, remaining, reset in (taken.standings if taken else ())
        ],
    }
    if taken is not None and taken.violated:
        retry_after = None if taken.retry_after is None else ceil(taken.retry_after)
        said |= {"violated_policies": taken.violated, "retry_after_seconds": retry_after}
    body = json.dumps(said).encode() + b"\n"
    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Content-Length", str(len(body))))
    return Answer(200, "200 OK", "", headers, body)


def _identity(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": list(key.scopes),
        "environment": key.environment,
        "plan": key.plan,
    }
