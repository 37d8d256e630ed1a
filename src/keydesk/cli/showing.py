"""Room cli: how a key looks, as a table for people and as JSON for programs. Neither holds a digest."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.table import Table

from ..keys.record import Key, Secret, Status
from ..usage import EarlierReport
from .text import WIDE_COLUMNS, cell, iso, listing, moment, record

BOTH_COLUMNS = 140  # where there is room for when a key was last used and when it ends
_NETWORKS = 3  # that are named of each earlier secret
STYLES = {Status.ACTIVE: "green", Status.EXPIRED: "yellow", Status.DISABLED: "yellow", Status.REVOKED: "red"}


def key_json(key: Key, now: datetime) -> dict[str, Any]:
    """Return a key as JSON values; `status` is its state at `now`."""
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "description": key.description,
        "environment": key.environment.value,
        "plan": key.plan,
        "status": key.status_at(now).value,
        "scopes": list(key.scopes),
        "networks": list(key.networks),
        "limits": [str(limit) for limit in key.limits],
        "quotas": [str(quota) for quota in key.quotas],
        "expires_at": iso(key.expires_at),
        "created_at": iso(key.created_at),
        "updated_at": iso(key.updated_at),
        "last_used_at": iso(key.last_used_at),
        "disabled_at": iso(key.disabled_at),
        "revoked_at": iso(key.revoked_at),
        "revoke_reason": key.revoke_reason,
        "version": key.version,
        "secrets": [_secret_json(secret) for secret in key.secrets],
    }


def _secret_json(secret: Secret) -> dict[str, Any]:
    return {
        "number": secret.number,
        "hint": secret.hint,
        "created_at": iso(secret.created_at),
        "expires_at": iso(secret.expires_at),
    }


def key_table(key: Key, now: datetime, earlier: EarlierReport | None = None) -> Table:
    """Return all there is to see of one key, and who uses its earlier secrets. What it does not have is left out."""
    status = key.status_at(now)
    table = record()
    for name, value in (
        ("id", key.id),
        ("name", key.name),
        ("owner", key.owner),
        ("description", key.description),
        ("environment", key.environment),
        ("plan", key.plan),
    ):
        if value:
            table.add_row(name, cell(value))
    table.add_row("status", cell(_status_text(key, status), STYLES[status]))
    table.add_row(
        "scopes", cell("\n".join(key.scopes) or ("all of the plan's" if key.plan and not key.in_force else "none"))
    )
    table.add_row("networks", cell("\n".join(key.networks) or "any"))
    for name, values in (("limits", key.limits), ("quotas", key.quotas)):
        if values:
            table.add_row(name, cell("\n".join(map(str, values))))
    table.add_row("expires", cell(_with_zone(key.expires_at) or "never"))
    table.add_row("created", cell(_with_zone(key.created_at)))
    if key.updated_at != key.created_at:
        table.add_row("updated", cell(_with_zone(key.updated_at)))
    table.add_row("last used", cell(_with_zone(key.last_used_at) or "never"))
    lines = [_secret_line(secret, now) for secret in key.secrets]
    if earlier is not None:
        used = [_used_line(secret, now, earlier) for secret in key.secrets[:-1]]
        lines = [f"{line}{more}" for line, more in zip(lines, [*used, ""], strict=True)]
    table.add_row("secrets", cell("\n".join(lines)))
    return table


def _status_text(key: Key, status: Status) -> str:
    if status is Status.REVOKED:
        reason = f": {key.revoke_reason}" if key.revoke_reason else ""
        return f"revoked on {_with_zone(key.revoked_at)}{reason}"
    if status is Status.DISABLED:
        return f"disabled on {_with_zone(key.disabled_at)}"
    return status.value


def _secret_line(secret: Secret, now: datetime) -> str:
    if secret.expires_at is None:
        return f"{secret.number}: {secret.hint}"
    verb = "ended" if secret.expired_at(now) else "ends"
    return f"{secret.number}: {secret.hint}, {verb} {_with_zone(secret.expires_at)}"


def _used_line(secret: Secret, now: datetime, earlier: EarlierReport) -> str:
    """Return a line that says who still uses an earlier secret; of one that has ended, only where somebody does."""
    used = [each for each in earlier.networks if each.secret == secret.number]
    last = earlier.last_used.get(secret.number)
    if last is None or (secret.expired_at(now) and not used):
        return "" if secret.expired_at(now) else "\n   not used since there is a newer one"
    names = [f"{each.count} from {each.network or 'other networks'}" for each in used[:_NETWORKS]]
    if len(used) > _NETWORKS:
        names.append(f"{sum(each.count for each in used[_NETWORKS:])} from elsewhere")
    return f"\n   last used {_with_zone(last)}; within 24 hours: {', '.join(names) or 'not at all'}"


def earlier_json(key: Key, earlier: EarlierReport | None) -> list[dict[str, Any]]:
    """Return who used each earlier secret of a key as JSON values; nothing where that is not known."""
    if earlier is None:
        return []
    return [
        {
            "number": secret.number,
            "last_used_at": iso(earlier.last_used.get(secret.number)),
            "networks": [
                {"network": each.network, "count": each.count}
                for each in earlier.networks
                if each.secret == secret.number
            ],
        }
        for secret in key.secrets[:-1]
    ]


def _with_zone(at: datetime | None) -> str:
    return f"{moment(at)} UTC" if at else ""


def keys_table(keys: Iterable[Key], now: datetime, width: int, *, with_use: bool = False) -> Table:
    """Return one line a key; where there is room, with the end of its newest secret and its scopes.

    Args:
        keys: The keys.
        now: The present.
        width: Columns of the terminal.
        with_use: Whether to say when they were last used, in the place of when they end where there is no room.
    """
    wide = width >= WIDE_COLUMNS
    table = listing()
    table.add_column("Id", no_wrap=True)
    table.add_column("Name", overflow="fold", min_width=8)
    table.add_column("Owner", overflow="fold")
    table.add_column("Status", no_wrap=True)
    if wide:
        table.add_column("Secret", no_wrap=True)
        table.add_column("Scopes", overflow="fold")
    both = width >= BOTH_COLUMNS
    if both or with_use:
        table.add_column("Last used", no_wrap=True)
    if both or not with_use:
        table.add_column("Expires", no_wrap=True)
    for key in keys:
        status = key.status_at(now)
        ends = [cell(f"{at:%Y-%m-%d}" if at else "never") for at in (key.last_used_at, key.expires_at)]
        ends = ends if both else ends[:1] if with_use else ends[1:]
        more = (cell(key.secrets[-1].hint), cell(" ".join(key.scopes) or "none")) if wide else ()
        table.add_row(cell(key.id), cell(key.name), cell(key.owner or ""), cell(status, STYLES[status]), *more, *ends)
    return table
