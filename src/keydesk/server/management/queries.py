"""Room server: paths, queries and headers of the management API, as pydantic models."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...errors import InvalidField
from .texts import (
    Cursor,
    EventCursor,
    KeyId,
    KeyIdGiven,
    KeyStatus,
    Moment,
    Owner,
    Part,
    PlanCursor,
    PlanName,
    Scope,
    Size,
    SpanName,
)

_TAG = r'(W/)?"[\x21\x23-\x7E]*"'
_TAGS = re.compile(rf"\*|{_TAG}( *, *{_TAG})*")
_MOST_CHARACTERS = 200


def as_sent(schema: dict[str, Any]) -> None:
    """Take null out of a schema: a parameter that is left out is not there, and one that reads `null` is a text."""
    for field in schema["properties"].values():
        kinds = [kind for kind in field.pop("anyOf", ()) if kind.get("type") != "null"]
        for kind in kinds:
            field.update(kind)
        if field.get("default", ...) is None:
            del field["default"]


class Parameters(BaseModel):
    """Parameters of a request."""

    model_config = ConfigDict(json_schema_extra=as_sent)

    @classmethod
    def model_json_schema(cls, *args: Any, **named: Any) -> dict[str, Any]:
        """Return the schema. flask-openapi3 asks for it with every request; made anew, that takes most of its time."""
        if args or named:
            return super().model_json_schema(*args, **named)
        found = _schemas.get(cls)
        if found is None:
            found = _schemas[cls] = super().model_json_schema()
        return found


_schemas: dict[type[Parameters], dict[str, Any]] = {}  # as many as there are classes


class Query(Parameters):
    """A query: names that are not known are refused, so that no filter is passed over for a typing error."""

    model_config = ConfigDict(extra="forbid")


class KeyPath(Parameters):
    """Which key."""

    key_id: KeyId = Field(description="The id of a key.")


class PlanPath(Parameters):
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

    cursor: PlanCursor | None = Field(None, description="`next_cursor` of the page before.")
    size: Size = 100


class EventQuery(Query):
    """Which events to list; every condition given must hold."""

    key_id: KeyIdGiven | None = Field(None, description="Only those of this key.")
    owner: Owner | None = Field(None, description="Only those of this owner.")
    cursor: EventCursor | None = Field(None, description="`next_cursor` of the page before.")
    size: Size = 100


class UsageQuery(Query):
    """Which requests to count."""

    since: Moment | None = Field(None, description="From the span on that this moment lies in; 24 hours before until.")
    until: Moment | None = Field(None, description="Up to this moment, without it; now.")
    span: SpanName | None = Field(None, description="What to count by; what fits the range.")


class AllUsageQuery(UsageQuery):
    """Which requests to count, of which keys."""

    owner: Owner | None = Field(None, description="Only those of this owner's keys.")


class IfMatch(Parameters):
    """At which version something may be changed."""

    if_match: str | None = Field(
        None,
        alias="If-Match",
        json_schema_extra={"format": "entity-tags"},
        description="The `ETag` of what was read: somebody else's change since is not overwritten, but answered 412.",
    )

    def versions(self) -> frozenset[int] | range | None:
        """Return the versions that will do; None where any will, and nothing too.

        Raises:
            InvalidField: These are no entity tags, or too many.
        """
        if self.if_match is None:
            return None
        if len(self.if_match) > _MOST_CHARACTERS or not _TAGS.fullmatch(self.if_match):
            raise InvalidField("If-Match", 'must be an ETag as it was sent, such as "3", or several, or *')
        if self.if_match == "*":
            return range(1, 2**62)
        # A weak tag never matches here (RFC 9110, 13.1.1), and what is none of ours matches nothing.
        tags = (tag.strip() for tag in self.if_match.split(","))
        return frozenset(int(tag[1:-1]) for tag in tags if tag[1:-1].isdecimal() and tag[0] == '"' and tag.isascii())


class Preconditions(IfMatch):
    """At which version something may be changed, or that it must not be there yet."""

    if_none_match: Literal["*"] | None = Field(
        None, alias="If-None-Match", description="`*`: only where it is not there yet."
    )

    def versions_of_new(self) -> frozenset[int] | range | None:
        """Return the versions that will do, where 0 is that of nothing; None where any will.

        Raises:
            InvalidField: These are no entity tags, or too many.
        """
        return frozenset({0}) if self.if_none_match is not None else self.versions()


class IdempotencyKey(Parameters):
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
