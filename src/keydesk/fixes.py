"""Core: what to do about a refused secret. A command to type, or an edit where people write the keys down.

A fix has one line or more. A line that begins with `keydesk ` is a command, ready to be typed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil

from .claims import Taken
from .keys.networks import MAX_NETWORKS
from .keys.record import FIELD_NAMES, Key, KeyFields, Secret
from .keys.scopes import MAX_SCOPES
from .keys.secret import Environment
from .ports import EditedKeyStore, KeyStore, RemoteKeyStore, WritableKeyStore

MORE_DAYS = 90

_OPTIONS = {"scopes": "--scope", "networks": "--network", "limits": "--limit", "quotas": "--quota"}
_AS_MANY_AS_FIT = {"scopes": MAX_SCOPES, "networks": MAX_NETWORKS}
_SINGLE, _SEVERAL = "API_KEY", "API_KEYS"
_HAVE_COMMANDS = (WritableKeyStore, RemoteKeyStore)  # of the second, on the server, as they say themselves
_UNNAMED_PLACE = "the place where its keys are kept"
_PLAIN_YAML = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(?::[A-Za-z0-9._/-]+)*")

Value = str | datetime | tuple[str, ...]


def give_more(store: KeyStore, key: Key, field: str, lacking: Iterable[str]) -> str:
    """Return how a key gets what a list of it lacks.

    Args:
        store: Where the key is.
        key: Whose list it is.
        field: `scopes` or `networks`.
        lacking: What is to be put on the list.
    """
    lacking = tuple(lacking)
    if key.revoked_at is not None:  # nothing can be changed of it
        return f"give the new key these too: {_options(field, lacking)}"
    values = tuple(dict.fromkeys((*getattr(key, field), *lacking)))
    if len(values) > _AS_MANY_AS_FIT[field]:
        added = ", ".join(lacking)
        return f"a key holds at most {_AS_MANY_AS_FIT[field]} {field}; put wider ones in their place that cover {added}"
    if isinstance(store, _HAVE_COMMANDS):
        # All of them: `update` replaces a list as a whole.
        return f"keydesk update {key.id} {_options(field, values)}"
    return _edit(store, key, field, values)


def wait_or_raise(store: KeyStore, key: Key, stated: Key, taken: Taken) -> str:
    """Return what to do where limits or quotas of a key are used up.

    Args:
        store: Where the key is.
        key: As it is judged, with its plan folded in.
        stated: The same without its plan.
        taken: What its limits say.
    """
    lines = [] if taken.retry_after is None else [f"wait for {ceil(taken.retry_after)} seconds; or"]
    if any(policy.endswith(" per owner") for policy in taken.violated) and key.owner:
        lines.append(f"give its owner more:\nkeydesk owners show {shlex.quote(key.owner)}")
        return "\n".join(lines)
    if not isinstance(store, _HAVE_COMMANDS):
        return "\n".join([*lines, f"raise its limits in {_place(store, key)}" + _when(_place(store, key))])
    field = "quotas" if any(policy.endswith(" quota") for policy in taken.violated) else "limits"
    own = _options(field, map(str, getattr(stated, field)))
    if own:
        lines.append(f"give it more, in place of what it has:\nkeydesk update {key.id} {own}")
    if key.plan:
        lines.append(f"{'or ' if own else ''}give all keys of its plan more:\nkeydesk plans show {key.plan}")
    if not own and not key.plan:
        lines.append(
            f"give it limits of its own in place of the default ones:\nkeydesk update {key.id} --limit 1000/minute"
        )
    return "\n".join(lines)


def grant_more(store: KeyStore, key: Key, stated: Key, lacking: Iterable[str]) -> str:
    """Return how a key gets scopes that it lacks: from itself, or from its plan.

    Args:
        store: Where the key is.
        key: As it is judged, with its plan folded in.
        stated: The same without its plan.
        lacking: The scopes.
    """
    lacking = tuple(lacking)
    plan = key.agreed.plan if key.agreed else None
    beyond = plan.scopes.missing(lacking) if plan else ()
    if plan is None or not beyond or key.revoked_at is not None:
        return give_more(store, stated, "scopes", lacking)
    lines = [
        f"the plan {key.plan} does not grant {', '.join(beyond)}; grant it to all its keys, or give this one another:",
        f"keydesk plans put {key.plan} {_options('scopes', (*plan.scopes, *beyond))}",
    ]
    if stated.scopes:  # which then have to name it, too
        lines.append(give_more(store, stated, "scopes", lacking))
    return "\n".join(lines)


def enable(store: KeyStore, key: Key) -> str:
    """Return how a disabled key is switched on again."""
    return f"keydesk enable {key.id}" if isinstance(store, _HAVE_COMMANDS) else "switch it on where it is kept"


def extend(store: KeyStore, key: Key, now: datetime) -> str:
    """Return how an expired key goes on."""
    if isinstance(store, _HAVE_COMMANDS):
        return f"keydesk update {key.id} --expires {MORE_DAYS}d"
    return _edit(store, key, "expires_at", _later(now))


def replace_secret(store: KeyStore, key: Key, secret: Secret, now: datetime) -> str:
    """Return what to do where a secret of a key has ended, and the key itself goes on."""
    good = [other for other in key.secrets if not other.expired_at(now)]
    lines = []
    if good:
        hint = f" ({good[-1].hint})" if good[-1].hint != "…" else ""
        another = "use its newer secret" if good[-1].number > secret.number else "use another of its secrets"
        lines.append(f"{another}, number {good[-1].number}{hint}; or, if nobody has that:")
    if isinstance(store, _HAVE_COMMANDS):
        lines.append(f"keydesk rotate {key.id}")
    else:
        lines.append(_edit(store, key, "expires_at", _later(now), entry=secret.number))
    return "\n".join(lines)


def issue_again(key: Key, now: datetime) -> str:
    """Return how to issue another key with all that a revoked one had."""
    command = ["keydesk issue"]
    if key.owner is not None:
        command.append(f"--owner {shlex.quote(key.owner)}")
    if key.plan is not None:
        command.append(f"--plan {key.plan}")
    if key.environment is not Environment.LIVE:
        command.append(f"--environment {key.environment}")
    command += [_options(field, map(str, getattr(key, field))) for field in _OPTIONS if getattr(key, field)]
    if key.expires_at is not None:
        command.append(f"--expires {key.expires_at.isoformat() if key.expires_at > now else f'{MORE_DAYS}d'}")
    name = shlex.quote(key.name)
    # After `--` nothing is taken for an option, whatever it begins with.
    command = [*command, "--", name] if key.name.startswith("-") else [command[0], name, *command[1:]]
    return "a revoked key stays revoked; issue a new one:\n" + " ".join(command)


def write_down(store: KeyStore) -> str:
    """Return what to do about a secret that no key has."""
    if not isinstance(store, _HAVE_COMMANDS):
        place = _place(store)
        entry = f'"THE-SECRET"{_between(place)}"Name of the client"'
        return f"see whether it belongs to another desk, or write it into {place}: {entry}" + _when(place)
    return (
        "see whether it was issued by another desk or under another pepper (`keydesk doctor`), or issue a new key:\n"
        'keydesk issue "Name of the client"'
    )


def _options(field: str, values: Iterable[str]) -> str:
    return " ".join(f"{_OPTIONS[field]} {shlex.quote(value)}" for value in values)


def _later(now: datetime) -> datetime:
    return (now + timedelta(days=MORE_DAYS)).replace(microsecond=0)


# Edits


def _edit(store: KeyStore, key: Key, field: str, value: Value, entry: int | None = None) -> str:
    """Return which field to set where, for all entries of a key or for that of one secret."""
    place, entries = _place(store, key), len(key.secrets)
    if place == _SINGLE and entry is None:
        also = "" if entries == 1 else ", and give its other entries the same"
        table = _table(_SEVERAL, key.name, field, value)
        return f"{_SINGLE} holds no fields: move its secret to {_SEVERAL}, with {table}{also}" + _when(place)
    name = _text(key.name)
    if entry is not None and entries > 1:
        # API_KEY comes first and is none of the entries in API_KEYS.
        name = f"entry {entry - (place == _SINGLE)} of {name}"
    elif entries > 1:
        name = f"each of the {entries} entries of {name}"
    place = _SEVERAL if place == _SINGLE else place
    edit = f"in {place}, give {name} {_written(place, field, value)}"
    if _has_only_a_name(key):
        edit += (
            f"\nwhere its entry is the name alone, write instead of the name: {_table(place, key.name, field, value)}"
        )
    return edit + _when(place)


def _place(store: KeyStore, key: Key | None = None) -> str:
    return store.edited_in(key) if isinstance(store, EditedKeyStore) else _UNNAMED_PLACE


def _when(place: str) -> str:
    return "\nit is in force when the application is started again" if place in (_SINGLE, _SEVERAL) else ""


def _has_only_a_name(key: Key) -> bool:
    fields = KeyFields(**{name: getattr(key, name) for name in FIELD_NAMES})
    return fields == KeyFields(name=key.name) and not any(secret.expires_at for secret in key.secrets)


def _table(place: str, name: str, field: str, value: Value) -> str:
    return f"{{{_written(place, 'name', name)}, {_written(place, field, value)}}}"


def _written(place: str, field: str, value: Value) -> str:
    """Return a field as it is written there: in YAML, in TOML, or in what JSON and Python have in common."""
    return (_text(field) if _is_setting(place) else field) + _between(place) + _value(place, value)


def _value(place: str, value: Value) -> str:
    if isinstance(value, datetime):
        return _text(value.isoformat()) if _is_setting(place) else value.isoformat()
    if isinstance(value, str):
        return _text(value)
    quoted = _is_setting(place) or _is_toml(place)
    return f"[{', '.join(_text(one) if quoted or not _PLAIN_YAML.fullmatch(one) else one for one in value)}]"


def _text(value: str) -> str:
    """Return a text in double quotes, which JSON, YAML, TOML and Python read the same way."""
    return json.dumps(value, ensure_ascii=False)


def _between(place: str) -> str:
    return " = " if _is_toml(place) else ": "


def _is_toml(place: str) -> bool:
    return place.lower().endswith(".toml")


def _is_setting(place: str) -> bool:
    return place == _SEVERAL
