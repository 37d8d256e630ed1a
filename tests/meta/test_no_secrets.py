"""No secret in any message or repr. That none is in any log line of the whole suite, `tests/watch.py` sees to."""

from __future__ import annotations

import base64
import hashlib
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from keydesk import Desk, InvalidField, KeyNotFound, Refused, open_desk
from keydesk.cli import keydesk as command_line
from keydesk.keys.digest import Digester
from keydesk.keys.held import Mint
from keydesk.keys.secret import SecretFormat
from keydesk.settings import Settings, read_settings
from keydesk.testing import ManualClock

from .. import watch

PEPPER = b"pepper-pepper-pepper-pepper-32by"
GIVEN = {
    "KEYDESK_STORE": "memory://",
    "KEYDESK_PEPPER": base64.b64encode(PEPPER).decode(),
    "KEYDESK_PREVIOUS_PEPPERS": [base64.b64encode(PEPPER[::-1]).decode()],
}


def test_repr_of_values_holds_neither_secret_nor_digest_nor_pepper() -> None:
    desk = open_desk(GIVEN, clock=ManualClock())
    issued = desk.issue(name="x", owner="o", networks=["10.0.0.1"])
    allowed = desk.verify(issued.secret, client_address="10.0.0.1")
    denied = desk.verify(issued.secret)
    event = desk.list_events()[0]
    settings: Settings = read_settings(
        {**GIVEN, "KEYDESK_STORE": "postgresql://u:hush-hush@h/d", "API_KEY": issued.secret}, default_store=""
    )
    configured = replace(settings, api_keys={issued.secret: "x"})
    mint = Mint(SecretFormat(), Digester(current=PEPPER, previous=[PEPPER[::-1]]))
    values = [
        issued, issued.key, issued.key.secrets[0], allowed, denied, event, settings, configured, desk, desk.store, mint,
        mint.digester, mint.secret_format, desk.verifier, desk.mint, desk.list_keys(), desk.store.checks(),
        *desk.explain(issued.secret), open_desk({"API_KEY": issued.secret}).store,
    ]  # fmt: skip
    body = issued.secret[8:40]
    encoded = GIVEN["KEYDESK_PEPPER"]
    for value in values:
        for text in (repr(value), str(value), f"{value}"):
            for hidden in (body, issued.key.secrets[0].digest, "pepper-pepper", PEPPER[::-1].decode(), encoded, "hush"):
                assert str(hidden) not in text, type(value)


def test_messages_hold_no_secret_whatever_it_is_taken_for() -> None:
    desk = open_desk(GIVEN, clock=ManualClock())
    key = desk.issue(name="x").key
    secret = desk.mint.secret_format.mint()
    calls = [
        lambda: desk.get_key(secret),
        lambda: desk.revoke(secret),
        lambda: desk.require(secret),
        lambda: desk.issue(name=secret),
        lambda: desk.issue(name="x", owner=secret),
        lambda: desk.issue(name="x", description=f"it is {secret}"),
        lambda: desk.issue(name="x", environment=secret),
        lambda: desk.issue(name="x", scopes=[secret]),
        lambda: desk.issue(name="x", networks=[secret]),
        lambda: desk.issue(name="x", limits=[secret]),
        lambda: desk.issue(name="x", quotas=[secret]),
        lambda: desk.issue(name="x", actor=secret),
        lambda: desk.update(key.id, **{secret: "x"}),
        lambda: desk.revoke(key.id, reason=secret),
        lambda: desk.verify("x", scopes=[secret]),
        lambda: desk.list_keys(cursor=secret),
    ]
    for number, call in enumerate(calls):
        with pytest.raises((InvalidField, KeyNotFound, Refused)) as caught:
            call()
        text = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value)
        assert secret[8:40] not in text, number
        assert secret[8:28] not in text, number
    assert len(desk.list_events()) == 1


@pytest.fixture
def leaks() -> Iterator[list[str]]:
    """What the watch has noted; forgotten again, as these tests leak on purpose."""
    watch.LEAKS.clear()
    yield watch.LEAKS
    watch.LEAKS.clear()


