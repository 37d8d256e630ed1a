"""Room server: `POST /v1/verify`, for services that are behind no gateway and in no language of ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any

from ..decision import Decision, Denied, Reason
from ..errors import InvalidField
from ..keys.limits import check_cost
from ..keys.networks import MAX_NETWORK_CHARACTERS
from ..keys.record import Key
from ..keys.scopes import Requirement, requirement_of
from ..usage import ALLOWED
from ..verifier import Verifier
from ..web.responses import Answer, Answers
from .deciding import Decider
from .messages import answer_post, json_answer, parse_json, read_body, require_json

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
        verifier, answers: As every door has them.
        decider: Decides about callers.
    """

    def __init__(self, verifier: Verifier, answers: Answers, decider: Decider) -> None:
        self._verify = verifier.verify
        self._answers = answers
        self._decider = decider

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return answer_post(self._answer, environ, start_response)

    def _answer(self, environ: dict[str, Any]) -> Answer:
        caller = self._decider.decide(environ, _CALLER)
        if isinstance(caller, Denied):
            return self._answers.answer(caller)
        require_json(environ)
        body = read_body(environ, MAX_BODY_BYTES) if environ.get("CONTENT_LENGTH") else b""
        decision = self._decide(caller.key, _question(parse_json(body)))
        self._decider.count(decision.reason or ALLOWED)
        return _said(decision)

    def _decide(self, caller: Key, asked: _Question) -> Decision:
        """Return the decision about a secret; a caller of one owner is told of that owner's keys alone."""
        if caller.owner is not None:
            seen = self._verify(asked.secret, asked.requirement, asked.client_address, cost=asked.cost, test=True)
            if seen.key is not None and seen.key.owner != caller.owner:
                return _NOT_THEIRS
        return self._verify(asked.secret, asked.requirement, asked.client_address, cost=asked.cost)


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
                "reset_seconds": reset,
            }
            for claim, remaining, reset in (taken.standings if taken else ())
        ],
    }
    if taken is not None and taken.violated:
        retry_after = None if taken.retry_after is None else ceil(taken.retry_after)
        said |= {"violated_policies": taken.violated, "retry_after_seconds": retry_after}
    return json_answer(said)


def _identity(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": list(key.scopes),
        "environment": key.environment,
        "plan": key.plan,
    }
