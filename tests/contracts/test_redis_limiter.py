"""The limiter over Valkey and Redis: what it costs, where it keeps things, and what becomes of it when servers fail."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import pytest
from redis.exceptions import ResponseError

from keydesk.claims import Claim, Pool
from keydesk.errors import LimiterUnavailable, SettingsError
from keydesk.limiting.memory import MemoryLimiter
from keydesk.limiting.nodes import ANSWER_SECONDS
from keydesk.limiting.redis import TAKE_SECONDS, RedisLimiter
from keydesk.testing import ManualClock

from ..servers import PASSWORD, Server, Valkey, ValkeyCluster, wait_until

MINUTE = Claim("10/minute", "{k}key", 10, 60)
HOUR = Claim("1000/hour", "{k}owner", 1000, 3600)
OwnServer = Callable[[str], Server]


def credits_of(deposit: int = 0) -> Pool:
    """Return the pool of the tests, with a deposit."""
    return Pool("1000/month", "{k}quota", 3600, deposit)


@pytest.fixture
def limiters() -> Iterator[Callable[..., RedisLimiter]]:
    """Make limiters, and close them."""
    made: list[RedisLimiter] = []

    def make(url: str, clock: Any = None) -> RedisLimiter:
        made.append(RedisLimiter(url, clock))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


@pytest.fixture
def limiter(valkey: Valkey, limiters: Callable[..., RedisLimiter]) -> RedisLimiter:
    """A limiter by the server's own time, with nothing taken."""
    return limiters(valkey.url())


class HandClock(ManualClock):
    """A clock that can be set back."""

    def set(self, seconds: float) -> None:
        """Show so many seconds."""
        self._monotonic = seconds


# What it costs


def calls(server: Valkey) -> dict[str, int]:
    """Return how often each command was run, without those of whoever asks."""
    asking = {"info", "hello", "client|setinfo", "config|resetstat"}
    return {
        name.removeprefix("cmdstat_"): facts["calls"]
        for name, facts in server.ask("INFO", "commandstats").items()
        if name.removeprefix("cmdstat_") not in asking
    }


def test_take_is_one_command_however_many_claims(valkey: Valkey, limiter: RedisLimiter) -> None:
    claims = [Claim("x", f"{{k}}{number}", 1000, 60) for number in range(5)]
    limiter.take(claims)
    valkey.ask("CONFIG", "RESETSTAT")
    for _ in range(20):
        assert not limiter.take(claims).violated
    # Those after the first are of the script. None is for a new connection.
    assert calls(valkey) == {"evalsha": 20, "mget": 20, "time": 20, "set": 100}


def test_take_with_pools_is_one_command(valkey: Valkey, limiter: RedisLimiter) -> None:
    limiter.take([MINUTE], [credits_of(100)])
    valkey.ask("CONFIG", "RESETSTAT")
    for _ in range(5):
        limiter.take([MINUTE], [credits_of(), Pool("y", "{k}other", 60, 3)])
    assert calls(valkey)["evalsha"] == 5
    assert set(calls(valkey)) == {"evalsha", "mget", "time", "set"}  # and INFO, which the tests send too


def test_nothing_is_asked_where_there_is_nothing_to_take(limiters: Callable[..., RedisLimiter]) -> None:
    assert limiters("redis://127.0.0.1:1").take([]).violated == ()


def test_counter_is_small_and_goes_when_it_is_idle(valkey: Valkey, limiter: RedisLimiter) -> None:
    limiter.take([MINUTE, HOUR, Claim("x", "{k}key", 2**32 - 1, 366 * 86_400)], [credits_of(10**12)], cost=5)
    assert len(valkey.ask("KEYS", "*")) == 4
    for key, seconds in (("60:{k}key", 60), ("3600:{k}owner", 3600), (f"{366 * 86_400}:{{k}}key", 366 * 86_400)):
        assert valkey.ask("STRLEN", f"keydesk:{key}") == 144
        assert valkey.ask("MEMORY", "USAGE", f"keydesk:{key}") <= 256
        assert seconds * 1000 < valkey.ask("PTTL", f"keydesk:{key}") <= seconds * 1000 * 33 / 32 + 1
    assert 3_590_000 < valkey.ask("PTTL", "keydesk:credits:3600:{k}quota") <= 3_600_000
    assert valkey.ask("MEMORY", "USAGE", "keydesk:credits:3600:{k}quota") <= 256


