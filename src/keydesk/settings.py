"""Core: the settings. One table says what there is; reading them reports every problem at once."""

from __future__ import annotations

import base64
import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidField, SettingsError
from .keys.digest import parse_pepper
from .keys.secret import SecretFormat, redact, shown

CONFIG_FILE = "KEYDESK_CONFIG"
CONFIG_STORE = "config://"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token of RFC 9110, of sane length
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_REALM = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}")  # what needs no escaping in a quoted string, RFC 9110
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLACELESS = ("memory", "config")
_DATABASES = ("sqlite", "postgresql", "mysql", "mariadb")
_STORES = "memory://, config://, file:keys.yml, sqlite:///path, postgresql+psycopg:// or mysql+pymysql://"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
OURS = "KEYDESK_"
# Above what Kubernetes makes of the names of services: KEYDESK_PORT is 0.80 near, KEYDESK_STORE_PORT 0.84.
_NEAR = 0.85
LONG_NAME = 60  # no setting is named like what is longer
# In the place of a wrong one. Not the default, which may have been changed since secrets of others begin with kd_ too.
_PREFIX_INSTEAD = "wrong"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: the name outside, the name in `Settings`, how it is read, and what the docs say of it."""

    name: str
    field: str
    read: Callable[[Any], Any]
    kind: str
    default: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, read and checked. Secret ones are left out of the repr."""

    store: str
    api_key: str | None
    api_keys: Mapping[str, Any]
    prefix: str
    pepper: bytes | None
    previous_peppers: tuple[bytes, ...]
    header: str
    query_parameter: str | None
    realm: str
    protect_options: bool
    max_staleness: float | None
    outage_grace: float
    cache_keys: int
    usage_flush: float

    def __repr__(self) -> str:
        return f"Settings(header={self.header!r}, prefix={self.prefix!r})"


@dataclass(frozen=True, slots=True)
class Given:
    """Settings as they were given, not yet read, and what is wrong with the place they are from."""

    values: Mapping[str, Any] = field(repr=False)
    problems: tuple[str, ...] = ()


def read_settings(given: Mapping[str, Any] | Given, *, default_store: str) -> Settings:
    """Return the settings of a mapping such as `app.config`; names that are not ours are passed over.

    Args:
        given: Setting names to values; texts are read as in the environment. Or what `read_environment` returned.
        default_store: The store where neither `KEYDESK_STORE` nor `API_KEY` nor `API_KEYS` is there.

    Raises:
        SettingsError: One or more settings cannot be used. All problems are in it.
    """
    settings, problems = survey_settings(given, default_store=default_store)
    if problems:
        raise SettingsError(problems)
    return settings


def survey_settings(given: Mapping[str, Any] | Given, *, default_store: str) -> tuple[Settings, list[str]]:
    """Return the settings as `read_settings` does, and what is wrong with them, each problem with its fix.

    Where there are problems, the settings only serve to look for more of them, see `build_desk`: something harmless
    is in the place of each wrong one.
    """
    if not isinstance(given, Given):
        given = Given(given, tuple(_unknown(given)))
    problems = list(given.problems)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        try:
            values[setting.field] = setting.read(given.values.get(setting.name))
        except InvalidField as error:
            problems.append(f"{setting.name} {redact(error.problem)}")
        except SettingsError as error:
            problems += [f"{setting.name}, {problem}" for problem in error.problems]
    if values.get("previous_peppers") and values.get("pepper", b"") is None:
        problems.append("KEYDESK_PREVIOUS_PEPPERS needs KEYDESK_PEPPER, the one that took their place; set it too")
    for setting in SETTINGS:
        values.setdefault(setting.field, _PREFIX_INSTEAD if setting.field == "prefix" else setting.read(None))
    if not values["store"]:
        values["store"] = CONFIG_STORE if {"API_KEY", "API_KEYS"} & given.values.keys() else default_store
    return Settings(**values), problems


def nearest_setting(name: str) -> str | None:
    """Return the setting that somebody meant, if one is near: misspelt, in lower case, without or with `KEYDESK_`."""
    name = name.upper().replace("-", "_")[:LONG_NAME]
    forms = (name, OURS + name, name.removeprefix(OURS))
    return next((near[0] for form in forms if (near := difflib.get_close_matches(form, NAMES, 1, _NEAR))), None)


