"""Room cli: the types of values people type. What is wrong with one is said before anything is opened or changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from ..errors import InvalidField
from ..keys.record import KeyFields, as_utc, update_fields
from ..keys.scopes import parse_requirement
from ..keys.secret import redact

MAX_DURATION = timedelta(days=36_600)  # a hundred years and a bit: longer is a typing error

_LISTS = ("scopes", "networks", "limits", "quotas")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,10})([smhdw])", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class FieldValue(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """The value of one field of a key; for the lists, one item of it."""

    def __init__(self, field: str, metavar: str) -> None:
        self.field = field
        self.name = metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text, which is one the field can have.

        Raises:
            click.BadParameter: It is not.
        """
        _refuse_secret(value, lambda problem: self.fail(problem, param, ctx))
        try:
            update_fields(KeyFields(name="-"), {self.field: [value] if self.field in _LISTS else value})
        except InvalidField as error:
            self.fail(error.problem, param, ctx)
        return value


class RequiredScope(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """A scope that a view asks for."""

    name = "scope"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the scope, unchanged.

        Raises:
            click.BadParameter: It is none, or holds a `*`.
        """
        _refuse_secret(value, lambda problem: self.fail(problem, param, ctx))
        try:
            return parse_requirement(value)
        except InvalidField as error:
            self.fail(error.problem, param, ctx)


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """A length of time: `45s`, `30m`, `24h`, `90d`, `2w`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration.

        Raises:
            click.BadParameter: Another shape, or over a hundred years.
        """
        if isinstance(value, timedelta):
            return value
        duration = _duration(value)
        if duration is None:
            self.fail(f"{redact(value)[:40]!r} is no duration; write 45s, 30m, 24h, 90d or 2w", param, ctx)
        return _bounded(duration, lambda problem: self.fail(problem, param, ctx))


class When(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """A moment: a duration from now, an ISO date (its first moment in UTC) or an ISO time with its offset.

    Converted to a `timedelta`, to be counted from the desk's own clock, or to a `datetime` in UTC; `never`, where it
    is allowed, to the text `never`.
    """

    name = "when"

    def __init__(self, *, never: bool = False) -> None:
        self._never = never

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta | datetime | str:
        """Return the moment.

        Raises:
            click.BadParameter: Another shape, a time without offset, or over a hundred years from now.
        """
        if self._never and value == "never":
            return "never"
        duration = _duration(value)
        if duration is not None:
            return _bounded(duration, lambda problem: self.fail(problem, param, ctx))
        try:
            if _DATE.fullmatch(value):
                return datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC)
            return as_utc("expires", datetime.fromisoformat(value))
        except InvalidField as error:
            self.fail(f"{value!r} {error.problem}", param, ctx)
        except ValueError:
            also = ", or never" if self._never else ""
            self.fail(
                f"{redact(value)[:40]!r} is no moment; write 90d, 24h, 2027-01-31 or 2027-01-31T12:00:00Z{also}",
                param,
                ctx,
            )


def _refuse_secret(text: str, fail: Callable[[str], Any]) -> None:
    """Refuse a secret before anything repeats it in a message."""
    if redact(text) != text:
        fail("that is a secret, which belongs on standard input of `keydesk verify` and nowhere else")


def _duration(text: str) -> timedelta | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        return timedelta.max


def _bounded(duration: timedelta, fail: Callable[[str], Any]) -> timedelta:
    if duration > MAX_DURATION:
        fail("is over a hundred years; write a shorter one")
    return duration


def moment_of(when: timedelta | datetime | str | None, now: datetime) -> datetime | None:
    """Return what `When` made of a text, counted from `now`; None for `never` and for nothing."""
    return now + when if isinstance(when, timedelta) else when if isinstance(when, datetime) else None
