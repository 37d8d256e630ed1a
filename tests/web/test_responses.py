"""What refusals look like: the table of wire.md, "Answers"."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keydesk import Allowed, Denied, Desk, Reason
from keydesk.claims import Claim, Claims, Taken
from keydesk.testing import ManualClock
from keydesk.web.responses import Answers, expiry_notice, rate_limit_headers

SINCE = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ANSWERS = Answers(realm="api", header="X-API-Key")
BEARER = 'Bearer realm="api"'
TABLE: dict[Reason, tuple[int, str, list[str]]] = {
    Reason.MISSING: (401, "Unauthorized", [BEARER, 'ApiKey realm="api", header="X-API-Key"']),
    Reason.DUPLICATED: (400, "Bad Request", [f'{BEARER}, error="invalid_request"']),
    Reason.INVALID: (401, "Unauthorized", [f'{BEARER}, error="invalid_token"']),
    Reason.EXPIRED: (401, "Unauthorized", [f'{BEARER}, error="invalid_token"']),
    Reason.REVOKED: (401, "Unauthorized", [f'{BEARER}, error="invalid_token"']),
    Reason.DISABLED: (401, "Unauthorized", [f'{BEARER}, error="invalid_token"']),
    Reason.NETWORK_DENIED: (403, "Forbidden", []),
    Reason.SCOPE_DENIED: (403, "Forbidden", [f'{BEARER}, error="insufficient_scope", scope="orders:write"']),
    Reason.RATE_LIMITED: (429, "Too Many Requests", []),
    Reason.QUOTA_EXCEEDED: (429, "Too Many Requests", []),
    Reason.UNAVAILABLE: (503, "Service Unavailable", []),
}


def _denied(reason: Reason, desk: Desk) -> Denied:
    """A refusal with everything in it that a careless answer could give away."""
    issued = desk.issue(
        name="Payroll of Acme", owner="acme-owner", description="described", scopes=["hidden:scope"],
        networks=["203.0.113.7"],
    )  # fmt: skip
    return Denied(
        reason,
        issued.key,
        issued.key.secrets[0].hint,
        since=SINCE,
        required_scopes=("orders:write",),
        missing_scopes=("orders:write",),
    )


def test_answers_know_every_reason() -> None:
    assert set(TABLE) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_answer(reason: Reason, desk: Desk) -> None:
    status, title, challenges = TABLE[reason]
    answer = ANSWERS.answer(_denied(reason, desk))
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == status
    assert problem["title"] == title
    assert problem["type"] == "about:blank"
    assert problem["reason"] == reason.value
    assert problem["detail"] == answer.detail
    extras = {"required_scopes", "missing_scopes"} if reason is Reason.SCOPE_DENIED else set()
    assert set(problem) == {"type", "title", "status", "detail", "reason"} | extras
    headers = list(answer.headers)
    assert ("Content-Type", "application/problem+json") in headers
    assert ("Cache-Control", "no-store") in headers
    assert [value for name, value in headers if name == "WWW-Authenticate"] == challenges
    retry = [value for name, value in headers if name == "Retry-After"]
    assert retry == (["5"] if reason is Reason.UNAVAILABLE else [])
    assert [value for name, value in headers if name == "Content-Length"] == [str(len(answer.body))]
    assert len(headers) == 3 + len(challenges) + len(retry)


@pytest.mark.parametrize("reason", Reason)
def test_answer_says_no_more_than_it_may(reason: Reason, desk: Desk) -> None:
    denied = _denied(reason, desk)
    assert denied.key is not None
    sent = ANSWERS.answer(denied).body.decode() + str(ANSWERS.answer(denied).headers)
    hint = denied.key.secrets[0].hint
    for told in (denied.key.id, denied.key.name, "acme-owner", "described", "203.0.113.7", "hidden:scope", hint,
                 denied.key.secrets[0].digest):  # fmt: skip
        assert told not in sent


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        (Reason.EXPIRED, "This key expired on 2026-01-02T03:04:05+00:00."),
        (Reason.REVOKED, "This key was revoked on 2026-01-02T03:04:05+00:00."),
        (Reason.DISABLED, "This key has been disabled since 2026-01-02T03:04:05+00:00."),
    ],
)
def test_answer_date_in_the_detail(reason: Reason, detail: str) -> None:
    assert ANSWERS.answer(Denied(reason, since=SINCE)).detail == detail
    assert "an unknown date" in ANSWERS.answer(Denied(reason)).detail


def test_answer_malformed_unknown_and_impossible_look_the_same(desk: Desk) -> None:
    """Whether a text could be a key, and whether one was ever looked up, is nobody's business."""
    minted = desk.mint.secret_format.mint()
    texts = [minted, minted[:-1], f"{minted}x", "uuid-like-thing", "x" * 257, "é", "a b", "a\x00"]
    answers = {ANSWERS.answer(denied) for denied in map(desk.verify, texts) if isinstance(denied, Denied)}
    assert len(answers) == 1


