"""Room server: paths, queries and headers of the management API, as pydantic models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .texts import Cursor, KeyId, KeyStatus, Moment, Owner, Part, PlanName, Scope, Size, SpanName

_TAG = r'(W/)?"[\x21\x23-\x7E]*"'


class Query(BaseModel):
    """A query: names that are not known are refused, so that no filter is passed over for a typing error."""

    model_config = ConfigDict(extra="forbid")


class KeyPath(BaseModel):
    """Which key."""

    key_id: KeyId = Field(description="The id of a key.")


class PlanPath(BaseModel):
    """Which plan."""

    name: str = Field(description="The name of a plan.", json_schema_extra={"pattern": "^[a-z0-9._-]{1,64}$"})


class KeyQuery(Query):
    """Which keys to list; every condition given must hold."""

    owner: Owner | None = Field(None, description="Exactly this owner.")
    plan: PlanName | None = Field(None, description="Of exactly this plan.")
    status: KeyStatus | None = Field(None, description="In this state now.")
    scope: Scope | None = Field(None, description="May do this, by their own scopes and by their plan's.")
    idle_since: Moment | None = Field(None, description="Made before this moment, and not used since.")
    text: Part | None = Field(None, description="Part of name, description, owner or id, without regard to case.")
    cursor: Cursor | None = Field(None, description="`next_cursor` of the page before.")
    size: Size = 100


class PlanQuery(Query):
    """Which plans to list."""

    cursor: Cursor | None = Field(None, description="`next_cursor` of the page before.")
    size: Size = 100


class EventQuery(Query):
    """Which events to list; every condition given must hold."""

    key_id: KeyId | None = Field(None, description="Only those of this key.")
    owner: Owner | None = Field(None, description="Only those of this owner.")
    cursor: Cursor | None = Field(None, description="`next_cursor` of the page before.")
    size: Size = 100


class UsageQuery(Query):
    """Which requests to count."""

    since: Moment | None = Field(None, description="From the span on that this moment lies in; 24 hours before until.")
    until: Moment | None = Field(None, description="Up to this moment, without it; now.")
    span: SpanName | None = Field(None, description="What to count by; what fits the range.")


class AllUsageQuery(UsageQuery):
    """Which requests to count, of which keys."""

    owner: Owner | None = Field(None, description="Only those of this owner's keys.")


class IfMatch(BaseModel):
    """At which version something may be changed."""

    if_match: str | None = Field(
        None,
        alias="If-Match",
        max_length=200,
        pattern=rf"^(\*|{_TAG}( *, *{_TAG})*)$",
        description="The `ETag` of what was read: somebody else's change since is not overwritten, but answered 412.",
    )

    def versions(self) -> frozenset[int] | range | None:
        """Return the versions that will do; None where any will, and nothing too."""
        if self.if_match is None:
            return None
        if self.if_match == "*":
            return range(1, 2**62)
        # A weak tag never matches here (RFC 9110, 13.1.1), and what is none of ours matches nothing.
        tags = (tag.strip() for tag in self.if_match.split(","))
        return frozenset(int(tag[1:-1]) for tag in tags if tag[1:-1].isdecimal() and tag[0] == '"' and tag.isascii())


class Preconditions(IfMatch):
    """At which version something may be changed, or that it must not be there yet."""

    if_none_match: str | None = Field(
        None, alias="If-None-Match", pattern=r"^\*$", description="`*`: only where it is not there yet."
    )

    def versions_of_new(self) -> frozenset[int] | range | None:
        """Return the versions that will do, where 0 is that of nothing; None where any will."""
        return frozenset({0}) if self.if_none_match is not None else self.versions()


class IdempotencyKey(BaseModel):
    """What the caller calls this request, so that it is done once."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7E]+$",
        description="A text of your own for this request, new for each. Sent again within 24 hours, nothing is made "
        "twice: the answer shows the key without its secret.",
    )
