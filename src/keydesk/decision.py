"""Core: the outcome of a verification, as a plain value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from .claims import Taken
from .errors import KeydeskError
from .keys.record import Key, Secret


class Reason(StrEnum):
    """Why a request was refused. The values are the `reason` codes on the wire and in logs."""

    MISSING = "missing"
    DUPLICATED = "duplicated"
    INVALID = "invalid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DISABLED = "disabled"
    NETWORK_DENIED = "network_denied"
    SCOPE_DENIED = "scope_denied"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    UNAVAILABLE = "unavailable"


class _Allowed(NamedTuple):  # each request with limits makes one; a frozen dataclass takes thrice as long
    key: Key
    secret: Secret
    taken: Taken | None = None


class Allowed(_Allowed):
    """The request may pass.

    Attributes:
        key: The caller.
        secret: Which of its secrets was presented.
        taken: What its limits were asked, and what is left; None where it has none.
    """

    __slots__ = ()

    allowed: ClassVar[Literal[True]] = True
    reason: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Denied:
    """The request may not pass.

    Attributes:
        reason: Why.
        key: The key the secret belongs to, once the secret has matched; else None.
        hint: What may be written down of the presented text (prefix and last four characters).
        since: When the key or secret expired, was revoked or was disabled.
        required_scopes: The scopes the request needs, for `scope_denied`.
        missing_scopes: Those of them the key does not hold.
        taken: What the limits say, for `rate_limited` and `quota_exceeded`; None for other reasons.
    """

    reason: Reason
    key: Key | None = None
    hint: str = ""
    since: datetime | None = None
    required_scopes: tuple[str, ...] = ()
    missing_scopes: tuple[str, ...] = ()
    taken: Taken | None = None

    allowed: ClassVar[Literal[False]] = False


Decision: TypeAlias = Allowed | Denied


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, for people: by `keydesk verify` about a secret, by `keydesk doctor` about a desk.

    `passed` is None where it was not reached or only worth a remark; `fix` is empty where there is nothing to do.
    """

    name: str
    passed: bool | None
    found: str
    fix: str = ""


class Refused(KeydeskError):
    """The secret handed to `Desk.require` is not allowed in. `decision` says why."""

    def __init__(self, decision: Denied) -> None:
        self.decision = decision
        super().__init__(f"The request was refused: {decision.reason}.")