def _unknown(given: Mapping[str, Any]) -> list[str]:
    problems = []
    for name in given:
        if not isinstance(name, str) or not name.upper().startswith(OURS) or name in NAMES:
            continue
        if name == CONFIG_FILE:
            fix = "write what the file holds here, in its place"
            problems.append(f"{CONFIG_FILE} is read from the environment only; {fix}")
        elif near := nearest_setting(name):
            problems.append(f"{name} is no setting; did you mean {near}?")
        else:
            problems.append(f"{redact(name)[:LONG_NAME]} is no setting of this version; take it out")
    return problems


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidField(name, f"must be text, not {type(value).__name__}; write one text, in quotes")
    return value.strip()


def _store(value: Any) -> str:
    store = "" if value is None else _text(value, "store")
    scheme, colon, rest = store.partition(":")
    kind = scheme.partition("+")[0]
    # No message shows the value but where it is a file: a URL holds a password, and somebody may have pasted a secret.
    if _CONTROL.search(store):
        raise InvalidField("store", "holds control characters; take them out")
    if kind in _PLACELESS and store != f"{kind}://":
        raise InvalidField("store", f"begins with {kind}, which needs :// and nothing behind it; write {kind}://")
    if kind == "file" and not (scheme == kind and colon and rest.lower().endswith((".yml", ".yaml", ".toml"))):
        problem = f"names the file {shown(rest, 80)}" if scheme == kind else "is no store"
        raise InvalidField("store", f"{problem}; write file: and a name that ends in .yml, .yaml or .toml")
    if store and kind not in (*_PLACELESS, "file", *_DATABASES):
        begins = f"begins with {kind}:" if re.fullmatch(r"[a-z]{1,12}", kind) and colon else "is no store"
        raise InvalidField("store", f"{begins}; write {_STORES}")
    return store


def _api_key(value: Any) -> str | None:
    return None if value is None else _text(value, "api_key") or None


def _api_keys(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            raise InvalidField("api_keys", 'is no JSON; write {"the-secret": "Name of the client"}') from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):  # its entries are looked at one by one, see `keys_of_mapping`
        problem = "must be a mapping of secret to name, or to a table of fields"
        raise InvalidField("api_keys", f'{problem}; write {{"the-secret": "Name of the client"}}')
    return value


def _prefix(value: Any) -> str:
    prefix = "kd" if value is None else _text(value, "prefix")
    return SecretFormat(prefix).prefix


def _pepper(value: Any) -> bytes | None:
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()
    return parse_pepper(_text(value, "pepper"))


def _peppers(value: Any) -> tuple[bytes, ...]:
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, bytes):
        value = [value]
    if value is not None and not isinstance(value, Sequence):
        problem = f"must be a list, not {type(value).__name__}"
        raise InvalidField("previous_peppers", f"{problem}; write a list of peppers, or one text with commas between")
    peppers, problems = [], []
    for number, one in enumerate(value or (), 1):
        try:
            peppers.append(_pepper(one))
        except InvalidField as error:
            problems.append(f"number {number} {error.problem}")
    if problems:
        raise SettingsError(problems)
    return tuple(filter(None, peppers))


def _header(value: Any) -> str:
    header = "X-API-Key" if value is None else _text(value, "header")
    if not _HEADER.fullmatch(header):
        raise InvalidField("header", f"is no header name: {header[:80]!r}; write for example X-API-Key")
    if header.lower() in ("authorization", "cookie", "host"):
        raise InvalidField(
            "header",
            f"cannot be {header}: Authorization: Bearer is always read; name another, such as X-API-Key",
        )
    return header


def _query_parameter(value: Any) -> str | None:
    parameter = None if value is None else _text(value, "query_parameter") or None
    if parameter is not None and not _PARAMETER.fullmatch(parameter):
        raise InvalidField("query_parameter", f"is no parameter name: {parameter[:80]!r}; write for example api_key")
    return parameter


def _realm(value: Any) -> str:
    realm = "api" if value is None else _text(value, "realm")
    if not _REALM.fullmatch(realm):
        problem = "must be 1 to 64 printable ASCII characters without quotes and backslashes"
        raise InvalidField("realm", f"{problem}; write for example api")
    return realm


def _boolean(value: Any) -> bool:
    text = "" if value is None else str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise InvalidField("boolean", f"is neither true nor false: {shown(str(value))}; write true or false")
    return text in _TRUE


