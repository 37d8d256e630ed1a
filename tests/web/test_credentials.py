"""Every way a secret comes in: the table of wire.md, "Where it is read"."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keydesk.verifier import MISSING
from keydesk.web.credentials import DUPLICATED, CredentialReader

S, T = "kd_live_one", "kd_live_two"
PLAIN = CredentialReader(header="X-API-Key")
QUERY = CredentialReader(header="X-API-Key", query_parameter="api_key")


def _environ(key: str | None = None, authorization: str | None = None, query: str | None = None) -> dict[str, Any]:
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    given = {"HTTP_X_API_KEY": key, "HTTP_AUTHORIZATION": authorization, "QUERY_STRING": query}
    return environ | {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, MISSING),
        ("", MISSING),
        (" ", MISSING),
        ("\t \t", MISSING),
        (",", MISSING),
        (" , ,\t,", MISSING),
        (S, S),
        (f" {S} ", S),
        (f"\t{S}\t", S),
        (f"{S},{S}", S),
        (f"{S}, {S},{S}", S),
        (f"{S},", S),
        (f",{S}", S),
        (f"{S}, ,", S),
        (f"{S},{T}", DUPLICATED),
        (f"{S},,{T}", DUPLICATED),
        (f"{S},{S}x", DUPLICATED),
        (f"{S},{S.upper()}", DUPLICATED),
        # What is no white space of HTTP stays, and is refused later for not being printable ASCII.
        (f"\xa0{S}", f"\xa0{S}"),
        (f"{S}\x0b", f"{S}\x0b"),
        (f"{S}\r", f"{S}\r"),
        (f"{S}\n{T}", f"{S}\n{T}"),
        ("\xa0", "\xa0"),
        (f"{S} {T}", f"{S} {T}"),
        (f"{S};{T}", f"{S};{T}"),
        (f"{S}\x00", f"{S}\x00"),
        # The header takes the secret as it is: no scheme, no quotes.
        (f"Bearer {S}", f"Bearer {S}"),
        (f'"{S}"', f'"{S}"'),
    ],
)
def test_header(key: str | None, expected: object) -> None:
    assert PLAIN.read(_environ(key)) == expected
    assert QUERY.read(_environ(key)) == expected


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("", MISSING),
        ("Bearer", MISSING),
        ("Bearer ", MISSING),
        ("Bearer  \t ", MISSING),
        ("bearer", MISSING),
        ("Bearer,", MISSING),
        ("Bearer ,Bearer ", MISSING),
        (f"Bearer {S}", S),
        (f"bearer {S}", S),
        (f"BEARER {S}", S),
        (f"bEaReR   {S}  ", S),
        (f"  Bearer {S}", S),
        (f"Bearer \t{S}\t", S),
        (f"Bearer {S},Bearer {S}", S),
        (f"Bearer {S}, bearer {S}", S),
        (f"Bearer {S},Bearer {T}", DUPLICATED),
        (f"Bearer {S},Bearer", S),
        # Other schemes are somebody else's.
        ("Basic dXNlcjpwYXNz", MISSING),
        (f"Basic dXNlcjpwYXNz, Bearer {S}", S),
        (f"ApiKey {S}", MISSING),
        (f"Token {S}", MISSING),
        (f"Bearer{S}", MISSING),
        (f"Bearer:{S}", MISSING),
        (f"Bearer\t{S}", MISSING),  # RFC 9110 wants a space
        (f"Bearer\xa0{S}", MISSING),
        (f"Bearer={S}", MISSING),
        (S, MISSING),
        (f"XBearer {S}", MISSING),
        (f"Bearer {S} {T}", f"{S} {T}"),
        (f"Bearer \xa0{S}", f"\xa0{S}"),
        (f"Bearer {S}=", f"{S}="),
        ("Bearer Bearer", "Bearer"),
        ("ＢＥＡＲＥＲ x", MISSING),
        ("bearer\u0131 x", MISSING),
    ],
)
def test_authorization(authorization: str, expected: object) -> None:
    assert PLAIN.read(_environ(authorization=authorization)) == expected
    assert QUERY.read(_environ(authorization=authorization)) == expected


@pytest.mark.parametrize(
    ("key", "authorization", "expected"),
    [
        (S, f"Bearer {S}", S),
        (S, f"Bearer {T}", DUPLICATED),
        (S, "Bearer ", S),
        (S, "Bearer", S),
        ("", f"Bearer {S}", S),
        (" , ", f"Bearer {S}", S),
        (S, "Basic dXNlcjpwYXNz", S),
        (S, f"Basic {T}", S),
        (f"{S},{T}", "Basic dXNlcjpwYXNz", DUPLICATED),
        (f"{S},{S}", f"Bearer {S},Bearer {S}", S),
        (f"{S},{S}", f"Bearer {S},Bearer {T}", DUPLICATED),
        ("", "", MISSING),
        ("", "Bearer", MISSING),
    ],
)
def test_header_and_authorization(key: str, authorization: str, expected: object) -> None:
    assert PLAIN.read(_environ(key, authorization)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", MISSING),
        ("api_key", MISSING),
        ("api_key=", MISSING),
        ("api_key=+", MISSING),
        ("api_key=%20%09", MISSING),
        ("api_key=&api_key=", MISSING),
        (f"api_key={S}", S),
        (f"a=1&api_key={S}&b=2", S),
        (f"api_key={S}&api_key={S}", S),
        (f"api_key={S}&api_key={T}", DUPLICATED),
        (f"api_key={S}&api_key=", S),
        ("api_key=kd%5Flive_one", S),
        ("api_key=a%2Bb", "a+b"),
        ("api_key=a+b", "a b"),
        ("api_key=a=b=c", "a=b=c"),
        (f"api_key=%20{S}%20", S),
        # A comma is part of the value here, and no secret holds one.
        (f"api_key={S},{S}", f"{S},{S}"),
        # Only the name as it is configured: see CredentialReader.
        (f"API_KEY={S}", MISSING),
        (f"api%5Fkey={S}", MISSING),
        (f"api_key%00={S}", MISSING),
        (f"api_key[]={S}", MISSING),
        (f" api_key={S}", MISSING),
        (f"xapi_key={S}", MISSING),
        (f"a=1;api_key={S}", MISSING),
        (f"a=api_key={S}", MISSING),
        # Bytes that are no text, broken escapes.
        ("api_key=%ff", "\xff"),
        ("api_key=%zz", "%zz"),
        ("api_key=%", "%"),
        ("api_key=%00", "\x00"),
        ("api_key=%C3%A9", "Ã©"),
        ("&&&&", MISSING),
        ("=x", MISSING),
        ("&" * 999 + f"api_key={S}", S),
        ("&" * 1000 + f"api_key={S}", MISSING),
        ("a&" * 10_000 + f"api_key={S}", MISSING),
    ],
)
def test_query(query: str, expected: object) -> None:
    assert QUERY.read(_environ(query=query)) == expected
    assert PLAIN.read(_environ(query=query)) == MISSING


def test_query_beside_a_header() -> None:
    assert QUERY.read(_environ(S, query=f"api_key={S}")) == S
    assert QUERY.read(_environ(S, query=f"api_key={T}")) == DUPLICATED
    assert QUERY.read(_environ(S, f"Bearer {S}", f"api_key={T}")) == DUPLICATED
    assert QUERY.read(_environ(authorization=f"Bearer {S}", query=f"api_key={S}")) == S
    assert PLAIN.read(_environ(S, query=f"api_key={T}")) == S


@pytest.mark.parametrize(
    ("header", "variable"),
    [
        ("X-API-Key", "HTTP_X_API_KEY"),
        ("x_api_key", "HTTP_X_API_KEY"),
        ("apikey", "HTTP_APIKEY"),
        ("X.Shop-Key", "HTTP_X.SHOP_KEY"),
    ],
)
def test_header_by_another_name(header: str, variable: str) -> None:
    reader = CredentialReader(header=header)
    assert reader.read({variable: S}) == S
    assert reader.read({"HTTP_X_OTHER": S}) == MISSING


def test_nothing_else_is_read() -> None:
    places = {
        "HTTP_COOKIE": f"X-API-Key={S}; api_key={S}",
        "HTTP_X_API_KEYS": S,
        "HTTP_API_KEY": S,
        "HTTP_PROXY_AUTHORIZATION": f"Bearer {S}",
        "HTTP_X_AUTHORIZATION": f"Bearer {S}",
        "HTTP_REFERER": f"https://x/?api_key={S}",
        "X_API_KEY": S,
        "QUERY_STRING": f"api_key={S}",
        "REMOTE_USER": S,
    }
    assert PLAIN.read(places) == MISSING


def test_ten_thousand_commas() -> None:
    assert PLAIN.read(_environ("," * 10_000)) == MISSING
    assert PLAIN.read(_environ(f"{S}," * 10_000)) == S
    assert PLAIN.read(_environ(",".join(map(str, range(10_000))))) == DUPLICATED
    assert PLAIN.read(_environ(authorization="Bearer," * 10_000)) == MISSING


LATIN = st.text(st.characters(max_codepoint=255))


@given(LATIN, LATIN, LATIN)
def test_any_headers_give_one_text_or_a_refusal(key: str, authorization: str, query: str) -> None:
    """Whatever comes in, a text that goes on is whole: one of those sent, never two glued together."""
    found = QUERY.read(_environ(key, authorization, query))
    if isinstance(found, str):
        assert found
        assert "," not in found or found in query or "%2C" in query.upper()
        assert found == found.strip(" \t")
    else:
        assert found in (MISSING, DUPLICATED)


@given(st.lists(st.sampled_from([S, T, "", " "]), max_size=5))
def test_folded_headers_equal_the_set_of_them(values: list[str]) -> None:
    expected = {value for value in values if value.strip()}
    found = PLAIN.read(_environ(",".join(values)))
    assert found == (MISSING if not expected else DUPLICATED if len(expected) > 1 else expected.pop())
