"""Room cli: `doctor`, which looks at settings, store, clock and chain, and says what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Protocol, runtime_checkable

import click
from rich.console import Group
from rich.text import Text

from ..decision import Check
from ..desk import Desk
from ..environment import unknown_names
from ..errors import KeydeskError, SettingsError, StoreError, StoreUnavailable
from ..keys.digest import PLAIN
from ..keys.record import Key, Status
from ..ports import KeyFilter, RemoteKeyStore, WritableKeyStore, every_key
from ..settings import Settings
from .command import command
from .context import Run
from .text import counted, moment, span
from .verifying import check_json, checks_table

SOON = timedelta(days=14)  # as long as clients are told with API-Key-Expires, see wire.md
CLOCK_TOLERANCE = timedelta(seconds=5)  # how far apart the clocks of two machines may be without a word
NAMES_SHOWN = 5
MAX_KEYS_LOOKED_AT = 10_000

_AGAIN = "mend that and run `keydesk doctor` again"
_MAKE_PEPPER = "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"


@runtime_checkable
class CountsPeppers(Protocol):
    """A store that can say under which peppers its digests are."""

    def secrets_by_pepper(self) -> dict[str, int]:
        """Return how many secrets there are under each pepper id; the empty one is none."""
        ...


@command("doctor", examples=("keydesk doctor", "keydesk doctor --json"))
def doctor(run: Run) -> None:
    """Check the settings and the store, and say what to do.

    The clock, the head of the events' chain and the newest 10,000 keys are looked at too. Exit code 1 if something is
    wrong; remarks (marked !) alone leave it at 0. With --json, a list of checks with the members `name`, `passed`
    (true, false, or null for a remark), `found` and `fix`.
    """
    checks = [*_settings_checks(run), *_environment_checks(), *_desk_checks(run)]
    failed = sum(check.passed is False for check in checks)
    remarks = sum(check.passed is None and bool(check.fix) for check in checks)
    if failed:
        outcome = Text(f"{failed} wrong, {remarks} to consider.", style="bold red")
    else:
        outcome = Text("All is well." if not remarks else f"Nothing wrong, {remarks} to consider.", style="bold green")
    run.show(
        [check_json(check, run.program) for check in checks],
        lambda: Group(checks_table(checks, run.program), outcome),
    )
    if failed:
        raise click.exceptions.Exit(1)


def _settings_checks(run: Run) -> list[Check]:
    try:
        settings = run.read_settings()
    except SettingsError:
        return []  # said by opening the desk, with what is wrong with the store
    return [Check("settings", True, "all can be read"), _pepper_check(settings)]


def _of_problem(problem: str) -> Check:
    found, _, fix = problem.partition("; ")  # how the messages of `SettingsError` are written
    return Check("settings", False, found, fix or "correct it and run `keydesk doctor` again")


def _pepper_check(settings: Settings) -> Check:
    if settings.pepper is None:
        found = "none is set: a stolen table can be searched for weak secrets"
        return Check("pepper", None, found, f"set KEYDESK_PEPPER to what this prints:\n{_MAKE_PEPPER}")
    return Check("pepper", True, f"set, and {len(settings.previous_peppers)} previous")


def _environment_checks() -> list[Check]:
    names = unknown_names(os.environ)
    if not names:
        return []
    return [
        Check(
            "environment",
            None,
            f"{_some(names)}: no settings of Keydesk, and not read",
            "correct the spelling, or take them away; those that Kubernetes makes of a service's name do no harm",
        )
    ]


def _desk_checks(run: Run) -> list[Check]:
    """Return what the desk shows of itself, or everything that keeps it from being opened."""
    try:
        with run.open_desk() as desk:
            checks = [*desk.store.checks(), *(desk.limiter.checks() if desk.limiter else ())]
            wrong = {check.name for check in checks if check.passed is False}
            looks = {"digests": _digests, "expiry": _expiring, "events": _chain}
            if "store" not in wrong:
                checks += [check for name in looks if name not in wrong for check in _looked(desk, name, looks[name])]
            return checks
    except SettingsError as error:
        return [_of_problem(problem) for problem in error.problems]
    except KeydeskError as error:
        return [Check("store", False, _problem_of(error), _AGAIN)]


def _looked(desk: Desk, name: str, look: Callable[[Desk], Iterator[Check]]) -> list[Check]:
    """Return what one look shows. One that fails does not keep back what the others show."""
    try:
        return list(look(desk))
    except StoreError as error:
        return [Check(name, False, _problem_of(error), _AGAIN)]


def _problem_of(error: KeydeskError) -> str:
    """Return what an error says, without the advice to run this very command."""
    return error.problem if isinstance(error, StoreUnavailable) else str(error)


def _digests(desk: Desk) -> Iterator[Check]:
    if not isinstance(desk.store, CountsPeppers):
        return
    digester = desk.mint.digester
    for pepper, count in sorted(desk.store.secrets_by_pepper().items()):
        under = "no pepper" if pepper == PLAIN else f"the pepper {pepper}"
        if pepper == digester.pepper_id:
            yield Check("digests", True, f"{counted(count, 'secret')} under {under}, which is current")
        elif pepper in digester.known_pepper_ids:
            yield Check(
                "digests", True, f"{counted(count, 'secret')} under {under}; each moves to the current one when used"
            )
        else:
            yield Check(
                "digests",
                False,
                f"{counted(count, 'secret')} under {under}, which is not known here: they are refused",
                "put that pepper into KEYDESK_PREVIOUS_PEPPERS, or back into KEYDESK_PEPPER",
            )


def _expiring(desk: Desk) -> Iterator[Check]:
    if isinstance(desk.store, RemoteKeyStore):  # who runs the server looks there
        return
    now = desk.clock.now()
    soon = [
        key
        for key in _may_expire(desk)
        if key.status_at(now) is Status.ACTIVE and key.expires_at is not None and key.expires_at <= now + SOON
    ]
    if not soon:
        yield Check("expiry", True, f"no key expires within {span(SOON)}")
        return
    soon.sort(key=lambda key: key.expires_at or now)
    named = _some([f"{key.name} ({key.id}) on {moment(key.expires_at)} UTC" for key in soon])
    fix = "tell their owners, or give each more time, such as: " + f"keydesk update {soon[0].id} --expires 90d"
    yield Check("expiry", None, f"{counted(len(soon), 'key')} within {span(SOON)} of the end: {named}", fix)


def _may_expire(desk: Desk) -> Iterator[Key]:
    """Yield keys among which are all that expire soon; of a store that changes, without reading every key in it."""
    if isinstance(desk.store, WritableKeyStore):
        ids = desk.store.prunable(ended_before=desk.clock.now() + SOON)
        yield from _readable(desk, islice(ids, MAX_KEYS_LOOKED_AT))
    else:
        yield from every_key(desk.store, KeyFilter(status=Status.ACTIVE))


def _readable(desk: Desk, ids: Iterable[str]) -> Iterator[Key]:
    for key_id in ids:
        try:
            key = desk.find_key(key_id)
        except StoreUnavailable as error:
            if key_id in error.problem:  # its row was changed by hand: the store's check says so
                continue
            raise
        if key is not None:
            yield key


def _chain(desk: Desk) -> Iterator[Check]:
    if not isinstance(desk.store, WritableKeyStore):
        return
    last = desk.store.position().number
    rows = desk.list_events(after=last - 1, size=1) if last else []
    if not rows:
        fix = "run `keydesk events --verify`" if last else ""
        yield Check("events", not last, f"event {last} is missing" if last else "none yet", fix)
        return
    ahead = rows[0].event.at - desk.clock.now()
    if ahead > CLOCK_TOLERANCE:
        found = f"{int(ahead.total_seconds())} seconds behind the newest event, of {moment(rows[0].event.at)} UTC"
        yield Check("clock", False, found, "set the clock of this machine, and let NTP keep it right")
    else:
        yield Check("clock", True, "not behind the newest event")
    yield Check("events", True, f"the head is event {last}, with the hash\n{rows[0].hash}")


def _some(texts: list[str]) -> str:
    more = len(texts) - NAMES_SHOWN
    return ", ".join(texts[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
