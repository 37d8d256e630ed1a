"""Number 12: a key that is not ASCII giving 500; `compare_digest` takes no such text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keydesk import InvalidField, SettingsError
from keydesk.testing import ManualClock

from ..flask.rig import Rig

TEXTS = [
    "é",
    "schlüssel-für-alles",
    "\xa0",
    "\x80\xff",
    "ключ",
    "🔑🔑🔑🔑🔑",
    "\ud800",
    "\udcff",
    "kd_live_é",
    "１２３",
    "ｋｅｙ",
    "\x00",
    "\x7f",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_over_http(rig: Rig, text: str) -> None:
    """Servers hand on header bytes as Latin-1; some middleware hands on worse."""
    rig.secret()
    as_sent = text.encode("utf-8", "surrogatepass").decode("latin-1")
    for value in (text, as_sent):
        for name, presented in (("HTTP_X_API_KEY", value), ("HTTP_AUTHORIZATION", f"Bearer {value}")):
            answer = rig.call(environ_overrides={name: presented})
            assert (answer.status_code, answer.get_json()["reason"]) == (401, "invalid")


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_in_the_query(new_rig: Callable[..., Rig], text: str) -> None:
    from urllib.parse import quote

    rig = new_rig(KEYDESK_QUERY_PARAMETER="api_key")
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    for value in (quote(text, errors="surrogatepass"), text.encode("utf-8", "surrogatepass").decode("latin-1")):
        answer = rig.call("/", environ_overrides={"QUERY_STRING": f"api_key={value}"})
        assert answer.get_json()["reason"] == "invalid"


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_in_the_configuration(new_rig: Callable[..., Rig], text: str) -> None:
    """No client could present it, so it is refused where it is written, and the message does not show it."""
    if not text.strip():
        return
    with pytest.raises(SettingsError) as raised:
        new_rig(KEYDESK_STORE=None, API_KEY=text)
    assert "printable ASCII" in str(raised.value) or "checksum" in str(raised.value)
    assert text not in str(raised.value)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_in_an_import(rig: Rig, text: str) -> None:
    with pytest.raises(InvalidField):
        rig.desk.mint.secret(text, number=1, now=rig.clock.now())
    with pytest.raises(InvalidField):
        rig.desk.mint.secret(f"sha256:{text}", number=1, now=rig.clock.now())


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(min_codepoint=1, max_codepoint=255)))
def test_any_header_bytes(clock: ManualClock, text: str) -> None:
    rig = _RIG.get("rig") or _RIG.setdefault("rig", Rig(clock))
    if not rig.app.view_functions.get("view"):
        rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    answer = rig.call(environ_overrides={"HTTP_X_API_KEY": text, "HTTP_AUTHORIZATION": text})
    assert answer.status_code in (400, 401)


_RIG: dict[str, Rig] = {}
