"""How anything is measured: in pairs, a few at a time, everything in turn. And how a WSGI application is called."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from werkzeug.test import create_environ

HEADER = "X-API-Key"
CLIENT_ADDRESS = "203.0.113.7"
TURN = 20  # pairs of one subject before it is the next one's turn
WARM_UP = 3  # calls of each side of a pair at the start of a turn that are not counted

Timed = Callable[[], int]
"""Does its thing once and returns how many nanoseconds that took."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a run does.

    Attributes:
        pairs: Measured pairs of each subject.
        keys: Keys in the large database.
        folder: For databases and files; it is removed at the end.
    """

    pairs: int
    keys: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Pair:
    """A subject and what it is compared with."""

    name: str
    baseline: Timed
    subject: Timed


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the pairs of one subject, in microseconds; the ratio has no unit."""

    name: str
    baseline: float
    median: float
    added: float
    ratio: float


def compare(pairs: Sequence[Pair], count: int) -> dict[str, Result]:
    """Measure each pair `count` times and return the results by name.

    The subjects take turns of 20 pairs, and who begins moves on by one each round, so that a slow minute of the
    machine falls on all of them. Within a pair the two sides follow each other at once, every other time the other
    way round.
    """
    times: dict[str, list[tuple[int, int]]] = {pair.name: [] for pair in pairs}
    gc.collect()
    gc.freeze()  # what the set-up made is not looked at again while requests are measured
    for turn in range(-(-count // TURN)):
        first = turn % len(pairs)
        for pair in (*pairs[first:], *pairs[:first]):
            times[pair.name] += _turn(pair, min(TURN, count))
    gc.unfreeze()
    return {pair.name: _result(pair, times[pair.name]) for pair in pairs}


def _turn(pair: Pair, count: int) -> Iterator[tuple[int, int]]:
    for _ in range(WARM_UP):
        pair.baseline()
        pair.subject()
    for number in range(count):
        if number % 2:
            subject = pair.subject()
            yield pair.baseline(), subject
        else:
            baseline = pair.baseline()
            yield baseline, pair.subject()


def _result(pair: Pair, times: list[tuple[int, int]]) -> Result:
    return Result(
        pair.name,
        baseline=median(baseline for baseline, _ in times) / 1000,
        median=median(subject for _, subject in times) / 1000,
        added=median(subject - baseline for baseline, subject in times) / 1000,
        ratio=median(subject / baseline for baseline, subject in times),
    )


def route(app: Any, path: str, *, status: int = 200, secrets: Iterable[str] = ()) -> Timed:
    """Return what times one GET: from handing the application a fresh environ to having its whole body.

    Args:
        app: Any WSGI application.
        path: What to ask for.
        status: What it must answer; anything else ends the run.
        secrets: Sent in the header, one after the other, over and over; none leaves the header out.
    """
    template = create_environ(path, environ_overrides={"REMOTE_ADDR": CLIENT_ADDRESS})
    wanted, answered = str(status), [""]
    headers = [{f"HTTP_{HEADER.upper().replace('-', '_')}": secret} for secret in secrets]
    following = cycle(headers or [{}])

    def start_response(status_line: str, _headers: object, _error: object = None) -> None:
        answered[0] = status_line

    def call() -> int:
        environ = {**template, **next(following), "wsgi.input": BytesIO()}
        began = time.perf_counter_ns()
        body = app(environ, start_response)
        b"".join(body)
        close = getattr(body, "close", None)
        if close is not None:
            close()
        took = time.perf_counter_ns() - began
        if not answered[0].startswith(wanted):
            raise RuntimeError(f"{path} answered {answered[0]} and not {wanted}")
        return took

    return call


def timed(function: Callable[[str], Any], texts: Iterable[str]) -> Timed:
    """Return what times one call of a function, with one text after the other, over and over."""
    following = cycle(texts)

    def call() -> int:
        text = next(following)
        began = time.perf_counter_ns()
        function(text)
        return time.perf_counter_ns() - began

    return call


@contextmanager
def logging_to_nowhere() -> Iterator[None]:
    """Let Keydesk write its refusals as `logging.basicConfig` sets it up, to a file that keeps nothing."""
    logger = logging.getLogger("keydesk")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        logger.addHandler(handler)
        logger.propagate = False
        try:
            yield
        finally:
            logger.propagate = True
            logger.removeHandler(handler)
