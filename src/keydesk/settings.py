"""Core: the settings. One table says what there is; reading them reports every problem at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidField, SettingsError
from .keys.limits import Limit
from .keys.networks import Networks
from .keys.secret import redact
from .setting_values import (
    number_from,
    read_api_key,
    read_api_keys,
    read_boolean,
    read_header,
    read_limiter,
    read_limiter_failure,
    read_limits,
    read_pepper,
    read_peppers,
    read_prefix,
    read_query_parameter,
    read_realm,
    read_store,
    read_trusted_proxies,
)

CONFIG_FILE = "KEYDESK_CONFIG"
CONFIG_STORE = "config://"
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
    limiter: str
    limiter_failure: str
    default_limits: tuple[Limit, ...]
    usage_flush: float
    usage_minutes_kept: int
    usage_hours_kept: int
    trusted_proxies: Networks
    development: bool

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


def problems_of_server(settings: Settings) -> list[str]:
    """Return why no server may be started with these settings, although a desk can be opened with them."""
    if settings.pepper is not None or settings.development:
        return []
    return [
        "KEYDESK_PEPPER is not set, and without it whoever reads the database can try out weak keys; set it to what "
        "`openssl rand -base64 32` prints, or KEYDESK_DEVELOPMENT=true to try the server out"
    ]


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


SETTINGS = (
    Setting(
        "KEYDESK_STORE",
        "store",
        read_store,
        "URL",
        "`sqlite:///` and `keydesk.db` in the instance folder",
        "Where keys are kept: `memory://`, `config://`, `file:keys.yml` (YAML or TOML), or a database: "
        "`sqlite:///path`, `postgresql+psycopg://...`, `mysql+pymysql://...`.",
    ),
    Setting(
        "API_KEY",
        "api_key",
        read_api_key,
        "text",
        "unset",
        "One key. Set to nothing it lets nobody in. With it or `API_KEYS` there, and no `KEYDESK_STORE`, the store is "
        "`config://`.",
    ),
    Setting(
        "API_KEYS",
        "api_keys",
        read_api_keys,
        "mapping (JSON in the environment)",
        "unset",
        "Several keys: secret, or `sha256:` and its SHA-256 in hex, to a name or to a table of fields.",
    ),
    Setting("KEYDESK_PREFIX", "prefix", read_prefix, "text", "`kd`", "First part of every secret issued here."),
    Setting(
        "KEYDESK_PEPPER",
        "pepper",
        read_pepper,
        "base64 of at least 32 bytes",
        "unset",
        "Key of the HMAC that digests are made with. Keep it out of the database and its backups.",
    ),
    Setting(
        "KEYDESK_PREVIOUS_PEPPERS",
        "previous_peppers",
        read_peppers,
        "list of the same (commas in the environment)",
        "none",
        "Peppers that digests may still be under. Each moves to `KEYDESK_PEPPER` when its secret is next used.",
    ),
    Setting(
        "KEYDESK_HEADER",
        "header",
        read_header,
        "header name",
        "`X-API-Key`",
        "Where clients send their secret. `Authorization: Bearer` is always read too.",
    ),
    Setting(
        "KEYDESK_QUERY_PARAMETER",
        "query_parameter",
        read_query_parameter,
        "parameter name",
        "unset",
        "Read the secret from the query string too. Off, because URLs end up in logs, histories and `Referer`.",
    ),
    Setting("KEYDESK_REALM", "realm", read_realm, "text", "`api`", "The realm in `WWW-Authenticate`."),
    Setting(
        "KEYDESK_PROTECT_OPTIONS",
        "protect_options",
        read_boolean,
        "boolean",
        "`false`",
        "Ask for a key on OPTIONS too. Off, because browsers send no key with a CORS preflight.",
    ),
    Setting(
        "KEYDESK_MAX_STALENESS_SECONDS",
        "max_staleness",
        number_from(0, 3600, None),
        "seconds, 0 to 3600",
        "0.05 on SQLite, else 1",
        "How old what a worker knows of keys may be: a revoked key is refused everywhere within this time. 0 asks the "
        "store on every request.",
    ),
    Setting(
        "KEYDESK_OUTAGE_GRACE_SECONDS",
        "outage_grace",
        number_from(0, 86_400, 300),
        "seconds, 0 to 86400",
        "300",
        "For how long known keys go on working while the store does not answer. Everything else gets 503.",
    ),
    Setting(
        "KEYDESK_CACHE_KEYS",
        "cache_keys",
        number_from(0, 1_000_000, 10_000, whole=True),
        "whole number, 0 to 1000000",
        "10000",
        "How many keys a worker keeps in memory. 0 keeps none: each request reads the store.",
    ),
    Setting(
        "KEYDESK_LIMITER",
        "limiter",
        read_limiter,
        "URL",
        "a file beside a SQLite store, else `memory://`",
        "Where requests are counted for limits: `memory://` for each worker alone, `sqlite:///path` for the workers of "
        "one machine, `redis://`, `rediss://`, `valkey://` or `redis+cluster://` for all.",
    ),
    Setting(
        "KEYDESK_LIMITER_FAILURE",
        "limiter_failure",
        read_limiter_failure,
        "`open` or `closed`",
        "`open`",
        "What happens while the limiter does not answer: with `open` each worker counts alone, by the same limits; "
        "with `closed` keys with limits get 503.",
    ),
    Setting(
        "KEYDESK_DEFAULT_LIMITS",
        "default_limits",
        read_limits,
        "list of texts (commas in the environment)",
        "none",
        'Limits of keys that state none, such as `["100/minute", "10000/day"]`.',
    ),
    Setting(
        "KEYDESK_USAGE_FLUSH_SECONDS",
        "usage_flush",
        number_from(0.1, 3600, 2),
        "seconds, 0.1 to 3600",
        "2",
        "How often a worker writes down what it counted: as much is lost at most when it is killed.",
    ),
    Setting(
        "KEYDESK_USAGE_MINUTES_KEPT_HOURS",
        "usage_minutes_kept",
        number_from(1, 720, 48, whole=True),
        "whole number of hours, 1 to 720",
        "48",
        "How long requests are kept by the minute.",
    ),
    Setting(
        "KEYDESK_USAGE_HOURS_KEPT_DAYS",
        "usage_hours_kept",
        number_from(1, 3660, 90, whole=True),
        "whole number of days, 1 to 3660",
        "90",
        "How long requests are kept by the hour. By the day they are kept for ever.",
    ),
    Setting(
        "KEYDESK_TRUSTED_PROXIES",
        "trusted_proxies",
        read_trusted_proxies,
        "list of networks (commas in the environment)",
        "none",
        "Proxies that the server believes when they say in `X-Forwarded-For` where a request came from, such as "
        "`10.0.0.0/8`.",
    ),
    Setting(
        "KEYDESK_DEVELOPMENT",
        "development",
        read_boolean,
        "boolean",
        "`false`",
        "The server is being tried out: it starts without a pepper, and `keydesk serve` makes the database and the "
        "first administrator's key where there are none.",
    ),
)
NAMES = tuple(setting.name for setting in SETTINGS)
