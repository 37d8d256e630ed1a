"""Room flask: what a view asks of its caller, and where that is noted on the view."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from types import CellType, FunctionType
from typing import Any

from ..keys.limits import Limit, check_cost
from ..keys.scopes import Requirement

_NOTE = "_keydesk_access"
_GUARDED_AS = "_keydesk_guarded_as"
_PERHAPS_GUARDED_AS = "_keydesk_perhaps_guarded_as"


@dataclass(frozen=True, slots=True)
class Access:
    """What a view asks of its caller.

    Attributes:
        requirement: The scopes.
        cost: How many requests one call counts for, from 0.
        limits: Of the view, for each key that calls it.
        optional: Whether callers without a key pass.
        public: Whether everybody passes, whatever they present.

    Raises:
        InvalidField: The cost is out of range.
    """

    requirement: Requirement
    cost: int = 1
    limits: tuple[Limit, ...] = ()
    optional: bool = False
    public: bool = False

    def __post_init__(self) -> None:
        check_cost(self.cost)

    def joined(self, scopes: Iterable[str]) -> Access:
        """Return this with more scopes required, as on a view of a protected blueprint.

        Raises:
            InvalidField: One of them is not `resource:action`.
        """
        requirement = Requirement((*scopes, *self.requirement.scopes), self.requirement.any_of)
        return replace(self, requirement=requirement)


def note(view: Any, access: Access) -> None:
    """Note on a view, on a class of views or on a decorator what it asks."""
    setattr(view, _NOTE, access)


def access_of(view: Any) -> Access | None:
    """Return what was noted on a view or on its class; None where nothing was."""
    found: Access | None = getattr(view, _NOTE, None)
    if found is not None:
        return found
    view_class = getattr(view, "view_class", None)
    found = getattr(view_class, _NOTE, None)
    if found is not None and found.public and _NOTE not in vars(view_class):
        return None  # an exemption is not inherited: the subclass has methods of its own
    return found


def joined_by(access: Access, view: Any) -> Access:
    """Return what a guard asks that is put around a view: with the limits of a guard inside, taken in one step.

    Raises:
        TypeError: It is one of limits around one of scopes, which asks before it.
    """
    noted: Access | None = getattr(view, "__dict__", {}).get(_NOTE)
    if noted is None or noted.public:
        return access
    if access.limits and not noted.limits:
        raise TypeError("Write @keys.limit(...) below @keys.require(...), next to the view.")
    return replace(access, limits=(*noted.limits, *access.limits))


def note_guarded(view: Callable[..., Any], guarded: Callable[..., Any]) -> None:
    """Note on a bare view, and on what it wraps, that a guarded one was made of it: `is_bare` knows them by that."""
    guarded.__dict__.pop(_GUARDED_AS, None)  # `functools.wraps` copied it from a view that is guarded twice
    wrapped = _wrapped_in(view)
    for bare in wrapped:
        bare.__dict__[_GUARDED_AS] = guarded
    for used in _closed_over(wrapped[-1]):
        used.__dict__.setdefault(_PERHAPS_GUARDED_AS, guarded)


def is_bare(view: Any, registered: Collection[Any]) -> bool:
    """Return whether this is what stands behind a guard, and not the guard: registered, it would let everybody in.

    Args:
        view: A registered view.
        registered: All registered views.
    """
    noted = access_of(view)
    if noted is not None and noted.public:
        return False
    own = getattr(view, "__dict__", {})
    guarded = own.get(_GUARDED_AS)
    if guarded is not None and guarded is not view:
        return True
    # What a guarded function closes over may be the view that a decorator without `functools.wraps` stands around, or
    # just another function that it calls. The former's guarded one is registered nowhere.
    perhaps = own.get(_PERHAPS_GUARDED_AS)
    if perhaps is not None and _NOTE not in own and perhaps not in registered:
        return True
    view_class = getattr(view, "view_class", None)
    return _NOTE not in own and view_class is not None and any(_guards_views(base) for base in view_class.__mro__)


def _guards_views(base: type) -> bool:
    """Return whether a class of views was given a guard, above it or in its `decorators`, for itself or its like."""
    noted = vars(base).get(_NOTE)
    return (noted is not None and not noted.public) or any(hasattr(d, _NOTE) for d in vars(base).get("decorators", ()))


def _wrapped_in(view: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Return a view and the functions it wraps by its own account: `functools.wraps`, `functools.partial`."""
    found = [view]
    while inner := getattr(found[-1], "__wrapped__", None) or getattr(found[-1], "func", None):
        if not isinstance(inner, FunctionType) or inner in found:
            break
        found.append(inner)
    return found


def _closed_over(view: Callable[..., Any]) -> list[FunctionType]:
    """Return the functions a view closes over, and those that these close over."""
    found: list[Any] = [view]
    for outer in found:  # grows as it goes
        held = [_content(cell) for cell in getattr(outer, "__closure__", None) or ()]
        found += [function for function in held if isinstance(function, FunctionType) and function not in found]
    return found[1:]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is in it yet
        return None
