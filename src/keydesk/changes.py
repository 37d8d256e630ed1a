"""Core: what each change makes of a record, and the event that tells of it. Pure functions; the desk asks who may."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from .errors import StateConflict, VersionConflict
from .events import (
    Event,
    KeyDeleted,
    KeyDisabled,
    KeyEnabled,
    KeyImported,
    KeyIssued,
    KeyPruned,
    KeyRevoked,
    KeyRotated,
    KeyUpdated,
    OwnerCreated,
    OwnerDeleted,
    OwnerUpdated,
    PlanCreated,
    PlanDeleted,
    PlanUpdated,
)
from .keys.plans import OwnerTerms, Plan
from .keys.record import FIELD_NAMES, MAX_SECRETS, Key, KeyFields, Secret, Status, mint_key_id, update_fields
from .ports import Change, OwnerChange, PlanChange


def require_version(version: int, wanted: Collection[int] | None) -> None:
    """Return if what is to be changed is at a version that the caller knows of.

    Args:
        version: Its version; 0 where it is not there.
        wanted: The versions known; None for any.

    Raises:
        VersionConflict: It is at another one.
    """
    if wanted is not None and version not in wanted:
        raise VersionConflict(version)


def new_key(given: KeyFields, secret: Secret, now: datetime, key_id: str | None = None) -> Key:
    """Return the record of a key that begins now, with one secret and, unless an id is given, one of its own."""
    return Key(
        id=key_id or mint_key_id(now),
        name=given.name,
        owner=given.owner,
        description=given.description,
        environment=given.environment,
        plan=given.plan,
        scopes=given.scopes,
        networks=given.networks,
        limits=given.limits,
        quotas=given.quotas,
        secrets=(secret,),
        created_at=now,
        updated_at=now,
        expires_at=given.expires_at,
    )


def issued(key: Key, actor: str) -> Event:
    """Return the event of a new key."""
    return KeyIssued(**_about(key, key.created_at, actor), details=_details_of(key))


def imported(key: Key, actor: str) -> Event:
    """Return the event of a key whose secret a client already held."""
    details = _details_of(key)
    return KeyImported(at=key.created_at, actor=actor, key_id=key.id, owner=key.owner, details=details)


def require_rotatable(key: Key, now: datetime) -> None:
    """Return if the key may be given a new secret.

    Raises:
        StateConflict: It is not active.
    """
    _require_status(key, now, (Status.ACTIVE,), "rotated")


def rotate(key: Key, secret: Secret, overlap: timedelta, actor: str) -> Change:
    """Give the key a new secret; the earlier ones end after the overlap.

    Raises:
        StateConflict: It has 10 secrets that still go on.
    """
    now = secret.created_at
    end = now + overlap
    after = _changed(key, now, secrets=(*_phase_out(key, now, end), secret))
    details = {"secret": secret.number, "hint": secret.hint, "previous_end_at": end.isoformat()}
    return Change(after, KeyRotated(**_about(key, now, actor), details=details))


def _phase_out(key: Key, now: datetime, end: datetime) -> list[Secret]:
    """Return the earlier secrets, none going on beyond `end`, and as many as fit.

    Ended ones are kept while there is room, so that who still sends one hears since when it has ended.
    """
    earlier = [s if s.expires_at and s.expires_at <= end else replace(s, expires_at=end) for s in key.secrets]
    going_on = [s for s in earlier if not s.expired_at(now)]
    room = MAX_SECRETS - 1 - len(going_on)
    if room < 0:
        raise StateConflict(
            f"{key.id} has {len(going_on)} secrets that still go on, as many as fit. Wait until one has ended, or "
            "end them all now with an overlap of 0."
        )
    ended = [s for s in earlier if s.expired_at(now)]
    return sorted(going_on + ended[max(0, len(ended) - room) :], key=lambda s: s.number)


def update(key: Key, given: Mapping[str, Any], now: datetime, actor: str) -> Change | None:
    """Put the given fields in the place of the key's; None where nothing differs.

    Raises:
        InvalidField: A field cannot be used.
        StateConflict: The key is revoked.
    """
    after = update_fields(key, given)
    if key.revoked_at is not None:
        raise StateConflict(f"{key.id} cannot be updated: it is revoked, for good; issue another key instead.")
    values = {name: (_plain(getattr(key, name)), _plain(getattr(after, name))) for name in FIELD_NAMES}
    details = {name: [old, new] for name, (old, new) in values.items() if old != new}
    if not details:
        return None
    return Change(_changed(after, now), KeyUpdated(**_about(after, now, actor), details=details))


def disable(key: Key, now: datetime, actor: str) -> Change:
    """Switch the key off until it is enabled again.

    Raises:
        StateConflict: It is disabled or revoked already.
    """
    _require_status(key, now, (Status.ACTIVE, Status.EXPIRED), "disabled")
    return Change(_changed(key, now, disabled_at=now), KeyDisabled(**_about(key, now, actor), details={}))


def enable(key: Key, now: datetime, actor: str) -> Change:
    """Switch a disabled key on again.

    Raises:
        StateConflict: It is not disabled.
    """
    _require_status(key, now, (Status.DISABLED,), "enabled")
    return Change(_changed(key, now, disabled_at=None), KeyEnabled(**_about(key, now, actor), details={}))


def revoke(key: Key, reason: str, now: datetime, actor: str) -> Change:
    """End the key for good.

    Raises:
        StateConflict: It is revoked already.
    """
    _require_status(key, now, (Status.ACTIVE, Status.EXPIRED, Status.DISABLED), "revoked")
    after = _changed(key, now, revoked_at=now, revoke_reason=reason)
    return Change(after, KeyRevoked(**_about(key, now, actor), details={"reason": reason}))


def delete(key: Key, now: datetime, actor: str) -> Change:
    """Remove the record of a revoked key.

    Raises:
        StateConflict: It is not revoked.
    """
    _require_status(key, now, (Status.REVOKED,), "deleted")
    return Change(None, KeyDeleted(**_about(key, now, actor), details={"name": key.name}))


def prune(key: Key, ended_before: datetime, now: datetime, actor: str) -> Change | None:
    """Remove a key that was revoked or expired before a moment, or its secrets that ended before; None for neither."""
    about = _about(key, now, actor)
    if any(end is not None and end < ended_before for end in (key.revoked_at, key.expires_at)):
        return Change(None, KeyDeleted(**about, details={"name": key.name}))
    kept = tuple(s for s in key.secrets if s.expires_at is None or s.expires_at >= ended_before)
    gone = [s.number for s in key.secrets if s not in kept]
    if not gone or not kept:
        return None
    return Change(_changed(key, now, secrets=kept), KeyPruned(**about, details={"secrets": gone}))


def put_plan(name: str, plan: Plan | None, given: Mapping[str, Any], now: datetime, actor: str) -> PlanChange | None:
    """Make a plan of the given fields, or put them in the place of its own; None where nothing differs."""
    about: dict[str, Any] = {"at": now, "actor": actor, "key_id": "", "owner": None}
    if plan is None:
        details = {field: _plain(value) for field, value in given.items() if value}
        made = Plan(name=name, created_at=now, updated_at=now, **given)
        return PlanChange(made, PlanCreated(**about, details={"plan": name, **details}))
    details = _differences(plan, given)
    if not details:
        return None
    after = replace(plan, **given, updated_at=now, version=plan.version + 1)
    return PlanChange(after, PlanUpdated(**about, details={"plan": name, **details}))


def delete_plan(plan: Plan, now: datetime, actor: str) -> PlanChange:
    """Remove a plan."""
    return PlanChange(None, PlanDeleted(at=now, actor=actor, key_id="", owner=None, details={"plan": plan.name}))


def put_owner(
    owner: str, terms: OwnerTerms | None, given: Mapping[str, Any], now: datetime, actor: str
) -> OwnerChange | None:
    """Agree on the given fields for an owner, or put them in the place of those agreed; None where nothing differs."""
    about: dict[str, Any] = {"at": now, "actor": actor, "key_id": "", "owner": owner}
    if terms is None:
        details = {field: _plain(value) for field, value in given.items() if value}
        made = OwnerTerms(owner=owner, created_at=now, updated_at=now, **given)
        return OwnerChange(made, OwnerCreated(**about, details=details))
    details = _differences(terms, given)
    if not details:
        return None
    after = replace(terms, **given, updated_at=now, version=terms.version + 1)
    return OwnerChange(after, OwnerUpdated(**about, details=details))


def delete_owner(terms: OwnerTerms, now: datetime, actor: str) -> OwnerChange:
    """Remove what was agreed for an owner."""
    return OwnerChange(None, OwnerDeleted(at=now, actor=actor, key_id="", owner=terms.owner, details={}))


def _differences(before: Plan | OwnerTerms, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field: [_plain(getattr(before, field)), _plain(value)]
        for field, value in given.items()
        if getattr(before, field) != value
    }


def _changed(key: Key, now: datetime, **values: Any) -> Key:
    return replace(key, updated_at=now, version=key.version + 1, **values)


def _require_status(key: Key, now: datetime, wanted: tuple[Status, ...], verb: str) -> None:
    status = key.status_at(now)
    if status in wanted:
        return
    advice = {
        Status.ACTIVE: "; revoke it first" if verb == "deleted" else "",
        Status.EXPIRED: "; set a later expires_at first" if verb == "rotated" else "; revoke it first",
        Status.DISABLED: "" if verb == "disabled" else f"; {'revoke' if verb == 'deleted' else 'enable'} it first",
        Status.REVOKED: "" if verb == "revoked" else ", for good; issue another key instead",
    }[status]
    raise StateConflict(f"{key.id} cannot be {verb}: it is {status}{advice}.")


def _about(key: Key, now: datetime, actor: str) -> dict[str, Any]:
    """Return what every event says: when, who, and of which key."""
    return {"at": now, "actor": actor, "key_id": key.id, "owner": key.owner}


def _details_of(key: Key) -> dict[str, Any]:
    """Return all fields that are not empty, and the hint of the secret, for the event of a new key."""
    details: dict[str, Any] = {
        "name": key.name,
        "environment": str(key.environment),
        "hint": key.secrets[0].hint,
    }
    for name in ("description", "plan", "scopes", "networks", "limits", "quotas", "expires_at"):
        if value := getattr(key, name):
            details[name] = _plain(value)
    return details


def _plain(value: Any) -> Any:
    """Return a field as JSON values."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str) else [str(item) for item in value]
