"""Core: every error Keydesk raises, as one tree.

    KeydeskError
    ├── SettingsError        settings are missing, wrong or contradict each other
    ├── InvalidField         a value given for a key cannot be one
    ├── KeyNotFound          no key has this id
    ├── PlanNotFound         no plan has this name
    ├── OwnerNotFound        nothing was agreed for this owner
    ├── StateConflict        the key is not in a state that allows the change
    ├── DuplicateSecret      another key already answers to this secret
    ├── VersionConflict      somebody changed it since it was read
    ├── AddedBefore          the same request added its keys before
    ├── OtherRequest         another request was made under the same idempotency key
    ├── NotPermitted         the caller would give more than they hold
    ├── ImportRefused        an import had wrong lines; nothing was imported
    ├── LimiterUnavailable   the limiter does not answer
    ├── Refused              a secret is not allowed in (in decision.py, as it carries the decision)
    └── StoreError
        ├── StoreReadOnly    the store is a file or the configuration; edit that
        ├── StoreUnavailable the store does not answer
        └── SchemaMismatch   the database is not migrated, or newer than this Keydesk

No message holds a secret, and each says what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_PROBLEMS = 20  # of one list of entries

_KEY_ID = re.compile(r"key_[0-9a-f]{28}")
_PLAN_NAME = re.compile(r"[a-z0-9._-]{1,32}")  # as names are; longer ones may be secrets


class KeydeskError(Exception):
    """Root of every error raised by Keydesk."""


class SettingsError(KeydeskError):
    """One or more settings cannot be used. `problems` lists all of them, each with its fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("Keydesk cannot start with these settings:\n" + "\n".join(f"  - {p}" for p in problems))


def first_problems(problems: Sequence[str]) -> list[str]:
    """Return the problems of one list of entries: the first 20, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    rest = [f"{more} more entries cannot be used; mend those above first"] if more > 0 else []
    return [*problems[:MAX_PROBLEMS], *rest]


class InvalidField(KeydeskError, ValueError):
    """A value given for one field of a key cannot be used. `field` names it."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class KeyNotFound(KeydeskError, LookupError):
    """No key has the id asked for."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        # Only what looks like an id is repeated: somebody may have taken the secret for it.
        named = repr(key_id) if _KEY_ID.fullmatch(key_id) else "given; ids are key_ and 28 hex characters"
        super().__init__(f"No key has the id {named}. `keydesk list` shows the ids there are.")


class PlanNotFound(KeydeskError, LookupError):
    """No plan has the name asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Only what looks like a name is repeated: somebody may have taken a secret for it.
        named = repr(name) if _PLAN_NAME.fullmatch(name) else "given; names are lower-case letters, digits, dots, _, -"
        super().__init__(f"No plan has the name {named}. `keydesk plans list` shows the plans there are.")


class OwnerNotFound(KeydeskError, LookupError):
    """No limits or quotas were agreed for the owner asked for, who may have keys all the same."""

    def __init__(self) -> None:
        super().__init__("Nothing was agreed for this owner. `keydesk owners list` shows the owners with terms.")


class StateConflict(KeydeskError):
    """The change does not fit the state the key is in, such as enabling a revoked key."""


class DuplicateSecret(KeydeskError):
    """A key in the store already answers to one of the secrets. `digests` says which (SHA-256 family, hex)."""

    def __init__(self, digests: Sequence[str]) -> None:
        self.digests = tuple(digests)
        super().__init__("A key in the store already answers to this secret. Secrets cannot be shared between keys.")


class VersionConflict(KeydeskError):
    """What was to be changed is not as the caller read it. `version` is what it is at now, 0 where it is not there."""

    def __init__(self, version: int) -> None:
        self.version = version
        there = f"It is at version {version} by now" if version else "It is not there"
        super().__init__(f"{there}, and the change was made for another version. Read it again and decide anew.")


class AddedBefore(KeydeskError):
    """The same addition was made before. `key_ids` says which keys came of it, in order; their secrets are gone."""

    def __init__(self, key_ids: Sequence[str]) -> None:
        self.key_ids = tuple(key_ids)
        super().__init__("This request was done before, and its keys are there. Rotate a key whose secret was lost.")


class OtherRequest(KeydeskError):
    """Something else was asked for before, under the same name: its idempotency key."""

    def __init__(self) -> None:
        super().__init__("Another request was made with this idempotency key. Use a new one for each new request.")


class NotPermitted(KeydeskError):
    """A key tried to give another key more than it holds itself. `problems` lists each excess."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("Not permitted: " + "; ".join(problems) + ".")


class ImportRefused(KeydeskError):
    """Lines of an import cannot be used; nothing was imported. `problems` holds (line number, what to mend)."""

    def __init__(self, problems: Sequence[tuple[int, str]], *, unread: bool = False) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  line {line}: {problem}" for line, problem in problems)
        more = "\n  (and perhaps more: the rest was not read)" if unread else ""
        super().__init__(f"Nothing was imported. Mend these lines and run it again:\n{lines}{more}")


class LimiterUnavailable(KeydeskError):
    """What counts requests for their limits does not answer, or not in time.

    `logged` says whether the log has told of it, once for all requests while it lasts.
    """

    def __init__(self, problem: str, *, logged: bool = False) -> None:
        self.logged = logged
        super().__init__(problem)


class StoreError(KeydeskError):
    """Root of what a store raises."""


class StoreReadOnly(StoreError):
    """The store cannot be changed from here: its keys are in a file or in the configuration."""


class StoreUnavailable(StoreError):
    """The store does not answer, or not in time. `problem` says why, without the advice where to see more."""

    def __init__(self, problem: str, advice: str = "") -> None:
        self.problem = problem
        super().__init__(f"{problem}. {advice}" if advice else problem)


class SchemaMismatch(StoreError):
    """The tables in the database are not those this version of Keydesk works with."""
