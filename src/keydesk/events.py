"""Core: one dataclass per kind of change, and the chain their rows form.

The row of an event carries the SHA-256 (FIPS 180-4) of its own content and of the row before it, so that a removed,
edited or inserted row shows. No event holds a secret or a digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, ClassVar

# Made once: `json.dumps` makes a new one in each call that names separators.
_encode_sorted = json.JSONEncoder(separators=(",", ":"), sort_keys=True, check_circular=False).encode

FIRST_HASH = "0" * 64  # what the first row names as the hash before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of one key, of a plan or of what was agreed for an owner: what every kind has.

    Attributes:
        at: When, aware, UTC.
        actor: Who: the id of a key, or what the program or person calls itself.
        key_id: The key that changed; empty where it is about no single key.
        owner: Its owner at that moment, or the owner it is about.
        details: What changed, as JSON values.
    """

    kind: ClassVar[str] = ""

    at: datetime
    actor: str
    key_id: str
    owner: str | None
    details: dict[str, Any]


class KeyIssued(Event):
    """A key was made. `details` holds its fields and the hint of its secret."""

    kind = "key.issued"
    __slots__ = ()


class KeyImported(Event):
    """A key whose secret a client already held was taken in. `details` as for `KeyIssued`."""

    kind = "key.imported"
    __slots__ = ()


class KeyUpdated(Event):
    """Fields changed. `details` maps each to `[before, after]`."""

    kind = "key.updated"
    __slots__ = ()


class KeyRotated(Event):
    """A new secret was made. `details`: `secret` (number), `hint`, `previous_end_at`."""

    kind = "key.rotated"
    __slots__ = ()


class KeyDisabled(Event):
    """The key was switched off."""

    kind = "key.disabled"
    __slots__ = ()


class KeyEnabled(Event):
    """The key was switched on again."""

    kind = "key.enabled"
    __slots__ = ()


class KeyRevoked(Event):
    """The key was ended for good. `details`: `reason`."""

    kind = "key.revoked"
    __slots__ = ()


class KeyPruned(Event):
    """Secrets that a rotation ended were dropped from the record. `details`: `secrets` (their numbers)."""

    kind = "key.pruned"
    __slots__ = ()


class PlanCreated(Event):
    """A plan was made. `details`: `plan` (its name), and its fields. `key_id` is empty, as for all events of plans."""

    kind = "plan.created"
    __slots__ = ()


class PlanUpdated(Event):
    """A plan was changed. `details`: `plan`, and each field that changed as `[before, after]`."""

    kind = "plan.updated"
    __slots__ = ()


class PlanDeleted(Event):
    """A plan was removed. `details`: `plan`."""

    kind = "plan.deleted"
    __slots__ = ()


class OwnerCreated(Event):
    """Limits and quotas were agreed for `owner`. `details` holds them. `key_id` is empty, as for all such events."""

    kind = "owner.created"
    __slots__ = ()


class OwnerUpdated(Event):
    """What was agreed for `owner` changed. `details` maps each field that changed to `[before, after]`."""

    kind = "owner.updated"
    __slots__ = ()


class OwnerDeleted(Event):
    """Nothing is agreed for `owner` any more."""

    kind = "owner.deleted"
    __slots__ = ()


class KeyDeleted(Event):
    """The record of a revoked or expired key was removed. Its events stay."""

    kind = "key.deleted"
    __slots__ = ()


class QuotaReached(Event):
    """So much of a quota was handed out. `details`: `quota`, `percent` (80 or 100), `period_start_at`."""

    kind = "quota.reached"
    __slots__ = ()


class QuotaRefilled(Event):
    """Credits were added to a quota, for the period that runs. `details`: `quota`, `credits`, `period_start_at`."""

    kind = "quota.refilled"
    __slots__ = ()


KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        KeyIssued,
        KeyImported,
        KeyUpdated,
        KeyRotated,
        KeyDisabled,
        KeyEnabled,
        KeyRevoked,
        KeyPruned,
        KeyDeleted,
        QuotaReached,
        QuotaRefilled,
        PlanCreated,
        PlanUpdated,
        PlanDeleted,
        OwnerCreated,
        OwnerUpdated,
        OwnerDeleted,
    )
}


