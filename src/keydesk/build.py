"""Core: from settings to a desk. The only module that knows the concrete parts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clock import Clock, SystemClock
from .desk import Desk
from .environment import read_environment
from .errors import SettingsError
from .keys.digest import Digester
from .keys.held import Mint
from .keys.secret import SecretFormat
from .limiting.failover import FailoverLimiter
from .limiting.memory import MemoryLimiter
from .limiting.sqlite import SqliteLimiter
from .lookup import StoreFinder
from .metering.buffered import BufferedMeter
from .metering.memory import MemoryUsage
from .ports import KeyFinder, KeyStore, Limiter, UsageStore
from .setting_values import is_server
from .settings import Settings, survey_settings
from .stores.cached import CachedFinder
from .stores.config import ConfigStore
from .stores.memory import MemoryStore
from .terms import Terms
from .usage import Kept

if TYPE_CHECKING:
    from sqlalchemy import Engine

logger = logging.getLogger("keydesk")

STALENESS_SECONDS = 1.0
SQLITE_STALENESS_SECONDS = 0.05  # asking costs microseconds there
STAND_ALONE_STORE = "sqlite:///instance/keydesk.db"


def open_desk(settings: Mapping[str, Any] | None = None, *, clock: Clock | None = None) -> Desk:
    """Return the desk of these settings, or of those in the environment.

    Args:
        settings: Names as in the reference of settings, to values. None reads the environment and the TOML file that
            `KEYDESK_CONFIG` names. Without a store among them, keys are kept in `instance/keydesk.db`.
        clock: What tells the time; the system's by default.

    Raises:
        SettingsError: Settings cannot be used. All problems are in it, each with its fix.
    """
    given = read_environment() if settings is None else settings
    read, problems = survey_settings(given, default_store=STAND_ALONE_STORE)
    return build_desk(read, problems=problems, clock=clock)


def build_desk(
    settings: Settings, *, problems: Sequence[str] = (), engine: Engine | None = None, clock: Clock | None = None
) -> Desk:
    """Return the desk of settings that were read before.

    Args:
        settings: From `read_settings` or `survey_settings`.
        problems: What the survey found. With them there is no desk; the store is only looked at, for what else is
            wrong.
        engine: Keep keys in this SQLAlchemy engine's database, whatever `settings.store` says.
        clock: What tells the time; the system's by default.

    Raises:
        SettingsError: There are problems, or the store cannot be opened with these settings. All are in it.
    """
    clock = clock or SystemClock()
    mint = Mint(SecretFormat(settings.prefix), Digester(current=settings.pepper, previous=settings.previous_peppers))
    try:
        store, usage = _open_store(settings, engine, mint, clock)
    except SettingsError as error:
        raise SettingsError([*problems, *error.problems]) from None
    limiter: Limiter | None = None
    try:
        limiter = _open_limiter(settings, store, clock)
    except SettingsError as error:
        problems = [*problems, *error.problems]
    if problems:
        store.close()
        raise SettingsError(problems)
    if isinstance(store, ConfigStore):
        store.warn()
    elif settings.api_key or settings.api_keys:
        logger.warning("API_KEY and API_KEYS are not read: keys are kept elsewhere, as KEYDESK_STORE or engine= says")
    kept = Kept(timedelta(hours=settings.usage_minutes_kept), timedelta(days=settings.usage_hours_kept))
    meter = BufferedMeter(usage, clock, flush_seconds=settings.usage_flush, kept=kept)
    finder = _finder(settings, store, mint, clock)
    return Desk(
        store=store,
        mint=mint,
        clock=clock,
        finder=finder,
        meter=meter,
        usage=usage,
        kept=kept,
        limiter=limiter,
        quotas=getattr(store, "quotas", None),
        terms=Terms(settings.default_limits),
    )


def _open_limiter(settings: Settings, store: KeyStore, clock: Clock) -> Limiter:
    """Return what counts requests for their limits, with what takes its place where it can fail.

    Raises:
        SettingsError: Its URL cannot be used, or its driver is missing.
    """
    local = MemoryLimiter(clock)
    scheme, _, rest = settings.limiter.partition("://")
    limiter: Limiter
    if not scheme and is_server(settings.store):
        limiter = _limiter_of_server(settings)
    elif scheme in ("", "sqlite"):
        path = Path(rest.removeprefix("/")) if scheme else _beside(store)
        if path is None:
            return local
        limiter = SqliteLimiter(path, clock)
    elif scheme == "memory":
        return local
    else:
        limiter = _open_redis(settings.limiter)
    return FailoverLimiter(limiter, local if settings.limiter_failure == "open" else None, clock)


def _limiter_of_server(settings: Settings) -> Limiter:
    from .client.connection import Connection
    from .client.limiter import ANSWER_SECONDS, ServerLimiter

    return ServerLimiter(Connection(settings.store, settings.server_key or "", answer_seconds=ANSWER_SECONDS))


def _open_redis(url: str) -> Limiter:
    try:
        from .limiting.redis import RedisLimiter
    except ModuleNotFoundError:
        problem = "KEYDESK_LIMITER needs the driver redis; install it: pip install 'keydesk[redis]'"
        raise SettingsError([problem]) from None
    return RedisLimiter(url)


def _beside(store: KeyStore) -> Path | None:
    """Return the file of limits that belongs to a SQLite database; None for other stores."""
    if not _is_sqlite(store):
        return None
    from .stores.engines import is_in_memory, sqlite_file

    engine: Engine = store.engine  # type: ignore[attr-defined]
    path = None if is_in_memory(engine) else sqlite_file(engine)
    return path.with_name(f"{path.stem}-limits.db") if path else None


def _finder(settings: Settings, store: KeyStore, mint: Mint, clock: Clock) -> KeyFinder:
    finder = StoreFinder(store, mint)
    if not settings.cache_keys:
        return finder
    staleness = settings.max_staleness
    if staleness is None:
        staleness = SQLITE_STALENESS_SECONDS if _is_sqlite(store) else STALENESS_SECONDS
    return CachedFinder(
        store, finder, clock, max_staleness=staleness, outage_grace=settings.outage_grace, size=settings.cache_keys
    )


def _is_sqlite(store: KeyStore) -> bool:
    engine: Engine | None = getattr(store, "engine", None)
    return engine is not None and engine.dialect.name == "sqlite"


def _open_store(settings: Settings, engine: Engine | None, mint: Mint, clock: Clock) -> tuple[KeyStore, UsageStore]:
    """Return where keys are kept, and where requests are counted."""
    if engine is None and is_server(settings.store):
        return _open_server(settings, mint, clock)
    kind, _, rest = settings.store.partition(":")
    if engine is not None or kind not in ("memory", "config", "file"):
        return _open_database(settings, engine, clock)
    store: KeyStore
    if kind == "memory":
        store = MemoryStore(clock)
    elif kind == "config":
        store = ConfigStore(settings.api_key, settings.api_keys, mint, clock)
    else:
        from .stores.file import FileStore

        store = FileStore(Path(rest.removeprefix("//")), mint, clock)
    return store, MemoryUsage(store.note_used, store.find_key)


def _open_server(settings: Settings, mint: Mint, clock: Clock) -> tuple[KeyStore, UsageStore]:
    try:
        from .client.connection import Connection
        from .client.store import ServerStore
    except ModuleNotFoundError:
        problem = "KEYDESK_STORE names a server, which needs urllib3 and msgspec: pip install 'keydesk[client]'"
        raise SettingsError([problem]) from None
    store = ServerStore(Connection(settings.store, settings.server_key or ""), mint.digester, clock)
    return store, store.usage


def _open_database(settings: Settings, engine: Engine | None, clock: Clock) -> tuple[KeyStore, UsageStore]:
    from .stores.engines import is_in_memory, open_engine
    from .stores.sql import SqlStore

    if engine is not None:
        store = SqlStore(engine, clock)
        if is_in_memory(engine):  # a thread that writes there would end the transactions of others
            return store, MemoryUsage(lambda _: None, store.find_key)
        return store, store.usage
    try:
        store = SqlStore(open_engine(settings.store), clock, own=True)
    except ValueError:  # its message would show what stands behind the `?`, and that may be a password
        problem = "KEYDESK_STORE has an option behind its ? that cannot be one; correct it or take it out"
        raise SettingsError([problem]) from None
    return store, store.usage
