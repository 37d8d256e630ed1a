"""Room testing: what every store must do, as tests to inherit. Each implementation overrides one fixture.

    class TestMyStore(WritableKeyStoreContract):
        @pytest.fixture
        def store(self, clock):
            store = MyStore(clock)
            yield store
            store.close()

`clock` is the fixture of `keydesk.testing.fixtures`; a store reads the time from nowhere else.
"""

from __future__ import annotations

import secrets as random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import Any

import pytest

from ..errors import AddedBefore, DuplicateSecret, InvalidField, KeyNotFound, OtherRequest
from ..events import (
    ChainedEvent,
    Event,
    KeyDeleted,
    KeyIssued,
    KeyPruned,
    KeyRevoked,
    KeyUpdated,
    check_chain,
    event_class,
)
from ..keys.digest import Digester
from ..keys.held import Mint, keys_of_mapping
from ..keys.limits import MAX_LIMIT_COUNT, Limit, Period, Quota
from ..keys.networks import Networks
from ..keys.record import MAX_SECRETS, Key, Secret, Status, key_id_of_name, mint_key_id
from ..keys.scopes import Scopes
from ..keys.secret import Environment, SecretFormat
from ..ports import REMEMBERED, Change, FeedEntry, KeyFilter, KeyStore, Once, WritableKeyStore, every_key
from .clock import START, ManualClock

MINT = Mint(SecretFormat(), Digester())
SECOND = timedelta(seconds=1)

# Ids that are nobody's: what a URL, a form or a typing error can hold.
ODD_IDS = (
    "",
    " ",
    "key_",
    "key_" + "0" * 28,
    "key_" + "0" * 27,
    "KEY_" + "0" * 28,
    "key_" + "0" * 28 + "\n",
    "key_" + "%" * 28,
    "key_" + "_" * 28,
    "%",
    "_",
    "\0",
    "key_\0" + "0" * 27,
    "' OR '1'='1",
    '"; DROP TABLE keydesk_keys; --',
    "\\",
    "💥",
    "\ud800",
    "x" * 100_000,
)

# Keys as a file or the configuration holds them.
HELD: Mapping[str, Any] = {
    "held-secret-of-mobile-app-000001": "Mobile app",
    "held-secret-of-acme-000000000002": {
        "name": "ACME portal",
        "owner": "acme",
        "description": "résumé of 100% of a_b\nand a\\b/c",
        "environment": "test",
        "scopes": ["orders:read", "stock:*"],
        "networks": ["203.0.113.0/24", "2001:db8::/32"],
        "limits": ["100/minute", "5 per 10 seconds"],
        "quotas": ["10000/month", "7/total"],
        "expires_at": "2027-01-31T12:00:00+02:00",
    },
    "held-secret-of-expired-000000003": {"name": "axb", "owner": "ACME", "expires_at": START.isoformat()},
    "held-secret-of-rotated-000000004": {"name": "Größe 漢字 👍", "owner": "acme"},
    "held-secret-of-rotated-000000005": {
        "name": "Größe 漢字 👍",
        "owner": "acme",
        "expires_at": "2026-01-02T00:00Z",
    },
    "held-secret-of-quotes-0000000006": 'O\'Brien "quoted" a_b',
}
NAMES = {"Mobile app", "ACME portal", "axb", "Größe 漢字 👍", 'O\'Brien "quoted" a_b'}

# Which of them a filter finds by their owner, which is compared exactly,
OWNERS: tuple[tuple[str, set[str]], ...] = (
    ("acme", {"ACME portal", "Größe 漢字 👍"}),
    ("ACME", {"axb"}),
    ("acme ", set()),
    ("acm", set()),
    ("%", set()),
    ("acm_", set()),
    ("' OR 1=1 --", set()),
    ("Größe", set()),
    ("x" * 200, set()),
)
# and by a text, which is compared without regard to case.
TEXTS: tuple[tuple[str, set[str]], ...] = (
    ("", NAMES),
    ("mobile", {"Mobile app"}),
    ("MOBILE APP", {"Mobile app"}),
    ("acme", {"ACME portal", "axb", "Größe 漢字 👍"}),
    ("100%", {"ACME portal"}),
    ("100_", set()),
    ("0% OF", {"ACME portal"}),
    ("%", {"ACME portal"}),
    ("%%", set()),
    ("a_b", {"ACME portal", 'O\'Brien "quoted" a_b'}),
    ("axb", {"axb"}),
    ("a\\b", {"ACME portal"}),
    ("b/c", {"ACME portal"}),
    ("\\\\", set()),
    ("//", set()),
    ("résumé", {"ACME portal"}),
    ("resume", set()),
    ("Größe 漢字", {"Größe 漢字 👍"}),
    ("Grosse", set()),
    ("👍", {"Größe 漢字 👍"}),
    ("O'Brien", {'O\'Brien "quoted" a_b'}),
    ('"quoted"', {'O\'Brien "quoted" a_b'}),
    ("' OR '1'='1", set()),
    ("x" * 200, set()),
)

# and by what they may do, which is compared exactly.
SCOPES: tuple[tuple[str, set[str]], ...] = (
    ("orders:read", {"ACME portal"}),
    ("stock:read", {"ACME portal"}),
    ("stock:of:all", {"ACME portal"}),
    ("orders:write", set()),
    ("Orders:read", set()),
    ("orders:rea", set()),
    ("orders:read:all", set()),
    ("tock:read", set()),
    ("stocks:read", set()),
    ("a.b:read", set()),
    ("a_b:read", set()),
)


def new_key(now: datetime = START, *, secrets: int | tuple[Secret, ...] = 1, **changes: Any) -> Key:
    """Return a new key with random digests.

    Args:
        now: When it is made.
        secrets: Its secrets, or how many it has.
        changes: Attributes of `Key` to set.
    """
    held = (
        secrets
        if isinstance(secrets, tuple)
        else tuple(
            Secret(number, random.token_hex(32), "", f"kd_live_…{number:04}", now) for number in range(1, secrets + 1)
        )
    )
    values = {"id": mint_key_id(now), "name": "Some client", "secrets": held, "created_at": now, "updated_at": now}
    return Key(**{**values, **changes})


