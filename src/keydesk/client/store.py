"""Room client: a store whose keys are on a server. Records are read there by digest; they are changed there alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from .. import sync
from ..allowances import Account
from ..clock import Clock
from ..decision import Check
from ..errors import InvalidField, StoreError, StoreUnavailable
from ..events import Event
from ..keys.digest import Digester
from ..keys.limits import parse_limit, parse_quota
from ..keys.plans import OwnerTerms, Plan
from ..keys.record import Key, as_utc
from ..ports import Balance, FeedEntry, KeyFilter, OwnerChange, Page, PlanChange, Position, changed_elsewhere
from ..usage import Batch, EarlierUsage, Entry, KeyUsage, MistakeUsage, Range, Span, Usage
from .connection import Connection, Unsure

logger = logging.getLogger("keydesk")

WRITE_SECONDS = 10.0  # for what was counted: no request waits for it, and after an outage it is much
_KEY_ID = re.compile(sync.KEY_ID)


class ServerStore:
    """The keys of a server; see `keydesk.ports.KeyStore`.

    Args:
        connection: To the server.
        digester: What secrets are digested with here: under the peppers of the server, or no key would be found.
        clock: What tells the time.
    """

    def __init__(self, connection: Connection, digester: Digester, clock: Clock) -> None:
        self._connection = connection
        self._digester = digester
        self._monotonic = clock.monotonic
        self.server_url = connection.url
        self.plans = ServerPlans(connection)
        self.usage = ServerUsage(connection)
        self.quotas = ServerQuotas(connection)

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        """See `KeyStore.find_by_digest`.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        key = self._connection.ask(sync.FIND_BY_DIGEST, sync.ByDigest(list(digests)), again=True)
        if key is not None:
            self._require_usable(key, digests)
        return key

    def _require_usable(self, key: Key, digests: Sequence[str]) -> None:
        """Return if a request can be judged by a record: another version, or another program, may have made it.

        Raises:
            StoreUnavailable: It cannot.
        """
        terms = (key, *((key.agreed.plan, key.agreed.owner) if key.agreed else ()))
        moments = (key.created_at, key.updated_at, key.expires_at, key.disabled_at, key.revoked_at, key.last_used_at)
        try:
            of_secrets = (at for secret in key.secrets for at in (secret.created_at, secret.expires_at))
            for moment in (*moments, *of_secrets):
                if moment is not None:
                    as_utc("moment", moment)
            for each in filter(None, terms):
                usable = all(parse_limit(str(limit)) == limit for limit in each.limits)
                usable = usable and all(parse_quota(str(quota)) == quota for quota in each.quotas)
                if not usable:
                    raise InvalidField("limits", "are none")
            if not _KEY_ID.fullmatch(key.id) or key.in_force or key.find_secret(digests) is None:
                raise InvalidField("id", "is of another key")
        except InvalidField as error:
            raise StoreUnavailable(
                f"the server {self.server_url} answers with a record that cannot be used here: {error}",
                "Bring Keydesk to the same version here and there; quotas of time zones need tzdata.",
            ) from None

    def find_key(self, key_id: str) -> Key | None:
        """See `KeyStore.find_key`. The digests of its secrets stay on the server.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read keys.
        """
        if not _KEY_ID.fullmatch(key_id):
            return None
        return self._connection.ask(sync.FIND_KEY, sync.ById(key_id), again=True)

    def list_keys(self, where: KeyFilter, *, cursor: str | None = None, size: int = 100) -> Page:
        """See `KeyStore.list_keys`. The digests of their secrets stay on the server.

        Raises:
            InvalidField: The cursor is none of the server, or the size is out of range.
            StoreUnavailable: The server does not answer, or this application may not read keys.
        """
        found = self._connection.ask(sync.LIST_KEYS, sync.Listed(where, cursor, size), again=True, of_people=True)
        return Page(found.keys, found.next_cursor)

    def position(self) -> Position:
        """See `KeyStore.position`.

        Raises:
            StoreUnavailable: The server does not answer, or digests under a pepper that is not known here: then no
                key would be found, although it is there.
        """
        head = self._connection.ask(sync.HEAD, sync.Nothing(), again=True)
        if head.pepper_id not in self._digester.known_pepper_ids or self._lacks_pepper(head):
            raise StoreUnavailable(
                f"the server {self.server_url} digests secrets under another pepper",
                "Set KEYDESK_PEPPER and KEYDESK_PREVIOUS_PEPPERS here to what they are there.",
            )
        return Position(head.number, head.hash)

    def _lacks_pepper(self, head: sync.Head) -> bool:
        """Return whether secrets are digested under a pepper here, and under none there."""
        return not head.pepper_id and bool(self._digester.pepper_id)

    def list_feed(self, *, after: int, size: int = 100) -> list[FeedEntry]:
        """See `KeyStore.list_feed`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The server does not answer.
        """
        return self._connection.ask(sync.FEED, sync.AfterEvent(after, size), again=True)

    def note_used(self, used: Mapping[str, datetime]) -> None:
        """See `KeyStore.note_used`.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        known = {key_id: at for key_id, at in used.items() if _KEY_ID.fullmatch(key_id)}
        self._connection.ask(sync.NOTE_USED, sync.Used(known), again=True)

    def checks(self) -> list[Check]:
        """See `KeyStore.checks`."""
        began = self._monotonic()
        try:
            position = self.position()
        except StoreError as error:
            return [Check("store", False, str(error))]
        took = round((self._monotonic() - began) * 1000)
        checks = [
            Check("store", True, f"the server {self.server_url}, at event {position.number}, answers in {took} ms")
        ]
        if is_open(self.server_url):
            fix = "let KEYDESK_STORE begin with https://, where the way there is not your own"
            checks.append(Check("connection", None, "the server is asked without TLS: who listens reads its key", fix))
        return checks

    def close(self) -> None:
        """See `KeyStore.close`."""
        self._connection.close()


class ServerPlans:
    """Plans and owners' terms that are on a server; see `keydesk.ports.PlanStore`. They are changed there alone.

    Args:
        connection: To the server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find_plan(self, name: str) -> Plan | None:
        """See `PlanStore.find_plan`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read keys.
        """
        if len(name) > sync.MAX_TEXT_CHARACTERS:
            return None
        return self._connection.ask(sync.FIND_PLAN, sync.ByName(name), again=True)

    def list_plans(self, *, after: str = "", size: int = 100) -> list[Plan]:
        """See `PlanStore.list_plans`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The server does not answer, or this application may not read keys.
        """
        return self._connection.ask(sync.LIST_PLANS, sync.AfterName(after, size), again=True, of_people=True)

    def change_plan(self, name: str, decide: Callable[[Plan | None], PlanChange | None]) -> Plan | None:  # noqa: ARG002
        """See `PlanStore.change_plan`.

        Raises:
            StoreReadOnly: Plans are changed on the server.
        """
        raise changed_elsewhere(self._connection.url)

    def find_owner(self, owner: str) -> OwnerTerms | None:
        """See `PlanStore.find_owner`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read keys.
        """
        if len(owner) > sync.MAX_TEXT_CHARACTERS:
            return None
        return self._connection.ask(sync.FIND_OWNER, sync.ByName(owner), again=True)

    def list_owners(self, *, after: str = "", size: int = 100) -> list[OwnerTerms]:
        """See `PlanStore.list_owners`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The server does not answer, or this application may not read keys.
        """
        return self._connection.ask(sync.LIST_OWNERS, sync.AfterName(after, size), again=True, of_people=True)

    def change_owner(
        self,
        owner: str,  # noqa: ARG002
        decide: Callable[[OwnerTerms | None], OwnerChange | None],  # noqa: ARG002
    ) -> OwnerTerms | None:
        """See `PlanStore.change_owner`.

        Raises:
            StoreReadOnly: Owners' terms are changed on the server.
        """
        raise changed_elsewhere(self._connection.url)


