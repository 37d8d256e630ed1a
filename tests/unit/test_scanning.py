from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from gzip import BadGzipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keydesk import scanning
from keydesk.keys.secret import ALPHABET, SecretFormat, checksum
from keydesk.scanning import CHUNK_BYTES, Finding, Scanner, unzipped

KD = SecretFormat()


def places(data: bytes, *, cut: int = CHUNK_BYTES, prefix: str = "kd") -> list[tuple[int, int]]:
    return [(found.line, found.column) for found in find(data, cut=cut, prefix=prefix)]


def find(data: bytes, *, cut: int = CHUNK_BYTES, prefix: str = "kd") -> list[Finding]:
    return list(Scanner(SecretFormat(prefix)).find(unzipped(pieces(data, cut))))


def pieces(data: bytes, cut: int) -> Iterator[bytes]:
    stream = io.BytesIO(data)
    while piece := stream.read(cut):
        yield piece


def other_secret(prefix: str = "kd", environment: str = "live", body: str = "0" * 32) -> str:
    start = f"{prefix}_{environment}_{body}"
    return start + checksum(start)


SECRET = other_secret(body="aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0iL")


# In plain bytes


@pytest.mark.parametrize("cut", [1, 2, 7, 45, 46, 47, 48, 1000])
def test_find_across_every_border(cut: int) -> None:
    data = f"first\n  key={SECRET}, {SECRET}\n\n{SECRET}".encode()
    assert places(data, cut=cut) == [(2, 7), (2, 7 + len(SECRET) + 2), (4, 1)]


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"\n", b"kd_live_", SECRET.encode()])), max_size=12),
    st.integers(1, 200),
)
def test_find_is_the_same_however_the_stream_is_cut(parts: list[bytes], cut: int) -> None:
    data = b"".join(parts)
    naive = []
    for at in range(len(data)):
        if data.startswith(SECRET.encode(), at):
            before = data[:at]
            naive.append((before.count(b"\n") + 1, at - before.rfind(b"\n")))
    assert [(one.line, one.column) for one in Scanner(KD).find(pieces(data, cut))] == naive


@pytest.mark.parametrize(
    "around", ["{}", "%20{}%20", '"{}"', "X-API-Key:{}", "a{}b", "kd_live_{}", "kd_live_" + "0" * 36 + "{}"]
)
def test_find_whatever_stands_around_it(around: str) -> None:
    assert [one.secret for one in find(around.format(SECRET).encode())] == [SECRET]


def test_find_in_binary() -> None:
    data = b"\x00\xff" * 50_000 + b"\n" + SECRET.encode() + b"\xfe\x80"
    assert places(data) == [(2, 1)]


def test_find_shows_a_hint_only() -> None:
    (found,) = find(SECRET.encode())
    assert found.hint == f"kd_live_…{SECRET[-4:]}"
    assert SECRET[8:40] not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        SECRET[:-1],
        SECRET[:-1] + ("0" if SECRET[-1] != "0" else "1"),
        SECRET.upper(),
        SECRET.replace("live", "prod"),
        "kd_live_…abcd",
        other_secret("acmekd"),  # of another desk, whose prefix ends like ours
        other_secret("xx"),
    ],
)
def test_find_takes_nothing_else_for_a_secret(text: str) -> None:
    assert find(text.encode()) == []


def test_find_both_of_two_that_share_characters() -> None:
    """The random part of one ends with the prefix of the next: only one of them can be whole, and either may be."""
    last = other_secret()
    for first in ("kd_live_" + "A" * 36, "kd_test_" + "A" * 10):
        assert [one.secret for one in find((first + last).encode())] == [last]


@pytest.mark.parametrize("prefix", ["k", "acme_eu", "a_live_b", "live", "A" * 20])
def test_find_under_any_prefix(prefix: str) -> None:
    secret = SecretFormat(prefix).mint()
    for cut in (1, 13, 1000):
        assert [one.secret for one in find(f"x {secret}\n{SECRET}".encode(), cut=cut, prefix=prefix)] == [secret]


def test_find_keeps_little_in_memory() -> None:
    """A stream of 64 MB in one line, and of beginnings of secrets: what is carried over is under one secret."""
    longest = 0

    def stream() -> Iterator[bytes]:
        for _ in range(64):
            yield b"kd_live_" * (CHUNK_BYTES // 8)
        yield SECRET.encode()

    class Watched(SecretFormat):
        def is_possible(self, text: str) -> bool:
            nonlocal longest
            longest = max(longest, len(text))
            return super().is_possible(text)

    (found,) = Scanner(Watched()).find(stream())
    assert (found.line, found.column) == (1, 64 * CHUNK_BYTES + 1)
    assert longest == len(SECRET)


# gzip


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize("cut", [1, 3, 1000, CHUNK_BYTES])
@pytest.mark.parametrize("end", [b"", b"\0" * 5000])
def test_unzipped_of_several_members(cut: int, end: bytes) -> None:
    """As `cat a.gz b.gz` makes them, and with the zeros of a tape's last block."""
    data = zipped(b"one\n") + zipped(b"") + zipped(f"two {SECRET[:20]}".encode()) + zipped(SECRET[20:].encode()) + end
    assert places(data, cut=cut) == [(2, 5)]


def test_unzipped_in_pieces_of_bounded_size() -> None:
    data = zipped(b"\0" * (40 * CHUNK_BYTES) + SECRET.encode())
    sizes = [len(piece) for piece in unzipped(pieces(data, CHUNK_BYTES))]
    assert max(sizes) <= CHUNK_BYTES
    assert sum(sizes) == 40 * CHUNK_BYTES + len(SECRET)
    assert places(data) == [(1, 40 * CHUNK_BYTES + 1)]


def test_unzipped_leaves_what_is_not_gzip() -> None:
    for data in (b"", b"\x1f", b"\x1f\x8b", b"\x1f\x8bplain", b"PK\x03\x04", ALPHABET.encode()):
        for cut in (1, 100):
            assert b"".join(unzipped(pieces(data, cut))) == data


@pytest.mark.parametrize("harm", ["cut short", "checksum", "garbage behind", "garbage in front of the next"])
def test_unzipped_of_what_is_damaged(harm: str) -> None:
    """The damage is told, whatever was found before it."""
    whole = zipped(f"{SECRET}\n".encode() + bytes(range(256)) * 100)
    data = {
        "cut short": whole[:-1],
        "checksum": whole[:-8] + b"\0" * 8,
        "garbage behind": whole + b"more",
        "garbage in front of the next": whole + b"\x1f\x8b" + whole,
    }[harm]
    for cut in (1, CHUNK_BYTES):
        found: list[str] = []
        stream = (one.secret for one in Scanner(KD).find(unzipped(pieces(data, cut))))
        with pytest.raises(BadGzipFile, match="as gzip"):
            found.extend(stream)
        assert found == [SECRET] or (harm, cut) == ("checksum", CHUNK_BYTES)


def test_unzipped_ends_at_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_UNZIPPED_BYTES", 10 * CHUNK_BYTES)
    bomb = zipped(b"\0" * (100 * CHUNK_BYTES))
    assert len(bomb) < CHUNK_BYTES
    taken: list[int] = []
    with pytest.raises(BadGzipFile, match="unpacks to over"):
        taken.extend(len(piece) for piece in unzipped(iter([bomb])))
    assert sum(taken) == 10 * CHUNK_BYTES
