"""Room pages: how the desk is, and what it was set to. What is secret of it is not shown."""

from __future__ import annotations

from typing import Any

from flask import Response

from ..decision import Check
from ..desk import Desk
from ..keys.authority import KEYS_READ
from ..setting_table import SETTINGS
from ..settings import Settings
from .people import the_desk, the_settings
from .routes import Routes, shown

_SECRET = {"pepper", "previous_peppers", "api_key", "api_keys", "server_key"}
_ADDRESSES = {"store", "limiter"}  # which may hold a password


def add_health(routes: Routes) -> None:
    """Put in the page of health and settings."""

    @routes.add("/health", KEYS_READ, for_all_owners=True)
    def show_health() -> Response:
        desk = the_desk()
        settings = the_settings()
        return shown("health.html", checks=_checks(desk), settings=[_row(settings, each) for each in SETTINGS])


def _checks(desk: Desk) -> list[Check]:
    checks = [*desk.store.checks(), *(desk.limiter.checks() if desk.limiter else ())]
    state = desk.cache_state()
    if state is not None:
        age = "not yet" if state.age_seconds is None else f"{state.age_seconds:.2f} seconds ago"
        checks.append(Check("cache", True, f"the store last answered this worker {age}"))
    return checks


def _row(settings: Settings, setting: Any) -> tuple[str, str, str]:
    """Return the name of a setting, its value as people may see it, and what it is for."""
    return setting.name, _masked(setting.field, getattr(settings, setting.field)), setting.help


def _masked(field: str, value: Any) -> str:
    if value is None or (hasattr(value, "__len__") and not len(value)):
        return "not set"
    if field in _SECRET:
        return "set, not shown"
    if field in _ADDRESSES:
        return _without_password(str(value))
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def _without_password(url: str) -> str:
    """Return an address without what stands between its `://` and its `@`, and without a query."""
    scheme, mark, rest = url.partition("://")
    place, at, behind = rest.rpartition("@")
    hidden = f"{scheme}{mark}{'…@' if at else ''}{behind if at else place + behind}"
    return hidden.partition("?")[0]
