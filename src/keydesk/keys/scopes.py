"""Room keys: scopes. What a key may do (grants) against what a view asks for (requirements).

A scope reads `resource:action`, each part letters, digits, `.`, `_` or `-`; deeper names such as
`keydesk:keys:read` have more parts. A grant may end in a part `*`, which stands for everything below it:
`orders:*` covers `orders:read`, and `*` covers all. A requirement may not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from ..errors import InvalidField
from .secret import shown

MAX_SCOPE_CHARACTERS = 128
MAX_SCOPES = 200

_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+(?::[A-Za-z0-9._-]+)+")
_GRANT = re.compile(r"\*|[A-Za-z0-9._-]+(?::[A-Za-z0-9._-]+)*:(?:[A-Za-z0-9._-]+|\*)")


def parse_requirement(text: str) -> str:
    """Return the scope a view asks for, unchanged.

    Raises:
        InvalidField: Not `resource:action`, or it holds a `*`.
    """
    if len(text) <= MAX_SCOPE_CHARACTERS and _REQUIREMENT.fullmatch(text):
        return text
    if "*" in text:
        raise InvalidField("scopes", f"a view cannot ask for {shown(text, 140)}; name each scope it needs in full")
    raise InvalidField("scopes", f"{shown(text, 140)} is not a scope; write resource:action, such as orders:read")


def covering(requirement: str) -> tuple[str, ...]:
    """Return all grants that cover one required scope: itself, and those that end in `*` above it."""
    parts = requirement.split(":")
    return (requirement, *(":".join([*parts[:place], "*"]) for place in range(len(parts))))


class Scopes:
    """The scopes a key holds: a set, in alphabetical order.

    Args:
        grants: At most 200 scopes of at most 128 characters each.

    Raises:
        InvalidField: One of them is not a grant, or there are too many.
    """

    __slots__ = ("_exact", "_grants", "_joined", "_starts")

    def __init__(self, grants: Iterable[str] = ()) -> None:
        self._hold(grants)
        if len(self._grants) > MAX_SCOPES:
            raise InvalidField("scopes", f"{len(self._grants)} are too many; a key holds at most {MAX_SCOPES}")
        for grant in self._grants:
            if len(grant) > MAX_SCOPE_CHARACTERS or not _GRANT.fullmatch(grant):
                raise InvalidField(
                    "scopes",
                    f"{shown(grant, 140)} is not a scope; write resource:action, such as orders:read, "
                    "or resource:* for all of its actions, or * for everything",
                )

    def _hold(self, grants: Iterable[str]) -> None:
        self._grants = tuple(sorted(set(grants)))
        self._exact = frozenset(self._grants)
        self._joined = ",".join(self._grants)
        self._starts = tuple(grant[:-1] for grant in self._grants if grant.endswith("*"))

    def allow(self, requirement: str) -> bool:
        """Return whether these grants cover one required scope."""
        return requirement in self._exact or (bool(self._starts) and requirement.startswith(self._starts))

    def missing(self, requirements: Iterable[str]) -> tuple[str, ...]:
        """Return those of the required scopes that these grants do not cover, in the order given."""
        return tuple(scope for scope in requirements if not self.allow(scope))

    def beyond(self, holder: Scopes) -> tuple[str, ...]:
        """Return those of these grants that the holder's grants do not cover: what the holder cannot give."""
        return tuple(g for g in self._grants if g not in holder._exact and not g.startswith(holder._starts or ("\0",)))

    def within(self, holder: Scopes) -> Scopes:
        """Return what these grants and the holder's both cover. That may be more than 200 grants."""
        beyond = self.beyond(holder)
        if not beyond:
            return self
        both = object.__new__(Scopes)
        both._hold((self._exact - set(beyond)) | (holder._exact - set(holder.beyond(self))))
        return both

    def __iter__(self) -> Iterator[str]:
        return iter(self._grants)

    def __len__(self) -> int:
        return len(self._grants)

    def __contains__(self, grant: object) -> bool:
        return grant in self._exact

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scopes) and self._grants == other._grants

    def __hash__(self) -> int:
        return hash(self._grants)

    def __str__(self) -> str:
        return self._joined

    def __repr__(self) -> str:
        return f"Scopes({list(self._grants)!r})"


class Requirement:
    """What a view asks of a caller's scopes: all of `scopes`, and at least one of `any_of` where any are given.

    Args:
        scopes: Scopes without `*`.
        any_of: Scopes without `*`.

    Raises:
        InvalidField: One of them is not `resource:action`, or holds a `*`.
    """

    __slots__ = ("any_of", "scopes")

    def __init__(self, scopes: Iterable[str] = (), any_of: Iterable[str] = ()) -> None:
        self.scopes = _requirements("scopes", scopes)
        self.any_of = _requirements("any_of", any_of)

    def missing(self, grants: Scopes) -> tuple[str, ...]:
        """Return the scopes whose lack keeps these grants out: none, the missing ones, or all of `any_of`."""
        missing = grants.missing(self.scopes) if self.scopes else ()
        if self.any_of and not any(map(grants.allow, self.any_of)):
            return tuple(dict.fromkeys(missing + self.any_of))
        return missing

    def __repr__(self) -> str:
        return f"Requirement(scopes={self.scopes!r}, any_of={self.any_of!r})"


def _requirements(name: str, scopes: Iterable[str]) -> tuple[str, ...]:
    if isinstance(scopes, str):
        raise InvalidField(name, f"must be a list of scopes; write [{shown(scopes, 140)}]")
    return tuple(dict.fromkeys(parse_requirement(scope) for scope in scopes))


def requirement_of(scopes: Iterable[str], any_of: Iterable[str]) -> Requirement:
    """Return the requirement of these scopes, checked once.

    Raises:
        InvalidField: One of them is no scope, or holds a `*`; or a text stands for a list.
    """
    if isinstance(scopes, str) or isinstance(any_of, str):  # and not its letters
        return Requirement(scopes, any_of)
    return _requirement_of(tuple(scopes), tuple(any_of))


@lru_cache(maxsize=1024)
def _requirement_of(scopes: tuple[str, ...], any_of: tuple[str, ...]) -> Requirement:
    return Requirement(scopes, any_of)
