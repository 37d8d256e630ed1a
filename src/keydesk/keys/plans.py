"""Room keys: plans, which many keys share, and what the keys of one owner share. Plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from ..errors import InvalidField
from .limits import Limit, Quota
from .scopes import Scopes
from .secret import shown

PLAN_NAME = re.compile(r"[a-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFields:
    """What a person decides about a plan.

    Attributes:
        description: At most 2000 characters.
        scopes: What its keys may do; each may state fewer of these.
        limits: So many per sliding window, for each of its keys; at most 20.
        quotas: So many per calendar period, for each of its keys; at most 20.
    """

    description: str = ""
    scopes: Scopes = Scopes()
    limits: tuple[Limit, ...] = ()
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(PlanFields):
    """A named bundle of scopes, limits and quotas that many keys share.

    Attributes:
        name: 1 to 64 lower-case letters, digits, `.`, `_` and `-`.
        version: 1 when made, one more with each change.
    """

    name: str
    created_at: datetime
    updated_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerFields:
    """What a person decides about an owner.

    Attributes:
        limits: So many per sliding window, for all keys of the owner together; at most 20.
        quotas: So many per calendar period, for all keys of the owner together; at most 20.
    """

    limits: tuple[Limit, ...] = ()
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerTerms(OwnerFields):
    """The limits and quotas that the keys of one owner share.

    Attributes:
        owner: As the keys name it; 1 to 200 characters.
        version: 1 when made, one more with each change.
    """

    owner: str
    created_at: datetime
    updated_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a key is under besides what it states itself, as both were when it was read.

    Attributes:
        plan: That of its plan; None where it has none, or the store has no such plan.
        owner: That of its owner; None where nothing was agreed.
    """

    plan: PlanFields | None = None
    owner: OwnerFields | None = None


def parse_plan_name(value: object) -> str:
    """Return the name of a plan.

    Raises:
        InvalidField: It is none.
    """
    if isinstance(value, str) and PLAN_NAME.fullmatch(value):
        return value
    given = shown(value, 80) if isinstance(value, str) else f"a {type(value).__name__}"
    raise InvalidField(
        "plan", f"{given} is no name of a plan; write 1 to 64 lower-case letters, digits, dots, _ and -, such as gold"
    )