def event_class(kind: str) -> type[Event]:
    """Return the class of a kind. A kind from a newer version gets a class of its own, so that it can be read."""
    return KINDS.get(kind) or type("UnknownEvent", (Event,), {"kind": kind, "__slots__": ()})


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """An event at its place in the chain. `number` counts from 1 without gaps, in the order of the commits.

    `details` is the event's details as they were hashed, where that was just done: to write them down.
    """

    number: int
    event: Event
    previous_hash: str
    hash: str
    details: str = field(default="", repr=False, compare=False)


def chain(events: Iterable[Event], *, after: int, previous_hash: str) -> Iterator[ChainedEvent]:
    """Yield the events as they follow number `after`, whose row has the hash `previous_hash`."""
    for number, event in enumerate(events, after + 1):
        details = encode_details(event.details)
        own_hash = hash_of(number, event, previous_hash, details)
        yield ChainedEvent(number, event, previous_hash, own_hash, details)
        previous_hash = own_hash


def hash_of(number: int, event: Event, previous_hash: str, details: str | None = None) -> str:
    """Return the SHA-256, in hex, of everything a row says and the hash of the row before it.

    Args:
        number, event, previous_hash: See `ChainedEvent`.
        details: The event's details, where they are encoded already.
    """
    # What `json.dumps` makes of the list of these, put together by hand: an import does it for each key.
    owner = "null" if event.owner is None else _quoted(event.owner)
    told = _quoted(encode_details(event.details) if details is None else details)
    content = (
        f'[{number},{_quoted(event.kind)},"{_iso(event.at)}",{_quoted(event.actor)},{_quoted(event.key_id)},'
        f'{owner},{told},"{previous_hash}"]'
    )
    return hashlib.sha256(content.encode()).hexdigest()


@lru_cache(maxsize=256)
def _iso(moment: datetime) -> str:
    """All events of an import are of one moment."""
    return moment.astimezone(UTC).isoformat()


def encode_details(details: dict[str, Any]) -> str:
    """Return details as the one JSON text they are stored and hashed as: keys in order, no spaces, ASCII."""
    return "{" + ",".join([f"{_quoted(name)}:{_encoded(details[name])}" for name in sorted(details)]) + "}"


def _encoded(value: Any) -> str:
    """Encode texts and lists of texts, which nearly all details are, without setting up an encoder."""
    if type(value) is str:
        return _quoted(value)
    if type(value) is list:
        return "[" + ",".join(map(_encoded, value)) + "]"
    return _encode_sorted(value)


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a walk along the chain found.

    Attributes:
        rows: How many rows were read.
        head_number, head_hash: The last event the store says there is. Written down elsewhere, they show later
            whether somebody rewrote the whole chain.
        problem: The first break, in words; None where there is none.
        broken_at: The number of the row where it breaks.
    """

    rows: int
    head_number: int
    head_hash: str
    problem: str | None = None
    broken_at: int | None = None


def check_chain(rows: Iterable[ChainedEvent], *, head_number: int, head_hash: str) -> ChainReport:
    """Walk the rows, given in the order of their numbers from the first, and report the first break."""
    count, previous_hash = 0, FIRST_HASH
    for row in rows:
        expected = count + 1
        if row.number != expected:
            what = "was removed" if row.number > expected else "was inserted"
            where = expected if row.number > expected else row.number
            return ChainReport(count, head_number, head_hash, f"event {where} {what}", where)
        if row.previous_hash != previous_hash:
            return ChainReport(
                count,
                head_number,
                head_hash,
                f"event {row.number} does not follow the one before it",
                row.number,
            )
        if row.hash != hash_of(row.number, row.event, row.previous_hash):
            return ChainReport(count, head_number, head_hash, f"event {row.number} was changed", row.number)
        count, previous_hash = count + 1, row.hash
    if (count, previous_hash) != (head_number, head_hash):
        missing = count + 1
        problem = f"event {missing} was removed" if count < head_number else "the head of the chain was changed"
        return ChainReport(count, head_number, head_hash, problem, missing if count < head_number else count)
    return ChainReport(count, head_number, head_hash)