class ServerUsage:
    """Counts that a server keeps; see `keydesk.ports.UsageStore`.

    Args:
        connection: To the server.
    """

    shared = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, batch: Batch) -> bool:
        """See `UsageStore.add`.

        Raises:
            StoreUnavailable: The server was not reached, or refused.
        """
        earlier = [(span, at, *secret, network, count) for (span, at, secret, network), count in batch.earlier.items()]
        counted = sync.Counted(_flat(batch.keys), _flat(batch.mistakes), earlier)
        try:
            return self._connection.ask(sync.ADD_USAGE, counted, answer_seconds=WRITE_SECONDS).written
        except Unsure as error:
            logger.warning("Keydesk may have lost what it counted, since it never counts twice: %s", error)
            return False

    def counts(self, range_: Range, key_id: str | None = None, owner: str | None = None) -> list[Usage]:
        """See `UsageStore.counts`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read counts.
        """
        return self._connection.ask(sync.COUNTS, sync.Within(range_, key_id, owner), again=True, of_people=True)

    def counts_of_keys(self, range_: Range, key_ids: Sequence[str]) -> dict[str, list[Usage]]:
        """See `UsageStore.counts_of_keys`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read counts.
        """
        possible = [key_id for key_id in key_ids if _KEY_ID.fullmatch(key_id)]
        return self._connection.ask(sync.COUNTS_OF_KEYS, sync.OfKeys(range_, possible), again=True, of_people=True)

    def top(self, range_: Range, size: int) -> tuple[int, list[KeyUsage]]:
        """See `UsageStore.top`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read counts.
        """
        found = self._connection.ask(sync.TOP_KEYS, sync.Most(range_, size), again=True, of_people=True)
        return found.total, found.keys

    def mistakes(self, range_: Range, size: int) -> tuple[int, list[MistakeUsage]]:
        """See `UsageStore.mistakes`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read counts.
        """
        found = self._connection.ask(sync.TOP_NETWORKS, sync.Most(range_, size), again=True, of_people=True)
        return found.total, found.networks

    def mistake_counts(self, range_: Range) -> list[Usage]:
        """See `UsageStore.mistake_counts`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read counts.
        """
        return self._connection.ask(sync.MISTAKE_COUNTS, sync.During(range_), again=True, of_people=True)

    def earlier_secrets(self, range_: Range, key_id: str, size: int) -> tuple[list[EarlierUsage], dict[int, datetime]]:
        """See `UsageStore.earlier_secrets`.

        Raises:
            StoreUnavailable: The server does not answer, or this application may not read counts.
        """
        if not _KEY_ID.fullmatch(key_id):
            return [], {}
        asked = sync.OfKey(range_, key_id, size)
        found = self._connection.ask(sync.EARLIER_SECRETS, asked, again=True, of_people=True)
        return found.networks, found.last_used

    def forget(self, span: Span, before: datetime) -> bool:  # noqa: ARG002
        """See `UsageStore.forget`. The server does that, by its own settings."""
        return False


