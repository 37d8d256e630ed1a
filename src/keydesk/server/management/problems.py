"""Room server: what is wrong with a request to the management API, as problem details (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus

from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge, ServiceUnavailable

from ...errors import (
    InvalidField,
    KeydeskError,
    KeyNotFound,
    LimiterUnavailable,
    NotPermitted,
    OtherRequest,
    PlanNotFound,
    SchemaMismatch,
    StateConflict,
    StoreReadOnly,
    StoreUnavailable,
    VersionConflict,
)
from ...keys.secret import redact
from ...web.responses import RETRY_AFTER_SECONDS, Answer, problem_answer

MAX_BODY_BYTES = 1_048_576

logger = logging.getLogger("keydesk")

_MOST_PROBLEMS = 20
_MOST_CHARACTERS = 200
_UNAVAILABLE = (StoreUnavailable, SchemaMismatch, LimiterUnavailable)
_DETAILS = {
    HTTPStatus.NOT_FOUND: "Nothing is here. /openapi.json lists what there is.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"The body is too large; at most {MAX_BODY_BYTES} bytes fit. Send less.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send the body as application/json.",
}
_REASONS = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
}
INTERNAL = problem_answer(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "This went wrong; the server's log says why, by X-Request-Id."
)


_BUSY = problem_answer(
    HTTPStatus.SERVICE_UNAVAILABLE, "busy", "Too many are sending their bodies slowly. Try again in a few seconds."
)
BUSY = replace(_BUSY, headers=(*_BUSY.headers, ("Retry-After", str(RETRY_AFTER_SECONDS))))


class BadBody(KeydeskError):
    """A body is no JSON object. The message says why not."""


def invalid(problems: Sequence[tuple[str, str]]) -> Answer:
    """Return the answer to a request whose parts cannot be used.

    Args:
        problems: Each a field, by its path, and what is wrong with it. Where a client put a secret, none is shown.
    """
    shown = [
        {"field": _shown(field), "problem": redact(problem)[: 5 * _MOST_CHARACTERS]}
        for field, problem in problems[:_MOST_PROBLEMS]
    ]
    detail = "; ".join(f"{one['field']}: {one['problem']}" for one in shown)
    return problem_answer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_field", f"{detail}.", problems=shown)


def of_validation(error: ValidationError) -> Answer:
    """Return the answer to what pydantic refused. What was sent is not repeated: it may be a secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return invalid([(".".join(map(str, one["loc"])) or "body", one["msg"]) for one in found])


def of_error(error: KeydeskError) -> Answer:
    """Return the answer to what the core refused, or to what it could not do."""
    if isinstance(error, InvalidField):
        return invalid([(error.field, error.problem)])
    if isinstance(error, BadBody):
        return problem_answer(HTTPStatus.BAD_REQUEST, "invalid_body", str(error))
    if isinstance(error, KeyNotFound):
        detail = "None of your keys has this id. GET /v1/keys lists those you may see."
        return problem_answer(HTTPStatus.NOT_FOUND, "not_found", detail)
    if isinstance(error, PlanNotFound):
        detail = "No plan that you may see has this name. GET /v1/plans lists those."
        return problem_answer(HTTPStatus.NOT_FOUND, "not_found", detail)
    if isinstance(error, NotPermitted):
        problems = [redact(problem)[: 5 * _MOST_CHARACTERS] for problem in error.problems]
        detail = f"Not permitted: {'; '.join(problems)}."
        return problem_answer(HTTPStatus.FORBIDDEN, "not_permitted", detail, problems=problems)
    if isinstance(error, VersionConflict):
        return problem_answer(HTTPStatus.PRECONDITION_FAILED, "version_conflict", str(error), version=error.version)
    if isinstance(error, OtherRequest):
        return problem_answer(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_conflict", str(error))
    if isinstance(error, StateConflict):
        return problem_answer(HTTPStatus.CONFLICT, "conflict", str(error))
    if isinstance(error, StoreReadOnly):
        return problem_answer(HTTPStatus.CONFLICT, "read_only", str(error))
    if isinstance(error, _UNAVAILABLE):
        # Its message is for those who run the server: it may name hosts and files.
        logger.error("Keydesk cannot answer a request to the management API: %s", error)
        detail = "Keys cannot be reached at the moment. Try again in a few seconds."
        answer = problem_answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail)
        return replace(answer, headers=(*answer.headers, ("Retry-After", str(RETRY_AFTER_SECONDS))))
    raise error


def of_http(error: HTTPException) -> Answer:
    """Return the answer to what Flask refused."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        answer = problem_answer(status, _REASONS[status], f"Here you can send {allowed}.")
        return replace(answer, headers=(*answer.headers, ("Allow", allowed)))
    if isinstance(error, RequestEntityTooLarge):
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return INTERNAL
    if isinstance(error, ServiceUnavailable):
        return BUSY
    reason = _REASONS.get(status, "bad_request")
    return problem_answer(status, reason, _DETAILS.get(status, "The server cannot read this request."))


def _shown(field: str) -> str:
    return redact(field)[:_MOST_CHARACTERS]
