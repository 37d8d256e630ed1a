from __future__ import annotations

import re
import zlib

import pytest

from keydesk.errors import InvalidField
from keydesk.keys.secret import ALPHABET, Environment, SecretFormat, checksum, redact, shown

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def base62_crc(text: str) -> str:
    """The checksum as wire.md words it, written again here."""
    number, digits = zlib.crc32(text.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits.rjust(6, "0")


def ours(prefix: str = "kd", environment: str = "live", body: str = "A1b2C3d4" * 4) -> str:
    start = f"{prefix}_{environment}_{body}"
    return start + base62_crc(start)


@pytest.mark.parametrize("prefix", ["kd", "a", "acme_eu", "live", "test", "a_live_b", "X" * 20, "x9_8_7"])
@pytest.mark.parametrize("environment", list(Environment))
def test_mint_has_the_shape_of_the_wire(prefix: str, environment: Environment) -> None:
    secret = SecretFormat(prefix).mint(environment)
    assert re.fullmatch(rf"{prefix}_{environment}_[0-9A-Za-z]{{38}}", secret)
    assert secret[-6:] == base62_crc(secret[:-6])
    assert SecretFormat(prefix).is_possible(secret)


def test_mint_uses_the_whole_alphabet_and_repeats_nothing() -> None:
    minted = [SecretFormat().mint() for _ in range(500)]
    assert len(set(minted)) == 500
    assert set("".join(secret[8:40] for secret in minted)) == set(ALPHABET)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "000000"),  # CRC-32 of nothing is 0
        ("123456789", "3jZzxo"),  # 0xCBF43926, the check value of CRC-32 in every catalogue
        ("kd_live_00000000000000000000000000000000", base62_crc("kd_live_" + "0" * 32)),
    ],
)
def test_checksum_fixed(text: str, expected: str) -> None:
    assert checksum(text) == base62_crc(text)
    if text == "123456789":
        number = 0
        for digit in checksum(text):
            number = number * 62 + BASE62.index(digit)
        assert number == 0xCBF43926
    else:
        assert checksum(text) == expected


def test_checksum_is_padded() -> None:
    small = next(text for text in map(str, range(100_000)) if zlib.crc32(text.encode()) < 62**4)
    assert checksum(small).startswith("00")
    assert len(checksum(small)) == 6


@pytest.mark.parametrize("prefix", ["", "_", "kd_", "_kd", "k__d", "9kd", "k-d", "k.d", "kd ", "é", "x" * 21, "k\n"])
def test_prefix_refused(prefix: str) -> None:
    with pytest.raises(InvalidField, match="prefix"):
        SecretFormat(prefix)


def test_is_possible_ours_changed_anywhere_is_not() -> None:
    secret = ours()
    assert SecretFormat().is_possible(secret)
    for position in range(3, len(secret)):
        other = "x" if secret[position] != "x" else "y"
        assert not SecretFormat().is_possible(secret[:position] + other + secret[position + 1 :]), position
    for wrong in (secret[:-1], secret + "0", secret.upper(), "kd_" + secret, "kd_", "kd_live_", secret + "\n"):
        assert not SecretFormat().is_possible(wrong) or not SecretFormat().claims(wrong)


def test_is_possible_of_another_prefix_is_looked_up() -> None:
    """It may have been imported from the desk that minted it."""
    assert SecretFormat("kd").is_possible(ours("acme"))
    assert not SecretFormat("acme").claims(ours("kd"))


def test_is_possible_prefix_that_begins_another() -> None:
    """`kd` begins the secrets of `kd_eu` too: those have another length."""
    assert not SecretFormat("kd").is_possible(ours("kd_eu"))
    assert SecretFormat("kd_eu").is_possible(ours("kd_eu"))
    assert SecretFormat("kd").claims(ours("kd_eu"))


@pytest.mark.parametrize(
    "text", ["my-secret-api-key", "0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5", "x", "~!@#$%^&*()", "x" * 256, "a=b==", '"']
)
def test_is_possible_imported(text: str) -> None:
    assert SecretFormat().is_possible(text)


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "a,b", "x" * 257, "é", "a\0", "a\n", "a\t", "\x7f", "漢", "\ud800", "x" * 1_000_000]
)
def test_is_possible_unpresentable(text: str) -> None:
    assert not SecretFormat().is_possible(text)
    assert SecretFormat().hint(text) == "…"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (ours(), "kd_live_…" + ours()[-4:]),
        (ours("kd", "test"), "kd_test_…" + ours("kd", "test")[-4:]),
        (ours()[:-1], "…" + ours()[-5:-1]),
        (ours("acme"), "…" + ours("acme")[-4:]),
        ("0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5", "…f1f5"),
        ("x" * 12 + "tail", "…tail"),
        ("x" * 11 + "tail", "…"),
        ("short", "…"),
        ("", "…"),
    ],
)
def test_hint(text: str, hint: str) -> None:
    assert SecretFormat().hint(text) == hint


@pytest.mark.parametrize("prefix", ["kd", "acme_eu", "a_live_b", "X" * 20])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("Authorization: Bearer ", "\r\n"),
        ("?api_key=", "&page=2"),
        ("'", "'"),
        ("%20", "%0A"),
        ("https://user:", "@host"),
        ("key_", ""),
        ("2024", ""),
        ("\\n", "\\n"),
        ("é", "漢"),
        ('{"secret": "', '"}'),
        ("x" * 100, "x"),
    ],
)
def test_redact_whatever_stands_around(prefix: str, before: str, after: str) -> None:
    secret = ours(prefix)
    redacted = redact(before + secret + after)
    assert secret[-38:-8] not in redacted
    assert "…" in redacted


def test_redact_keeps_the_rest() -> None:
    assert redact(f"a {ours()} b") == f"a kd_live_…{ours()[-4:]} b"
    assert redact(f"{ours()} {ours('acme_eu', 'test')}").count("…") == 2
    for text in ("", "nothing here", "it_was_live_today", "test_live_view_with_several_words_in_its_name"):
        assert redact(text) == text


@pytest.mark.parametrize("cut", [1, 5, 6])
def test_redact_without_its_checksum(cut: int) -> None:
    """Whoever has the random part can make the checksum anew."""
    assert "A1b2C3d4A1b2C3d4A1b2" not in redact(ours()[:-cut])


def test_redact_is_stable_and_quick_on_anything_long() -> None:
    for text in ("_live_" * 20_000, "a" * 200_000 + "_live_", ("a_" * 40 + "_live_") * 2_000, ours() * 2_000):
        assert redact(redact(text)) == redact(text)


def test_shown_cuts_and_hides() -> None:
    assert shown("x" * 100) == repr("x" * 40)
    assert "A1b2C3d4A1b2C3d4" not in shown(ours(), 140)
