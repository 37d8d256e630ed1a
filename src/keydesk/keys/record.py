"""Room keys: the record of one client credential."""

from __future__ import annotations

import difflib
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Any, TypeVar

from ..errors import InvalidField
from .limits import MAX_LIMITS, Limit, Quota, parse_limit, parse_quota
from .networks import Networks
from .plans import Agreed, parse_plan_name
from .scopes import Scopes
from .secret import Environment, redact, shown

MAX_NAME_CHARACTERS = 200
MAX_OWNER_CHARACTERS = 200
MAX_ACTOR_CHARACTERS = 200
MAX_DESCRIPTION_CHARACTERS = 2000
MAX_REASON_CHARACTERS = 500
MAX_SECRETS = 10
FIRST_YEAR, LAST_YEAR = 1970, 9998

_KEY_ID_HEX = 28
_LONG_NAME = 40  # no field is named like what is longer


class Status(StrEnum):
    """Whether a key may be used at a moment, and if not, the first reason."""

    ACTIVE = "active"
    EXPIRED = "expired"
    DISABLED = "disabled"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Secret:
    """What is kept of one secret of a key. The secret itself is nowhere.

    Attributes:
        number: 1 for the first secret of the key, counting up with each rotation.
        digest: 64 hex characters, see `keydesk.keys.digest`. Left out of the repr.
        pepper_id: Which pepper the digest is under; empty for none.
        hint: Prefix and last four characters.
        expires_at: When a rotation ends it; None while nothing does.
    """

    number: int
    digest: str = field(repr=False)
    pepper_id: str
    hint: str
    created_at: datetime
    expires_at: datetime | None = None

    def expired_at(self, now: datetime) -> bool:
        """Return whether a rotation has ended this secret by `now`."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFields:
    """What a person decides about a key.

    Attributes:
        name: What people call the client; 1 to 200 characters.
        owner: An opaque string of the application's, or None; at most 200 characters.
        description: At most 2000 characters.
        environment: Live or test; part of the secret.
        plan: The name of its plan, which bounds what it states itself; None for none.
        scopes: What it may do. Of a key with a plan: as far as the plan grants it; where it states none, all of that.
        networks: Where it may be used from.
        limits: So many per sliding window; at most 20.
        quotas: So many per calendar period; at most 20.
        expires_at: When it ends, aware; None for never.
    """

    name: str
    owner: str | None = None
    description: str = ""
    environment: Environment = Environment.LIVE
    plan: str | None = None
    scopes: Scopes = Scopes()
    networks: Networks = Networks()
    limits: tuple[Limit, ...] = ()
    quotas: tuple[Quota, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(KeyFields):
    """The record of one client credential: what a person decided, its secrets and its state.

    Attributes:
        id: `key_` and 28 hex characters; ids of a database grow with time.
        secrets: One or more, oldest first; at most 10.
        version: 1 when issued, one more with each change.
        last_used_at: The minute in which a request with it was last allowed, as far as that is written down; None for
            never. It is no part of what a change makes, nor of comparing two records.
        agreed: What its plan and its owner put it under, where it was read to be verified; None where there is
            nothing, and of a record that was read otherwise.
        in_force: Whether its plan is folded in: `scopes`, `limits` and `quotas` are then what its requests are judged
            by, and not only what it states itself.
    """

    id: str
    secrets: tuple[Secret, ...]
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None = None
    revoked_at: datetime | None = None
    revoke_reason: str = ""
    version: int = 1
    last_used_at: datetime | None = field(default=None, compare=False)
    agreed: Agreed | None = field(default=None, compare=False, repr=False)
    in_force: bool = field(default=False, compare=False, repr=False)

    def status_at(self, now: datetime) -> Status:
        """Return the state of the key at a moment. Expiry counts from the very instant it names."""
        if self.revoked_at is not None:
            return Status.REVOKED
        if self.disabled_at is not None:
            return Status.DISABLED
        if self.expires_at is not None and self.expires_at <= now:
            return Status.EXPIRED
        return Status.ACTIVE

    def find_secret(self, digests: Iterable[str]) -> Secret | None:
        """Return the secret stored under one of the digests, or None."""
        wanted = tuple(digests)
        return next((secret for secret in self.secrets if secret.digest in wanted), None)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key and its new secret: the only time the secret is to be had. The repr leaves it out."""

    key: Key
    secret: str = field(repr=False)


