"""Room stores: between rows of the tables and the values of the core."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeAlias

from ..events import ChainedEvent, encode_details, event_class
from ..keys.limits import Limit, Quota, parse_limit, parse_quota
from ..keys.networks import Networks
from ..keys.plans import Agreed, OwnerFields, OwnerTerms, Plan, PlanFields
from ..keys.record import Key, Secret
from ..keys.scopes import Scopes
from ..keys.secret import Environment
from .schema import keys, owners, plans, secrets

SEPARATOR = ","  # that of `str(Scopes)` and `str(Networks)`, too
# Columns in the order `key_of` and `secret_of` take them.
KEY_COLUMNS = tuple(column for column in keys.c if column.computed is None)
SECRET_COLUMNS = tuple(secrets.c)
# And in the order `agreed_of` takes them.
AGREED_COLUMNS = (plans.c.scopes, plans.c.limits, plans.c.quotas, owners.c.limits, owners.c.quotas)


Moments: TypeAlias = Callable[[datetime | None], Any]  # how a database is handed a moment


def _as_it_is(moment: datetime | None) -> datetime | None:
    return moment


def key_row(key: Key, moment: Moments = _as_it_is) -> tuple[Any, ...]:
    """Return the row of a key, without its secrets, in the order of `KEY_COLUMNS`."""
    return (
        key.id,
        key.name,
        key.owner,
        key.description,
        str(key.environment),
        str(key.scopes),
        str(key.networks),
        SEPARATOR.join(map(str, key.limits)) if key.limits else "",
        SEPARATOR.join(map(str, key.quotas)) if key.quotas else "",
        moment(key.created_at),
        moment(key.updated_at),
        moment(key.expires_at),
        moment(key.disabled_at),
        moment(key.revoked_at),
        key.revoke_reason,
        key.version,
        moment(key.last_used_at),
        key.plan,
    )


def key_values(key: Key) -> dict[str, Any]:
    """Return what a change writes of a key, by the names of the columns: all but when it was last used.

    A change decides about the record it read; a request may have been counted since.
    """
    values = {column.name: value for column, value in zip(KEY_COLUMNS, key_row(key), strict=True)}
    del values["last_used_at"]
    return values


def secret_row(key_id: str, secret: Secret, moment: Moments = _as_it_is) -> tuple[Any, ...]:
    """Return the row of one secret of a key, in the order of `SECRET_COLUMNS`."""
    return (
        key_id,
        secret.number,
        secret.digest,
        secret.pepper_id,
        secret.hint,
        moment(secret.created_at),
        moment(secret.expires_at),
    )


def event_row(row: ChainedEvent, moment: Moments = _as_it_is) -> tuple[Any, ...]:
    """Return the row of an event, in the order `event_of` takes it."""
    event = row.event
    return (
        row.number,
        event.kind,
        moment(event.at),
        event.actor,
        event.key_id,
        event.owner,
        row.details or encode_details(event.details),
        row.previous_hash,
        row.hash,
    )


def key_of(row: Sequence[Any], held: tuple[Secret, ...], agreed: Agreed | None = None) -> Key:
    """Return the key of a row that begins with `KEY_COLUMNS`.

    Raises:
        InvalidField: Somebody wrote into it what cannot be read.
    """
    (
        key_id,
        name,
        owner,
        description,
        environment,
        scopes,
        networks,
        limits,
        quotas,
        created_at,
        updated_at,
        expires_at,
        disabled_at,
        revoked_at,
        revoke_reason,
        version,
        last_used_at,
        plan,
    ) = row[: len(KEY_COLUMNS)]
    return Key(
        id=key_id,
        name=name,
        owner=owner,
        description=description,
        environment=Environment(environment),
        plan=plan,
        scopes=_scopes(scopes),
        networks=_networks(networks),
        limits=_limits(limits),
        quotas=_quotas(quotas),
        secrets=held,
        created_at=created_at,
        updated_at=updated_at,
        expires_at=expires_at,
        disabled_at=disabled_at,
        revoked_at=revoked_at,
        revoke_reason=revoke_reason,
        version=version,
        last_used_at=last_used_at,
        agreed=agreed,
    )


def secret_of(row: Sequence[Any]) -> Secret:
    """Return the secret of a row of `SECRET_COLUMNS`."""
    _, number, digest, pepper_id, hint, created_at, expires_at = row
    return Secret(number, digest, pepper_id, hint, created_at, expires_at)


def agreed_of(row: Sequence[str | None]) -> Agreed | None:
    """Return what a key is under, of a row of `AGREED_COLUMNS`; None where there is nothing.

    Raises:
        InvalidField: Somebody wrote into it what cannot be read.
    """
    return None if row[0] is None and row[3] is None else _agreed(*row)


def plan_values(plan: Plan) -> dict[str, Any]:
    """Return the row of a plan, by the names of its columns."""
    return {
        "name": plan.name,
        "description": plan.description,
        "scopes": str(plan.scopes),
        "limits": SEPARATOR.join(map(str, plan.limits)),
        "quotas": SEPARATOR.join(map(str, plan.quotas)),
        "created_at": plan.created_at,
        "updated_at": plan.updated_at,
        "version": plan.version,
    }


def plan_of(row: Sequence[Any]) -> Plan:
    """Return the plan of a row.

    Raises:
        InvalidField: Somebody wrote into it what cannot be read.
    """
    name, description, scopes, limits, quotas, created_at, updated_at, version = row
    return Plan(
        name=name,
        description=description,
        scopes=_scopes(scopes),
        limits=_limits(limits),
        quotas=_quotas(quotas),
        created_at=created_at,
        updated_at=updated_at,
        version=version,
    )


def owner_values(terms: OwnerTerms) -> dict[str, Any]:
    """Return the row of an owner's terms, by the names of its columns."""
    return {
        "owner": terms.owner,
        "limits": SEPARATOR.join(map(str, terms.limits)),
        "quotas": SEPARATOR.join(map(str, terms.quotas)),
        "created_at": terms.created_at,
        "updated_at": terms.updated_at,
        "version": terms.version,
    }


