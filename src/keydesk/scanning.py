"""Core: finding the secrets of a desk in whatever bytes there are, by shape and checksum, without asking anybody."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from gzip import BadGzipFile

from .keys.secret import CHECKSUM_CHARACTERS, RANDOM_CHARACTERS, SecretFormat

CHUNK_BYTES = 1 << 20
MAX_UNZIPPED_BYTES = 64 << 30  # of one stream: a few megabytes can unpack to what nobody can wait for

_GZIP = b"\x1f\x8b\x08"  # RFC 1952: magic bytes, and the only method there is
_GZIP_WINDOW = 31  # tells zlib that a gzip header comes first


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret that stands somewhere.

    Attributes:
        line: From 1; lines end in a line feed.
        column: From 1, in bytes.
        hint: What may be shown of it.
        secret: It itself, for `find_leak` alone. Left out of the repr.
    """

    line: int
    column: int
    hint: str
    secret: str = field(repr=False)


class Scanner:
    """Finds secrets of one format. Holds no state, so one serves any number of streams.

    What stands around a secret does not matter, as in `%20kd_live_...`: the checksum tells it from chance, and from
    that of another desk whose prefix ends like ours.
    """

    def __init__(self, secret_format: SecretFormat) -> None:
        self._format = secret_format
        length = RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
        # A prefix is letters, digits and underscores. It comes first here, which lets `re` run over all else quickly.
        self._shape = re.compile(rf"{secret_format.prefix}_(?:live|test)_[0-9A-Za-z]{{{length}}}".encode())
        self._overlap = len(secret_format.prefix) + len("_live_") + length - 1

    def find(self, chunks: Iterable[bytes]) -> Iterator[Finding]:
        """Yield every secret in a stream, in order, in memory bounded by the size of its chunks.

        Args:
            chunks: The stream in pieces, cut anywhere; `unzipped` makes them of one that may be gzip'ed.
        """
        rest = b""
        line, offset, line_start = 1, 0, 0  # of the first byte of `rest`: its line, its place, where its line began
        for chunk in chunks:
            piece = rest + chunk
            counted = at = 0
            while match := self._shape.search(piece, at):
                at = match.start() + 1  # the beginning of another may stand within this one
                text = match[0].decode("ascii")
                if self._format.is_possible(text):
                    line, line_start = _count(piece, counted, match.start(), line, offset, line_start)
                    counted = match.start()
                    yield Finding(line, offset + counted - line_start + 1, self._format.hint_of_possible(text), text)
            end = max(len(piece) - self._overlap, 0)  # behind the beginning of every match: they were whole
            line, line_start = _count(piece, counted, end, line, offset, line_start)
            rest, offset = piece[end:], offset + end


def _count(piece: bytes, start: int, end: int, line: int, offset: int, line_start: int) -> tuple[int, int]:
    """Return the line at `end` of a piece, and where it began in the stream, from those at `start`."""
    feeds = piece.count(b"\n", start, end)
    return (line + feeds, offset + piece.rindex(b"\n", start, end) + 1) if feeds else (line, line_start)


def unzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a stream as it is, or what it unpacks to where it begins as gzip (RFC 1952) does, of one or more members.

    Pieces that are unpacked have at most `CHUNK_BYTES`.

    Raises:
        gzip.BadGzipFile: It is cut short or damaged, or unpacks to more than 64 GiB. Most before that was yielded.
    """
    source = iter(chunks)
    first = b""
    for chunk in source:
        first += chunk
        if len(first) >= len(_GZIP):
            break
    if first.startswith(_GZIP):
        yield from _unzip(_again(first, source))
    elif first:
        yield from _again(first, source)


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _unzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member, unpacked, begun = zlib.decompressobj(_GZIP_WINDOW), 0, False
    for chunk in chunks:
        rest = chunk
        while rest or begun:
            if not begun:
                rest = rest.lstrip(b"\0")  # some programs fill up their last block
                begun = bool(rest)
                continue
            try:
                piece = member.decompress(rest, CHUNK_BYTES)
            except zlib.error:
                raise BadGzipFile("is damaged as gzip; its end was not read") from None
            unpacked += len(piece)
            if unpacked > MAX_UNZIPPED_BYTES:
                raise BadGzipFile(f"unpacks to over {MAX_UNZIPPED_BYTES >> 30} GiB; the rest was not read")
            yield piece
            rest = member.unconsumed_tail
            if member.eof:
                rest, member, begun = member.unused_data, zlib.decompressobj(_GZIP_WINDOW), False
            elif not rest:
                break
    if begun:
        raise BadGzipFile("ends too early as gzip; what came before was read")