def issued(key: Key, kind: type[Event] = KeyIssued, /, **details: Any) -> tuple[Key, Event]:
    """Return the key and an event about it, as `WritableKeyStore.add` takes them."""
    return key, event_of(key, kind, **details)


def event_of(key: Key, kind: type[Event], /, **details: Any) -> Event:
    """Return an event about a key."""
    return kind(at=key.updated_at, actor="contract", key_id=key.id, owner=key.owner, details=details)


def all_events(store: WritableKeyStore) -> list[ChainedEvent]:
    """Return every event of a store, and assert that they form one chain without gaps.

    Raises:
        AssertionError: They do not.
    """
    rows: list[ChainedEvent] = []
    while page := store.list_events(after=rows[-1].number if rows else 0, size=1000):
        rows += page
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    if rows:
        assert check_chain(rows, head_number=len(rows), head_hash=rows[-1].hash).problem is None
    report = store.check_chain()
    assert (report.problem, report.rows, report.head_number) == (None, len(rows), len(rows))
    assert store.position().number == len(rows)
    return rows


def all_keys(store: KeyStore, where: KeyFilter | None = None, *, size: int = 1000) -> list[Key]:
    """Return every key of a store, page by page."""
    return list(every_key(store, where or KeyFilter(), size=size))


class KeyStoreContract:
    """What any store does. Override `holding`."""

    @pytest.fixture
    def holding(self, clock: ManualClock) -> Callable[[Mapping[str, Any]], KeyStore]:
        """Return what opens a store that holds the keys of a mapping such as `HELD`, read with `MINT` and `clock`."""
        raise NotImplementedError("override the fixture `holding`")

    @pytest.fixture
    def held(self, holding: Callable[[Mapping[str, Any]], KeyStore]) -> KeyStore:
        """A store that holds the keys of `HELD`."""
        return holding(HELD)

    # Finding

    def test_find_by_digest_known(self, held: KeyStore) -> None:
        for text, value in HELD.items():
            key = held.find_by_digest([MINT.digester.digest(text)])
            assert key is not None
            assert key.name == (value if isinstance(value, str) else value["name"])
            assert key.find_secret([MINT.digester.digest(text)]) is not None

    def test_find_by_digest_unknown(self, held: KeyStore) -> None:
        assert held.find_by_digest(["0" * 64]) is None
        assert held.find_by_digest(["0" * 64, "1" * 64, "2" * 64]) is None

    def test_find_by_digest_candidates_in_any_place(self, held: KeyStore) -> None:
        digest = MINT.digester.digest("held-secret-of-mobile-app-000001")
        for digests in ([digest, "0" * 64], ["0" * 64, digest], ["0" * 64, "1" * 64, digest, "2" * 64]):
            found = held.find_by_digest(digests)
            assert found is not None
            assert found.name == "Mobile app"

    def test_find_by_digest_candidates_of_two_keys_gives_the_first(self, held: KeyStore) -> None:
        texts = ["held-secret-of-mobile-app-000001", "held-secret-of-acme-000000000002"]
        names = ["Mobile app", "ACME portal"]
        for order in ((0, 1), (1, 0)):
            found = held.find_by_digest([MINT.digester.digest(texts[n]) for n in order])
            assert found is not None
            assert found.name == names[order[0]]
            assert len(found.secrets) == 1

    def test_find_key_known(self, held: KeyStore) -> None:
        for key in all_keys(held):
            assert held.find_key(key.id) == key

    def test_find_key_odd_id(self, held: KeyStore) -> None:
        for key_id in ODD_IDS:
            assert held.find_key(key_id) is None, ascii(key_id[:40])

    def test_find_several_secrets_of_one_key(self, held: KeyStore) -> None:
        texts = ["held-secret-of-rotated-000000004", "held-secret-of-rotated-000000005"]
        first, second = (held.find_by_digest([MINT.digester.digest(text)]) for text in texts)
        assert first == second
        assert first is not None
        assert [secret.number for secret in first.secrets] == [1, 2]
        assert [secret.expires_at for secret in first.secrets] == [None, datetime(2026, 1, 2, tzinfo=UTC)]
        assert first.expires_at is None

    def test_find_every_field(self, held: KeyStore) -> None:
        key = held.find_by_digest([MINT.digester.digest("held-secret-of-acme-000000000002")])
        assert key is not None
        assert key.name == "ACME portal"
        assert key.owner == "acme"
        assert key.description == "résumé of 100% of a_b\nand a\\b/c"
        assert key.environment is Environment.TEST
        assert key.scopes == Scopes(["orders:read", "stock:*"])
        assert key.networks == Networks(["203.0.113.0/24", "2001:db8::/32"])
        assert key.limits == (Limit(100, 60), Limit(5, 10))
        assert key.quotas == (Quota(10000, Period.MONTH), Quota(7, Period.TOTAL))
        assert key.expires_at == datetime(2027, 1, 31, 10, tzinfo=UTC)
        assert key.version == 1
        assert key.status_at(START) is Status.ACTIVE

    # When keys were last used

    def test_note_used_shows_in_the_record(self, held: KeyStore) -> None:
        first, *others = all_keys(held)
        at = START.replace(second=0, microsecond=0)
        held.note_used({first.id: at})
        found = held.find_key(first.id)
        assert found is not None
        assert (found, found.last_used_at) == (first, at)
        digest = first.secrets[0].digest
        for key in (held.find_by_digest([digest]), *(key for key in all_keys(held) if key.id == first.id)):
            assert key == first
        assert {key.last_used_at for key in all_keys(held) if key.id != first.id} == {None}
        assert len(all_keys(held)) == 1 + len(others)

    def test_note_used_is_never_set_back(self, held: KeyStore) -> None:
        first = all_keys(held)[0]
        for minutes, shown in ((5, 5), (4, 5), (5, 5), (6, 6)):
            held.note_used({first.id: START + timedelta(minutes=minutes)})
            found = held.find_key(first.id)
            assert found is not None
            assert found.last_used_at == START + timedelta(minutes=shown)

    def test_note_used_of_odd_ids_and_of_nothing(self, held: KeyStore) -> None:
        held.note_used({})
        held.note_used(dict.fromkeys(ODD_IDS, START))
        assert {key.last_used_at for key in all_keys(held)} == {None}

    def test_list_keys_idle_since(self, held: KeyStore) -> None:
        first, second, *others = all_keys(held)  # all made at START
        hour = timedelta(hours=1)
        held.note_used({first.id: START + 2 * hour, second.id: START + hour})
        rest = {key.id for key in others}
        for since, ids in (
            (START, set()),
            (START + SECOND, rest),
            (START + hour, rest),
            (START + hour + SECOND, rest | {second.id}),
            (START + 2 * hour, rest | {second.id}),
            (START + 2 * hour + SECOND, rest | {second.id, first.id}),
        ):
            assert {key.id for key in all_keys(held, KeyFilter(idle_since=since), size=2)} == ids, since
        where = KeyFilter(idle_since=START + 9 * hour, owner="acme", status=Status.ACTIVE)
        assert {key.name for key in all_keys(held, where)} == {"ACME portal", "Größe 漢字 👍"}

    # Listing

    def test_list_keys_newest_first(self, held: KeyStore) -> None:
        keys = all_keys(held)
        assert [key.id for key in keys] == sorted((key.id for key in keys), reverse=True)
        assert {key.name for key in keys} == NAMES

    def test_list_keys_pages(self, held: KeyStore) -> None:
        for size in (1, 2, 4, 5, 6, 1000):
            assert all_keys(held, size=size) == all_keys(held)
            assert len(held.list_keys(KeyFilter(), size=size).keys) == min(size, 5)

    def test_list_keys_wrong_size(self, held: KeyStore) -> None:
        for size in (0, -1, 1001, 2**70):
            with pytest.raises(InvalidField, match="size"):
                held.list_keys(KeyFilter(), size=size)

    def test_list_keys_wrong_cursor(self, held: KeyStore) -> None:
        for cursor in ("", "x", "%", "\0", "é", "key_" + "0" * 28, "a2V5Xw==", "A" * 100_000):
            with pytest.raises(InvalidField, match="cursor"):
                held.list_keys(KeyFilter(), cursor=cursor)

    def test_list_keys_of_owner(self, held: KeyStore) -> None:
        for owner, names in OWNERS:
            assert {key.name for key in all_keys(held, KeyFilter(owner=owner), size=1)} == names, owner

    def test_list_keys_with_text(self, held: KeyStore) -> None:
        for text, names in TEXTS:
            assert {key.name for key in all_keys(held, KeyFilter(text=text), size=2)} == names, text

    def test_list_keys_with_text_of_an_id(self, held: KeyStore) -> None:
        for key in all_keys(held):
            assert all_keys(held, KeyFilter(text=key.id.upper())) == [key]

    def test_list_keys_that_may_do_something(self, held: KeyStore) -> None:
        for scope, names in SCOPES:
            assert {key.name for key in all_keys(held, KeyFilter(scope=scope), size=1)} == names, scope
        for scope in ("", "orders", "orders:*", "*", "a b:c", "orders:read,stock:x", "%:%", "\0:a"):
            with pytest.raises(InvalidField, match="scopes"):
                KeyFilter(scope=scope)

    def test_list_keys_of_status(self, held: KeyStore, clock: ManualClock) -> None:
        def names(status: Status) -> set[str]:
            return {key.name for key in all_keys(held, KeyFilter(status=status), size=1)}

        assert names(Status.EXPIRED) == {"axb"}  # at the very instant
        assert names(Status.ACTIVE) == NAMES - {"axb"}
        assert names(Status.DISABLED) == names(Status.REVOKED) == set()
        clock.advance(datetime(2027, 1, 31, 10, tzinfo=UTC) - START - timedelta(microseconds=1))
        assert "ACME portal" in names(Status.ACTIVE)
        clock.advance(timedelta(microseconds=1))
        assert names(Status.EXPIRED) == {"axb", "ACME portal"}

    def test_list_keys_every_condition_holds(self, held: KeyStore) -> None:
        where = KeyFilter(owner="acme", text="portal", status=Status.ACTIVE)
        assert [key.name for key in all_keys(held, where)] == ["ACME portal"]
        assert all_keys(held, replace(where, status=Status.EXPIRED)) == []
        assert all_keys(held, replace(where, owner="ACME")) == []

    def test_empty(self, holding: Callable[[Mapping[str, Any]], KeyStore]) -> None:
        store = holding({})
        assert store.find_by_digest(["0" * 64]) is None
        assert store.find_key(key_id_of_name("default")) is None
        assert store.list_keys(KeyFilter()) == store.list_keys(KeyFilter(owner="x"))
        assert store.list_keys(KeyFilter()).keys == ()
        assert store.list_keys(KeyFilter()).next_cursor is None

    # The house

    def test_checks_find_nothing_wrong(self, held: KeyStore) -> None:
        store_checks = [check for check in held.checks() if check.name == "store"]
        assert len(store_checks) == 1
        assert store_checks[0].passed
        assert "5 keys" in store_checks[0].found

    def test_find_from_many_threads(self, held: KeyStore) -> None:
        digests = [MINT.digester.digest(text) for text in HELD]

        def find(number: int) -> bool:
            return held.find_by_digest([digests[number % len(digests)]]) is not None

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(find, range(200)))


