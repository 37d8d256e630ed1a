"""Room flask: what a view asks of its caller, and where that is noted on the view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidField
from ..keys.scopes import Requirement

MAX_COST = 1_000_000

_NOTE = "_keydesk_access"
_GUARDED_AS = "_keydesk_guarded_as"


@dataclass(frozen=True, slots=True)
class Access:
    """What a view asks of its caller.

    Attributes:
        requirement: The scopes.
        cost: How many requests one call counts for, from 1.
        optional: Whether callers without a key pass.
        public: Whether everybody passes, whatever they present.
    """

    requirement: Requirement
    cost: int = 1
    optional: bool = False
    public: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.cost, int) or isinstance(self.cost, bool) or not 1 <= self.cost <= MAX_COST:
            raise InvalidField("cost", f"must be a whole number from 1 to {MAX_COST}, not {self.cost!r}")

    def joined(self, scopes: Iterable[str]) -> Access:
        """Return this with more scopes required, as on a view of a protected blueprint."""
        requirement = Requirement((*scopes, *self.requirement.scopes), self.requirement.any_of)
        return Access(requirement, self.cost, self.optional, self.public)


def note(view: Any, access: Access) -> None:
    """Note on a view, or on a class of views, what it asks."""
    setattr(view, _NOTE, access)


def access_of(view: Any) -> Access | None:
    """Return what was noted on a view or on its class; None where nothing was."""
    found: Access | None = getattr(view, _NOTE, None)
    return found or getattr(getattr(view, "view_class", None), _NOTE, None)


def note_guarded(view: Callable[..., Any], guarded: Callable[..., Any]) -> None:
    """Note on a bare view that a guarded one was made of it, so that `is_bare` knows it again."""
    view.__dict__[_GUARDED_AS] = guarded


def is_bare(view: Any) -> bool:
    """Return whether this is what stands behind a guard, and not the guard: registered, it would let everybody in."""
    noted = access_of(view)
    if noted is not None and noted.public:
        return False
    of_class = getattr(getattr(view, "view_class", None), _NOTE, None)
    if of_class is not None and _NOTE not in getattr(view, "__dict__", {}):
        return True
    guarded = getattr(view, "__dict__", {}).get(_GUARDED_AS)
    return guarded is not None and guarded is not view
