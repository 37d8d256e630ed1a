"""Limits: what they add to a request, in memory, in a file and in Valkey; beside Flask-Limiter; and what they keep."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

from flask import Flask, request
from flask_limiter import Limiter
from tests import servers

from keydesk.claims import Claim
from keydesk.limiting.memory import MemoryLimiter
from keydesk.limiting.redis import RedisLimiter
from keydesk.limiting.sqlite import SqliteLimiter
from keydesk.testing import ManualClock

from .harness import HEADER, Pair, Scale, compare, route
from .known import in_use
from .report import Promise, Section, Table, table_of
from .requests import SQLITE_KEYS, a_view, plain_app, sqlite_app
from .throughput import CONNECTIONS, WORKERS, Api

LIMITS = ("100000/minute", "1000000/day")
MAX_MEMORY_RATIO, MAX_SQLITE_RATIO = 1.40, 1.90
MIN_TIMES_FLASK_LIMITER = 1.5
RUNS = 5  # of a second each
MAX_BYTES = 512  # of a key and limit in memory, its name and its place counted in
MAX_LEFT = 0.1  # of what a million keys took, once they are idle

_WINDOW = 60
_ROUND_TRIPS = 200


def limited_app(path: Path, **settings: object) -> tuple[Flask, list[str]]:
    """Return an application with keys in a new SQLite database, each with two limits, and their secrets."""
    return sqlite_app(path, KEYDESK_DEFAULT_LIMITS=list(LIMITS), **settings)


def flask_limiter_app(limits: Sequence[str] = LIMITS, uri: str = "memory://", **options: object) -> Flask:
    """Return an application whose view Flask-Limiter limits, by the text in the header. It verifies nothing."""
    app = Flask("flask_limiter")
    limiter = Limiter(lambda: request.headers[HEADER], app=app, storage_uri=uri, **options)  # type: ignore[arg-type]
    app.get("/")(limiter.limit(";".join(limits))(a_view()))
    return app


@contextmanager
def valkey() -> Iterator[servers.Valkey]:
    """Start a Valkey."""
    server = servers.Valkey()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def round_trips(server: servers.Valkey, app: Flask, secrets: Sequence[str]) -> float:
    """Return how often the server had something to read for each request, as it counts."""
    call = route(app, "/", secrets=secrets)
    for _ in secrets:
        call()

    def reads() -> int:
        return int(server.ask("INFO", "stats")["total_reads_processed"])

    asking = -(reads() - reads())  # what asking costs, which is on a connection of its own
    before = reads()
    for _ in range(_ROUND_TRIPS):
        call()
    return (reads() - before - asking) / _ROUND_TRIPS


def per_request(scale: Scale, server: servers.Valkey) -> tuple[Table, Table, tuple[Promise, ...]]:
    """Measure requests with limits, in memory, in a file and in Valkey, and how often Valkey is asked."""
    folder = scale.folder
    without, secrets_without = sqlite_app(folder / "unlimited.db")
    memory, of_memory = limited_app(folder / "limited.db", KEYDESK_LIMITER="memory://")
    file, of_file = limited_app(folder / "limited_file.db", KEYDESK_LIMITER=f"sqlite:///{folder / 'limits.db'}")
    redis, of_redis = limited_app(folder / "limited_valkey.db", KEYDESK_LIMITER=server.url("0"))
    apps = {
        "no limits": (without, secrets_without),
        "two limits, in memory": (memory, of_memory),
        "two limits, in a file of SQLite": (file, of_file),
        "two limits, in Valkey": (redis, of_redis),
        "Flask-Limiter, one limit, in memory": (flask_limiter_app(LIMITS[:1]), of_memory),
        "Flask-Limiter, two limits, in memory": (flask_limiter_app(), of_memory),
        "Flask-Limiter, two limits and headers, in memory": (flask_limiter_app(headers_enabled=True), of_memory),
        "Flask-Limiter, two limits, in Valkey": (flask_limiter_app(uri=server.url("1")), of_redis),
    }
    plain = route(plain_app(), "/")
    results = compare([Pair(name, plain, in_use(*of)) for name, of in apps.items()], scale.pairs)
    trips = {
        "with Keydesk": round_trips(server, redis, of_redis[:10]),
        "with Flask-Limiter": round_trips(server, flask_limiter_app(uri=server.url("2")), of_redis[:10]),
    }
    for app in (without, memory, file, redis):
        app.extensions["keydesk"].desk.close()
    title = f"A request with limits: {SQLITE_KEYS:,} keys in SQLite, known"
    rows = tuple((name, f"{count:.2f}") for name, count in trips.items())
    promises = (
        Promise(
            "two limits, in memory: ratio to the plain route", MAX_MEMORY_RATIO, results["two limits, in memory"].ratio
        ),
        Promise(
            "two limits, in a file of SQLite: ratio to the plain route",
            MAX_SQLITE_RATIO,
            results["two limits, in a file of SQLite"].ratio,
        ),
        Promise("round trips to Valkey, of a request with two limits", 1, trips["with Keydesk"]),
    )
    return (
        table_of(title, results.values()),
        Table("Round trips to Valkey, of a request with two limits", ("API", "round trips"), rows),
        promises,
    )


def make_flask_limiter_app() -> Flask:
    """Return what gunicorn serves, limited in the storage that the environment names."""
    import os

    return flask_limiter_app(uri=os.environ["FLASK_LIMITER_STORAGE"])
