"""Requests with keys that a worker knows: 10,000 in use of a million, counted, on SQLite and on PostgreSQL."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask
from sqlalchemy import text
from tests import servers

from keydesk import HeldKey, open_desk
from keydesk.keys.record import KeyFields
from keydesk.stores.sql import SqlStore

from .harness import Pair, Scale, Timed, compare, route, timed
from .importing import database
from .report import Promise, Section, Table, table_of
from .requests import keydesk_app, plain_app
from .samples import held_secret, some_held_secrets

IN_USE = 10_000
MAX_RATIO = 1.20
MAX_VERIFY_MICROSECONDS = 8.0
MAX_MEMORY_MIB = 25 * 1000 * 1000 / 1024 / 1024  # 25 MB
_LOOP = 20_000

# Keys that are only there, made by the database itself: a million sent to it would take minutes.
_FILL = (
    "SET session_replication_role = replica",  # nobody needs to look whether each key is there
    "INSERT INTO keydesk_keys (id, name, owner, description, environment, scopes, networks, limits, quotas, "
    "created_at, updated_at, revoke_reason, version) SELECT 'key_' || lpad(to_hex(n), 28, '0'), 'Client ' || n, "
    "'team-' || n % 1000, '', 'live', 'orders:read', '', '', '', now(), now(), '', 1 FROM generate_series(1, :keys) n",
    "INSERT INTO keydesk_secrets (key_id, number, digest, pepper_id, hint, created_at) SELECT 'key_' || "
    "lpad(to_hex(n), 28, '0'), 1, encode(sha256(('filler ' || n)::bytea), 'hex'), '', '…', now() "
    "FROM generate_series(1, :keys) n",
    "RESET session_replication_role",
    "ANALYZE",
)


@contextmanager
def postgres(keys: int) -> Iterator[str]:
    """Start a PostgreSQL with so many keys, those in use among them, and yield its URL."""
    server = servers.Postgres()
    try:
        server.start()
        url = server.url("postgres")
        desk = open_desk({"KEYDESK_STORE": url})
        assert isinstance(desk.store, SqlStore)
        desk.store.upgrade()
        with desk.store.engine.connect() as connection:
            for statement in _FILL:
                connection.execute(text(statement), {"keys": keys - IN_USE} if ":keys" in statement else {})
        now = desk.clock.now()
        fields = KeyFields(name="Client")
        desk.import_keys(
            HeldKey(fields, desk.mint.secret(held_secret(number), number=1, now=now)) for number in range(IN_USE)
        )
        desk.close()
        yield url
    finally:
        server.remove()


def in_use(app: Flask, secrets: list[str]) -> Timed:
    """Return what times a request with each secret in turn, all of them known by then."""
    request = route(app, "/", secrets=secrets)
    for _ in secrets:
        request()
    return request


def memory_of_known_keys(file: Path, secrets: list[str]) -> float:
    """Return the MiB that a desk holds more once it knows these keys."""
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{file}"})
    desk.verify(secrets[0])
    gc.collect()
    tracemalloc.start()
    for secret in secrets:
        desk.verify(secret)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    desk.close()
    return held / 1024 / 1024


def run(scale: Scale) -> Section:
    """Measure with the database that `importing` left, and with a PostgreSQL like it."""
    file, count = database(scale, scale.keys), min(IN_USE, scale.keys)
    drawn = list(dict.fromkeys(some_held_secrets(scale.keys, count=2 * count)))[:count]
    first = [held_secret(number) for number in range(IN_USE)]
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{file}"})
    loop = timed(desk.verify, drawn[:1])
    for _ in range(_LOOP):
        loop()
    looped = sorted(loop() for _ in range(_LOOP))[_LOOP // 2] / 1000
    desk.close()
    memory = memory_of_known_keys(file, drawn)
    large = max(scale.keys, IN_USE)
    with postgres(large) as url:
        plain = route(plain_app(), "/")
        apps = {
            f"config, {len(first):,} keys": (
                keydesk_app({"API_KEYS": {one: f"Client {at}" for at, one in enumerate(first)}})[0],
                first,
            ),
            f"SQLite, {len(drawn):,} of {scale.keys:,} keys": (
                keydesk_app({"KEYDESK_STORE": f"sqlite:///{file}"})[0],
                drawn,
            ),
            f"PostgreSQL, {len(first):,} of {max(scale.keys, IN_USE):,} keys": (
                keydesk_app({"KEYDESK_STORE": url})[0],
                first,
            ),
        }
        pairs = [Pair(name, plain, in_use(*of)) for name, of in apps.items()]
        results = compare(pairs, scale.pairs)
        for app, _ in apps.values():
            app.extensions["keydesk"].desk.close()
    known = (("desk.verify in a loop, µs", f"{looped:.1f}"), (f"memory of {len(drawn):,} keys, MiB", f"{memory:.1f}"))
    return Section(
        (
            table_of("A request with a key that is known, counted", results.values()),
            Table("Known keys", ("what", "measured"), known),
        ),
        (
            *(Promise(f"{name}: ratio to the plain route", MAX_RATIO, found.ratio) for name, found in results.items()),
            Promise("desk.verify of a known key in a loop", MAX_VERIFY_MICROSECONDS, looped, "µs"),
            Promise(f"memory of {len(drawn):,} known keys", MAX_MEMORY_MIB, memory, "MiB"),
        ),
    )
