"""What takes from a limiter in processes of its own: `python -m tests.faults.taking WHAT URL ...`.

Each process writes down every take the moment it returns, so that what a killed one did is known too.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from keydesk import SystemClock
from keydesk.claims import Claim
from keydesk.limiting.redis import RedisLimiter
from keydesk.limiting.sqlite import SqliteLimiter

ROOT = Path(__file__).parents[2]
_RECORD = Struct("=qddi?")
_TIME = Struct(">d")


class Take(NamedTuple):
    """One take.

    Attributes:
        at: When it was decided, in microseconds of the limiter's own time: of the file's, or of the server's.
        before, after: Around it, in seconds of the clock that all processes of a machine share.
        cost: What it asked for.
        admitted: Whether it was let in.
    """

    at: int
    before: float
    after: float
    cost: int
    admitted: bool


class _Recorded(SystemClock):
    """The clock, which remembers what it said last. The limiter in a file asks it within its transaction."""

    said = 0.0

    def monotonic(self) -> float:
        self.said = super().monotonic()
        return self.said


class _OnFile(SqliteLimiter):
    """Tells when its last take was decided."""

    def __init__(self, path: Path) -> None:
        self._recorded = _Recorded()
        super().__init__(path, self._recorded)

    @property
    def decided_at(self) -> int:
        return round(self._recorded.said * 1_000_000)


class _OnServer(RedisLimiter):
    """Tells when its last take was decided."""

    decided_at = 0

    def _run(self, arguments: tuple[bytes, ...]) -> bytes:
        answer = super()._run(arguments)
        self.decided_at = int(_TIME.unpack_from(answer)[0])
        return answer


def open_limiter(url: str) -> _OnFile | _OnServer:
    """Open a limiter: at a URL of Valkey, or else in a file."""
    return _OnServer(url) if "://" in url else _OnFile(Path(url))


@dataclass
class Taker:
    """A process that takes, and the file it writes into."""

    process: subprocess.Popen[str]
    log: Path

    def takes(self) -> list[Take]:
        """Return what it wrote down; a record that it was killed in is left out."""
        written = self.log.read_bytes()
        whole = len(written) - len(written) % _RECORD.size
        return [Take(*fields) for fields in _RECORD.iter_unpack(written[:whole])]


def start(what: str, url: str, claims: Sequence[Claim], log: Path, **options: float) -> Taker:
    """Start one; it says `ready` and goes on at a line of input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.taking", what, url, json.dumps(claims), str(log), json.dumps(options)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Taker(process, log)


def go(takers: Sequence[Taker], at: float = 0.0) -> None:
    """Let all go on at once.

    Args:
        takers: Who.
        at: Where they count from; by the clock they share.
    """
    for taker in takers:
        assert taker.process.stdout is not None
        assert taker.process.stdout.readline() == "ready\n"
    for taker in takers:
        assert taker.process.stdin is not None
        taker.process.stdin.write(f"{at or time.monotonic() + 0.2}\n")
        taker.process.stdin.flush()


def join(takers: Sequence[Taker]) -> list[Take]:
    """Wait until all have ended well, and return all takes in the order in which they were decided."""
    for taker in takers:
        taker.process.communicate(timeout=90)
        assert taker.process.returncode == 0
    return sorted(take for taker in takers for take in taker.takes())


# In the process


def _wait_for_start() -> float:
    print("ready", flush=True)
    return float(sys.stdin.readline())


def _take(limiter: _OnFile | _OnServer, claims: Sequence[Claim], cost: int, log: int) -> None:
    before = time.monotonic()
    taken = limiter.take(claims, cost=cost)
    after = time.monotonic()
    os.write(log, _RECORD.pack(limiter.decided_at, before, after, cost, not taken.violated))


def press(limiter: _OnFile | _OnServer, claims: Sequence[Claim], log: int, *, seconds: float, most: int = 1) -> None:
    """Take without a pause for so many seconds, at costs from 1 to `most`."""
    draw = random.Random(os.getpid())
    limiter.take([], cost=0)
    start = _wait_for_start()
    _until(start)
    while time.monotonic() < start + seconds:
        _take(limiter, claims, draw.randint(1, most), log)


def rounds(
    limiter: _OnFile | _OnServer, claims: Sequence[Claim], log: int, *, count: int, every: float, calls: int
) -> None:
    """In each of some rounds, which all processes begin at the same moment, call a few times for a key of its own."""
    limiter.take([], cost=0)
    start = _wait_for_start()
    for number in range(count):
        own = [claim._replace(subject=claim.subject.format(number)) for claim in claims]
        _until(start + number * every)
        for _ in range(calls):
            _take(limiter, own, 1, log)


def _until(moment: float) -> None:
    while time.monotonic() < moment:
        time.sleep(max(0.0, min(0.001, moment - time.monotonic() - 0.0005)))


def memory_of_idle_keys(keys: int) -> Iterator[int]:
    """Yield the bytes of this process: before, with so many keys in use, and after all were idle."""
    from keydesk.limiting.memory import MemoryLimiter
    from keydesk.testing import ManualClock

    clock = ManualClock()
    limiter = MemoryLimiter(clock)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def take(number: int) -> None:
        limiter.take([Claim("100/minute", f"{{key_{number:028x}}}key_{number:028x}", 100, 60)])

    take(0)
    yield resident()
    for number in range(keys):
        take(number)
    yield resident()
    for _ in range(3):
        clock.advance(70)
        take(0)
    for _ in range(keys // 64 + 1):  # requests of others, each of which lets go of some
        take(0)
    yield resident()


def main(what: str, url: str, claims: str, log: str, options: str) -> None:
    """Do what is asked for."""
    limiter = open_limiter(url)
    given = json.loads(options)
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    {"press": press, "rounds": rounds}[what](limiter, [Claim(*each) for each in json.loads(claims)], opened, **given)
    limiter.close()


if __name__ == "__main__":
    if sys.argv[1] == "idle":
        print(json.dumps(list(memory_of_idle_keys(int(sys.argv[2])))))
    else:
        main(*sys.argv[1:])
