"""What stands around a pasted secret is named, and the secret found; nothing of the text is repeated."""

from __future__ import annotations

import pytest

from keydesk.keys.pasted import find_pasted
from keydesk.keys.secret import SecretFormat

FORMAT = SecretFormat()
SECRET = FORMAT.mint()
HELD = "held-elsewhere-0123456789"
AROUND = [
    ("'{}'", "single quotes"),
    ('"{}"', "double quotes"),
    ("`{}`", "backticks"),
    ("\u201c{}\u201d", "typographic quotes"),
    ("\u00ab{}\u00bb", "typographic quotes"),
    ("\u2018{}\u2019", "typographic quotes"),
    ('{}"', "double quotes"),
    ("Bearer {}", "`Bearer`"),
    ("bearer  {}", "`Bearer`"),
    ("X-API-Key: {}", "`X-API-Key:`"),
    ("x-api-key:{}", "`X-API-Key:`"),
    ("Authorization: Bearer {}", "`Authorization:` and `Bearer`"),
    ("'X-API-Key: {}'", "`X-API-Key:` and single quotes"),
    (" {} ", "spaces"),
    ("\t{}", "spaces"),
    ("\u00a0{}", "spaces"),
    ("{}\r\n\r", "line ends"),
    ("\ufeff{}", "invisible characters"),
    ("{}\u200b", "invisible characters"),
    ('"{}" ', "double quotes and spaces"),
    ("Bearer \"'{}'\"", "`Bearer`, double quotes and single quotes"),
]


@pytest.mark.parametrize(("around", "words"), AROUND)
@pytest.mark.parametrize("secret", [SECRET, HELD], ids=["ours", "held"])
def test_what_is_around_is_named(around: str, words: str, secret: str) -> None:
    pasted = find_pasted(around.format(secret), FORMAT)
    assert pasted is not None
    assert (pasted.secret, pasted.around) == (secret, words)
    assert secret not in repr(pasted)


@pytest.mark.parametrize(("around", "where"), [("'{}'", "around"), ("{}'", "behind"), ("Bearer {}", "in front of")])
def test_where_it_stands_is_named(around: str, where: str) -> None:
    pasted = find_pasted(around.format(SECRET), FORMAT)
    assert pasted is not None
    assert pasted.where == where


@pytest.mark.parametrize("around", ["{}x", "KEY={}", 'curl -H "X-API-Key: {}" https://api.example', "kd_{}", "{},{}"])
def test_ours_is_found_within_anything(around: str) -> None:
    pasted = find_pasted(around.format(SECRET, FORMAT.mint()), FORMAT)
    assert pasted is not None
    assert pasted.secret == SECRET
    assert pasted.around.endswith("other characters")


def test_nothing_around() -> None:
    for text in (SECRET, HELD, "", " ", "'", '""', "Bearer", "two words", "bearer-token-0123456789ab"):
        assert find_pasted(text, FORMAT) is None


def test_a_wrong_checksum_is_not_taken_for_ours() -> None:
    wrong = SECRET[:-1] + ("0" if SECRET[-1] != "0" else "1")
    pasted = find_pasted(f"'{wrong}'", FORMAT)
    assert pasted is not None
    assert pasted.secret == wrong
    assert not FORMAT.is_possible(pasted.secret)


def test_hostile_texts_end_soon() -> None:
    for text in (
        "kd_live_" * 500,
        "'" * 4096,
        "Bearer " * 500,
        " " * 4096,
        "X-API-Key: " * 300,
        "a" + "'" * 10**6 + "b",
    ):
        find_pasted(text, FORMAT)
