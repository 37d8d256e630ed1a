"""Room pages: the fields of a key, as a form sends them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..keys.plans import Plan
from ..keys.record import Key

FIELDS = ("name", "owner", "description", "environment", "plan", "scopes", "limits", "quotas", "networks", "expires_at")
_WORDS = ("scopes", "networks")
_LINES = ("limits", "quotas")


def texts_of(form: Mapping[str, str]) -> dict[str, str]:
    """Return what somebody wrote into the fields of a key, to be shown to them again."""
    return {name: form.get(name, "").replace("\r\n", "\n").strip() for name in FIELDS}


def texts_of_key(key: Key) -> dict[str, str]:
    """Return what stands in the fields of a form about a key that is there."""
    return {
        "name": key.name,
        "owner": key.owner or "",
        "description": key.description,
        "environment": key.environment.value,
        "plan": key.plan or "",
        "scopes": "\n".join(key.scopes),
        "limits": "\n".join(map(str, key.limits)),
        "quotas": "\n".join(map(str, key.quotas)),
        "networks": "\n".join(key.networks),
        "expires_at": f"{key.expires_at:%Y-%m-%dT%H:%M:%S}" if key.expires_at else "",
    }


def fields_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a key, as `keydesk.keys.record.parse_fields` takes them, from what somebody wrote."""
    fields: dict[str, Any] = {name: texts[name] for name in ("name", "description")}
    fields |= {name: texts[name] or None for name in ("owner", "plan")}
    fields |= {name: texts[name].split() for name in _WORDS}
    fields |= {name: lines_of(texts[name]) for name in _LINES}
    fields["environment"] = texts["environment"] or "live"
    fields["expires_at"] = _moment(texts["expires_at"])
    return fields


def lines_of(text: str) -> list[str]:
    """Return the lines of a text that hold something."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def version_of(form: Mapping[str, str]) -> tuple[int]:
    """Return the version of what a form was made for: at another one nothing is changed. -1 where it names none."""
    text = form.get("version", "")
    return (int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1,)


def plan_choices(plans: Iterable[Plan], chosen: str) -> list[tuple[str, str]]:
    """Return what the field of the plan offers: none, the plans there are, and the one that is written there."""
    names = [plan.name for plan in plans]
    return [("", "none"), *((name, name) for name in dict.fromkeys([*names, *([chosen] if chosen else [])]))]


def _moment(text: str) -> datetime | str | None:
    """Return a moment as a browser's field for one sends it, which knows no zone: the page says that it is UTC."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text  # which says what is wrong with it when it is parsed
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