def test_what_takes_nothing_makes_no_key(valkey: Valkey, limiter: RedisLimiter) -> None:
    limiter.take([MINUTE], [], test=True)
    limiter.take([MINUTE], [], cost=0)
    limiter.take([MINUTE, HOUR], [], cost=11)
    limiter.take([MINUTE], [credits_of()])
    assert valkey.ask("KEYS", "*") == []


def test_pool_that_is_spent_leaves_no_key(valkey: Valkey, limiter: RedisLimiter) -> None:
    limiter.take([], [credits_of(2)])
    assert valkey.ask("EXISTS", "keydesk:credits:3600:{k}quota") == 1
    assert limiter.take([], [credits_of()]).held == (0,)
    assert valkey.ask("KEYS", "*") == []


def test_key_of_something_else_is_no_counter(valkey: Valkey, limiter: RedisLimiter) -> None:
    valkey.ask("SET", "keydesk:60:{k}key", "something")
    valkey.ask("LPUSH", "keydesk:3600:{k}owner", "something")
    assert [each.remaining for each in limiter.take([MINUTE, HOUR]).standings] == [9, 999]


# Time


def test_time_is_the_server_s(valkey: Valkey, limiter: RedisLimiter) -> None:
    import redis

    def now() -> int:
        seconds, micros = valkey.ask("TIME")
        return int(seconds) * 1_000_000 + int(micros)

    second = Claim("x", "{k}key", 5, 1)
    before = now()
    (standing,) = limiter.take([second]).standings
    after = now()
    with redis.Redis(port=valkey.port, password=PASSWORD) as client:
        step, taken = struct.unpack_from(">QI", client.getrange("keydesk:1:{k}key", 0, 11))
    assert before // 31_250 <= step <= after // 31_250
    assert step > 2**32  # more than four bytes hold
    assert taken == 1
    assert 1 <= standing.reset_seconds <= ceil(1 + 1 / 32)


@pytest.mark.parametrize("seed", range(4))
def test_decides_as_the_memory_does_also_where_the_clock_is_set_back(
    valkey: Valkey, limiters: Callable[..., RedisLimiter], seed: int
) -> None:
    draw, clock = random.Random(seed), HandClock()
    clock.set(1e6)
    both = [MemoryLimiter(clock), limiters(valkey.url(), clock)]
    claims = [Claim("short", "{k}key", 7, 10), Claim("long", "{k}key", 30, 60), Claim("other", "{k}ö", 2**32 - 1, 1)]
    for _ in range(300):
        pool = Pool("month", "{k}quota", 366 * 86_400, draw.choice([0, 0, 0, 5]))
        cost, test = draw.choice([0, 1, 1, 2, 3, 8, 40]), draw.random() < 0.2
        memory, redis = [limiter.take(claims, [pool], cost=cost, test=test) for limiter in both]
        assert redis == memory
        seconds = draw.choice([0, 0, 0.000001, 0.1, 0.5, 2, 9, 70])
        if draw.random() < 0.1 and cost and not memory.violated and not test:
            # A counter that nothing was taken from was brought to now by the memory, and left alone by the server.
            seconds = -draw.choice([0.3, 5, 30, 100_000])
        clock.set(clock.monotonic() + seconds)


def test_clock_set_back_lets_a_full_limit_go_after_a_window(
    valkey: Valkey, limiters: Callable[..., RedisLimiter]
) -> None:
    """As on a server that takes over with another time: what was taken counts as of now, and not until the old time."""
    clock = HandClock()
    clock.set(100_000)
    limiter = limiters(valkey.url(), clock)
    limiter.take([MINUTE], cost=10)
    clock.set(5_000)
    assert limiter.take([MINUTE]).violated
    clock.advance(59)
    assert limiter.take([MINUTE]).violated
    clock.advance(3)
    assert not limiter.take([MINUTE]).violated


# Failures


def test_script_that_the_server_forgot_is_sent_again(valkey: Valkey, limiter: RedisLimiter) -> None:
    assert limiter.take([MINUTE]).standings[0].remaining == 9
    valkey.ask("SCRIPT", "FLUSH")
    assert limiter.take([MINUTE]).standings[0].remaining == 8


