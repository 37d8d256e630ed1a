"""Limits: what they add to a request, in memory, in a file and in Valkey; beside Flask-Limiter; and what they keep."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

from flask import Flask, request
from flask_limiter import Limiter
from tests import servers

from keydesk import SystemClock, open_desk
from keydesk.claims import Claim
from keydesk.limiting.redis import RedisLimiter
from keydesk.limiting.sqlite import SqliteLimiter

from .harness import HEADER, Pair, Scale, compare, route
from .known import in_use
from .report import Promise, Section, Table, table_of
from .requests import CONFIG_KEYS, SQLITE_KEYS, a_view, config_app, plain_app, sqlite_app
from .throughput import CONNECTIONS, SECONDS, SERVERS, WORKERS, Api

LIMITS = ("100000/minute", "1000000/day")
MAX_MEMORY_RATIO, MAX_SQLITE_RATIO = 1.40, 1.90
MIN_TIMES_FLASK_LIMITER = 1.5
IN_MEMORY, IN_FILE = "two limits, in memory", "two limits, in a file of SQLite"  # as is the default for these stores
RUNS = 5  # of a second each
MAX_BYTES = 512  # of a key and limit in memory, its name and its place counted in
MAX_LEFT = 0.1  # of what a million keys took, once they are idle

KEPT_KEYS = 20_000  # in SQLite and in Valkey; all of them in memory
AT_ONCE = 500  # of one take, so that filling a file does not take minutes
_ROUND_TRIPS = 200


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
    limits = {"KEYDESK_DEFAULT_LIMITS": list(LIMITS)}
    unlimited, of_unlimited = sqlite_app(folder / "unlimited.db")
    config, of_config = config_app(**limits)
    memory, of_memory = sqlite_app(folder / "limited.db", KEYDESK_LIMITER="memory://", **limits)
    file, of_file = sqlite_app(folder / "limited_file.db", **limits)
    redis, of_redis = sqlite_app(folder / "limited_valkey.db", KEYDESK_LIMITER=server.url("0"), **limits)
    ours = {
        "no limits": (unlimited, of_unlimited),
        IN_MEMORY: (config, of_config),
        f"two limits, in memory, {SQLITE_KEYS:,} keys": (memory, of_memory),
        IN_FILE: (file, of_file),
        "two limits, in Valkey": (redis, of_redis),
    }
    theirs = {
        "Flask-Limiter, one limit, in memory": (flask_limiter_app(LIMITS[:1]), of_config),
        "Flask-Limiter, two limits, in memory": (flask_limiter_app(), of_config),
        "Flask-Limiter, two limits and headers, in memory": (flask_limiter_app(headers_enabled=True), of_config),
        "Flask-Limiter, two limits, in Valkey": (flask_limiter_app(uri=server.url("1")), of_redis),
    }
    plain = route(plain_app(), "/")
    results = compare([Pair(name, plain, in_use(*of)) for name, of in {**ours, **theirs}.items()], scale.pairs // 2)
    trips = {
        "with Keydesk": round_trips(server, redis, of_redis[:10]),
        "with Flask-Limiter": round_trips(server, flask_limiter_app(uri=server.url("2")), of_redis[:10]),
    }
    for app, _ in ours.values():
        app.extensions["keydesk"].desk.close()
    rows = tuple((f"{name}: round trips", f"{count:.2f}") for name, count in trips.items())
    promises = (
        Promise(f"{IN_MEMORY}: ratio to the plain route", MAX_MEMORY_RATIO, results[IN_MEMORY].ratio),
        Promise(f"{IN_FILE}: ratio to the plain route", MAX_SQLITE_RATIO, results[IN_FILE].ratio),
        Promise("round trips to Valkey, of a request with two limits", 1, trips["with Keydesk"]),
    )
    title = f"A request with limits: {CONFIG_KEYS} keys in the configuration, or {SQLITE_KEYS:,} in SQLite"
    return (
        table_of(title, results.values()),
        Table("Round trips to Valkey, of a request with two limits", ("API", "round trips"), rows),
        promises,
    )


def make_flask_limiter_app() -> Flask:
    """Return what gunicorn serves, limited in the storage that the environment names."""
    return flask_limiter_app(uri=os.environ["FLASK_LIMITER_STORAGE"])


def throughput(scale: Scale, server: servers.Valkey) -> tuple[Table, tuple[Promise, ...]]:
    """Measure requests a second with the same two limits in the same Valkey, in turn; the best of the peers' is one.

    The promise is for Granian: the less a server itself takes of each request, the more of it is the limiter's.
    """
    title = f"Requests a second with two limits in Valkey: {WORKERS} workers, {CONNECTIONS} connections"
    heads = ("server", "with Keydesk", "with Flask-Limiter, which verifies no key", "ratio")
    if shutil.which("wrk") is None:
        return Table(title, heads, (("not measured", "install wrk", "", ""),)), ()
    rows, promises = [], []
    for name in SERVERS:
        ours, theirs = _side_by_side(scale, server, name)
        times = median(with_keydesk / other for with_keydesk, other in zip(ours, theirs, strict=True))
        rows.append((name, f"{median(ours):,.0f}", f"{median(theirs):,.0f}", f"{times:.2f}"))
        if name == "Granian":
            what = "requests a second with two limits in Valkey, to those of Flask-Limiter, under Granian"
            promises.append(Promise(what, MIN_TIMES_FLASK_LIMITER, times, at_least=True))
    return Table(title, heads, tuple(rows)), tuple(promises)


def _side_by_side(scale: Scale, server: servers.Valkey, name: str) -> tuple[list[float], list[float]]:
    """Return the requests a second with Keydesk and with Flask-Limiter, run by run."""
    store = f"sqlite:///{scale.folder / f'limited_{name}.db'}"
    desk = open_desk({"KEYDESK_STORE": store})
    secret = desk.issue(name="wrk", limits=LIMITS).secret
    desk.close()
    settings = {"KEYDESK_STORE": store, "KEYDESK_LIMITER": server.url("3")}
    storage = {"FLASK_LIMITER_STORAGE": server.url("4")}
    ours = Api(server=name, settings=settings, secret=secret)
    theirs = Api("bench.limits:make_flask_limiter_app", server=name, settings=storage, secret=secret)
    counted: tuple[list[float], list[float]] = ([], [])
    try:
        for api in (ours, theirs):
            api.requests_a_second()
        for _ in range(min(RUNS, scale.pairs // 10)):
            server.ask("CONFIG", "RESETSTAT")
            found = ours.requests_a_second()
            taken = server.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
            other = theirs.requests_a_second()
            if taken >= 0.95 * found * SECONDS:  # else it timed out, and workers counted alone
                counted[0].append(found)
                counted[1].append(other)
    finally:
        for api in (ours, theirs):
            api.stop()
    if not counted[0]:
        raise RuntimeError("Valkey timed out in every run: the machine is too busy to measure")
    return counted


def memory_of_idle_keys(keys: int) -> tuple[float, float]:
    """Return the bytes of a key and limit in the memory of a process, and the part that is left once all are idle."""
    command = [sys.executable, "-m", "tests.faults.taking", "idle", str(keys)]
    before, most, after = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    taken = max(most - before, 1)  # of few keys, in a short run, the process may have had room for all
    return taken / keys, (after - before) / taken


def _claims(numbers: range) -> list[Claim]:
    return [Claim("100/minute", f"{{key_{number:028x}}}key_{number:028x}", 100, 60) for number in numbers]


def bytes_in_file(folder: Path, keys: int) -> float:
    """Return the bytes of a key and limit in a file of SQLite."""
    path = folder / "kept.db"
    with closing(SqliteLimiter(path, SystemClock())) as limiter:
        for first in range(0, keys, AT_ONCE):
            limiter.take(_claims(range(first, min(keys, first + AT_ONCE))))
    return path.stat().st_size / keys


def bytes_in_valkey(server: servers.Valkey, keys: int) -> float:
    """Return the bytes of a key and limit in Valkey, as it counts."""

    def used() -> int:
        return int(server.ask("INFO", "memory")["used_memory"])

    with closing(RedisLimiter(server.url("5"))) as limiter:
        limiter.take(_claims(range(1)))
        before = used()
        for number in range(1, keys):
            limiter.take(_claims(range(number, number + 1)))
        return (used() - before) / keys


def kept(scale: Scale, server: servers.Valkey) -> tuple[Table, tuple[Promise, ...]]:
    """Measure what is kept of keys, each used once."""
    few = min(KEPT_KEYS, scale.keys)
    in_memory, left = memory_of_idle_keys(scale.keys)
    rows = (
        (f"in the memory of a process, {scale.keys:,} keys", f"{in_memory:.0f}"),
        (f"in a file of SQLite, {few:,} keys", f"{bytes_in_file(scale.folder, few):.0f}"),
        (f"in Valkey, {few:,} keys", f"{bytes_in_valkey(server, few):.0f}"),
        (f"of {scale.keys:,} keys in memory, left once they are idle", f"{left * in_memory:.0f}"),
    )
    return Table("Bytes of a key and limit, with its name and its place", ("where", "bytes"), rows), (
        Promise("memory of a key and limit", MAX_BYTES, in_memory, "bytes"),
        Promise(f"memory of {scale.keys:,} keys used once, left once they are idle", MAX_LEFT, left),
    )


def run(scale: Scale) -> Section:
    """Measure limits."""
    with valkey() as server:
        requests, trips, of_requests = per_request(scale, server)
        speeds, of_speeds = throughput(scale, server)
        sizes, of_sizes = kept(scale, server)
    return Section((requests, trips, speeds, sizes), (*of_requests, *of_speeds, *of_sizes))
