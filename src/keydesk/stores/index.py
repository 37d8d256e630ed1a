"""Room stores: keys held in memory and found by digest or id. The memory, config and file stores stand on it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from ..keys.plans import PlanFields
from ..keys.record import Key
from ..ports import KeyFilter, Page
from .paging import check_size, decode_cursor, encode_cursor


class KeyIndex:
    """Keys by digest and by id, and in the order of their ids. Not locked: the store around it does that."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_digest: dict[str, str] = {}
        self._by_id: dict[str, Key] = {}
        self._ids: list[str] = []
        for key in keys:
            self.put(key)

    def put(self, key: Key) -> None:
        """Add the key, or put it in the place of the one with its id. When that was last used stays."""
        before = self._by_id.get(key.id)
        if before is None:
            insort(self._ids, key.id)
        else:
            self._forget_digests(before)
            key = replace(key, last_used_at=before.last_used_at)
        self._by_digest.update((secret.digest, key.id) for secret in key.secrets)
        self._by_id[key.id] = key

    def note_used(self, used: Mapping[str, datetime]) -> None:
        """Note when keys were last used; see `KeyStore.note_used`."""
        for key_id, at in used.items():
            key = self._by_id.get(key_id)
            if key is not None and (key.last_used_at is None or key.last_used_at < at):
                self._by_id[key_id] = replace(key, last_used_at=at)

    def last_used(self) -> dict[str, datetime]:
        """Return what was noted, by the ids of the keys."""
        return {key.id: key.last_used_at for key in self if key.last_used_at is not None}

    def remove(self, key: Key) -> None:
        """Take the key out."""
        self._forget_digests(self._by_id.pop(key.id))
        del self._ids[bisect_left(self._ids, key.id)]

    def _forget_digests(self, key: Key) -> None:
        for secret in key.secrets:
            del self._by_digest[secret.digest]

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        """Return the key that has a secret under one of these digests, or None."""
        for digest in digests:
            key_id = self._by_digest.get(digest)
            if key_id is not None:
                return self._by_id.get(key_id)
        return None

    def find(self, key_id: str) -> Key | None:
        """Return the key of this id, or None."""
        return self._by_id.get(key_id)

    def page(
        self,
        where: KeyFilter,
        *,
        cursor: str | None,
        size: int,
        now: datetime,
        plans: Mapping[str, PlanFields] = MappingProxyType({}),
    ) -> Page:
        """Return one page of the keys that match, newest first.

        Args:
            where, cursor, size: See `KeyStore.list_keys`.
            now: The present.
            plans: Those there are, by their names.

        Raises:
            InvalidField: The cursor is none of this list, or the size is out of range.
        """
        check_size(size)
        end = bisect_left(self._ids, decode_cursor(cursor)) if cursor is not None else len(self._ids)
        found: list[Key] = []
        for position in range(end - 1, -1, -1):
            key = self._by_id[self._ids[position]]
            if matches(where, key, now, plans):
                if len(found) == size:
                    return Page(tuple(found), encode_cursor(found[-1].id))
                found.append(key)
        return Page(tuple(found), None)

    def __iter__(self) -> Iterator[Key]:
        return (self._by_id[key_id] for key_id in self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def matches(where: KeyFilter, key: Key, now: datetime, plans: Mapping[str, PlanFields]) -> bool:
    """Return whether a key meets every condition of a filter."""
    if where.owner is not None and key.owner != where.owner:
        return False
    if where.plan is not None and key.plan != where.plan:
        return False
    if where.status is not None and key.status_at(now) is not where.status:
        return False
    if where.idle_since is not None and max(key.created_at, key.last_used_at or key.created_at) >= where.idle_since:
        return False
    if where.scope is not None and not _may(key, where.scope, plans):
        return False
    text = (where.text or "").casefold()
    return not text or any(text in field.casefold() for field in (key.name, key.description, key.owner or "", key.id))


def _may(key: Key, scope: str, plans: Mapping[str, PlanFields]) -> bool:
    if key.plan is None:
        return key.scopes.allow(scope)
    plan = plans.get(key.plan)
    return plan is not None and plan.scopes.allow(scope) and (not key.scopes or key.scopes.allow(scope))
