"""Room server: the bodies of the management API, as pydantic models. None holds a digest, and two hold a secret."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ...desk import DEFAULT_OVERLAP, MAX_OVERLAP
from ...events import ChainedEvent
from ...keys.plans import Plan
from ...keys.record import Key
from ...ports import MAX_PAGE
from ...usage import UsageReport
from .queries import as_sent
from .texts import (
    Description,
    Environment,
    Grants,
    KeyId,
    KeyStatus,
    LimitList,
    Moment,
    Name,
    NetworkList,
    Owner,
    Part,
    PlanName,
    QuotaList,
    Scope,
    SpanName,
    Whole,
    Why,
)


class Given(BaseModel):
    """What somebody sends: names that are not known are refused, and nothing is made into something else."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self) -> dict[str, Any]:
        """Return what was sent, without what was left out."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is left out of a change stays, and owner and environment of a new key are the caller's."""
    for field in schema["properties"].values():
        field.pop("default", None)


class NewKey(Given):
    """A key to be made. Left out, its owner and environment are those of the caller's key."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    name: Name
    owner: Owner | None = None
    description: Description = ""
    environment: Environment = "live"
    plan: PlanName | None = None
    scopes: Grants = []
    networks: NetworkList = []
    limits: LimitList = []
    quotas: QuotaList = []
    expires_at: Moment | None = None


class NewKeys(Given):
    """Keys to be made, all or none."""

    keys: list[NewKey] = Field(min_length=1, max_length=MAX_PAGE)


class KeyChange(Given):
    """Fields to be put in the place of a key's. What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    name: Name = ""
    owner: Owner | None = None
    description: Description = ""
    plan: PlanName | None = None
    scopes: Grants = []
    networks: NetworkList = []
    limits: LimitList = []
    quotas: QuotaList = []
    expires_at: Moment | None = None


class MayBeMissing(Given):
    """A body that nobody has to send."""

    model_config = ConfigDict(openapi_extra={"required": False})  # type: ignore[typeddict-unknown-key]

    @model_validator(mode="before")
    @classmethod
    def _be_empty(cls, value: Any) -> Any:
        return {} if value is None else value


class Rotation(MayBeMissing):
    """How a key is rotated."""

    overlap_seconds: Whole = Field(
        default=int(DEFAULT_OVERLAP.total_seconds()),
        ge=0,
        le=int(MAX_OVERLAP.total_seconds()),
        description="For how long the earlier secrets go on; 0 ends them at once.",
    )


class Revocation(MayBeMissing):
    """Why a key is revoked."""

    reason: Why = ""


class RevokeFilter(Given):
    """Which keys; every condition given must hold, and at least one must be given."""

    model_config = ConfigDict(json_schema_extra=as_sent)

    owner: Owner | None = None
    plan: PlanName | None = None
    status: KeyStatus | None = None
    scope: Scope | None = None
    idle_since: Moment | None = None
    text: Part | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _be_there(cls, value: Any) -> Any:
        if value is None:  # who means keys without an owner, say, must not end those of all
            raise PydanticCustomError("null", "is null; leave out what is no condition")
        return value


class Revocations(Given):
    """Keys to be revoked, each with an event of its own, and why."""

    where: RevokeFilter = Field(json_schema_extra={"minProperties": 1})
    reason: Why = ""


class PlanFieldsGiven(Given):
    """What a plan gives. What is left out is empty."""

    description: Description = ""
    scopes: Grants = []
    limits: LimitList = []
    quotas: QuotaList = []


class NamedPlanGiven(PlanFieldsGiven):
    """A plan by its name."""

    name: PlanName


class SecretShown(BaseModel):
    """What is known of one secret of a key. The secret itself is nowhere."""

    number: int
    hint: str
    created_at: datetime
    expires_at: datetime | None


