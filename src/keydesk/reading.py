"""Core: what a desk shows: its keys, its events, and what was counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from .clock import Clock
from .errors import KeyNotFound
from .events import ChainedEvent, ChainReport
from .keys.record import Key, Status
from .lookup import get_in_force, with_agreed
from .ports import KeyFilter, KeyStore, Meter, Page, UsageStore, writable
from .usage import (
    EarlierReport,
    Kept,
    MistakeReport,
    Range,
    Span,
    TopReport,
    UsageReport,
    check_keys,
    check_top,
    parse_range,
)


class DeskReader:
    """The half of a desk that changes nothing."""

    store: KeyStore
    clock: Clock
    meter: Meter | None
    usage_store: UsageStore | None
    _kept: Kept

    def find_key(self, key_id: str) -> Key | None:
        """Return the key of this id, or None.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        return self.store.find_key(key_id)

    def get_key(self, key_id: str) -> Key:
        """Return the key of this id.

        Raises:
            KeyNotFound: No key has it.
            StoreUnavailable: The store does not answer.
        """
        key = self.store.find_key(key_id)
        if key is None:
            raise KeyNotFound(key_id)
        return key

    def get_in_force(self, key_id: str) -> Key:
        """Return a key as its requests are judged: with what its plan and its owner put it under.

        Raises:
            KeyNotFound: No key has this id.
            StoreUnavailable: The store does not answer, or has no such plan.
        """
        return get_in_force(self.store, key_id)

    def with_agreed(self, keys: Sequence[Key]) -> list[Key]:
        """Return keys with what their plans and their owners put them under. Each plan and each owner is read once.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        return with_agreed(self.store, keys)

    def list_keys(
        self,
        *,
        owner: str | None = None,
        status: Status | None = None,
        text: str | None = None,
        idle_since: datetime | None = None,
        plan: str | None = None,
        scope: str | None = None,
        cursor: str | None = None,
        size: int = 100,
    ) -> Page:
        """Return one page of keys, newest first. It may be short before the end: see `keydesk.ports.Page`.

        Args:
            owner, status, text, idle_since, plan, scope: See `KeyFilter`.
            cursor: `next_cursor` of the page before; None for the first.
            size: 1 to 1000 keys at most.

        Raises:
            InvalidField: A filter, the cursor or the size cannot be used.
            StoreUnavailable: The store does not answer.
        """
        if idle_since is not None:
            self._flush()
        where = KeyFilter(owner=owner, status=status, text=text, idle_since=idle_since, plan=plan, scope=scope)
        return self.store.list_keys(where, cursor=cursor, size=size)

    def list_events(
        self, *, after: int = 0, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """Return events with numbers above `after`, in order.

        Args:
            after: A number of an event; 0 for the beginning.
            key_id: Only those of this key.
            owner: Only those of this owner, and of keys that were this owner's at that moment.
            size: 1 to 1000 events.

        Raises:
            InvalidField: The size is out of range.
            StoreReadOnly: This store has no events.
            StoreUnavailable: The store does not answer.
        """
        return writable(self.store).list_events(after=after, key_id=key_id, owner=owner, size=size)

    def list_newest_events(
        self, *, before: int | None = None, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """Return the newest events, the newest first.

        Args:
            before: Only events with numbers below this one.
            key_id, owner: As of `list_events`.
            size: 1 to 1000 events.

        Raises:
            InvalidField: The size is out of range.
            StoreReadOnly: This store has no events.
            StoreUnavailable: The store does not answer.
        """
        return writable(self.store).list_newest_events(before=before, key_id=key_id, owner=owner, size=size)

    def check_chain(self, progress: Callable[[int, int], None] | None = None) -> ChainReport:
        """Walk all events and report the first that was changed, removed or inserted.

        Args:
            progress: Called now and then with the rows read and the rows there are.

        Raises:
            StoreReadOnly: This store has no events.
            StoreUnavailable: The store does not answer.
        """
        return writable(self.store).check_chain(progress)

    # What was counted

    def usage(
        self,
        key_id: str | None = None,
        *,
        owner: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        span: Span | None = None,
    ) -> UsageReport:
        """Return how many requests were allowed and refused, by the minute, the hour or the day.

        What this process counted is in it; what others did within their last interval may not be.

        Args:
            key_id: Only those of this key; None for all keys.
            owner: Only those of keys that are there and are this owner's now.
            since: From the span on that this moment lies in; aware. None for 24 hours before `until`.
            until: Up to this moment, without it; aware. None for now.
            span: What to count by; None for what fits the range. Minutes are kept for 48 hours and hours for 90 days,
                or as set.

        Raises:
            InvalidField: The range ends before it begins, has a moment without time zone or over 5000 spans.
            StoreUnavailable: The store does not answer.
        """
        range_ = parse_range(since, until, span, self.clock.now(), timedelta(hours=24), self._kept)
        self._flush()
        return UsageReport(range_, tuple(self.usage_store.counts(range_, key_id, owner)) if self.usage_store else ())

    def usage_of_keys(
        self,
        key_ids: Iterable[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        span: Span | None = None,
    ) -> dict[str, UsageReport]:
        """Return what `usage` does, of each of several keys, in one read. Keys that sent nothing have an empty report.

        Args:
            key_ids: Which keys; at most 1000, and at most 100,000 times the spans of the range.
            since, until, span: See `usage`.

        Raises:
            InvalidField: The range cannot be used, or there are too many keys.
            StoreUnavailable: The store does not answer.
        """
        range_ = parse_range(since, until, span, self.clock.now(), timedelta(hours=24), self._kept)
        wanted = check_keys(key_ids, range_)
        self._flush()
        found = self.usage_store.counts_of_keys(range_, wanted) if self.usage_store and wanted else {}
        return {key_id: UsageReport(range_, tuple(found.get(key_id, ()))) for key_id in wanted}

    def top_keys(self, *, since: datetime | None = None, until: datetime | None = None, size: int = 10) -> TopReport:
        """Return the keys that sent the most requests, allowed or refused, with their records.

        Args:
            since: See `usage`; None for one hour before `until`.
            until: See `usage`.
            size: 1 to 1000 keys.

        Raises:
            InvalidField: The range or the size cannot be used.
            StoreUnavailable: The store does not answer.
        """
        range_ = self._range_of_top(since, until, size)
        total, keys = self.usage_store.top(range_, size) if self.usage_store else (0, [])
        return TopReport(range_, total, tuple(replace(each, key=self.store.find_key(each.key_id)) for each in keys))

    def mistakes(
        self, *, since: datetime | None = None, until: datetime | None = None, size: int = 10
    ) -> MistakeReport:
        """Return where the texts came from that are no key's: how many from which network.

        Args:
            since: See `usage`; None for one hour before `until`.
            until: See `usage`.
            size: 1 to 1000 networks.

        Raises:
            InvalidField: The range or the size cannot be used.
            StoreUnavailable: The store does not answer.
        """
        range_ = self._range_of_top(since, until, size)
        total, networks = self.usage_store.mistakes(range_, size) if self.usage_store else (0, [])
        return MistakeReport(range_, total, tuple(networks))

    def mistake_counts(
        self, *, since: datetime | None = None, until: datetime | None = None, span: Span | None = None
    ) -> UsageReport:
        """Return how many texts came that are no key's, by the minute, the hour or the day, each with its mistake.

        Args:
            since, until, span: See `usage`.

        Raises:
            InvalidField: The range cannot be used.
            StoreUnavailable: The store does not answer.
        """
        range_ = parse_range(since, until, span, self.clock.now(), timedelta(hours=24), self._kept)
        self._flush()
        return UsageReport(range_, tuple(self.usage_store.mistake_counts(range_)) if self.usage_store else ())

    def earlier_secrets(
        self, key_id: str, *, since: datetime | None = None, until: datetime | None = None, size: int = 10
    ) -> EarlierReport:
        """Return who presented secrets of a key that are not its newest: how often, and from which network.

        Args:
            key_id: Which key.
            since: See `usage`; None for one hour before `until`.
            until: See `usage`.
            size: 1 to 1000 networks.

        Raises:
            InvalidField: The range or the size cannot be used.
            StoreUnavailable: The store does not answer.
        """
        range_ = self._range_of_top(since, until, size)
        found, last = self.usage_store.earlier_secrets(range_, key_id, size) if self.usage_store else ([], {})
        return EarlierReport(range_, tuple(found), last)

    def _range_of_top(self, since: datetime | None, until: datetime | None, size: int) -> Range:
        """Return the range of a list of the most, and write down what was counted before it is read.

        Raises:
            InvalidField: The range or the size cannot be used.
        """
        range_ = parse_range(since, until, None, self.clock.now(), timedelta(hours=1), self._kept)
        check_top(size)
        self._flush()
        return range_

    def _flush(self) -> None:
        if self.meter is not None:
            self.meter.flush()
