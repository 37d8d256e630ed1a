"""Number 13: keys in errors or logs. Every way something goes wrong, with a real secret in hand."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from keydesk import (
    DuplicateSecret,
    HeldKey,
    InvalidField,
    KeydeskError,
    RedactSecrets,
    Refused,
    SettingsError,
    StoreUnavailable,
    open_desk,
)
from keydesk.keys.record import parse_fields
from keydesk.settings import read_settings
from keydesk.testing import ManualClock

from ..flask.rig import Rig

UUID = "0d9b1b0e-7d3c-4b0e-9b6e-2f1f0a4a9c11"  # an imported key, of no shape that a filter could know


def _shown(caplog: pytest.LogCaptureFixture) -> str:
    """Everything of every log record: the message, the arguments, the traceback."""
    parts = []
    for record in caplog.records:
        parts += [record.getMessage(), repr(record.args), record.exc_text or ""]
        if record.exc_info:
            parts.append("".join(traceback.format_exception(*record.exc_info)))
    return "\n".join(parts)


def _break_off(*_: object) -> Any:
    raise StoreUnavailable("the database does not answer")


@pytest.mark.parametrize("shape", ["ours", "imported"])
def test_refusals(rig: Rig, caplog: pytest.LogCaptureFixture, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    text = rig.desk.mint.secret_format.mint() if shape == "ours" else UUID
    held = HeldKey(
        parse_fields({"name": "client", "networks": ["127.0.0.1"]}),
        rig.desk.mint.secret(text, number=1, now=rig.clock.now()),
    )
    answers = [rig.call(secret=text).text, rig.call(secret=text + "x").text, rig.call(secret=f"{text},other").text]
    rig.desk.import_keys([held])
    key = rig.desk.list_keys().keys[0]
    answers.append(rig.call(secret=text, environ_base={"REMOTE_ADDR": "10.0.0.1"}).text)
    rig.desk.disable(key.id)
    answers.append(rig.call(secret=text).text)
    rig.desk.revoke(key.id, reason="leaked")
    answers.append(rig.call(secret=text).text)
    monkeypatch.setattr(rig.desk.store, "find_by_digest", _break_off)
    answers.append(rig.call(secret=text).text)
    shown = _shown(caplog) + "".join(answers)
    assert len(caplog.records) >= 7
    assert text not in shown
    assert text[:-4] not in shown
    for secret in key.secrets:
        assert secret.digest not in shown


def test_the_databases_own_error(clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Drivers and SQLAlchemy put the statement and its values into their messages."""
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path / 'keys.db'}"}, clock=clock)
    issued = desk.issue(name="client")
    digest = issued.key.secrets[0].digest
    engine = desk.store.engine  # type: ignore[attr-defined]
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE keydesk_secrets RENAME TO gone")
    assert desk.verify(issued.secret).reason == "unavailable"
    with pytest.raises(StoreUnavailable) as raised:
        desk.issue(name="another")
    for text in (_shown(caplog), str(raised.value), "".join(traceback.format_exception(raised.value))):
        assert digest not in text
        assert issued.secret not in text
        assert "parameters" not in text
    assert not isinstance(raised.value.__cause__, OperationalError)
    assert raised.value.__suppress_context__
    desk.close()


def test_password_of_the_database(caplog: pytest.LogCaptureFixture) -> None:
    url = "postgresql+psycopg://user:hush-hush-0815@127.0.0.1:1/none?connect_timeout=1"
    desk = open_desk({"KEYDESK_STORE": url})
    assert desk.verify(UUID).reason == "unavailable"
    with pytest.raises(StoreUnavailable) as raised:
        desk.issue(name="x")
    assert "hush" not in str(raised.value) + _shown(caplog) + repr(desk.store.checks())
    desk.close()


def test_duplicate_in_an_import(rig: Rig) -> None:
    held = HeldKey(parse_fields({"name": "client"}), rig.desk.mint.secret(UUID, number=1, now=rig.clock.now()))
    with pytest.raises(DuplicateSecret) as raised:
        rig.desk.import_keys([held, held])
    assert UUID not in str(raised.value)
    assert UUID not in repr(raised.value)