@pytest.mark.shows_secrets
@pytest.mark.parametrize("prefix", ["kd", "acme_eu", "a_live_b", "live"])
def test_watch_sees_a_secret(prefix: str, leaks: list[str]) -> None:
    secret = SecretFormat(prefix).mint()
    logger = logging.getLogger("some.other.logger")
    ways = [
        lambda: logger.error("key %s", secret),
        lambda: logger.error("key %(k)r", {"k": {"Authorization": secret}}),
        lambda: logger.error(f"url=/?k={secret}&x"),
        lambda: logger.debug("not even written", extra={}) or logger.warning("%s", [secret]),
        lambda: InvalidField("name", f"{secret} is no name"),
        lambda: InvalidField("name", f"xx{secret}"),
        lambda: log_exception(logger, secret),
    ]
    for number, way in enumerate(ways):
        way()
        assert leaks, number
        assert all(secret[-20:] not in leak for leak in leaks)
        leaks.clear()


@pytest.mark.shows_secrets
@pytest.mark.parametrize(
    "secret",
    [
        "8f14e45f-ceea-467f-a8f2-0d4d3b1c9e7a",
        hashlib.md5(b"a key of somebody else").hexdigest(),
        base64.b64encode(hashlib.sha256(b"another").digest()).decode(),
    ],
)
@pytest.mark.parametrize("how", ["written down", "import"])
def test_watch_sees_a_secret_that_somebody_else_made(
    desk: Desk, leaks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, how: str
) -> None:
    if how == "written down":
        open_desk({"API_KEYS": {secret: "Client"}})
    else:
        monkeypatch.setenv("KEYDESK_STORE", "memory://")
        (tmp_path / "keys.csv").write_text(f"secret,name\n{secret},Client\n")
        assert CliRunner().invoke(command_line, ["import", str(tmp_path / "keys.csv")]).exit_code == 0
    assert leaks == []
    logger = logging.getLogger("some.other.logger")
    ways = [
        lambda: logger.error("refused %r", secret),
        lambda: logger.error(f"?key={secret}&x"),
        lambda: logger.error("%s", secret[:20]),
        lambda: InvalidField("name", f"{secret!r} is no name"),
        lambda: log_exception(logger, secret),
        lambda: CliRunner().invoke(click.Command("c", callback=lambda: click.echo(secret))),
        lambda: CliRunner().invoke(click.Command("c", callback=lambda: click.echo(secret, err=True))),
    ]
    for number, way in enumerate(ways):
        way()
        assert leaks, number
        assert all(secret[-16:] not in leak for leak in leaks)
        leaks.clear()


def test_watch_takes_no_guessable_text_for_a_foreign_secret(desk: Desk, leaks: list[str]) -> None:
    for text in ("my-secret-api-key-of-production", "1" * 40, "a" * 20 + "8f14e45f-ceea-467f-a8f2-0d4d3b1c9e7a"):
        desk.mint.secret(text, number=1, now=desk.clock.now())
    watch.look_at("the client is called my-secret-api-key-of-production, its id is aaaaaaaaaaaaaaaaaaaa", "here")
    watch.look_at("…9e7a and 8f14e45f", "here")
    assert leaks == []
    watch.look_at("467f-a8f2-0d4d3b1c9e7a", "here")
    assert leaks == ["a foreign secret, …9e7a in here"]


@pytest.mark.shows_secrets
def test_watch_forgets_a_foreign_secret_after_its_test(leaks: list[str]) -> None:
    watch.remember("8f14e45f-ceea-467f-a8f2-0d4d3b1c9e7a")
    watch.look_at("467f-a8f2-0d4d3b1c9e7a", "here")
    assert leaks.pop()
    watch.forget()
    watch.look_at("467f-a8f2-0d4d3b1c9e7a", "here")
    assert leaks == []


def log_exception(logger: logging.Logger, text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("failed")


def test_watch_takes_nothing_else_for_a_secret(desk: Desk, leaks: list[str]) -> None:
    issued = desk.issue(name="x")
    for text in (
        issued.key.secrets[0].hint,
        issued.secret[:-1],
        issued.secret[:-1] + "?",
        "_live_" + "0" * 38,
        "kd_live_",
    ):
        watch.look_at(text, "here")
    logging.getLogger("keydesk").error("refused %s", issued.key.secrets[0].hint)
    assert leaks == []
