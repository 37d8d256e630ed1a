"""Core: the part of a desk that makes keys: it issues new ones and takes in those whose secrets clients hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import changes
from .callers import DEFAULT_ACTOR, Caller, Callers
from .errors import InvalidField, NotPermitted
from .events import Event
from .keys.held import Mint
from .keys.record import IssuedKey, Key, KeyFields, Secret, mint_key_id, mint_key_ids, parse_fields
from .ports import MAX_PAGE, KeyFinder, Once, writable
from .reading import DeskReader


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key whose secret a client already holds, to be imported: its fields, and what `Mint.secret` made of it."""

    fields: KeyFields
    secret: Secret


class DeskIssuer(DeskReader):
    """The part of a desk that makes keys."""

    mint: Mint
    _callers: Callers
    _finder: KeyFinder

    def issue(
        self,
        *,
        name: str,
        owner: str | None = None,
        description: str = "",
        environment: str = "live",
        plan: str | None = None,
        scopes: Iterable[str] = (),
        networks: Iterable[str] = (),
        limits: Iterable[str] = (),
        quotas: Iterable[str] = (),
        expires_at: datetime | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> IssuedKey:
        """Make a key and its secret. The secret is in the result and nowhere else, ever.

        Args:
            name, owner, description, environment, plan, scopes, networks, limits, quotas, expires_at: See `KeyFields`.
            by, actor: See `Desk`.

        Raises:
            InvalidField: A field or the actor cannot be used, there is no such plan, or it grants less.
            NotPermitted: `by` would give more than it holds.
            StoreReadOnly: Keys of this store are made by editing a file or the configuration.
            StoreUnavailable: The store does not answer. Nothing was issued.
        """
        fields = {
            "name": name,
            "owner": owner,
            "description": description,
            "environment": environment,
            "plan": plan,
            "scopes": scopes,
            "networks": networks,
            "limits": limits,
            "quotas": quotas,
            "expires_at": expires_at,
        }
        return self._issue([parse_fields(fields)], by, actor, None)[0]

    def issue_many(
        self,
        keys: Sequence[Mapping[str, Any]],
        *,
        once: Once | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> tuple[IssuedKey, ...]:
        """Make keys and their secrets, all or none, in the order given.

        Args:
            keys: 1 to 1000 times the fields of a key, see `KeyFields`.
            once: That they are made once, however often the same is asked for: see `keydesk.ports.Once`.
            by, actor: See `Desk`.

        Raises:
            InvalidField: There are none or too many, a field or the actor cannot be used, or there is no such plan.
                Of several keys, `field` says which one: `keys.3.scopes`, from 0.
            NotPermitted: `by` would give more than it holds.
            AddedBefore: The same was asked for before, and done.
            OtherRequest: Something else was asked for before, by the same name.
            StoreReadOnly: Keys of this store are made by editing a file or the configuration.
            StoreUnavailable: The store does not answer. Nothing was issued.
        """
        if not 1 <= len(keys) <= MAX_PAGE:
            raise InvalidField("keys", f"there are {len(keys)}; write 1 to {MAX_PAGE}")
        parsed = []
        for place, fields in enumerate(keys):
            with _of_many(place, len(keys)):
                parsed.append(parse_fields(fields))
        return self._issue(parsed, by, actor, once)

    def _issue(
        self, given: Sequence[KeyFields], by: Key | None, actor: str, once: Once | None
    ) -> tuple[IssuedKey, ...]:
        now, issued, callers = self.clock.now(), list[IssuedKey](), dict[str | None, Caller]()
        ids = mint_key_ids(now) if len(given) > 1 else [mint_key_id(now)]
        for place, (fields, key_id) in enumerate(zip(given, ids, strict=False)):
            with _of_many(place, len(given)):
                if fields.expires_at is not None and fields.expires_at <= now:
                    raise InvalidField("expires_at", f"{fields.expires_at.isoformat()} is not in the future")
                if fields.plan not in callers:
                    callers[fields.plan] = self._callers.of(by, actor, plan=fields.plan)
                callers[fields.plan].permit(fields.owner, now, fields)
                callers[fields.plan].require_granted(fields)
            text = self.mint.secret_format.mint(fields.environment)
            own_id = mint_key_id(now) if len(given) == 1 else key_id
            issued.append(
                IssuedKey(changes.new_key(fields, self.mint.secret(text, number=1, now=now), now, own_id), text)
            )
        name = next(iter(callers.values())).name
        self._add([(each.key, changes.issued(each.key, name)) for each in issued], once)
        return tuple(issued)

    def import_keys(self, held: Iterable[HeldKey], *, actor: str = DEFAULT_ACTOR) -> int:
        """Take in keys whose secrets clients already hold, all or none, and return how many.

        The iterable is read as it goes, in bounded memory. What it raises is raised on, and nothing is imported.

        Raises:
            InvalidField: The actor cannot be used, or a key has a plan that is not there or grants less.
            DuplicateSecret: A secret is in the store already, or twice among these.
            StoreReadOnly: Keys of this store are made by editing a file or the configuration.
            StoreUnavailable: The store does not answer. Nothing was imported.
        """
        caller = self._callers.importing(actor)
        now = self.clock.now()

        def keys() -> Iterator[tuple[Key, Event]]:
            for one, key_id in zip(held, mint_key_ids(now), strict=False):
                caller.require_granted(one.fields)
                key = changes.new_key(one.fields, one.secret, now, key_id)
                yield key, changes.imported(key, caller.name)

        return self._add(keys())

    def _add(self, keys: Iterable[tuple[Key, Event]], once: Once | None = None) -> int:
        try:
            return writable(self.store).add(keys, once)
        finally:  # even what the store gave no answer to may have happened
            self._finder.look_again()


@contextmanager
def _of_many(place: int, count: int) -> Iterator[None]:
    """Say with what goes wrong of which key it did, where there are several.

    Raises:
        InvalidField: As in the block.
        NotPermitted: As in the block.
    """
    try:
        yield
    except InvalidField as error:
        raise InvalidField(f"keys.{place}.{error.field}" if count > 1 else error.field, error.problem) from None
    except NotPermitted as error:
        if count == 1:
            raise
        raise NotPermitted([f"keys.{place}: {problem}" for problem in error.problems]) from None