@pytest.mark.parametrize("field", ["name", "owner", "description"])
def test_secret_written_into_a_field(rig: Rig, field: str) -> None:
    """People paste the secret where the name belongs; fields are shown, logged and kept."""
    secret = rig.secret()
    with pytest.raises(InvalidField) as raised:
        rig.desk.issue(**{"name": "client", field: f"for {secret}"})
    assert secret not in str(raised.value)
    with pytest.raises(InvalidField) as raised:
        rig.desk.revoke(rig.issue().key.id, reason=f"found {secret}")
    assert secret not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"API_KEYS": {UUID: ""}},
        {"API_KEYS": {"Client name first": UUID}},
        {"API_KEYS": {UUID: {"name": "x", "scopes": "nonsense here"}}},
        {"API_KEYS": [UUID]},
        {"API_KEYS": f'{{"{UUID}": '},
        {"API_KEY": [UUID]},
        {"API_KEY": f"{UUID} {UUID}"},
        {"KEYDESK_PEPPER": f"{UUID}!"},
        {"KEYDESK_PEPPER": UUID},
        {"KEYDESK_STORE": f"sqlserver://user:{UUID}@host/db"},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_wrong_settings(settings: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingsError) as raised:
        open_desk(settings)
    for text in (str(raised.value), repr(raised.value), _shown(caplog), *raised.value.problems):
        assert UUID not in text
    assert UUID not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "settings",
    [
        {"API_KEY": UUID, "KEYDESK_STORE": "memory://"},
        {"KEYDESK_STORE": f"postgresql://user:{UUID}@["},
        {"API_KEY": UUID, "API_KEYS": {UUID: "again"}},
        {"API_KEY": "my-secret-api-key", "API_KEYS": {UUID: "a client"}},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_settings_with_a_remark(settings: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    desk = open_desk(settings)
    desk.verify("somebody-who-calls")
    for text in (UUID, "my-secret-api-key"):
        assert text not in _shown(caplog) + repr(desk.store.checks())
    desk.close()


def test_reprs(rig: Rig) -> None:
    issued = rig.issue("orders:read")
    pepper = "cGVwcGVyLXBlcHBlci1wZXBwZXItcGVwcGVyLXBlcHBlcg=="
    settings = read_settings({"API_KEY": UUID, "KEYDESK_PEPPER": pepper}, default_store="")
    decision = rig.desk.verify(issued.secret)
    with pytest.raises(Refused) as raised:
        rig.desk.require(issued.secret + "x")
    things: list[Any] = [
        issued, issued.key, issued.key.secrets[0], decision, settings, rig.desk, rig.desk.mint, rig.desk.verifier,
        rig.desk.store, raised.value, raised.value.decision, rig.app.extensions["keydesk"].settings,
        rig.app.extensions["keydesk"].credentials, rig.app.extensions["keydesk"].answers, rig.desk.list_events(),
    ]  # fmt: skip
    for thing in things:
        for text in (repr(thing), str(thing), f"{thing!r:.9999}"):
            for secret in (issued.secret, issued.secret[10:40], UUID, "pepper-pepper", pepper):
                assert secret not in text
            assert issued.key.secrets[0].digest not in text


def test_view_that_fails(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The traceback that Flask logs holds no locals; nothing of ours puts the secret into the message."""

    @rig.app.get("/bang")
    @rig.keys.require()
    def bang() -> str:
        raise KeyError("bang")

    secret = rig.secret()
    answer = rig.call("/bang", secret)
    assert answer.status_code == 500
    assert secret not in _shown(caplog) + answer.text


@pytest.mark.shows_secrets
def test_filter_blanks_what_others_log(rig: Rig) -> None:
    """An application that logs its headers, as people do; the filter stands on the handler."""
    lines: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keeping()
    handler.addFilter(RedactSecrets(parameter="api_key"))
    logger = logging.getLogger("somebody.else")
    logger.addHandler(handler)
    secret = rig.secret()
    try:
        logger.warning("headers: %s", {"X-API-Key": UUID, "Authorization": f"Bearer {UUID}"})
        logger.warning("GET /?api_key=%s&x=1", UUID)
        logger.warning("in the middle:%s:of something", secret)
        try:
            raise ValueError(f"bad key {secret}")
        except ValueError:
            logger.exception("failed")
        logger.warning("curl -H 'X-API-Key: %s'", UUID)
    finally:
        logger.removeHandler(handler)
    shown = "\n".join(lines)
    assert secret not in shown
    assert UUID not in shown
    assert secret[-4:] in shown


def test_every_error_of_ours_is_one_tree() -> None:
    """So that `except KeydeskError` and the watch in tests/watch.py see them all."""
    import keydesk

    errors = [thing for thing in vars(keydesk).values() if isinstance(thing, type) and issubclass(thing, Exception)]
    assert len(errors) > 10
    assert all(issubclass(error, KeydeskError) for error in errors)


def test_a_desk_that_fails_to_open_leaves_no_secret(clock: ManualClock, tmp_path: Path) -> None:
    path = tmp_path / "keys.yml"
    path.write_text(f'api_keys:\n  "{UUID}": [unclosed\n')
    with pytest.raises(SettingsError) as raised:
        open_desk({"KEYDESK_STORE": f"file:{path}"}, clock=clock)
    assert UUID not in "".join(traceback.format_exception(raised.value))
