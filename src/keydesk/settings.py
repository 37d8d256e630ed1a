"""Core: the settings. One table says what there is; reading them reports every problem at once."""

from __future__ import annotations

import base64
import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InvalidField, SettingsError
from .keys.digest import parse_pepper
from .keys.secret import SecretFormat

CONFIG_FILE = "KEYDESK_CONFIG"
CONFIG_STORE = "config://"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token of RFC 9110, of sane length
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_REALM = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}")  # what needs no escaping in a quoted string, RFC 9110
_STORES = ("memory", "config", "file", "sqlite", "postgresql", "mysql", "mariadb")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


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

    def __repr__(self) -> str:
        return f"Settings(header={self.header!r}, prefix={self.prefix!r})"


def read_settings(given: Mapping[str, Any], *, default_store: str) -> Settings:
    """Return the settings of a mapping such as `app.config`; names that are not ours are passed over.

    Args:
        given: Setting names to values; texts are read as in the environment.
        default_store: The store where neither `KEYDESK_STORE` nor `API_KEY` nor `API_KEYS` is there.

    Raises:
        SettingsError: One or more settings cannot be used. All problems are in it.
    """
    problems = _unknown(given)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        try:
            values[setting.field] = setting.read(given.get(setting.name))
        except InvalidField as error:
            problems.append(f"{setting.name} {error.problem}")
    if values.get("previous_peppers") and values.get("pepper", b"") is None:
        problems.append("KEYDESK_PREVIOUS_PEPPERS needs KEYDESK_PEPPER, the one that took their place")
    if problems:
        raise SettingsError(problems)
    if not values["store"]:
        values["store"] = CONFIG_STORE if "API_KEY" in given or "API_KEYS" in given else default_store
    return Settings(**values)


def read_environment(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return our settings from the environment, over those of the TOML file that `KEYDESK_CONFIG` names.

    Names in the environment that only look like ours, such as those Kubernetes makes for a service called keydesk,
    are passed over; `keydesk doctor` lists them.

    Raises:
        SettingsError: The file cannot be read.
    """
    environ = os.environ if environ is None else environ
    given: dict[str, Any] = {}
    if path := environ.get(CONFIG_FILE):
        try:
            given.update(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is no TOML in UTF-8"
            raise SettingsError([f"{CONFIG_FILE} names {path}, which cannot be read: {problem}"]) from None
    given.update((name, environ[name]) for name in NAMES if name in environ)
    return given


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names in an environment that begin like ours and are none."""
    return sorted(name for name in environ if name.startswith("KEYDESK_") and name not in {*NAMES, CONFIG_FILE})


def _unknown(given: Mapping[str, Any]) -> list[str]:
    problems = []
    for name in given:
        if isinstance(name, str) and name.startswith("KEYDESK_") and name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            problems.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return problems


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidField(name, f"must be text, not {type(value).__name__}")
    return value.strip()


def _store(value: Any) -> str:
    store = "" if value is None else _text(value, "store")
    kind = store.partition(":")[0].partition("+")[0]
    if store and kind not in _STORES:
        # Not the value: a database URL holds a password, and somebody may have pasted a secret.
        begins = f"begins with {kind}:" if re.fullmatch(r"[a-z]{1,12}", kind) and ":" in store else "is no store"
        raise InvalidField("store", f"{begins}; it must begin with one of {', '.join(_STORES)}")
    if kind == "file" and not store.lower().endswith((".yml", ".yaml", ".toml")):
        raise InvalidField("store", f"names the file {store[5:85]!r}; its name must end in .yml, .yaml or .toml")
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
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value):
        raise InvalidField("api_keys", "must be a mapping of secret to name, or to a table of fields")
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
    if value is not None and not isinstance(value, Sequence):
        raise InvalidField("previous_peppers", "must be a list of peppers, or one text with commas between them")
    return tuple(filter(None, map(_pepper, value or ())))


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
        raise InvalidField("realm", "must be 1 to 64 printable ASCII characters without quotes and backslashes")
    return realm


def _boolean(value: Any) -> bool:
    text = "" if value is None else str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise InvalidField("boolean", f"must be true or false, not {str(value)[:40]!r}")
    return text in _TRUE


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
)
NAMES = tuple(setting.name for setting in SETTINGS)
