"""Core: the table of settings: what there is, how it is read, and what the docs say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .setting_values import (
    number_from,
    read_admin_header,
    read_admins,
    read_api_key,
    read_api_keys,
    read_boolean,
    read_folder,
    read_header,
    read_limiter,
    read_limiter_failure,
    read_limits,
    read_pepper,
    read_peppers,
    read_prefix,
    read_query_parameter,
    read_realm,
    read_server_key,
    read_store,
    read_trusted_proxies,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: the name outside, the name in `Settings`, how it is read, and what the docs say of it."""

    name: str
    field: str
    read: Callable[[Any], Any]
    kind: str
    default: str
    help: str


SETTINGS = (
    Setting(
        "KEYDESK_STORE",
        "store",
        read_store,
        "URL",
        "`sqlite:///` and `keydesk.db` in the instance folder",
        "Where keys are kept: `memory://`, `config://`, `file:keys.yml` (YAML or TOML), or a database: "
        "`sqlite:///path`, `postgresql+psycopg://...`, `mysql+pymysql://...`. Or a server of Keydesk: "
        "`https://desk.example`.",
    ),
    Setting(
        "KEYDESK_SERVER_KEY",
        "server_key",
        read_server_key,
        "text",
        "unset",
        "The key with which this application asks the server that `KEYDESK_STORE` names: it has the scope "
        "`keydesk:sync` and no owner.",
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
        "a file beside a SQLite store, the server's where that is the store, else `memory://`",
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
        "KEYDESK_ADMIN_HEADER",
        "admin_header",
        read_admin_header,
        "name of a header",
        "none",
        "The header in which a trusted proxy tells the server's administration pages whom it has signed in, such as "
        "`X-Forwarded-Email`. The proxy has to overwrite what clients send in it.",
    ),
    Setting(
        "KEYDESK_ADMINS",
        "admins",
        read_admins,
        "list of names (commas in the environment)",
        "none",
        "Whom `KEYDESK_ADMIN_HEADER` may name: these people may do everything on the pages.",
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
    Setting(
        "KEYDESK_ACCESS_LOG",
        "access_log",
        read_boolean,
        "boolean",
        "`false`",
        "The server writes a line of JSON for each request: who, what, how long; no secret and no query.",
    ),
    Setting(
        "KEYDESK_METRICS_FOLDER",
        "metrics_folder",
        read_folder,
        "path",
        "a new temporary one under `keydesk serve`",
        "Where the processes of one server count for `/metrics` together; empty when it starts. Without it each counts "
        "alone.",
    ),
)
NAMES = tuple(setting.name for setting in SETTINGS)