def test_connection_that_was_closed_meanwhile_is_replaced(valkey: Valkey, limiter: RedisLimiter) -> None:
    limiter.take([MINUTE])
    valkey.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert limiter.take([MINUTE]).standings[0].remaining == 8


def test_killed_server(own_server: OwnServer, limiters: Callable[..., RedisLimiter]) -> None:
    server = own_server("valkey")
    limiter = limiters(server.url("0"))
    limiter.take([MINUTE])
    server.stop(signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(LimiterUnavailable, match=rf"redis://127\.0\.0\.1:{server.port}/0 does not answer: .*refused"):
        limiter.take([MINUTE])
    assert time.monotonic() - begun < TAKE_SECONDS
    server.start()
    assert limiter.take([MINUTE]).standings[0].remaining == 9


def test_halted_server_is_waited_for_once_and_the_take_is_not_repeated(
    own_server: OwnServer, limiters: Callable[..., RedisLimiter], figures: Callable[[str, float], None]
) -> None:
    server = own_server("valkey")
    limiter = limiters(server.url("0"))
    limiter.take([MINUTE])
    server.halt()
    try:
        for _ in range(2):  # on a connection there was, and on a new one
            begun = time.monotonic()
            with pytest.raises(LimiterUnavailable, match="Timeout"):
                limiter.take([MINUTE])
            waited = time.monotonic() - begun
            figures("a take from a halted server of Valkey", waited)
            assert waited < ANSWER_SECONDS + 0.75  # the rest is for a machine that has other things to do
    finally:
        server.go_on()
    # What was sent before is run now, once; the second never got as far.
    assert limiter.take([MINUTE]).standings[0].remaining in (7, 8)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_server_that_starts_from_an_older_snapshot_grants_no_credits_again(
    own_server: OwnServer, limiters: Callable[..., RedisLimiter], how: signal.Signals
) -> None:
    server = own_server("valkey")
    assert isinstance(server, Valkey)
    limiter = limiters(server.url())
    limiter.take([MINUTE], [credits_of(10)], cost=0)
    server.ask("SAVE")
    assert limiter.take([MINUTE], [credits_of()], cost=9).held == (1,)
    server.stop(how)
    server.start()
    assert server.ask("EXISTS", "keydesk:credits:3600:{k}quota") == 1  # it did come back
    taken = limiter.take([], [credits_of()])
    assert (taken.violated, taken.held) == (("1000/month",), (0,))
    assert limiter.take([], [credits_of(3)]).held == (2,)


def test_server_that_takes_over_grants_no_credits_again(
    own_server: OwnServer, limiters: Callable[..., RedisLimiter]
) -> None:
    """Also where the first is made the primary again later, without a new start: its own old value came back to it."""
    first, second = own_server("valkey"), own_server("valkey")
    assert isinstance(first, Valkey)
    assert isinstance(second, Valkey)
    for server in (first, second):
        server.ask("CONFIG", "SET", "masterauth", PASSWORD, "repl-diskless-sync-delay", "0")
    of_first, of_second = limiters(first.url()), limiters(second.url())

    def follow(replica: Valkey, primary: Valkey) -> None:
        replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        wait_until(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up")

    follow(second, first)
    of_first.take([], [credits_of(10)], cost=0)
    assert first.ask("WAIT", 1, 5000) == 1
    second.ask("REPLICAOF", "NO", "ONE")
    assert of_first.take([], [credits_of()], cost=9).held == (1,)  # spent where nobody hears of it any more
    follow(first, second)
    with pytest.raises(LimiterUnavailable, match="let KEYDESK_LIMITER name the primary"):
        of_first.take([MINUTE])
    first.ask("REPLICAOF", "NO", "ONE")
    for server, limiter in ((first, of_first), (second, of_second)):
        assert server.ask("EXISTS", "keydesk:credits:3600:{k}quota") == 1
        assert limiter.take([], [credits_of()]).held == (0,)


def test_server_without_memory_takes_nothing(own_server: OwnServer, limiters: Callable[..., RedisLimiter]) -> None:
    server = own_server("valkey")
    assert isinstance(server, Valkey)
    limiter = limiters(server.url())
    limiter.take([MINUTE])
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(LimiterUnavailable, match="Give the server more memory"):
        limiter.take([MINUTE, HOUR], [credits_of(3)])
    server.ask("CONFIG", "SET", "maxmemory", "0")
    assert server.ask("KEYS", "*") == ["keydesk:60:{k}key"]
    assert limiter.take([MINUTE]).standings[0].remaining == 8


# Processes and greenlets


def connection_of(limiter: RedisLimiter) -> int:
    """Return the server's number of the connection that the limiter uses."""
    return int(limiter._servers.of_key(b"").ask((b"CLIENT", b"ID")))


@pytest.mark.parametrize("kind", ["valkey", "valkey_cluster"])
def test_forked_process_connects_anew(
    kind: str, request: pytest.FixtureRequest, limiters: Callable[..., RedisLimiter]
) -> None:
    limiter = limiters(request.getfixturevalue(kind).url())
    limiter.take([MINUTE])
    ours = connection_of(limiter)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = f"{connection_of(limiter)} {limiter.take([MINUTE]).standings[0].remaining}"
        except BaseException as error:
            said = repr(error)
        os.write(write, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    number, remaining = os.read(read, 1000).decode().split()
    os.close(read)
    os.close(write)
    assert (int(number) != ours, remaining) == (True, "8")
    assert connection_of(limiter) == ours
    assert limiter.take([MINUTE]).standings[0].remaining == 7


def test_greenlets(valkey: Valkey) -> None:
    """Many at once; and one that is ended while it waits leaves its answer to nobody else."""
    program = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, sys
        from keydesk.claims import Claim
        from keydesk.limiting.redis import RedisLimiter

        limiter = RedisLimiter(sys.argv[1])
        claim, other = Claim("30/minute", "{k}key", 30, 60), Claim("1/minute", "{k}other", 1, 60)
        jobs = [gevent.spawn(limiter.take, [claim]) for _ in range(50)]
        gevent.joinall(jobs, raise_error=True)
        print(sum(not job.value.violated for job in jobs))

        pause = RedisLimiter(sys.argv[1])
        pause._servers.of_key(b"").ask((b"CLIENT", b"PAUSE", b"100", b"ALL"))
        with gevent.Timeout(0.02, False):
            limiter.take([other])
            print("was not ended")
        print(limiter.take([claim], test=True).standings[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), valkey.url()], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    admitted, standing = done.stdout.splitlines()
    assert admitted == "30"
    assert "remaining=0," in standing


# A cluster


def move_slot(cluster: ValkeyCluster, key: str, between: Callable[[str], None] = lambda _: None) -> None:
    """Move the slot of a key to the next server, key by key, and say how far it is."""
    slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", key)
    ids = [node.ask("CLUSTER", "MYID") for node in cluster.nodes]
    owner = next(
        number
        for number, node in enumerate(cluster.nodes)
        if any(int(first) <= slot <= int(last) for first, last in _slots_of(node))
    )
    source, target = cluster.nodes[owner], cluster.nodes[(owner + 1) % 3]
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[(owner + 1) % 3])
    between("begun")
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.ask("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000, "AUTH", PASSWORD)
        between("moved one" if source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) else "moved all")
    for node in (target, source, *cluster.nodes):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[(owner + 1) % 3])
    between("ended")


def _slots_of(node: Valkey) -> list[list[str]]:
    import redis

    with redis.Redis(port=node.port, password=PASSWORD) as client:
        lines = client.connection_pool.get_connection()
        lines.send_command("CLUSTER", "NODES")
        text = lines.read_response().decode()
        lines.disconnect()
    (mine,) = [line for line in text.splitlines() if "myself" in line]
    return [(part.split("-") * 2)[:2] for part in mine.split()[8:] if not part.startswith("[")]


def test_cluster_slot_that_moves_is_counted_on(
    valkey_cluster: ValkeyCluster, limiters: Callable[..., RedisLimiter]
) -> None:
    limiter = limiters(valkey_cluster.url())
    remaining: dict[str, int | str] = {}

    def take(when: str) -> None:
        try:
            remaining[when] = limiter.take([MINUTE, HOUR]).standings[0].remaining
        except LimiterUnavailable as error:
            remaining[when] = str(error)

    take("before")
    move_slot(valkey_cluster, "{k}", take)
    # While its two keys are at two servers nobody can take from both.
    assert "Multiple keys request during rehashing of slot" in str(remaining.pop("moved one"))
    assert remaining == {"before": 9, "begun": 8, "moved all": 7, "ended": 6}
    move_slot(valkey_cluster, "{k}", lambda _: None)
    assert limiter.take([MINUTE, HOUR]).standings[0].remaining == 5


def test_cluster_slot_that_moves_under_load_never_admits_too_much(
    valkey_cluster: ValkeyCluster, limiters: Callable[..., RedisLimiter]
) -> None:
    limiter, claim = limiters(valkey_cluster.url()), Claim("400/hour", "{k}key", 400, 3600)
    admitted, wrong, ended = [0, 0], [], threading.Event()

    def press(number: int) -> None:
        while not ended.is_set():
            try:
                admitted[number] += not limiter.take([claim, HOUR]).violated
            except LimiterUnavailable:
                pass
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=press, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        before = sum(admitted)
        wait_until(lambda before=before: sum(admitted) > before or sum(admitted) >= 350)  # type: ignore[misc]
        move_slot(valkey_cluster, "{k}")
    ended.set()
    for thread in threads:
        thread.join()
    while not limiter.take([claim, HOUR]).violated:
        admitted[0] += 1
    assert wrong == []
    assert sum(admitted) == 400  # no answer was lost here: each error was of a take that was refused as a whole


def test_cluster_that_loses_a_server_and_gets_it_back(
    own_server: OwnServer, limiters: Callable[..., RedisLimiter], figures: Callable[[str, float], None]
) -> None:
    cluster = own_server("valkey-cluster")
    assert isinstance(cluster, ValkeyCluster)
    limiter = limiters(cluster.url())
    tags = [f"{{{number}}}" for number in range(12)]  # some on each server
    claims = [Claim("10/minute", tag, 10, 60) for tag in tags]
    for claim in claims:
        limiter.take([claim])
    lost = cluster.nodes[0]
    lost.halt()
    outcomes = []
    try:
        for claim in claims:
            begun = time.monotonic()
            try:
                limiter.take([claim])
                outcomes.append("taken")
            except LimiterUnavailable:
                outcomes.append("unavailable")
            figures("a take from a cluster with a halted server", time.monotonic() - begun)
            assert time.monotonic() - begun < 3 * ANSWER_SECONDS + 0.75
    finally:
        lost.go_on()
    assert set(outcomes) == {"taken", "unavailable"}
    wait_until(cluster._agree)
    assert all(limiter.take([claim]).standings[0].remaining <= 8 for claim in claims)


# URLs and messages


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "memcached://:hush-hush@h",
        "redis://",
        "redis://:hush-hush@",
        "redis://:hush-hush@h:port",
        "redis://:hush-hush@h:99999",
        "redis://:hush-hush@[::1",
        "redis://:hush/hush-hush@h",
        "redis://u:123/hush-hush@h",
        "redis://:hu#hush-hush@h",
        "redis://:hu?hush-hush@h",
        "redis://:hu?hush-hush=1@h",
        "redis://hush-hush@h",
        "redis://:hush-hush@h/one",
        "redis://:hush-hush@h/٣",
        "redis://:hush-hush@h/0?socket_timeout=60",
        "redis://:hush-hush@h/0?ssl_ca_certs=x",
        "rediss://:hush-hush@h/0?ssl_cert_reqs=hush-hush",
        "redis+cluster://:hush-hush@h/1",
        f"redis://:hush-hush@{'h' * 70}.example",
    ],
)
def test_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        RedisLimiter(url)
    (problem,) = caught.value.problems
    assert problem.startswith("KEYDESK_LIMITER ")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "valkey", "rediss", "valkeys", "redis+cluster", "rediss+cluster"])
