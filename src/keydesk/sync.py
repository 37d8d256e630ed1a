"""Core: what an application and the server that is its store say to each other: one POST of JSON for each call.

Both sides have these types. Who reads leaves out what it does not know, so either side may be of a newer version.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from .allowances import Account
from .claims import Claim, Pool, Taken
from .keys.networks import Networks
from .keys.plans import OwnerTerms, Plan
from .keys.record import Key
from .keys.scopes import Scopes
from .ports import MAX_PAGE, Balance, FeedEntry, KeyFilter, Mistake
from .usage import MAX_KEYS, EarlierUsage, KeyUsage, MistakeUsage, Range, Span, Usage

PREFIX = "/v1/sync/"
MAX_BODY_BYTES = 262_144
MAX_USAGE_BODY_BYTES = 16_777_216  # the most entries that a process counts in an outage: 120,000, of 130 bytes each
MAX_DIGESTS = 50
MAX_CLAIMS = 100
MAX_SUBJECT_CHARACTERS = 8000
MAX_TEXT_CHARACTERS = 210  # of a holder of quotas, which is the longest of them
MAX_COUNT = 10**12  # of credits
MAX_REQUESTS = 10**9  # of one entry
MAX_NUMBER = 2**31 - 1  # of a secret

KEY_ID = r"^key_[0-9a-f]{28}\Z"

Q = TypeVar("Q")
A = TypeVar("A")

Digest: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)]
Size: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Whole: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
# Whose it is, and how many: of a span from its beginning on.
KeyCount: TypeAlias = tuple[
    Span,
    datetime,
    Annotated[str, Meta(pattern=r"^(key_[0-9a-f]{28})?\Z")],  # without one: of keys that had no place left
    Annotated[str, Meta(max_length=32)],  # the outcome
    Annotated[int, Meta(ge=1, le=MAX_REQUESTS)],
]
NetworkCount: TypeAlias = tuple[
    Span, datetime, Mistake, Annotated[str, Meta(max_length=64)], Annotated[int, Meta(ge=1, le=MAX_REQUESTS)]
]
SecretCount: TypeAlias = tuple[
    Span,
    datetime,
    Annotated[str, Meta(pattern=r"^(key_[0-9a-f]{28})?\Z")],
    Annotated[int, Meta(ge=0, le=MAX_NUMBER)],  # of the secret
    Annotated[str, Meta(max_length=64)],  # the network
    Annotated[int, Meta(ge=1, le=MAX_REQUESTS)],
]


class Nothing(Struct):
    """What has nothing to say."""


class Head(Struct):
    """How far the store has come, and under which pepper it digests: see `Position` and `Digester`."""

    number: int
    hash: str
    pepper_id: str


class AfterEvent(Struct):
    """See `KeyStore.list_feed`."""

    after: int
    size: Size


class ByDigest(Struct):
    """See `KeyStore.find_by_digest`."""

    digests: Annotated[list[Digest], Meta(min_length=1, max_length=MAX_DIGESTS)]


class ById(Struct):
    """See `KeyStore.find_key`."""

    key_id: Annotated[str, Meta(pattern=KEY_ID)]


class Listed(Struct):
    """See `KeyStore.list_keys`."""

    where: KeyFilter
    cursor: Text | None
    size: Size


class Keys(Struct):
    """See `Page`."""

    keys: tuple[Key, ...]
    next_cursor: str | None


class ByName(Struct):
    """See `PlanStore.find_plan` and `PlanStore.find_owner`."""

    name: Text


class AfterName(Struct):
    """See `PlanStore.list_plans` and `PlanStore.list_owners`."""

    after: Text
    size: Size


class Used(Struct):
    """See `KeyStore.note_used`."""

    used: dict[Annotated[str, Meta(pattern=KEY_ID)], datetime]


class Counted(Struct):
    """See `UsageStore.add`."""

    keys: list[KeyCount]
    mistakes: list[NetworkCount]
    earlier: list[SecretCount] = []  # who asks may be of a version without it


class Written(Struct):
    """Whether what was counted is known to be written."""

    written: bool


class Within(Struct):
    """See `UsageStore.counts`."""

    range: Range
    key_id: Text | None
    owner: Text | None


class OfKeys(Struct):
    """See `UsageStore.counts_of_keys`."""

    range: Range
    key_ids: Annotated[list[Text], Meta(max_length=MAX_KEYS)]


class During(Struct):
    """See `UsageStore.mistake_counts`."""

    range: Range


class Most(Struct):
    """See `UsageStore.top` and `UsageStore.mistakes`."""

    range: Range
    size: Size


class OfKey(Struct):
    """See `UsageStore.earlier_secrets`."""

    range: Range
    key_id: Text
    size: Size


class EarlierSecrets(Struct):
    """What `UsageStore.earlier_secrets` returns."""

    networks: list[EarlierUsage]
    last_used: dict[int, datetime]


class TopKeys(Struct):
    """What `UsageStore.top` returns."""

    total: int
    keys: list[KeyUsage]


class TopNetworks(Struct):
    """What `UsageStore.mistakes` returns."""

    total: int
    networks: list[MistakeUsage]


class Take(Struct):
    """See `Limiter.take`."""

    claims: Annotated[list[Claim], Meta(max_length=MAX_CLAIMS)]
    pools: Annotated[list[Pool], Meta(max_length=MAX_CLAIMS)]
    cost: Annotated[int, Meta(ge=0, le=1_000_000)]
    test: bool


class Leasing(Struct):
    """See `QuotaStore.lease`."""

    account: Account
    count: Whole
    least: Annotated[int, Meta(ge=1, le=1_000_000)]


class Leased(Struct):
    """What `QuotaStore.lease` returns."""

    granted: int
    balance: Balance


class Asked(Struct):
    """See `QuotaStore.balance`."""

    account: Account


class Told(Struct):
    """See `QuotaStore.tell`; the server makes the event."""

    account: Account
    percent: Literal[80, 100]
    key_id: Annotated[str, Meta(pattern=KEY_ID)]
    quota: Text


class Call(Generic[Q, A]):
    """One kind of call: its path, and what is said on either side.

    Args:
        name: The end of its path.
        question, answer: The types of what is sent and of what comes back.
        most: How many bytes the question may have.
    """

    def __init__(self, name: str, question: type[Q], answer: type[A], *, most: int = MAX_BODY_BYTES) -> None:
        self.path = PREFIX + name
        self.most = most
        self._question = msgspec.json.Decoder(question, dec_hook=_decode)
        self._answer = msgspec.json.Decoder(answer, dec_hook=_decode)

    def read_question(self, body: bytes) -> Q:
        """Return what was asked.

        Raises:
            ValueError: It is no such question.
        """
        return _decoded(self._question, body)

    def read_answer(self, body: bytes) -> A:
        """Return what was answered.

        Raises:
            ValueError: It is no such answer.
        """
        return _decoded(self._answer, body)


def write(said: object) -> bytes:
    """Return a question or an answer as JSON."""
    return _ENCODER.encode(said)


def _decoded(decoder: msgspec.json.Decoder[A], body: bytes) -> A:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _encode(value: Any) -> Any:
    if isinstance(value, (Scopes, Networks)):
        return list(value)
    raise NotImplementedError(f"{type(value).__name__} is no part of any call")


def _decode(kind: type, value: Any) -> Any:
    if kind in (Scopes, Networks):
        return kind(value)
    raise NotImplementedError(f"{kind.__name__} is no part of any call")


_ENCODER = msgspec.json.Encoder(enc_hook=_encode)

HEAD: Call[Nothing, Head] = Call("head", Nothing, Head)
FEED: Call[AfterEvent, list[FeedEntry]] = Call("feed", AfterEvent, list[FeedEntry])
FIND_BY_DIGEST: Call[ByDigest, Key | None] = Call("find-by-digest", ByDigest, Key | None)  # type: ignore[arg-type]
FIND_KEY: Call[ById, Key | None] = Call("find-key", ById, Key | None)  # type: ignore[arg-type]
LIST_KEYS: Call[Listed, Keys] = Call("list-keys", Listed, Keys)
FIND_PLAN: Call[ByName, Plan | None] = Call("find-plan", ByName, Plan | None)  # type: ignore[arg-type]
LIST_PLANS: Call[AfterName, list[Plan]] = Call("list-plans", AfterName, list[Plan])
FIND_OWNER: Call[ByName, OwnerTerms | None] = Call("find-owner", ByName, OwnerTerms | None)  # type: ignore[arg-type]
LIST_OWNERS: Call[AfterName, list[OwnerTerms]] = Call("list-owners", AfterName, list[OwnerTerms])
NOTE_USED: Call[Used, Nothing] = Call("note-used", Used, Nothing)
ADD_USAGE: Call[Counted, Written] = Call("add-usage", Counted, Written, most=MAX_USAGE_BODY_BYTES)
COUNTS: Call[Within, list[Usage]] = Call("counts", Within, list[Usage])
COUNTS_OF_KEYS: Call[OfKeys, dict[str, list[Usage]]] = Call("counts-of-keys", OfKeys, dict[str, list[Usage]])
MISTAKE_COUNTS: Call[During, list[Usage]] = Call("mistake-counts", During, list[Usage])
EARLIER_SECRETS: Call[OfKey, EarlierSecrets] = Call("earlier-secrets", OfKey, EarlierSecrets)
TOP_KEYS: Call[Most, TopKeys] = Call("top-keys", Most, TopKeys)
TOP_NETWORKS: Call[Most, TopNetworks] = Call("top-networks", Most, TopNetworks)
TAKE: Call[Take, Taken] = Call("take", Take, Taken)
LEASE: Call[Leasing, Leased] = Call("lease", Leasing, Leased)
BALANCE: Call[Asked, Balance] = Call("balance", Asked, Balance)
TELL: Call[Told, Nothing] = Call("tell", Told, Nothing)