def _number(lowest: float, highest: float, default: float | None, *, whole: bool = False) -> Callable[[Any], Any]:
    """Return what reads a number from `lowest` to `highest`; nothing is the default."""
    advice = f"write a {'whole ' if whole else ''}number from {lowest:g} to {highest:g}"

    def read(value: Any) -> float | None:
        if value is None or value == "":
            return default
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not lowest <= number <= highest or (whole and number != int(number)):
            raise InvalidField("number", f"is out of range: {shown(str(value))}; {advice}")
        return int(number) if whole else number

    return read


SETTINGS = (
    Setting(
        "KEYDESK_STORE",
        "store",
        _store,
        "URL",
        "`sqlite:///` and `keydesk.db` in the instance folder",
        "Where keys are kept: `memory://`, `config://`, `file:keys.yml` (YAML or TOML), or a database: "
        "`sqlite:///path`, `postgresql+psycopg://...`, `mysql+pymysql://...`.",
    ),
    Setting(
        "API_KEY",
        "api_key",
        _api_key,
        "text",
        "unset",
        "One key. Set to nothing it lets nobody in. With it or `API_KEYS` there, and no `KEYDESK_STORE`, the store is "
        "`config://`.",
    ),
    Setting(
        "API_KEYS",
        "api_keys",
        _api_keys,
        "mapping (JSON in the environment)",
        "unset",
        "Several keys: secret, or `sha256:` and its SHA-256 in hex, to a name or to a table of fields.",
    ),
    Setting("KEYDESK_PREFIX", "prefix", _prefix, "text", "`kd`", "First part of every secret issued here."),
    Setting(
        "KEYDESK_PEPPER",
        "pepper",
        _pepper,
        "base64 of at least 32 bytes",
        "unset",
        "Key of the HMAC that digests are made with. Keep it out of the database and its backups.",
    ),
    Setting(
        "KEYDESK_PREVIOUS_PEPPERS",
        "previous_peppers",
        _peppers,
        "list of the same (commas in the environment)",
        "none",
        "Peppers that digests may still be under. Each moves to `KEYDESK_PEPPER` when its secret is next used.",
    ),
    Setting(
        "KEYDESK_HEADER",
        "header",
        _header,
        "header name",
        "`X-API-Key`",
        "Where clients send their secret. `Authorization: Bearer` is always read too.",
    ),
    Setting(
        "KEYDESK_QUERY_PARAMETER",
        "query_parameter",
        _query_parameter,
        "parameter name",
        "unset",
        "Read the secret from the query string too. Off, because URLs end up in logs, histories and `Referer`.",
    ),
    Setting("KEYDESK_REALM", "realm", _realm, "text", "`api`", "The realm in `WWW-Authenticate`."),
    Setting(
        "KEYDESK_PROTECT_OPTIONS",
        "protect_options",
        _boolean,
        "boolean",
        "`false`",
        "Ask for a key on OPTIONS too. Off, because browsers send no key with a CORS preflight.",
    ),
    Setting(
        "KEYDESK_MAX_STALENESS_SECONDS",
        "max_staleness",
        _number(0, 3600, None),
        "seconds, 0 to 3600",
        "0.05 on SQLite, else 1",
        "How old what a worker knows of keys may be: a revoked key is refused everywhere within this time. 0 asks the "
        "store on every request.",
    ),
    Setting(
        "KEYDESK_OUTAGE_GRACE_SECONDS",
        "outage_grace",
        _number(0, 86_400, 300),
        "seconds, 0 to 86400",
        "300",
        "For how long known keys go on working while the store does not answer. Everything else gets 503.",
    ),
    Setting(
        "KEYDESK_CACHE_KEYS",
        "cache_keys",
        _number(0, 1_000_000, 10_000, whole=True),
        "whole number, 0 to 1000000",
        "10000",
        "How many keys a worker keeps in memory. 0 keeps none: each request reads the store.",
    ),
    Setting(
        "KEYDESK_USAGE_FLUSH_SECONDS",
        "usage_flush",
        _number(0.1, 3600, 2),
        "seconds, 0.1 to 3600",
        "2",
        "How often a worker writes down what it counted: as much is lost at most when it is killed.",
    ),
)
NAMES = tuple(setting.name for setting in SETTINGS)
