"""Number 7: SQL through the Bearer value; also NUL, newline, a megabyte, not UTF-8, `%`, `_`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keydesk import Desk, InvalidField, KeyNotFound, Reason

from ..flask.rig import Rig

PRESENTED = [
    "' OR '1'='1",
    "'--",
    "\" OR \"\"=\"",
    "' UNION SELECT * FROM keydesk_keys --",
    "'; DROP TABLE keydesk_keys; --",
    "1; SELECT pg_sleep(10)",
    "'||(SELECT/**/digest/**/FROM/**/keydesk_secrets)||'",
    "') OR 1=1 #",
    "%",
    "_",
    "%%%%%%%%%%%%%%%%%%%%",
    "kd_live_%",
    "kd_live_" + "_" * 38,
    "*",
    "\\' OR 1=1",
    "\x00",
    "secret\x00--",
    "secret\n--",
    "secret\r\nX-Admin: 1",
    "\xff\xfe",
    "\xc0\xa7 OR 1=1",
    "ʼ OR 1=1",
    "１' OR １=１",
    "\ud800",
    "${jndi:ldap://x/y}",
    "{{7*7}}",
    "%(digest_0)s",
    ":digest_0",
    "?",
    "x" * 257,
    "x" * 1_000_000,
    "kd_live_" + "a" * 1_000_000,
    "NULL",
    "None",
    "0",
    "sha256:" + "0" * 64,
]  # fmt: skip


@pytest.mark.parametrize("presented", PRESENTED, ids=lambda text: ascii(text[:24]))
def test_presented_over_http(rig: Rig, presented: str) -> None:
    rig.secret()
    for name, value in (("HTTP_X_API_KEY", presented), ("HTTP_AUTHORIZATION", f"Bearer {presented}")):
        answer = rig.call(environ_overrides={name: value})
        assert answer.status_code in (400, 401)
        assert answer.get_json()["reason"] in ("invalid", "duplicated")
        assert answer.text.isascii()


def test_presented_to_every_database(everywhere: Callable[..., Desk]) -> None:
    desk = everywhere()
    issued = desk.issue(name="victim")
    for presented in PRESENTED:
        assert desk.verify(presented).reason is Reason.INVALID
    assert desk.verify(issued.secret).allowed
    assert len(desk.list_keys().keys) == 1


def test_ids_filters_and_cursors_in_every_database(everywhere: Callable[..., Desk]) -> None:
    """The other texts that reach SQL: an id, an owner, a part of a name, a cursor."""
    desk = everywhere()
    key = desk.issue(name="50% off_er", owner="o'brien").key
    desk.issue(name="50 off-er", owner="o brien")
    for text in PRESENTED:
        assert desk.find_key(text) is None
        with pytest.raises(KeyNotFound):
            desk.revoke(text)
        with pytest.raises(InvalidField):
            desk.list_keys(cursor=text)
        assert desk.list_events(key_id=text) == []
        try:
            assert desk.list_keys(owner=text).keys == ()
            found = desk.list_keys(text=text).keys
        except InvalidField:
            continue  # control characters, or too long
        expected = {
            one.id for one in desk.list_keys().keys if any(text in t for t in (one.name, one.id, one.owner or ""))
        }
        assert {one.id for one in found} == expected
    # The signs that LIKE takes for patterns are letters here.
    assert [one.id for one in desk.list_keys(text="0% o").keys] == [key.id]
    assert [one.id for one in desk.list_keys(text="off_").keys] == [key.id]
    assert [one.id for one in desk.list_keys(owner="o'brien").keys] == [key.id]
    assert len(desk.list_keys().keys) == 2
    assert desk.check_chain().problem is None


def test_texts_are_kept_as_they_are(everywhere: Callable[..., Desk]) -> None:
    desk = everywhere()
    for text in ("'; DROP TABLE keydesk_keys; --", "%s %(x)s :x ?", "emoji 🔑 and ü", "\\' \\\\", "${x}", "a,b"):
        key = desk.issue(name=text, owner=text, description=text).key
        again = desk.get_key(key.id)
        assert (again.name, again.owner, again.description) == (text, text, text)
        assert desk.revoke(key.id, reason=text).revoke_reason == text


@settings(max_examples=200)
@given(text=st.text(st.characters(codec=None, exclude_categories=())))
def test_any_text_is_refused_without_an_error(text: str) -> None:
    from keydesk import open_desk
    from keydesk.testing import ManualClock

    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=ManualClock())
    desk.issue(name="victim")
    assert not desk.verify(text).allowed