def test_url_of_each_scheme_connects_to_nothing_yet(scheme: str) -> None:
    options = "?ssl_ca_certs=/nowhere" if scheme.startswith(("rediss", "valkeys")) else ""
    limiter = RedisLimiter(f"{scheme}://user:hu%2Fsh@[::1]:1/0{options}")
    with pytest.raises(LimiterUnavailable) as caught:
        limiter.take([MINUTE])
    assert f"the limiter {scheme}://[::1]:1" in str(caught.value)
    assert "hu/sh" not in str(caught.value)
    assert "\n" not in str(caught.value)
    limiter.close()


def test_wrong_password_is_not_shown(valkey: Valkey, limiters: Callable[..., RedisLimiter]) -> None:
    limiter = limiters(valkey.url().replace(PASSWORD, "hush-hush"))
    with pytest.raises(LimiterUnavailable, match="Look at the user and the password in KEYDESK_LIMITER") as caught:
        limiter.take([MINUTE])
    assert "hush" not in str(caught.value)
    (check,) = limiter.checks()
    assert (check.passed, "hush" in check.found) == (False, False)


def test_database_and_user_of_the_url_are_used(valkey: Valkey, limiters: Callable[..., RedisLimiter]) -> None:
    rules = ["+evalsha", "+eval", "+time", "+mget", "+set", "+del", "+select", "+client|setinfo", "~keydesk:*"]
    valkey.ask("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "resetchannels", *rules)
    limiter = limiters(f"valkey://app:{PASSWORD}@127.0.0.1:{valkey.port}/3")
    limiter.take([MINUTE])
    assert "db3" in valkey.ask("INFO", "keyspace")
    with pytest.raises(LimiterUnavailable, match="Allow its user"):
        limiter.take([MINUTE], [credits_of(5)])  # which need INFO
    (check,) = limiter.checks()
    assert (check.passed, "INFO" in check.fix) == (False, True)
    valkey.ask("ACL", "DELUSER", "app")


@pytest.mark.parametrize(
    "said",
    [
        "ACL failure in script: User app has no permissions to run the 'info' command script: 2b, on @user_script:73.",
        "The user executing the script can't run this command or subcommand script: 2b, on @user_script:73.",
    ],
    ids=["Valkey 9.1", "Redis 7.0"],
)
def test_user_who_may_not_do_what_the_script_does(
    limiter: RedisLimiter, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """Servers say it in different words."""

    def refuse(*_: object) -> None:
        raise ResponseError(said)

    monkeypatch.setattr(limiter, "_run", refuse)
    with pytest.raises(LimiterUnavailable, match="Allow its user"):
        limiter.take([MINUTE])


@pytest.mark.parametrize("kind", ["valkey", "valkey-cluster"])
def test_url_of_the_wrong_kind_says_which_to_write(
    kind: str, request: pytest.FixtureRequest, limiters: Callable[..., RedisLimiter]
) -> None:
    server = request.getfixturevalue(kind.replace("-", "_"))
    if kind == "valkey":
        url, right = server.url().replace("redis:", "redis+cluster:"), "begin KEYDESK_LIMITER with redis://"
    else:
        port = server.nodes[1].port
        url, right = f"redis://:{PASSWORD}@127.0.0.1:{port}", r"begin KEYDESK_LIMITER with redis\+cluster://"
    limiter = limiters(url)
    claims = [[Claim("x", f"{{{number}}}", 10, 60)] for number in range(50)]  # one server of a cluster has a third
    with pytest.raises(LimiterUnavailable, match=right):
        deque(map(limiter.take, claims))


# Checks


def test_checks_name_version_and_place(valkey: Valkey, limiter: RedisLimiter) -> None:
    (check,) = limiter.checks()
    assert (check.name, check.passed) == ("limiter", True)
    assert check.found.startswith("Valkey 9.")
    assert check.found.endswith(f" at redis://127.0.0.1:{valkey.port}/0")
    assert valkey.ask("KEYS", "*") == []


def test_checks_of_a_cluster(valkey_cluster: ValkeyCluster, limiters: Callable[..., RedisLimiter]) -> None:
    (check,) = limiters(valkey_cluster.url()).checks()
    assert (check.passed, check.found.endswith(", 3 servers")) == (True, True)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_checks_warn_of_a_server_that_drops_counters(valkey: Valkey, limiter: RedisLimiter, policy: str) -> None:
    valkey.ask("CONFIG", "SET", "maxmemory-policy", policy)
    try:
        (check,) = limiter.checks()
    finally:
        valkey.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert check.passed is None
    assert f"maxmemory-policy {policy}" in check.found
    assert check.fix == "Set its maxmemory-policy to noeviction."


def test_checks_say_what_is_wrong(limiters: Callable[..., RedisLimiter]) -> None:
    (check,) = limiters("redis://127.0.0.1:1").checks()
    assert check.passed is False
    assert "the limiter redis://127.0.0.1:1/0 does not answer" in check.found
    assert check.fix
