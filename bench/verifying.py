"""`desk.verify` alone, without a web framework or a cache: a large database compared with a small one."""

from __future__ import annotations

from pathlib import Path

from keydesk import open_desk

from .harness import Pair, Scale, Timed, compare, timed
from .importing import FEW, database
from .report import Promise, Section, table_of
from .samples import foreign_secrets, some_held_secrets

MAX_RATIO = 1.5
DRAWN = 10_000  # more than are asked for in a run, so that no key comes twice soon


def verifier(file: Path, secrets: list[str], *, allowed: bool = True) -> Timed:
    """Return what times one verification of each secret in turn.

    Raises:
        RuntimeError: The first of them is not decided as it must be.
    """
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{file}", "KEYDESK_CACHE_KEYS": 0})
    if desk.verify(secrets[0]).allowed is not allowed:
        raise RuntimeError(f"the first sample is {'refused' if allowed else 'allowed'} by {file}")
    return timed(desk.verify, secrets)


def run(scale: Scale) -> Section:
    """Measure verifications in the databases that `importing` left."""
    small, large = database(scale, FEW), database(scale, scale.keys)
    few = list(some_held_secrets(FEW, count=DRAWN))
    many = list(some_held_secrets(scale.keys, count=DRAWN))
    unknown = foreign_secrets(DRAWN)
    baseline, name = verifier(small, few), f"{scale.keys:,} keys, valid key"
    pairs = [
        Pair(f"{FEW:,} keys, valid key", baseline, verifier(small, few[::-1])),
        Pair(name, baseline, verifier(large, many)),
        Pair(f"{FEW:,} keys, unknown key", baseline, verifier(small, unknown, allowed=False)),
        Pair(f"{scale.keys:,} keys, unknown key", baseline, verifier(large, unknown, allowed=False)),
    ]
    results = compare(pairs, scale.pairs)
    promise = Promise(f"verify among {scale.keys:,} keys: ratio to {FEW:,} keys", MAX_RATIO, results[name].ratio)
    return Section(
        (
            table_of(
                "desk.verify on SQLite, nothing kept in memory",
                results.values(),
                first="store",
                baseline=f"{FEW:,} keys",
            ),
        ),
        (promise,),
    )
