"""Room server: JSON in and JSON out, for all that is plain WSGI. Nothing of what was sent is repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from ..errors import InvalidField
from ..web.responses import Answer, problem_answer

_NO_POST = problem_answer(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Send a POST.")
_ONLY_POST = replace(_NO_POST, headers=(*_NO_POST.headers, ("Allow", "POST")))
_NOT_JSON = problem_answer(HTTPStatus.BAD_REQUEST, "not_json", "The body is no JSON.")
_OTHER_TYPE = problem_answer(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unsupported_media_type",
    "Send JSON, with Content-Type: application/json.",
)


class Unreadable(Exception):
    """A request cannot be read. `answer` says why not."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.detail)


def answer_post(
    answer_to: Callable[[dict[str, Any]], Answer], environ: dict[str, Any], start_response: Any
) -> Iterable[bytes]:
    """Answer a POST, and say of other requests what is wrong with them (PEP 3333)."""
    try:
        answer = answer_to(environ) if environ["REQUEST_METHOD"] == "POST" else _ONLY_POST
    except Unreadable as unreadable:
        answer = unreadable.answer
    except InvalidField as error:
        answer = invalid_answer(error)
    return send(answer, environ, start_response)


def require_json(environ: dict[str, Any]) -> None:
    """Return if a request says that its body is JSON.

    Raises:
        Unreadable: It says something else, or nothing.
    """
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
        raise Unreadable(_OTHER_TYPE)


def read_body(environ: dict[str, Any], most: int) -> bytes:
    """Return the body of a request.

    Args:
        environ: Of the request.
        most: How many bytes it may have.

    Raises:
        Unreadable: It is larger, or nobody says how large it is.
    """
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit()) or len(length) > 9 or int(length) > most:
        detail = f"Send a body of at most {most} bytes, and its Content-Length."
        raise Unreadable(problem_answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail))
    body: bytes = environ["wsgi.input"].read(int(length))
    return body


def parse_json(body: bytes) -> Any:
    """Return what a body says.

    Raises:
        Unreadable: It is no JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable(_NOT_JSON) from None


def invalid_answer(error: InvalidField) -> Answer:
    """Return the answer to a body with a field that cannot be used."""
    status, detail = HTTPStatus.UNPROCESSABLE_ENTITY, f"The field {error.field} {error.problem}."
    return problem_answer(status, "invalid_field", detail, field=error.field)


def json_answer(said: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Return an answer that says something in JSON, to nobody else."""
    return encoded_answer(json.dumps(said).encode() + b"\n", status)


def encoded_answer(body: bytes, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Return an answer whose body is JSON, to nobody else."""
    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Content-Length", str(len(body))))
    return Answer(status.value, f"{status.value} {status.phrase}", "", headers, body)


def send(answer: Answer, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Send an answer (PEP 3333), to HEAD without its body.

    A body is a list: anything else Granian reads piece by piece, and sends in pieces.
    """
    start_response(answer.status_line, list(answer.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