def mint_key_id(now: datetime) -> str:
    """Return a new id: 48 bits of the time in milliseconds, so that newer ids sort after older ones, and 64 random."""
    return f"key_{int(now.timestamp() * 1000):012x}{secrets.token_hex(8)}"


def mint_key_ids(now: datetime) -> Iterator[str]:
    """Yield new ids, each after the one before it, from a random one on, as ULIDs of one millisecond are made.

    An import takes them: rows at the end of an index are written several times as fast as rows all over it.
    """
    begin = f"key_{int(now.timestamp() * 1000):012x}"
    start = int.from_bytes(secrets.token_bytes(8)) >> 1  # half of the range is left to count up in
    return (f"{begin}{number:016x}" for number in count(start))


def key_id_of_name(name: str) -> str:
    """Return the id of a key that is written in a file or in the configuration, the same in every process.

    It is made from the name, never from the secret: an id is shown, and a hash of a weak secret could be guessed from.
    """
    return "key_" + hashlib.sha256(b"keydesk key id\0" + name.encode()).hexdigest()[:_KEY_ID_HEX]


F = TypeVar("F", bound="KeyFields")

FIELD_NAMES = tuple(f.name for f in fields(KeyFields))


def parse_fields(given: Mapping[str, Any]) -> KeyFields:
    """Return the fields of a new key from what a person or a program wrote.

    Args:
        given: Field names to values. `scopes`, `networks`, `limits` and `quotas` are lists of texts (one text counts
            as a list of one); `expires_at` is an aware datetime or an ISO 8601 text with its offset.

    Raises:
        InvalidField: A field is unknown or its value cannot be used.
    """
    parsed = update_fields(KeyFields(name="-"), given)
    if "name" not in given:  # after the rest: it may be there, misspelt
        raise InvalidField("name", "is missing; say what the client is called")
    return parsed


def update_fields(before: F, given: Mapping[str, Any]) -> F:
    """Return a copy of the fields with the given ones in their place, each checked as in `parse_fields`.

    Raises:
        InvalidField: A field is unknown or its value cannot be used.
    """
    for name in given:
        if name not in _PARSERS:
            # Shown only where it is nearly a field: one level too deep in a file, what stands here is a secret.
            near = difflib.get_close_matches(str(name)[:_LONG_NAME].lower(), FIELD_NAMES, n=1, cutoff=0.8)
            if near:
                raise InvalidField(str(name), f"is no field of a key; did you mean {near[0]}?")
            raise InvalidField("fields", f"one of them is no field of a key; there are {', '.join(FIELD_NAMES)}")
    return replace(before, **{name: _PARSERS[name](value) for name, value in given.items()})


def parse_field(name: str, value: object) -> Any:
    """Return one field, checked as in `parse_fields`.

    Raises:
        InvalidField: Its value cannot be used.
        KeyError: There is no such field.
    """
    return _PARSERS[name](value)


def parse_text(name: str, limit: int, value: object) -> str:
    """Return a text that people wrote, without white space around it.

    Raises:
        InvalidField: No text, over the limit of characters, or it holds control characters or a secret.
    """
    if not isinstance(value, str):
        raise InvalidField(name, f"must be text, not {type(value).__name__}; put it in quotes")
    if len(value) > limit:
        raise InvalidField(name, f"has {len(value)} characters; at most {limit} fit")
    if not value.isprintable() and any(not c.isprintable() and c != "\n" for c in value):
        raise InvalidField(name, "holds control characters; take them out")
    if redact(value) != value:
        raise InvalidField(name, "holds a secret; what is written here is shown to people and kept in the log")
    return value.strip()


