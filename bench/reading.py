"""One read of a key by its digest: through the driver alone, as Keydesk reads, and as SQLAlchemy executes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from sqlalchemy import bindparam, select

from keydesk.keys.digest import Digester
from keydesk.stores.engines import open_engine
from keydesk.stores.reading import PreparedRead, ReadConnections
from keydesk.stores.schema import keys, secrets

from .harness import Pair, Scale, compare, timed
from .importing import FEW, database
from .report import Section, table_of
from .samples import some_held_secrets

DRAWN = 10_000


def run(scale: Scale) -> Section:
    """Measure reads in the small database that `importing` left."""
    digest, file = Digester().digest, database(scale, FEW)
    digests = [digest(secret) for secret in some_held_secrets(FEW, count=DRAWN)]
    statement = select(keys, secrets).join(secrets).where(secrets.c.digest == bindparam("digest"))
    engine = open_engine(f"sqlite:///{file}")
    sql, prepared = (
        str(statement.compile(dialect=engine.dialect)),
        PreparedRead(ReadConnections(engine, own=True), statement, "digest"),
    )

    def executed(digest: str) -> Any:
        with engine.connect() as connection:
            return connection.execute(statement, {"digest": digest}).all()

    with closing(sqlite3.connect(file)) as connection:

        def alone(digest: str) -> Any:
            return connection.execute(sql, (digest,)).fetchall()

        baseline = timed(alone, digests)
        pairs = [
            Pair("the driver alone", baseline, timed(alone, digests[::-1])),
            Pair("as Keydesk reads", baseline, timed(lambda digest: prepared.rows(digest), digests)),
            Pair("as SQLAlchemy executes", baseline, timed(executed, digests)),
        ]
        results = compare(pairs, scale.pairs)
    engine.dispose()
    title = f"One read by digest, {FEW:,} keys in SQLite"
    return Section((table_of(title, results.values(), first="read", baseline="driver"),))
