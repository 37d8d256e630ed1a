"""Room pages: who looks at the pages, and what they may do there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import g

from ..desk import Desk
from ..errors import NotPermitted
from ..flask.current import real_app
from ..flask.extension import NAME
from ..keys.authority import EVENTS_READ, KEYS_READ, KEYS_WRITE, PLANS_WRITE, USAGE_READ
from ..keys.record import Key
from ..keys.scopes import Scopes
from ..ports import WritableKeyStore
from ..settings import Settings

EVERY_PAGE = (KEYS_READ, KEYS_WRITE, USAGE_READ, EVENTS_READ, PLANS_WRITE)  # one of them opens some page

EVERYTHING = Scopes(["keydesk:*"])


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks at the pages.

    Attributes:
        name: Who that is, in the events of what they change: one line of 1 to 200 characters.
        scopes: What they may do here: `keydesk:keys:read` and the like.
        key: The key they signed in with, as it is judged; None where the application or a proxy says who they are.
        proven: Whether they have shown its secret lately. Without a key there is nothing to show.
    """

    name: str
    scopes: Scopes = EVERYTHING
    key: Key | None = None
    proven: bool = True

    def may(self, *scopes: str) -> bool:
        """Return whether they hold one of these scopes."""
        return any(self.scopes.allow(scope) for scope in scopes)

    @property
    def owner(self) -> str | None:
        """Whose keys alone they see; None for all."""
        return self.key.owner if self.key else None

    @property
    def acting(self) -> dict[str, Any]:
        """`by` or `actor` for the methods of a desk that change something."""
        return {"by": self.key} if self.key else {"actor": self.name}

    def sees(self, owner: str | None) -> bool:
        """Return whether they see what belongs to this owner."""
        return self.owner in (None, owner)


def the_desk() -> Desk:
    """Return the desk of the current application."""
    desk: Desk = real_app().extensions[NAME].desk
    return desk


def the_settings() -> Settings:
    """Return the settings of the current application."""
    settings: Settings = real_app().extensions[NAME].settings
    return settings


def may_change(scope: str) -> bool:
    """Return whether the sender of this request may change something by this scope, where the store can be changed."""
    return person().may(scope) and isinstance(the_desk().store, WritableKeyStore)


def require_scope(scope: str) -> None:
    """Return if the sender of this request holds a scope.

    Raises:
        NotPermitted: They do not. With a key the desk would say so too; without one it trusts who calls it.
    """
    if not person().may(scope):
        raise NotPermitted([f"the caller lacks the scope {scope}"])


def note_visitor(person: Person | None) -> None:
    """Note who sends this request; None for somebody who has not signed in."""
    g.keydesk_person = person


def visitor() -> Person | None:
    """Return who sends this request, if they have signed in."""
    person: Person | None = g.get("keydesk_person")
    return person


def person() -> Person:
    """Return who sends this request, on a page that is shown to nobody else."""
    found = visitor()
    assert found is not None  # see `Routes.add`
    return found