def owner_of(row: Sequence[Any]) -> OwnerTerms:
    """Return the owner's terms of a row.

    Raises:
        InvalidField: Somebody wrote into it what cannot be read.
    """
    owner, limits, quotas, created_at, updated_at, version = row
    return OwnerTerms(
        owner=owner,
        limits=_limits(limits),
        quotas=_quotas(quotas),
        created_at=created_at,
        updated_at=updated_at,
        version=version,
    )


def event_of(row: Sequence[Any]) -> ChainedEvent:
    """Return the event of a row. Details that somebody made unreadable come back as such; their hash tells."""
    number, kind, at, actor, key_id, owner, details, previous_hash, own_hash = row
    try:
        parsed = json.loads(details)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        parsed = {"unreadable": details}
    event = event_class(kind)(at=at, actor=actor, key_id=key_id, owner=owner, details=parsed)
    return ChainedEvent(number, event, previous_hash, own_hash)


# Many keys share the same few lists, and the values are immutable: parse each text once.
@lru_cache(maxsize=4096)
def _scopes(text: str) -> Scopes:
    return Scopes(text.split(SEPARATOR) if text else ())


@lru_cache(maxsize=4096)
def _networks(text: str) -> Networks:
    return Networks(text.split(SEPARATOR) if text else ())


@lru_cache(maxsize=4096)
def _limits(text: str) -> tuple[Limit, ...]:
    return tuple(map(parse_limit, text.split(SEPARATOR))) if text else ()


@lru_cache(maxsize=4096)
def _quotas(text: str) -> tuple[Quota, ...]:
    return tuple(map(parse_quota, text.split(SEPARATOR))) if text else ()


@lru_cache(maxsize=4096)
def _agreed(scopes: str | None, limits: str, quotas: str, owner_limits: str | None, owner_quotas: str) -> Agreed:
    plan = owner = None
    if scopes is not None:
        plan = PlanFields(scopes=_scopes(scopes), limits=_limits(limits), quotas=_quotas(quotas))
    if owner_limits is not None:
        owner = OwnerFields(limits=_limits(owner_limits), quotas=_quotas(owner_quotas))
    return Agreed(plan, owner)