class ServerQuotas:
    """Credits that a server hands out; see `keydesk.ports.QuotaStore`.

    Args:
        connection: To the server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lease(self, account: Account, count: int, least: int) -> tuple[int, Balance]:
        """See `QuotaStore.lease`. It is asked for once: what was handed out and never arrived is lost.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        leased = self._connection.ask(sync.LEASE, sync.Leasing(account, count, least))
        return leased.granted, leased.balance

    def balance(self, account: Account) -> Balance:
        """See `QuotaStore.balance`.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        return self._connection.ask(sync.BALANCE, sync.Asked(account), again=True)

    def tell(self, account: Account, percent: int, event: Event) -> None:
        """See `QuotaStore.tell`.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        quota = str(event.details.get("quota", ""))
        told = sync.Told(account, 100 if percent >= 100 else 80, event.key_id, quota)
        self._connection.ask(sync.TELL, told, again=True)

    def refill(self, account: Account, credits_: int, event: Event) -> Balance:  # noqa: ARG002
        """See `QuotaStore.refill`.

        Raises:
            StoreReadOnly: Credits are added on the server.
        """
        raise changed_elsewhere(self._connection.url)


def is_open(url: str) -> bool:
    """Return whether requests to a server can be read on their way: without TLS, to another machine."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _flat(entries: Mapping[Entry, int]) -> list[Any]:
    return [(*entry, count) for entry, count in entries.items()]