def test_answer_of_scopes_lists_all() -> None:
    denied = Denied(Reason.SCOPE_DENIED, required_scopes=("a:read", "b:read"), missing_scopes=("b:read",))
    answer = ANSWERS.answer(denied)
    problem = json.loads(answer.body)
    assert (problem["required_scopes"], problem["missing_scopes"]) == (["a:read", "b:read"], ["b:read"])
    assert ("WWW-Authenticate", f'{BEARER}, error="insufficient_scope", scope="a:read b:read"') in answer.headers


def test_answer_realm_and_header() -> None:
    answer = Answers(realm="my shop", header="X-Shop-Key").answer(Denied(Reason.MISSING))
    assert ("WWW-Authenticate", 'Bearer realm="my shop"') in answer.headers
    assert ("WWW-Authenticate", 'ApiKey realm="my shop", header="X-Shop-Key"') in answer.headers
    assert "X-Shop-Key" in answer.detail


@pytest.mark.parametrize("reason", Reason)
def test_answer_headers_are_header_safe(reason: Reason, desk: Desk) -> None:
    for name, value in ANSWERS.answer(_denied(reason, desk)).headers:
        assert (name + value).isascii()
        assert (name + value).isprintable()


# Limits


CLAIMS = Claims((Claim("100/minute", "{k}k", 100, 60), Claim("5/10 seconds per view", "{k}k:shop:orders", 5, 10)))
LEFT = (57, 21, 0, 3)


def test_limits_on_a_permitted_request() -> None:
    for claims in (list(CLAIMS), CLAIMS, CLAIMS):  # of a limiter that keeps its own, and of ours, then and later
        assert rate_limit_headers(Taken(claims, LEFT)) == (
            ("RateLimit-Policy", '"100/minute";q=100;w=60, "5/10 seconds per view";q=5;w=10'),
            ("RateLimit", '"100/minute";r=57;t=21, "5/10 seconds per view";r=0;t=3'),
        )
    assert rate_limit_headers(Taken()) == ()


def test_answer_of_a_limit_that_is_used_up() -> None:
    answer = ANSWERS.answer(Denied(Reason.RATE_LIMITED, taken=Taken(CLAIMS, LEFT, ("5/10 seconds per view",), 2.1)))
    problem = json.loads(answer.body)
    assert problem["violated_policies"] == ["5/10 seconds per view"]
    assert problem["detail"] == "This key has used up 5/10 seconds per view. Try again in 3 seconds."
    headers = dict(answer.headers)
    assert headers["Retry-After"] == "3"
    assert headers["RateLimit"] == '"100/minute";r=57;t=21, "5/10 seconds per view";r=0;t=3'
    assert headers["RateLimit-Policy"].startswith('"100/minute";q=100;w=60, ')


def test_answer_of_a_request_that_costs_more_than_its_limit() -> None:
    answer = ANSWERS.answer(Denied(Reason.RATE_LIMITED, taken=Taken(CLAIMS, LEFT, ("100/minute",), None)))
    assert "Retry-After" not in dict(answer.headers)
    assert "none will pass" in answer.detail


# API-Key-Expires


def _allowed(desk: Desk, expires_at: datetime | None = None, secret_ends: datetime | None = None) -> Allowed:
    from dataclasses import replace

    key = desk.issue(name="client", expires_at=expires_at).key
    return Allowed(key, replace(key.secrets[0], expires_at=secret_ends))


@pytest.mark.parametrize(
    ("key_ends", "secret_ends", "told"),
    [
        (None, None, None),
        (15, None, None),
        (14, None, 14),
        (1, None, 1),
        (None, 300, 300),
        (None, 1, 1),
        (5, 300, 5),
        (300, 5, 5),
        (300, 290, 290),
    ],
)
def test_expiry_notice(
    desk: Desk, clock: ManualClock, key_ends: int | None, secret_ends: int | None, told: int | None
) -> None:
    """A secret that a rotation phases out is always told; a key within 14 days of its end."""
    now = clock.now()

    def moment(days: int | None) -> Any:
        return None if days is None else now + timedelta(days=days)

    notice = expiry_notice(_allowed(desk, moment(key_ends), moment(secret_ends)), now)
    assert notice == (None if told is None else ("API-Key-Expires", f"@{int(moment(told).timestamp())}"))


def test_expiry_notice_is_a_date_of_rfc_9651(desk: Desk, clock: ManualClock) -> None:
    """Whole seconds, rounded down: a client must not come too late."""
    end = clock.now() + timedelta(days=1, microseconds=999_999)
    notice = expiry_notice(_allowed(desk, end), clock.now())
    assert notice == ("API-Key-Expires", f"@{int(clock.now().timestamp()) + 86_400}")