def parse_actor(value: object) -> str:
    """Return who changes a key, as it is written into the event.

    Raises:
        InvalidField: Not one line of 1 to 200 characters, or it holds control characters or a secret.
    """
    actor = parse_text("actor", MAX_ACTOR_CHARACTERS, value)
    if not actor or "\n" in actor:
        raise InvalidField("actor", "must be one line of text; say who or what makes the change")
    return actor


def _name(value: object) -> str:
    name = parse_text("name", MAX_NAME_CHARACTERS, value)
    if not name or "\n" in name:
        raise InvalidField("name", "must be one line of text; say what the client is called")
    return name


def parse_owner(value: object) -> str:
    """Return an owner.

    Raises:
        InvalidField: Not one line of 1 to 200 characters, or it holds control characters or a secret.
    """
    owner = _owner(value)
    if owner is None:
        raise InvalidField("owner", "is empty; say whose keys")
    return owner


def _owner(value: object) -> str | None:
    owner = None if value is None else parse_text("owner", MAX_OWNER_CHARACTERS, value)
    if owner and "\n" in owner:
        raise InvalidField("owner", "must be one line of text; take the line breaks out")
    return owner or None


def _environment(value: object) -> Environment:
    try:
        return Environment(str(value))
    except ValueError:
        raise InvalidField("environment", f"{shown(str(value))} is neither live nor test; write one of them") from None


def _texts(name: str, value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable) or isinstance(value, (Mapping, bytes)):
        raise InvalidField(name, f"must be a list, not {type(value).__name__}; write a list of texts")
    texts = list(value)
    if not all(isinstance(text, str) for text in texts):
        raise InvalidField(name, "must hold texts only; put each in quotes")
    return texts


def _limits(value: object) -> tuple[Limit, ...]:
    given = value if isinstance(value, (list, tuple)) else _texts("limits", value)
    return _few("limits", tuple(dict.fromkeys(x if isinstance(x, Limit) else parse_limit(str(x)) for x in given)))


def _quotas(value: object) -> tuple[Quota, ...]:
    given = value if isinstance(value, (list, tuple)) else _texts("quotas", value)
    return _few("quotas", tuple(dict.fromkeys(x if isinstance(x, Quota) else parse_quota(str(x)) for x in given)))


def _few(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(values) > MAX_LIMITS:
        raise InvalidField(name, f"{len(values)} are too many; a key holds at most {MAX_LIMITS}")
    return values


def _expires_at(value: object) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            problem = f"{shown(value)} is not a time; write 2027-01-31T12:00:00+00:00"
            raise InvalidField("expires_at", problem) from None
        return as_utc("expires_at", moment)
    if not isinstance(value, datetime):
        problem = f"must be a datetime, not {type(value).__name__}; write 2027-01-31T12:00:00+00:00"
        raise InvalidField("expires_at", problem)
    return as_utc("expires_at", value)


def as_utc(name: str, value: datetime) -> datetime:
    """Return the moment in UTC.

    Raises:
        InvalidField: The datetime is naive, so nobody can say which moment it means, or too far away.
    """
    if value.tzinfo is None:
        raise InvalidField(name, "has no time zone; add one, such as +00:00 or Z")
    # Python has no moments beyond the year 9999, and a database shows this one in a time zone of its own.
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        problem = f"lies beyond the years {FIRST_YEAR} to {LAST_YEAR}; leave it out if there is no such moment"
        raise InvalidField(name, problem)
    return value.astimezone(UTC)


_PARSERS: Mapping[str, Any] = {
    "name": _name,
    "owner": _owner,
    "description": lambda value: parse_text("description", MAX_DESCRIPTION_CHARACTERS, value),
    "environment": _environment,
    "plan": lambda value: None if value is None or value == "" else parse_plan_name(value),
    "scopes": lambda value: value if isinstance(value, Scopes) else Scopes(_texts("scopes", value)),
    "networks": lambda value: value if isinstance(value, Networks) else Networks(_texts("networks", value)),
    "limits": _limits,
    "quotas": _quotas,
    "expires_at": _expires_at,
}
