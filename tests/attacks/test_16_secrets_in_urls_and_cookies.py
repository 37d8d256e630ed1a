"""Number 16: a GET that mints or reveals; a secret in a cookie or in a URL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import session

from keydesk import Key

from ..flask.rig import Rig


def test_the_extension_adds_no_route(new_rig: Callable[..., Rig]) -> None:
    """So there is no address that could mint, list or reveal."""
    rig = new_rig()
    assert {rule.rule for rule in rig.app.url_map.iter_rules()} == {"/static/<path:filename>"}


def test_get_changes_nothing(rig: Rig) -> None:
    issued = rig.issue()
    keys, events = rig.desk.list_keys().keys, rig.desk.list_events()
    for secret in (None, issued.secret, "wrong-key-wrong-key"):
        for path in ("/", "/?action=rotate", "/?create=1", "/keys", "/nowhere"):
            rig.call(path, secret)
    assert rig.desk.list_keys().keys == keys
    assert rig.desk.list_events() == events


def test_no_cookie(rig: Rig) -> None:
    """Nor the session touched, which would add `Vary: Cookie` and a signed copy of whatever is in it."""
    rig.app.secret_key = "for the session"
    secret = rig.secret()
    for presented in (secret, None, "wrong-key-wrong-key", "a,b"):
        answer = rig.call(secret=presented)
        assert "Set-Cookie" not in answer.headers
        assert "Vary" not in answer.headers


def test_no_answer_holds_the_secret(rig: Rig) -> None:
    rig.app.secret_key = "for the session"

    @rig.app.get("/session")
    @rig.keys.require()
    def with_session() -> str:
        session["seen"] = True
        return "in"

    issued = rig.issue()
    rig.desk.revoke(issued.key.id)
    for path in ("/", "/session", "/nowhere", "/static/x"):
        for secret in (rig.secret(), issued.secret, issued.secret + "x", f"{issued.secret},{issued.secret}x"):
            answer = rig.call(path, secret)
            assert secret[8:40] not in answer.text + str(answer.headers)


def test_query_string_is_not_read(rig: Rig) -> None:
    secret = rig.secret()
    for name in ("api_key", "apikey", "key", "token", "access_token", "X-API-Key", "x_api_key", "KEYDESK_HEADER"):
        assert rig.status(f"/?{name}={secret}") == 401
        assert rig.status("/", method="POST", data={name: secret}) == 401
        assert rig.status("/", headers={"Cookie": f"{name}={secret}"}) == 401
        assert rig.status("/", method="POST", json={name: secret}) == 401


@pytest.mark.parametrize("verb", ["get_key", "find_key"])
def test_no_read_reveals(rig: Rig, verb: str) -> None:
    """Once issued, the secret is nowhere to be had: no object that reading returns has it."""
    issued = rig.issue()
    key: Key = getattr(rig.desk, verb)(issued.key.id)
    assert not hasattr(key, "secret")
    assert issued.secret not in repr(key) + repr(rig.desk.list_keys()) + repr(rig.desk.list_events())