class KeyShown(BaseModel):
    """A key: what it states itself, its state and its secrets' hints."""

    id: KeyId
    name: str
    owner: str | None
    description: str
    environment: Environment
    plan: str | None
    scopes: list[str]
    networks: list[str]
    limits: list[str]
    quotas: list[str]
    expires_at: datetime | None
    status: KeyStatus
    version: int
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    revoked_at: datetime | None
    revoke_reason: str
    last_used_at: datetime | None
    secrets: list[SecretShown]

    @classmethod
    def of(cls, key: Key, now: datetime) -> KeyShown:
        """Return a key as it is shown."""
        return cls(
            id=key.id,
            name=key.name,
            owner=key.owner,
            description=key.description,
            environment=key.environment.value,
            plan=key.plan,
            scopes=list(key.scopes),
            networks=list(key.networks),
            limits=[str(limit) for limit in key.limits],
            quotas=[str(quota) for quota in key.quotas],
            expires_at=key.expires_at,
            status=key.status_at(now).value,
            version=key.version,
            created_at=key.created_at,
            updated_at=key.updated_at,
            disabled_at=key.disabled_at,
            revoked_at=key.revoked_at,
            revoke_reason=key.revoke_reason,
            last_used_at=key.last_used_at,
            secrets=[
                SecretShown(number=s.number, hint=s.hint, created_at=s.created_at, expires_at=s.expires_at)
                for s in key.secrets
            ],
        )


class KeyPage(BaseModel):
    """Some of the keys, newest first. `next_cursor` continues after them; null at the end.

    There may be fewer than were asked for, or none, before the end: go on until `next_cursor` is null.
    """

    keys: list[KeyShown]
    next_cursor: str | None


class IssuedKeyShown(BaseModel):
    """A key and its new secret, which is shown this once; null where the same request was done before."""

    key: KeyShown
    secret: str | None = Field(repr=False)
    detail: str = ""


class IssuedKeysShown(BaseModel):
    """Keys and their secrets, in the order asked for."""

    keys: list[IssuedKeyShown] = Field(repr=False)
    detail: str = ""


class RevokedKeys(BaseModel):
    """The keys that were revoked. `more` says whether there are others that match: ask again."""

    revoked: list[KeyId]
    more: bool


class CountShown(BaseModel):
    """How many requests had one outcome within one span: `allowed`, or why not."""

    start_at: datetime
    outcome: str
    count: int


class UsageShown(BaseModel):
    """What was counted from `since` until `until`. Spans without requests are left out."""

    span: SpanName
    since: datetime
    until: datetime
    totals: dict[str, int]
    counts: list[CountShown]

    @classmethod
    def of(cls, report: UsageReport) -> UsageShown:
        """Return a report as it is shown."""
        counts = [CountShown(start_at=u.start_at, outcome=u.outcome, count=u.count) for u in report.counts]
        range_ = report.range
        return cls(
            span=range_.span.value, since=range_.since, until=range_.until, totals=report.totals(), counts=counts
        )


class EventShown(BaseModel):
    """One change, at its place in the chain."""

    number: int
    kind: str
    at: datetime
    actor: str
    key_id: str
    owner: str | None
    details: dict[str, Any]
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, row: ChainedEvent) -> EventShown:
        """Return an event as it is shown."""
        event = row.event
        return cls(
            number=row.number,
            kind=event.kind,
            at=event.at,
            actor=event.actor,
            key_id=event.key_id,
            owner=event.owner,
            details=event.details,
            previous_hash=row.previous_hash,
            hash=row.hash,
        )


class EventPage(BaseModel):
    """Events, in order. `next_cursor` continues after them, also where there are none yet: ask again later."""

    events: list[EventShown]
    next_cursor: str

    @classmethod
    def of(cls, rows: Sequence[ChainedEvent], next_cursor: str) -> EventPage:
        """Return events as they are shown."""
        return cls(events=[EventShown.of(row) for row in rows], next_cursor=next_cursor)


class PlanShown(BaseModel):
    """A plan."""

    name: str
    description: str
    scopes: list[str]
    limits: list[str]
    quotas: list[str]
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, plan: Plan) -> PlanShown:
        """Return a plan as it is shown."""
        return cls(
            name=plan.name,
            description=plan.description,
            scopes=list(plan.scopes),
            limits=[str(limit) for limit in plan.limits],
            quotas=[str(quota) for quota in plan.quotas],
            version=plan.version,
            created_at=plan.created_at,
            updated_at=plan.updated_at,
        )


class PlanPage(BaseModel):
    """Some of the plans, by name. `next_cursor` continues after them; null at the end."""

    plans: list[PlanShown]
    next_cursor: str | None


class ProblemOfField(BaseModel):
    """What is wrong with one part of what was sent."""

    field: str
    problem: str


class Problem(BaseModel):
    """What is wrong, as RFC 9457 has it. `reason` is for programs, `detail` for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    reason: str
