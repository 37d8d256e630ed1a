"""Core: the settings. One table says what there is; reading them reports every problem at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidField, SettingsError
from .keys.limits import Limit
from .keys.networks import Networks
from .keys.secret import redact
from .setting_table import NAMES, SETTINGS
from .setting_values import is_server

CONFIG_FILE = "KEYDESK_CONFIG"
CONFIG_STORE = "config://"
OURS = "KEYDESK_"
# Above what Kubernetes makes of the names of services: KEYDESK_PORT is 0.80 near, KEYDESK_STORE_PORT 0.84.
_NEAR = 0.85
LONG_NAME = 60  # no setting is named like what is longer
# In the place of a wrong one. Not the default, which may have been changed since secrets of others begin with kd_ too.
_PREFIX_INSTEAD = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, read and checked. Secret ones are left out of the repr."""

    store: str
    server_key: str | None
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
    admin_header: str | None
    admins: tuple[str, ...]
    development: bool
    access_log: bool
    metrics_folder: str | None

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
    if is_server(values.get("store", "")) and values.get("server_key", "") is None:
        problems.append(
            "KEYDESK_SERVER_KEY is not set, and the server answers nobody without; issue a key there: "
            '`keydesk issue "Name of the application" --scope keydesk:sync`'
        )
    if values.get("admin_header") and not len(values.get("trusted_proxies", ())):
        problems.append(
            "KEYDESK_ADMIN_HEADER is believed from nobody without KEYDESK_TRUSTED_PROXIES; name the proxy that sends it"
        )
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
