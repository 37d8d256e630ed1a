"""Room web: the only place that picks a status, a header or a body.

Bodies are problem details (RFC 9457), challenges follow RFC 9110 and RFC 6750. No body says more than a caller who
does not hold the secret may know.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from http import HTTPStatus
from math import ceil
from typing import Any

from ..claims import Claim, Claims, Taken
from ..decision import Allowed, Denied, Reason

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
EXPIRY_NOTICE = timedelta(days=14)

_STATUS = {
    Reason.MISSING: HTTPStatus.UNAUTHORIZED,
    Reason.DUPLICATED: HTTPStatus.BAD_REQUEST,
    Reason.INVALID: HTTPStatus.UNAUTHORIZED,
    Reason.EXPIRED: HTTPStatus.UNAUTHORIZED,
    Reason.REVOKED: HTTPStatus.UNAUTHORIZED,
    Reason.DISABLED: HTTPStatus.UNAUTHORIZED,
    Reason.NETWORK_DENIED: HTTPStatus.FORBIDDEN,
    Reason.SCOPE_DENIED: HTTPStatus.FORBIDDEN,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.QUOTA_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
# Who presents a secret that matched may hear since when it is worth nothing.
_DETAILS_WITH_DATE = {
    Reason.EXPIRED: "This key expired on {}.",
    Reason.REVOKED: "This key was revoked on {}.",
    Reason.DISABLED: "This key has been disabled since {}.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal as it goes out: status, the same with its phrase, detail for people, headers, and the body."""

    status: int
    status_line: str
    detail: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Answers:
    """Makes the answer to each refusal. Those that are always the same are made once.

    Args:
        realm: For the challenge; printable ASCII without quotes and backslashes.
        header: Where secrets are sent.
    """

    def __init__(self, *, realm: str, header: str) -> None:
        self._bearer = f'Bearer realm="{realm}"'
        self._missing = (self._bearer, f'ApiKey realm="{realm}", header="{header}"')
        self._details = {
            Reason.MISSING: f"Send your key in the header {header}, or as Authorization: Bearer.",
            Reason.DUPLICATED: "The request carries more than one key. Send one key, in one place.",
            Reason.INVALID: "This key is not valid.",
            Reason.NETWORK_DENIED: "This key may not be used from this address.",
            Reason.UNAVAILABLE: "Keys cannot be checked at the moment. Try again in a few seconds.",
        }
        self._constant = {reason: self._make(Denied(reason)) for reason in self._details}

    def answer(self, denied: Denied) -> Answer:
        """Return the answer to a refusal."""
        return self._constant.get(denied.reason) or self._make(denied)

    def _make(self, denied: Denied) -> Answer:
        status, detail = _STATUS[denied.reason], self._detail(denied)
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": detail,
            "reason": denied.reason.value,
        }
        if denied.reason is Reason.SCOPE_DENIED:
            problem["required_scopes"] = denied.required_scopes
            problem["missing_scopes"] = denied.missing_scopes
        if denied.taken is not None:
            problem["violated_policies"] = denied.taken.violated
        headers = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")]
        headers += [("WWW-Authenticate", challenge) for challenge in self._challenges(denied)]
        if denied.reason is Reason.UNAVAILABLE:
            headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        if denied.taken is not None:
            headers += rate_limit_headers(denied.taken)
            if denied.taken.retry_after is not None:
                headers.append(("Retry-After", str(ceil(denied.taken.retry_after))))
        body = json.dumps(problem).encode() + b"\n"
        headers.append(("Content-Length", str(len(body))))
        return Answer(status.value, f"{status.value} {status.phrase}", detail, tuple(headers), body)

    def _detail(self, denied: Denied) -> str:
        if denied.reason is Reason.SCOPE_DENIED:
            return f"This key lacks the scope {', '.join(denied.missing_scopes)}."
        if denied.taken is not None:
            return f"This key has used up {', '.join(denied.taken.violated)}.{_advice(denied)}"
        if denied.reason in _DETAILS_WITH_DATE:
            since = denied.since.isoformat(timespec="seconds") if denied.since else "an unknown date"
            return _DETAILS_WITH_DATE[denied.reason].format(since)
        return self._details.get(denied.reason, "This key has used up a limit.")

    def _challenges(self, denied: Denied) -> tuple[str, ...]:
        status = _STATUS[denied.reason]
        if denied.reason is Reason.MISSING:
            return self._missing
        if denied.reason is Reason.DUPLICATED:
            return (f'{self._bearer}, error="invalid_request"',)
        if denied.reason is Reason.SCOPE_DENIED:
            scope = " ".join(denied.required_scopes)
            return (f'{self._bearer}, error="insufficient_scope", scope="{scope}"',)
        return (f'{self._bearer}, error="invalid_token"',) if status is HTTPStatus.UNAUTHORIZED else ()


def problem_answer(status: HTTPStatus, reason: str, detail: str, **members: Any) -> Answer:
    """Return the answer to what is wrong with a request other than its key."""
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    body = json.dumps({**problem, "reason": reason, **members}).encode() + b"\n"
    headers = (("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"), ("Content-Length", str(len(body))))
    return Answer(status.value, f"{status.value} {status.phrase}", detail, headers, body)


def _advice(denied: Denied) -> str:
    """Return when to try again; of a quota that ends for good there is nothing to say."""
    assert denied.taken is not None
    if denied.taken.retry_after is not None:
        return f" Try again in {ceil(denied.taken.retry_after)} seconds."
    return " One request costs more than that, so none will pass." if denied.reason is Reason.RATE_LIMITED else ""


def rate_limit_headers(taken: Taken) -> tuple[tuple[str, str], ...]:
    """Return what tells a caller its limits and what is left of them (RateLimit header fields, draft -11).

    `t` is the number of seconds after which more is left, if nothing else is asked for.
    """
    claims = taken.claims
    if not claims:
        return ()
    policies, left = getattr(claims, "texts", None) or _write_texts(claims)
    return (policies, ("RateLimit", left % taken.left))


def _write_texts(claims: Sequence[Claim]) -> tuple[tuple[str, str], str]:
    """Return the header that is the same for all requests with these limits, and where the numbers are put in."""
    texts = _texts_of(tuple([(policy, most, seconds) for policy, _, most, seconds in claims]))
    if isinstance(claims, Claims):
        claims.texts = texts
    return texts


@lru_cache(1024)  # keys of one plan have the same
def _texts_of(policies: tuple[tuple[str, int, int], ...]) -> tuple[tuple[str, str], str]:
    policy = ", ".join(f'"{name}";q={most};w={seconds}' for name, most, seconds in policies)
    return ("RateLimit-Policy", policy), ", ".join(f'"{name.replace("%", "%%")}";r=%d;t=%d' for name, _, _ in policies)


def expiry_notice(allowed: Allowed, now: datetime) -> tuple[str, str] | None:
    """Return the header that tells a caller its key or secret ends soon: a date of RFC 9651. None if it does not.

    A secret that a rotation is phasing out is always told; a key within 14 days of its end.
    """
    end = allowed.secret.expires_at
    if allowed.key.expires_at is not None and allowed.key.expires_at - now <= EXPIRY_NOTICE:
        end = min(end, allowed.key.expires_at) if end else allowed.key.expires_at
    return ("API-Key-Expires", f"@{int(end.timestamp())}") if end else None
