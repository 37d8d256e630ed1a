from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from keydesk.events import (
    FIRST_HASH,
    KINDS,
    ChainedEvent,
    Event,
    KeyIssued,
    KeyRevoked,
    KeyUpdated,
    chain,
    check_chain,
    event_class,
)
from keydesk.testing import START


def event(number: int = 1, kind: type[Event] = KeyUpdated, **changes: Any) -> Event:
    values = {"at": START, "actor": "me", "key_id": f"key_{number:028x}", "owner": None, "details": {"n": number}}
    return kind(**{**values, **changes})


def rows(count: int = 5) -> list[ChainedEvent]:
    return list(chain((event(n) for n in range(1, count + 1)), after=0, previous_hash=FIRST_HASH))


def problem(chained: list[ChainedEvent], head: tuple[int, str] | None = None) -> tuple[str | None, int | None]:
    number, own_hash = head or (rows()[-1].number, rows()[-1].hash)
    report = check_chain(chained, head_number=number, head_hash=own_hash)
    return report.problem, report.broken_at


def test_hash_is_of_the_content_and_the_row_before() -> None:
    """Written again here: whoever checks a chain elsewhere needs no more than this."""
    first, second = rows(2)
    content = [2, "key.updated", "2026-01-01T12:00:00+00:00", "me", f"key_{2:028x}", None, '{"n":2}', first.hash]
    assert second.hash == hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    assert first.previous_hash == FIRST_HASH == "0" * 64


def test_chain_goes_on_where_it_stopped() -> None:
    whole = rows(5)
    again = list(chain((event(n) for n in (4, 5)), after=3, previous_hash=whole[2].hash))
    assert again == whole[3:]


def test_check_chain_whole() -> None:
    report = check_chain(rows(), head_number=5, head_hash=rows()[-1].hash)
    assert (report.problem, report.rows, report.broken_at) == (None, 5, None)
    assert check_chain([], head_number=0, head_hash=FIRST_HASH).problem is None


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": KeyIssued},
        {"at": START.replace(microsecond=1)},
        {"actor": "you"},
        {"key_id": "key_" + "0" * 28},
        {"owner": ""},
        {"details": {"n": 3, "m": 1}},
    ],
)
def test_check_chain_changed(changes: dict[str, Any]) -> None:
    whole = rows()
    kind = changes.pop("kind", KeyUpdated)
    whole[2] = replace(whole[2], event=event(3, kind, **changes), details="")
    assert problem(whole) == ("event 3 was changed", 3)


def test_check_chain_removed_inserted_swapped() -> None:
    whole = rows()
    assert problem(whole[1:]) == ("event 1 was removed", 1)
    assert problem(whole[:2] + whole[3:]) == ("event 3 was removed", 3)
    assert problem(whole[:-1]) == ("event 5 was removed", 5)
    assert problem([]) == ("event 1 was removed", 1)
    assert problem([whole[0], whole[0], *whole[1:]]) == ("event 1 was inserted", 1)
    assert problem([replace(whole[0], number=0), *whole]) == ("event 0 was inserted", 0)
    swapped = [whole[0], replace(whole[2], number=2), replace(whole[1], number=3), *whole[3:]]
    assert problem(swapped) == ("event 2 does not follow the one before it", 2)


def test_check_chain_rehashed_by_somebody() -> None:
    """A row that was changed and hashed again breaks the one after it."""
    whole = rows()
    (forged,) = chain([event(99)], after=2, previous_hash=whole[1].hash)
    whole[2] = forged
    assert problem(whole) == ("event 4 does not follow the one before it", 4)


def test_check_chain_head() -> None:
    whole = rows()
    assert problem(whole, (5, "f" * 64)) == ("the head of the chain was changed", 5)
    assert problem(whole, (6, whole[-1].hash)) == ("event 6 was removed", 6)
    assert problem(whole, (4, whole[-2].hash)) == ("the head of the chain was changed", 5)


def test_event_class() -> None:
    assert event_class("key.revoked") is KeyRevoked
    later = event_class("key.sublimated")
    assert later.kind == "key.sublimated"
    assert issubclass(later, Event)
    assert all(kind == KINDS[kind].kind for kind in KINDS)


def test_event_cannot_be_changed_and_is_equal_by_content() -> None:
    assert event() == event()
    assert event() != event(kind=KeyIssued)
    with pytest.raises(AttributeError):
        event().actor = "x"  # type: ignore[misc]
