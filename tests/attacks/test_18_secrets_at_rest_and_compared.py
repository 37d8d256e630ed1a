"""Number 18: `==` on secrets; a secret in a database dump or export."""

from __future__ import annotations

import ast
import copy
import dataclasses
import hashlib
import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine

from keydesk import Desk, HeldKey, open_desk
from keydesk.keys.record import parse_fields
from keydesk.testing import ManualClock

SOURCE = Path(__file__).parents[2] / "src" / "keydesk"
SECRET_NAMES = {"secret", "text", "token", "presented", "password", "api_key", "pepper", "plain"}
# Comparisons of something called like a secret, each looked at: none is with what the store holds of a secret.
LOOKED_AT = {
    ("cli/doctor.py", "pepper == digester.pepper_id"),  # ids of peppers, which say nothing about them
    ("cli/doctor.py", "pepper == PLAIN"),
    ("cli/doctor.py", "pepper in digester.known_pepper_ids"),
    ("cli/showing.py", "each.secret == secret.number"),  # the number of a secret
    ("cli/types.py", "redact(text) != text"),  # whether a text holds a secret: with itself, blanked
    ("keys/held.py", "text == name"),  # an entry of a file with the name beside it, when it is read
    ("keys/networks.py", "text in _EVERYWHERE"),  # the text of a network
    ("keys/networks.py", "text not in _EVERYWHERE"),
    ("keys/networks.py", "str(network) != text"),
    ("setting_values.py", "text in _TRUE"),  # a boolean
    ("setting_values.py", "text not in _TRUE + _FALSE"),
    ("stores/cached.py", "token in reads"),  # hashes under a random key, which the caller cannot choose
    ("stores/cached.py", "other != token"),
    ("stores/config.py", "api_key not in api_keys"),  # one setting with another, at the start
    ("stores/index.py", "text in field.casefold()"),  # what a person looks for in a list
}


def _stem(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _comparisons() -> Iterator[tuple[str, int, str]]:
    """Yield where the source compares something called like a secret with something that is no constant."""
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Compare):
                continue
            if not all(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
                continue
            sides = [node.left, *node.comparators]
            if any(_stem(side) in SECRET_NAMES for side in sides) and not any(
                isinstance(side, ast.Constant) for side in sides
            ):
                yield place, node.lineno, ast.unparse(node)


def test_no_secret_is_compared() -> None:
    """A secret is never compared with a stored one. It is digested, and the digest is looked up: what the time taken
    tells of a lookup is about digests, which the caller cannot choose."""
    found = [(place, line, text) for place, line, text in _comparisons() if (place, text) not in LOOKED_AT]
    assert found == []


def test_no_compare_digest_on_text() -> None:
    """It raises for text that is not ASCII, number 12. Nothing here needs it."""
    for path in SOURCE.rglob("*.py"):
        assert "compare_digest" not in path.read_text(), path


def test_the_verifier_hands_the_store_digests_only(clock: ManualClock) -> None:
    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    issued = desk.issue(name="client")
    asked: list[Any] = []
    find = desk.store.find_by_digest

    def noting(digests: Any) -> Any:
        asked.extend(digests)
        return find(digests)

    desk.store.find_by_digest = noting  # type: ignore[method-assign]
    assert desk.verify(issued.secret).allowed
    assert asked == [hashlib.sha256(issued.secret.encode()).hexdigest()]


def _live(desk: Desk, clock: ManualClock) -> list[str]:
    """Do everything that is done to keys, and return every secret that came by."""
    secrets = [desk.issue(name=f"client {n}", owner="acme", scopes=["a:read"]).secret for n in range(3)]
    ids = [key.id for key in desk.list_keys().keys]
    secrets += [desk.rotate(key_id, overlap=timedelta(hours=n)).secret for n, key_id in enumerate(ids)]
    imported = [
        "0d9b1b0e-7d3c-4b0e-9b6e-2f1f0a4a9c11",
        "e4d909c290d0fb1ca068ffaddf22cbd0",
        desk.mint.secret_format.mint(),
    ]
    desk.import_keys(
        HeldKey(parse_fields({"name": f"imported {n}"}), desk.mint.secret(text, number=1, now=clock.now()))
        for n, text in enumerate(imported)
    )
    desk.disable(ids[0])
    desk.revoke(ids[1], reason="leaked")
    desk.update(ids[2], description="changed", networks=["203.0.113.7"])
    unknown = [desk.mint.secret_format.mint(), "never-seen-here-before-at-all"]
    every = secrets + imported + unknown
    for text in every:
        desk.verify(text, scopes=["b:read"], client_address="10.0.0.1")
        desk.explain(text)
    clock.advance(timedelta(hours=1))
    list(desk.prune(ended_for=timedelta(0)))
    return every


def _pieces(secret: str) -> Iterator[str]:
    """Yield what must be nowhere: the secret, and any twelve characters of it in a row beyond its prefix."""
    start = 8 if secret.startswith("kd_") else 0
    yield secret
    yield from (secret[place : place + 12] for place in range(start, len(secret) - 12))


def _assert_clean(dump: str, secrets: list[str]) -> None:
    assert len(dump) > 500
    for secret in secrets:
        for piece in _pieces(secret):
            assert piece not in dump


def test_dump_of_sqlite(clock: ManualClock, tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"}, clock=clock)
    secrets = _live(desk, clock)
    connection = sqlite3.connect(path)
    _assert_clean("\n".join(connection.iterdump()), secrets)
    connection.close()
    # Nor in the bytes of the files: freed pages and the write-ahead log keep what was there before.
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content
            assert secret[8:-4].encode() not in content
    desk.close()


def test_dump_of_every_database(everywhere: Callable[..., Desk], clock: ManualClock) -> None:
    desk = everywhere()
    secrets = _live(desk, clock)
    engine = getattr(desk.store, "engine", None)
    if engine is None:
        _assert_clean(repr(desk.store._index._by_id) + repr(desk.store._index._by_digest), secrets)
        return
    own = create_engine(engine.url)
    tables = MetaData()
    tables.reflect(own)
    with own.connect() as connection:
        rows = [tuple(row) for table in tables.sorted_tables for row in connection.execute(table.select())]
    own.dispose()
    assert len(tables.tables) >= 4
    _assert_clean(repr(rows), secrets)


def test_exports_of_records(clock: ManualClock) -> None:
    """What an application may write somewhere: pickles, copies, dictionaries, JSON of keys, decisions and events."""
    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    secrets = _live(desk, clock)
    keys, events = desk.list_keys().keys, desk.list_events()
    decisions = [desk.verify(secret) for secret in secrets]
    dumps = [
        repr(pickle.dumps([keys, decisions])),
        repr([dataclasses.asdict(key) for key in keys]),
        json.dumps([dataclasses.asdict(key) for key in keys], default=str),
        json.dumps([event.event.details for event in events]),
        repr(copy.deepcopy(keys)),
        repr([(event.event.actor, event.event.owner, event) for event in events]),
    ]
    for dump in dumps:
        _assert_clean(dump, secrets)


def test_issued_key_as_a_value_shows_no_secret(clock: ManualClock) -> None:
    """The one object that holds a secret: no repr of it, alone or inside others, shows it."""
    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    issued = desk.issue(name="client")
    for shown in (repr(issued), str(issued), f"{issued}", repr([issued]), repr({"issued": issued}), "%r" % (issued,)):  # noqa: UP031
        assert issued.secret not in shown
    with pytest.raises(dataclasses.FrozenInstanceError):
        issued.secret = "x"  # type: ignore[misc]