class WritableKeyStoreContract(KeyStoreContract):
    """What a store does that Keydesk can change. Override `store`."""

    @pytest.fixture
    def store(self, clock: ManualClock) -> WritableKeyStore:
        """A new, empty store."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    def holding(self, store: WritableKeyStore, clock: ManualClock) -> Callable[[Mapping[str, Any]], KeyStore]:
        """Return what puts the keys of a mapping into the store."""

        def fill(given: Mapping[str, Any]) -> KeyStore:
            store.add(issued(key) for key in keys_of_mapping(given, MINT, clock.now()))
            return store

        return fill

    def test_is_writable(self, store: WritableKeyStore) -> None:
        assert isinstance(store, WritableKeyStore)

    # Adding

    def test_add_is_found(self, store: WritableKeyStore) -> None:
        key = new_key()
        assert store.add([issued(key)]) == 1
        assert store.find_key(key.id) == key
        assert store.find_by_digest([key.secrets[0].digest]) == key

    def test_add_nothing(self, store: WritableKeyStore) -> None:
        assert store.add([]) == 0
        assert all_events(store) == []

    def test_add_tells_of_each_in_order(self, store: WritableKeyStore) -> None:
        keys = [new_key(owner=f"owner {n}") for n in range(5)]
        assert store.add(issued(key, KeyIssued, n=n) for n, key in enumerate(keys)) == 5
        events = [row.event for row in all_events(store)]
        assert events == [event_of(key, KeyIssued, n=n) for n, key in enumerate(keys)]

    def test_add_more_than_a_batch(self, store: WritableKeyStore) -> None:
        assert store.add(issued(new_key()) for _ in range(2500)) == 2500
        assert len(all_events(store)) == 2500
        assert len(all_keys(store)) == 2500

    def test_add_digest_in_the_store(self, store: WritableKeyStore) -> None:
        there = new_key(secrets=3)
        store.add([issued(there)])
        taken = there.secrets[1].digest
        twin = new_key(secrets=2)
        twin = replace(twin, secrets=(twin.secrets[0], replace(twin.secrets[1], digest=taken)))
        with pytest.raises(DuplicateSecret) as caught:
            store.add([issued(new_key()), issued(twin), issued(new_key())])
        assert caught.value.digests == (taken,)
        assert all_keys(store) == [there]
        assert len(all_events(store)) == 1

    def test_add_digest_twice(self, store: WritableKeyStore) -> None:
        key = new_key()
        twin = replace(new_key(), secrets=key.secrets)
        with pytest.raises(DuplicateSecret) as caught:
            store.add([issued(key), issued(new_key()), issued(twin)])
        assert caught.value.digests == (key.secrets[0].digest,)
        assert all_keys(store) == []
        assert all_events(store) == []

    def test_add_digest_twice_far_apart(self, store: WritableKeyStore) -> None:
        first = new_key()
        keys = [first, *(new_key() for _ in range(1200)), replace(new_key(), secrets=first.secrets)]
        with pytest.raises(DuplicateSecret) as caught:
            store.add(map(issued, keys))
        assert caught.value.digests == (first.secrets[0].digest,)
        assert all_keys(store) == []
        assert all_events(store) == []

    def test_add_from_what_breaks_off(self, store: WritableKeyStore) -> None:
        store.add([issued(new_key())])

        def broken(count: int) -> Iterator[tuple[Key, Event]]:
            for _ in range(count):
                yield issued(new_key())
            raise LookupError("line 7 cannot be read")

        for count in (0, 1, 1001):
            with pytest.raises(LookupError, match="line 7"):
                store.add(broken(count))
        assert len(all_keys(store)) == 1
        assert len(all_events(store)) == 1
        store.add([issued(new_key())])
        assert len(all_events(store)) == 2

    # Every field comes back

    def test_add_every_field(self, store: WritableKeyStore) -> None:
        moment = datetime(2026, 2, 3, 4, 5, 6, 123457, tzinfo=UTC)
        key = new_key(
            name="Ñandú 漢字 👍 'q' \"q\" % _ \\ / <b>",
            owner="Ærø/漢字/👍",
            description="first line\nsecond ✓ " + "👍" * 20,
            environment=Environment.TEST,
            scopes=Scopes(["*", "a:b", "keydesk:keys:*"]),
            networks=Networks(["10.0.0.0/8", "203.0.113.7", "2001:db8::/32"]),
            limits=(Limit(1, 1), Limit(100, 60), Limit(7, 90), Limit(MAX_LIMIT_COUNT, 366 * 86400)),
            quotas=(Quota(5, Period.DAY), Quota(6, Period.MONTH), Quota(10**12, Period.TOTAL)),
            secrets=tuple(
                Secret(n, random.token_hex(32), "0123abcd", "kd_test_…wxyz", moment, moment + n * SECOND)
                for n in (2, 3, 7)
            ),
            created_at=moment,
            updated_at=moment + timedelta(microseconds=1),
            expires_at=datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            disabled_at=moment + timedelta(microseconds=2),
            revoked_at=datetime(1970, 1, 2, tzinfo=UTC),
            revoke_reason="it was\nleaked – 漢字",
            version=2**31 - 1,
        )
        store.add([issued(key)])
        assert store.find_key(key.id) == key
        assert store.find_by_digest([key.secrets[1].digest]) == key
        assert all_keys(store) == [key]

    def test_add_everything_at_its_longest(self, store: WritableKeyStore) -> None:
        key = new_key(
            secrets=MAX_SECRETS,
            name="👍" * 200,
            owner="漢" * 200,
            description="👍" * 2000,
            scopes=Scopes(f"{'s' * 120}:{n:07}" for n in range(200)),
            networks=Networks(f"2001:db8:ffff:ffff:ffff:ffff:ffff:{n:x}" for n in range(0x1000, 0x1064)),
            limits=tuple(Limit(MAX_LIMIT_COUNT - n, 366 * 86399) for n in range(20)),
            quotas=tuple(Quota(10**12 - n, Period.MONTH) for n in range(20)),
            revoke_reason="漢" * 500,
        )
        key = replace(key, secrets=tuple(replace(s, hint="p" * 20 + "_live_…wxyz") for s in key.secrets))
        event = KeyUpdated(
            at=key.updated_at,
            actor="漢" * 200,
            key_id=key.id,
            owner=key.owner,
            details={"scopes": [list(key.scopes), list(key.scopes)], "description": ["👍" * 2000, "漢" * 2000]},
        )
        store.add([(key, event)])
        assert store.find_key(key.id) == key
        assert all_events(store)[0].event == event

    def test_add_nothing_but_the_name(self, store: WritableKeyStore) -> None:
        key = new_key(name="x")
        store.add([issued(key)])
        assert store.find_key(key.id) == key

    # Changing

    def test_change_record_and_event(self, store: WritableKeyStore, clock: ManualClock) -> None:
        key, other = new_key(), new_key()
        store.add([issued(key), issued(other)])
        after = replace(key, name="New name", version=2, updated_at=clock.advance(SECOND))
        seen = []

        def decide(before: Key) -> Change:
            seen.append(before)
            return Change(after, event_of(after, KeyUpdated, name=["Some client", "New name"]))

        assert store.change(key.id, decide) == after
        assert seen == [key]
        assert store.find_key(key.id) == after
        assert store.find_key(other.id) == other
        assert [row.event.kind for row in all_events(store)] == ["key.issued", "key.issued", "key.updated"]

    def test_change_every_field(self, store: WritableKeyStore) -> None:
        full = new_key(
            owner="o",
            description="d",
            scopes=Scopes(["a:b"]),
            networks=Networks(["10.0.0.0/8"]),
            limits=(Limit(1, 1),),
            quotas=(Quota(1, Period.DAY),),
            expires_at=START,
            disabled_at=START,
            revoked_at=START,
            revoke_reason="r",
        )
        bare = new_key(id=full.id, name="bare", version=2, secrets=2)
        store.add([issued(full)])
        for after in (bare, replace(full, version=3)):
            store.change(full.id, lambda _, after=after: Change(after, event_of(after, KeyUpdated)))  # type: ignore[misc]
            assert store.find_key(full.id) == after

    def test_change_leaves_when_it_was_last_used(self, store: WritableKeyStore) -> None:
        """A change writes the record it read, and a request may have been noted since."""
        key = new_key()
        store.add([issued(key)])

        def decide(before: Key) -> Change:
            stale = replace(before, name="Renamed", version=2, last_used_at=START - SECOND)
            return Change(stale, event_of(before, KeyUpdated))

        store.note_used({key.id: START})
        store.change(key.id, decide)
        found = store.find_key(key.id)
        assert found is not None
        assert (found.name, found.last_used_at) == ("Renamed", START)
        assert len(all_events(store)) == 2  # noting it was no change

    def test_change_secrets(self, store: WritableKeyStore) -> None:
        key = new_key(secrets=2)
        store.add([issued(key)])
        old, kept = key.secrets
        new = Secret(3, random.token_hex(32), "", "kd_live_…0003", START)
        after = replace(key, secrets=(replace(kept, expires_at=START + SECOND), new), version=2)
        store.change(key.id, lambda _: Change(after, event_of(after, KeyUpdated)))
        assert store.find_by_digest([old.digest]) is None
        assert store.find_by_digest([kept.digest]) == store.find_by_digest([new.digest]) == after

    def test_change_what_decide_raises(self, store: WritableKeyStore) -> None:
        key = new_key()
        store.add([issued(key)])

        def decide(_: Key) -> Change:
            raise ZeroDivisionError("in the middle")

        with pytest.raises(ZeroDivisionError, match="in the middle"):
            store.change(key.id, decide)
        assert store.find_key(key.id) == key
        assert len(all_events(store)) == 1

    def test_change_to_nothing_writes_nothing(self, store: WritableKeyStore) -> None:
        key = new_key()
        store.add([issued(key)])
        assert store.change(key.id, lambda _: None) == key
        assert store.find_key(key.id) == key
        assert len(all_events(store)) == 1

    def test_change_delete(self, store: WritableKeyStore) -> None:
        key, other = new_key(secrets=3), new_key()
        store.add([issued(key), issued(other)])
        assert store.change(key.id, lambda k: Change(None, event_of(k, KeyDeleted))) is None
        assert store.find_key(key.id) is None
        assert all(store.find_by_digest([secret.digest]) is None for secret in key.secrets)
        assert all_keys(store) == [other]
        assert [row.event.kind for row in all_events(store)] == ["key.issued", "key.issued", "key.deleted"]
        with pytest.raises(KeyNotFound):
            store.change(key.id, lambda _: None)
        store.add([issued(key)])  # its digests are free again
        assert store.find_key(key.id) == key

    def test_change_odd_id(self, store: WritableKeyStore) -> None:
        for key_id in ODD_IDS:
            with pytest.raises(KeyNotFound) as caught:
                store.change(key_id, lambda _: pytest.fail("there is no such key"))
            assert len(str(caught.value)) < 300

    def test_change_to_a_digest_of_another_key(self, store: WritableKeyStore) -> None:
        key, other = new_key(), new_key()
        store.add([issued(key), issued(other)])
        after = replace(key, secrets=(*key.secrets, replace(other.secrets[0], number=2)))
        with pytest.raises(DuplicateSecret) as caught:
            store.change(key.id, lambda _: Change(after, event_of(after, KeyUpdated)))
        assert caught.value.digests == (other.secrets[0].digest,)
        assert store.find_key(key.id) == key
        assert store.find_by_digest([other.secrets[0].digest]) == other
        assert len(all_events(store)) == 2

    # Digests under a new pepper

    def test_redigest_one_secret(self, store: WritableKeyStore) -> None:
        key, other = new_key(secrets=3), new_key()
        store.add([issued(key), issued(other)])
        old, new = key.secrets[1].digest, random.token_hex(32)
        store.redigest(old, new, "0123abcd")
        moved = replace(key.secrets[1], digest=new, pepper_id="0123abcd")
        assert store.find_by_digest([new]) == replace(key, secrets=(key.secrets[0], moved, key.secrets[2]))
        assert store.find_by_digest([old]) is None
        assert store.find_key(other.id) == other
        assert len(all_events(store)) == 2

    def test_redigest_twice_and_unknown(self, store: WritableKeyStore) -> None:
        key = new_key()
        store.add([issued(key)])
        old, new = key.secrets[0].digest, random.token_hex(32)
        store.redigest(old, new, "0123abcd")
        store.redigest(old, random.token_hex(32), "ffffffff")
        store.redigest(random.token_hex(32), random.token_hex(32), "ffffffff")
        found = store.find_key(key.id)
        assert found is not None
        assert (found.secrets[0].digest, found.secrets[0].pepper_id) == (new, "0123abcd")

    def test_redigest_after_revoke_stays_revoked(self, store: WritableKeyStore, clock: ManualClock) -> None:
        key = new_key()
        store.add([issued(key)])
        seen = store.find_by_digest([key.secrets[0].digest])  # what a verifier holds in its hand,
        revoked = replace(key, revoked_at=clock.now(), revoke_reason="leaked", version=2)
        store.change(key.id, lambda _: Change(revoked, event_of(revoked, KeyRevoked)))  # while somebody revokes it
        assert seen is not None
        store.redigest(seen.secrets[0].digest, "f" * 64, "0123abcd")
        after = store.find_key(key.id)
        assert after == replace(revoked, secrets=(replace(key.secrets[0], digest="f" * 64, pepper_id="0123abcd"),))

    def test_redigest_after_delete_brings_nothing_back(self, store: WritableKeyStore) -> None:
        key = new_key()
        store.add([issued(key)])
        store.change(key.id, lambda k: Change(None, event_of(k, KeyDeleted)))
        store.redigest(key.secrets[0].digest, "f" * 64, "0123abcd")
        assert store.find_by_digest(["f" * 64]) is None
        assert all_keys(store) == []

    def test_redigest_after_the_secret_ended(self, store: WritableKeyStore) -> None:
        key = new_key(secrets=2)
        store.add([issued(key)])
        after = replace(key, secrets=key.secrets[1:], version=2)
        store.change(key.id, lambda _: Change(after, event_of(after, KeyPruned)))
        store.redigest(key.secrets[0].digest, "f" * 64, "0123abcd")
        assert store.find_key(key.id) == after

    def test_redigest_while_a_change_is_decided(self, store: WritableKeyStore) -> None:
        key = new_key()
        store.add([issued(key)])
        new = random.token_hex(32)
        redigest = threading.Thread(target=store.redigest, args=(key.secrets[0].digest, new, "0123abcd"))

        def decide(before: Key) -> Change:
            redigest.start()
            redigest.join(0.1)  # whether it waits for us or not: neither may undo the other
            after = replace(before, revoked_at=START, version=2, secrets=(replace(before.secrets[0], hint="…"),))
            return Change(after, event_of(after, KeyRevoked))

        store.change(key.id, decide)
        redigest.join(20)
        assert not redigest.is_alive()
        after = store.find_by_digest([new])
        assert after is not None
        assert after.revoked_at == START
        assert after.secrets[0].pepper_id == "0123abcd"

    # Events

    def test_list_events_after_and_size(self, store: WritableKeyStore) -> None:
        store.add(issued(new_key()) for _ in range(7))
        assert [row.number for row in store.list_events(after=2, size=3)] == [3, 4, 5]
        assert [row.number for row in store.list_events(after=5)] == [6, 7]
        assert [row.number for row in store.list_events(after=-5, size=2)] == [1, 2]
        assert store.list_events(after=7) == store.list_events(after=2**70) == []
        assert len(store.list_events(after=-(2**70))) == 7

    def test_list_newest_events(self, store: WritableKeyStore) -> None:
        keys = [new_key(owner=owner) for owner in ("acme", None, "acme")]
        store.add(map(issued, keys))
        for key in keys:
            store.change(key.id, lambda k: Change(replace(k, version=2), event_of(k, KeyUpdated)))

        def numbers(**given: Any) -> list[int]:
            return [row.number for row in store.list_newest_events(**given)]

        assert store.list_newest_events() == all_events(store)[::-1]
        assert numbers(size=2) == [6, 5]
        assert numbers(before=5, size=2) == [4, 3]
        assert numbers(before=2**70, size=1) == [6]
        assert numbers(before=1) == numbers(before=0) == numbers(before=-(2**70)) == []
        assert numbers(key_id=keys[0].id) == [4, 1]
        assert numbers(owner="acme", size=3) == [6, 4, 3]
        assert numbers(owner="acme", before=6, key_id=keys[2].id) == [3]
        for key_id in ODD_IDS:
            assert numbers(key_id=key_id) == []
        for size in (0, -1, 1001):
            with pytest.raises(InvalidField, match="size"):
                store.list_newest_events(size=size)

    def test_list_feed_tells_of_every_event(self, store: WritableKeyStore) -> None:
        """A cache drops what it reads of here, so nothing may be missing and nothing out of order."""
        keys = [new_key() for _ in range(3)]
        store.add(map(issued, keys))
        store.change(keys[1].id, lambda k: Change(replace(k, version=2), event_of(k, KeyUpdated)))
        assert store.list_feed(after=0) == [
            FeedEntry(row.number, row.event.kind, row.event.key_id, row.previous_hash, row.hash)
            for row in all_events(store)
        ]
        assert [entry.key_id for entry in store.list_feed(after=1, size=2)] == [keys[1].id, keys[2].id]
        last = store.list_feed(after=3)[-1]
        assert store.position() == (last.number, last.hash)
        assert store.list_feed(after=4) == store.list_feed(after=2**70) == []
        for size in (0, -1, 1001):
            with pytest.raises(InvalidField, match="size"):
                store.list_feed(after=0, size=size)

    def test_list_events_wrong_size(self, store: WritableKeyStore) -> None:
        for size in (0, -1, 1001):
            with pytest.raises(InvalidField, match="size"):
                store.list_events(size=size)

    def test_list_events_of_a_key(self, store: WritableKeyStore) -> None:
        keys = [new_key() for _ in range(3)]
        store.add(map(issued, keys))
        for key in keys:
            store.change(key.id, lambda k: Change(replace(k, version=2), event_of(k, KeyUpdated)))
        assert [row.number for row in store.list_events(key_id=keys[1].id)] == [2, 5]
        assert [row.number for row in store.list_events(key_id=keys[1].id, after=2)] == [5]
        assert [row.number for row in store.list_events(key_id=keys[1].id, size=1)] == [2]
        for key_id in ODD_IDS:
            assert store.list_events(key_id=key_id) == []

    def test_list_events_of_an_owner(self, store: WritableKeyStore) -> None:
        keys = [new_key(owner=owner) for owner in ("acme", "ACME", None, "acme")]
        store.add(map(issued, keys))
        assert [row.number for row in store.list_events(owner="acme")] == [1, 4]
        assert [row.number for row in store.list_events(owner="acme", after=1)] == [4]
        assert [row.number for row in store.list_events(owner="acme", size=1)] == [1]
        assert [row.number for row in store.list_events(owner="acme", key_id=keys[3].id)] == [4]
        assert store.list_events(owner="acme", key_id=keys[1].id) == []
        for owner in ("", "acm", "acme ", " acme", "%", "acm_", "\0", "\ud800", "x" * 201, "Größe", "' OR 1=1 --"):
            assert store.list_events(owner=owner) == [], owner

    # What is asked for once

    def test_add_once(self, store: WritableKeyStore) -> None:
        once = Once(caller="key_1", name="a" * 64, request="b" * 64, at=START)
        keys = [new_key(), new_key()]
        assert store.add(map(issued, keys), once) == 2
        with pytest.raises(AddedBefore) as before:
            store.add([issued(new_key())], once)
        assert before.value.key_ids == (keys[0].id, keys[1].id)
        with pytest.raises(OtherRequest):
            store.add([issued(new_key())], replace(once, request="c" * 64))
        assert len(all_keys(store)) == len(all_events(store)) == 2
        assert store.add([issued(new_key())], replace(once, caller="key_2")) == 1
        assert store.add([issued(new_key())], replace(once, name="d" * 64)) == 1
        assert store.add([issued(new_key())]) == 1

    def test_add_once_is_forgotten_after_a_day(self, store: WritableKeyStore) -> None:
        once = Once(caller="key_1", name="a" * 64, request="b" * 64, at=START)
        store.add([issued(new_key())], once)
        with pytest.raises(AddedBefore):
            store.add([issued(new_key())], replace(once, at=START + REMEMBERED - SECOND))
        other = replace(once, at=START + REMEMBERED, request="c" * 64)
        assert store.add([issued(new_key())], other) == 1
        with pytest.raises(AddedBefore):
            store.add([issued(new_key())], other)

    def test_add_once_that_fails_is_not_noted(self, store: WritableKeyStore) -> None:
        key = new_key()
        store.add([issued(key)])
        once = Once(caller="key_1", name="a" * 64, request="b" * 64, at=START)
        with pytest.raises(DuplicateSecret):
            store.add([issued(new_key(secrets=key.secrets))], once)
        assert store.add([issued(new_key())], once) == 1

    def test_add_once_from_many_threads(self, store: WritableKeyStore) -> None:
        once = Once(caller="key_1", name="a" * 64, request="b" * 64, at=START)
        begin = threading.Barrier(4)

        def add() -> tuple[str, ...]:
            key = new_key()
            begin.wait()
            try:
                store.add([issued(key)], once)
            except AddedBefore as before:
                return before.key_ids
            return (key.id,)

        with ThreadPoolExecutor(4) as threads:
            answers = {found.result() for found in [threads.submit(add) for _ in range(4)]}
        assert len(answers) == len(all_keys(store)) == 1

    def test_list_events_comes_back_whole(self, store: WritableKeyStore) -> None:
        event = KeyUpdated(
            at=datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
            actor="O'Brien 漢字 👍",
            key_id=mint_key_id(START),
            owner="Größe",
            details={"name": ['a\n"b"', "漢字 👍 \\ %"], "n": [1, 2.5, None, True], "nested": {"b": [], "a": {}}},
        )
        store.add([(new_key(), event)])
        (row,) = store.list_events()
        assert row.event == event
        assert type(row.event) is KeyUpdated
        assert row.event.at.utcoffset() == timedelta(0)

    def test_list_events_of_a_later_version(self, store: WritableKeyStore) -> None:
        key = new_key()
        store.add([(key, event_of(key, event_class("key.sublimated")))])
        assert all_events(store)[0].event.kind == "key.sublimated"

    def test_chain_of_a_clock_in_another_zone(self, store: WritableKeyStore) -> None:
        at = datetime(2026, 1, 1, 12, 0, 0, 500, tzinfo=timezone(timedelta(hours=5, minutes=45)))
        key = new_key(at, updated_at=at)
        store.add([issued(key)])
        assert all_events(store)[0].event.at == at
        assert store.find_key(key.id) == key

    def test_check_chain_tells_of_its_progress(self, store: WritableKeyStore) -> None:
        told: list[tuple[int, int]] = []
        assert store.check_chain(lambda done, of: told.append((done, of))).problem is None
        store.add(issued(new_key()) for _ in range(1500))
        told.clear()
        assert store.check_chain(lambda done, of: told.append((done, of))).rows == 1500
        assert told == sorted(told)
        assert not told or told[-1] == (1500, 1500)

    # Paging while others write

    def test_list_keys_while_keys_are_added(self, store: WritableKeyStore, clock: ManualClock) -> None:
        keys = [new_key(clock.advance(SECOND)) for _ in range(6)]
        store.add(map(issued, keys))
        page = store.list_keys(KeyFilter(), size=2)
        store.add([issued(new_key(clock.advance(SECOND)))])
        store.change(keys[3].id, lambda k: Change(None, event_of(k, KeyDeleted)))
        store.change(keys[4].id, lambda k: Change(None, event_of(k, KeyDeleted)))  # the one the cursor stands on
        seen = list(page.keys)
        while page.next_cursor:
            page = store.list_keys(KeyFilter(), cursor=page.next_cursor, size=2)
            seen += page.keys
        assert seen == [keys[5], keys[4], keys[2], keys[1], keys[0]]

    def test_list_keys_of_every_status(self, store: WritableKeyStore) -> None:
        later, sooner = START + SECOND, START - SECOND
        keys = {
            "active": new_key(),
            "active later": new_key(expires_at=later),
            "expired": new_key(expires_at=START),
            "disabled": new_key(disabled_at=sooner),
            "disabled expired": new_key(disabled_at=sooner, expires_at=sooner),
            "revoked": new_key(revoked_at=sooner),
            "revoked rest": new_key(revoked_at=sooner, disabled_at=sooner, expires_at=sooner),
        }
        store.add(map(issued, keys.values()))
        for status in Status:
            expected = {key.id for key in keys.values() if key.status_at(START) is status}
            assert {key.id for key in all_keys(store, KeyFilter(status=status), size=1)} == expected
            assert expected

    # At once

    def test_add_from_many_threads(self, store: WritableKeyStore) -> None:
        def add(_: int) -> None:
            store.add([issued(new_key()), issued(new_key())])

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(add, range(30)))
        assert len(all_events(store)) == len(all_keys(store)) == 60

    def test_change_from_many_threads_loses_nothing(self, store: WritableKeyStore) -> None:
        key = new_key(description="0")
        store.add([issued(key)])

        def count_up(key_: Key) -> Change:
            after = replace(key_, version=key_.version + 1, description=str(int(key_.description) + 1))
            return Change(after, event_of(after, KeyUpdated, version=after.version))

        def work(_: int) -> None:
            store.change(key.id, count_up)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(30)))
        after = store.find_key(key.id)
        assert after is not None
        assert (after.version, after.description) == (31, "30")
        versions = [row.event.details.get("version", 1) for row in all_events(store)]
        assert versions == list(range(1, 32))  # the events are in the order of the changes

    def test_everything_at_once(self, store: WritableKeyStore) -> None:
        """Adds, changes of the secrets, digests moving under another pepper and readers: no deadlock, nothing lost."""
        keys = [new_key(secrets=3) for _ in range(4)]
        store.add(map(issued, keys))
        moved = {s.digest: random.token_hex(32) for key in keys for s in key.secrets}
        stop = threading.Event()
        seen: list[int] = []

        def change(number: int) -> None:
            def decide(key: Key) -> Change:
                secrets = tuple(replace(s, hint=f"…{number:04}") for s in key.secrets)
                after = replace(key, secrets=secrets, version=key.version + 1)
                return Change(after, event_of(after, KeyUpdated))

            store.change(keys[number % 4].id, decide)

        def redigest(item: tuple[str, str]) -> None:
            store.redigest(item[0], item[1], "0123abcd")

        def read() -> None:
            while not stop.is_set():
                for key in all_keys(store, size=2):
                    assert key.secrets
                numbers = [row.number for row in store.list_events(after=seen[-1] if seen else 0)]
                assert numbers == list(range((seen[-1] if seen else 0) + 1, len(seen) + len(numbers) + 1))
                seen.extend(numbers)
                assert store.check_chain().problem is None

        with ThreadPoolExecutor(8) as pool:
            reader = pool.submit(read)
            writers: list[Future[Any]] = [pool.submit(change, number) for number in range(20)]
            writers += [pool.submit(redigest, item) for item in moved.items()]
            writers += [pool.submit(store.add, [issued(new_key())]) for _ in range(8)]
            try:
                for future in writers:
                    future.result(60)
            finally:
                stop.set()
            reader.result(60)
        for key in keys:
            after = store.find_key(key.id)
            assert after is not None
            assert [s.digest for s in after.secrets] == [moved[s.digest] for s in key.secrets]
            assert after.version == 6
        assert len(all_events(store)) == 4 + 20 + 8

    # Pruning

    def test_prunable(self, store: WritableKeyStore) -> None:
        before, later = START - SECOND, START + SECOND
        ended_secret = Secret(1, random.token_hex(32), "", "…", START, before)
        going = {"active": new_key(), "at the instant": new_key(expires_at=START), "later": new_key(revoked_at=later)}
        ended = {
            "expired": new_key(expires_at=before),
            "revoked": new_key(revoked_at=before),
            "rotated": new_key(secrets=(ended_secret, Secret(2, random.token_hex(32), "", "…", START))),
        }
        store.add(map(issued, [*going.values(), *ended.values()]))
        assert sorted(store.prunable(ended_before=START)) == sorted(key.id for key in ended.values())
        assert list(store.prunable(ended_before=START - timedelta(days=1))) == []

    def test_prunable_while_deleting(self, store: WritableKeyStore) -> None:
        store.add(issued(new_key(revoked_at=START)) for _ in range(1100))
        for key_id in islice(store.prunable(ended_before=START + SECOND), 50):
            store.change(key_id, lambda k: Change(None, event_of(k, KeyDeleted)))
        rest = list(store.prunable(ended_before=START + SECOND))
        assert len(rest) == len(set(rest)) == 1050

    # The house

    def test_checks_count_the_peppers(self, store: WritableKeyStore) -> None:
        assert all(check.passed is not False for check in store.checks())
