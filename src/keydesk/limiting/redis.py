"""Room limiting: counters in a server of Valkey or Redis, or in a cluster of them, shared by all processes.

A take is one command: a script that runs in the server, where nothing comes in between (`take.lua`). It is sent once.
Where its answer is lost nobody knows whether it was run, and running it twice would take twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from math import ceil
from struct import Struct
from typing import Any

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ..claims import Claim, Pool, Taken
from ..clock import Clock, SystemClock
from ..decision import Check
from ..errors import LimiterUnavailable
from .nodes import ANSWER_SECONDS, Cluster, Node, Servers, Single, parse_url
from .window import seconds_until

# No further command is sent for a take after this. So one server that does not answer is given up on after
# ANSWER_SECONDS; a cluster after three times that, where it is asked first who has the key; and where a new connection
# is needed and everything is answered at the last moment, after about 2.5 seconds.
TAKE_SECONDS = 4 * ANSWER_SECONDS
_MOST_COMMANDS = 6  # of one take: the script, in full where it is not known, at up to three servers of a cluster

_SCRIPT = resources.files(__package__).joinpath("take.lua").read_bytes()
_SHA = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()

_NEVER = 255  # steps: the cost is more than the limit
_GRACE_MILLISECONDS = 60_000  # with a clock of the tests, which stands while the server's goes on
_PROBE = Claim("probe", "{keydesk}probe", 1, 1)
_EVICTING = ("allkeys-", "volatile-")
_FORBIDDEN_IN_SCRIPT = ("ACL failure", "user executing the script")  # of Valkey and Redis 7.2; of Redis 7.0
_FILES = "Look at the files of certificates that the options behind the ? in KEYDESK_LIMITER name."
_ADVICE_ON_TLS = {  # by what its error says
    "certificate is not valid for": "Let KEYDESK_LIMITER name the host as its certificate does.",
    "certificate has expired": "Give the server a new certificate, or set the clock of this machine.",
    "certificate verify failed": "Let ssl_ca_certs in KEYDESK_LIMITER name the file of the authority that it is from.",
    "No such file": _FILES,
    "Permission denied": _FILES,
    "NO_CERTIFICATE_OR_CRL_FOUND": _FILES,
}


class RedisLimiter:
    """Limits and credits of all processes that use one server, or one cluster; see `keydesk.ports.Limiter`.

    Args:
        url: `redis://`, `rediss://`, `valkey://` or `valkeys://` with user, password, host, port and database; or
            `redis+cluster://` or `rediss+cluster://` with any server of a cluster. Nothing is connected to yet.
        clock: For tests: durations are asked of it, instead of the server.

    Raises:
        SettingsError: The URL cannot be used.
    """

    shared = True

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._address = parse_url(url)
        self._servers: Servers = Cluster(self._address) if self._address.cluster else Single(self._address)
        self._clock = clock
        self._monotonic = SystemClock().monotonic  # for our own waits, which are of this world in tests too

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), *, cost: int = 1, test: bool = False) -> Taken:
        """See `Limiter.take`.

        Raises:
            LimiterUnavailable: See there.
        """
        if not claims and not pools:
            return Taken()
        try:
            answer = self._run(self._arguments(claims, pools, cost, test))
        except (RedisError, OSError) as error:
            problem, advice = self._what_is_wrong(error)
            raise LimiterUnavailable(f"{problem}. {advice}") from None
        return _taken(claims, pools, answer)

    def _arguments(self, claims: Sequence[Claim], pools: Sequence[Pool], cost: int, test: bool) -> tuple[bytes, ...]:
        """Return the keys of the script and, last, its argument; see there."""
        # What stands before the subject has no brace: the first in a key is the subject's, which tells a cluster where
        # it belongs. A number or a word, and then a colon: no two of these are the same key.
        keys = [f"keydesk:{claim.window_seconds}:{claim.subject}".encode("utf-8", "surrogatepass") for claim in claims]
        numbers: list[float] = [-1, cost, test, len(claims), 0]
        if self._clock is not None:
            numbers[0], numbers[-1] = round(self._clock.monotonic() * 1_000_000), _GRACE_MILLISECONDS
        for _, _, most, seconds in claims:
            numbers += (most, seconds)
        for _, subject, seconds, deposit in pools:
            keys.append(f"keydesk:credits:{seconds}:{subject}".encode("utf-8", "surrogatepass"))
            numbers += (seconds, deposit)
        return *keys, _shapes(len(claims), len(pools))[0].pack(*numbers)

    def _run(self, arguments: tuple[bytes, ...]) -> bytes:
        """Have the script run once, wherever its keys are."""
        key, number = arguments[0], b"%d" % (len(arguments) - 1)
        end = self._monotonic() + TAKE_SECONDS
        node = self._servers.of_key(key)
        command, asking = (b"EVALSHA", _SHA, number, *arguments), False
        for _ in range(_MOST_COMMANDS):
            try:
                answer: bytes = node.ask(command, asking=asking)
            except NoScriptError as error:  # not run: the server was started anew, or never heard of it
                problem: ResponseError = error
                command = (b"EVAL", _SCRIPT, number, *arguments)
            except MovedError as error:  # not run; also an AskError
                problem, asking = error, False
                node = self._servers.moved(key, (error.host or node.place[0], error.port))
            except AskError as error:  # not run
                problem, asking = error, True
                node = self._servers.at((error.host or node.place[0], error.port))
            except (RedisError, OSError) as error:
                if not isinstance(error, ResponseError) or isinstance(error, ReadOnlyError | ClusterDownError):
                    self._servers.failed(node)
                raise
            else:
                return answer
            if self._monotonic() > end:
                break
        raise problem

    def _what_is_wrong(self, error: BaseException) -> tuple[str, str]:
        """Return in one line what went wrong and where, without any password, and what to do."""
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        password = self._address.options.get("password")
        if password:  # no server repeats it; should one, nobody reads it here
            first_line = first_line.replace(password, "…")
        problem = f"the limiter {self._address} does not answer: {first_line}"
        if isinstance(error, AuthenticationError):
            return problem, "Look at the user and the password in KEYDESK_LIMITER."
        if isinstance(error, NoPermissionError) or any(said in first_line for said in _FORBIDDEN_IN_SCRIPT):
            return problem, "Allow its user EVALSHA, EVAL, TIME, MGET, SET, DEL and INFO, and the keys keydesk:*."
        if isinstance(error, OutOfMemoryError):
            return problem, "Give the server more memory."
        if isinstance(error, ReadOnlyError):
            return problem, "It is a replica now; let KEYDESK_LIMITER name the primary."
        if isinstance(error, AskError) and not self._address.cluster:
            return problem, "It is one of a cluster; begin KEYDESK_LIMITER with redis+cluster:// or rediss+cluster://."
        if "cluster support disabled" in first_line:
            return problem, "It is no cluster; begin KEYDESK_LIMITER with redis:// or rediss://."
        if self._address.tls:
            for said, advice in _ADVICE_ON_TLS.items():
                if said in first_line:
                    return problem, advice
            return problem, "See that it runs, can be reached from here and speaks TLS; `keydesk doctor` looks again."
        return problem, "See that it runs and can be reached from here; `keydesk doctor` looks again."

    def checks(self) -> list[Check]:
        """See `Limiter.checks`."""
        try:
            self._run(self._arguments([_PROBE], [], 0, True))
            found = [(node, _information(node)) for node in self._servers.all()]
        except (RedisError, OSError) as error:
            return [Check("limiter", False, *self._what_is_wrong(error))]
        for node, facts in found:
            policy = facts.get("maxmemory_policy", "")
            if policy.startswith(_EVICTING):
                return [
                    Check(
                        "limiter",
                        None,
                        f"{_named(facts)} at {self._address}: the server {node.place[0]}:{node.place[1]} may drop "
                        f"counters when its memory is full (maxmemory-policy {policy}), and then admits too much",
                        "Set its maxmemory-policy to noeviction.",
                    )
                ]
        servers = f", {len(found)} servers" if self._address.cluster else ""
        return [Check("limiter", True, f"{_named(found[0][1])} at {self._address}{servers}")]

    def close(self) -> None:
        """See `Limiter.close`."""
        self._servers.close()


def _information(node: Node) -> dict[str, str]:
    """Return what a server says of itself; with INFO, which a server lets see that forbids CONFIG."""
    answer: Any = node.ask((b"INFO",))
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _named(facts: dict[str, str]) -> str:
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return f"Redis {facts.get('redis_version', 'of an unknown version')}"


@cache
def _shapes(claims: int, pools: int) -> tuple[Struct, Struct]:
    """Return how the argument of the script is packed, and how its answer."""
    return Struct(">dIBII" + "II" * claims + "Id" * pools), Struct(">d" + "IBB" * claims + "dB" * pools)


def _taken(claims: Sequence[Claim], pools: Sequence[Pool], answer: bytes) -> Taken:
    """Return what the script says, in the words of `settle`."""
    numbers = _shapes(len(claims), len(pools))[1].unpack(answer)
    now = int(numbers[0])
    left: list[int] = []
    violated = []
    wait: float | None = 0.0
    for claim, used, reset, steps in zip(claims, numbers[1::3], numbers[2::3], numbers[3::3], strict=False):
        policy, _, most, seconds = claim
        if steps:
            violated.append(policy)
            if steps == _NEVER:
                wait = None
            elif wait is not None:
                wait = max(wait, seconds_until(steps, seconds, now))
        left += (max(0, most - used), ceil(seconds_until(reset, seconds, now)) if reset else seconds)
    if not pools:
        return Taken(claims, tuple(left), tuple(violated), wait)
    rest = 1 + 3 * len(claims)
    violated += [pool.policy for pool, lacking in zip(pools, numbers[rest + 1 :: 2], strict=True) if lacking]
    return Taken(claims, tuple(left), tuple(violated), wait, tuple([int(held) for held in numbers[rest::2]]))
