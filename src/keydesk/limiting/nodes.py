"""Room limiting: connections to servers of Valkey and Redis, to one or to a cluster, with an end to every wait.

redis-py speaks the protocol here. Its clients and pools are left out: they send a command again where its answer was
lost, which for a limit takes twice; they look at the whole cluster before they give up; and with `evalsha` of a client
a take of two limits lasts 110 to 160 µs on the machine where it lasts 70 to 95 this way. Connections are kept in a
stack for each server. No lock: a deque is safe under threads and greenlets.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, RedisError, ResponseError
from redis.retry import Retry

from ..errors import SettingsError
from ..forks import at_fork

# How long a request waits for a server: to be connected, and then for each answer. A server of this kind answers within
# a millisecond. One that takes a quarter of a second is gone or is overrun, and whoever waits holds a worker.
ANSWER_SECONDS = 0.25
KEPT_CONNECTIONS = 64  # for each server; as many requests at once find one ready

_SLOTS = 16384  # of a cluster
_ASKED_FOR_SLOTS = 2
_PORT = 6379
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"})
_SCHEMES = {  # (with TLS, a cluster)
    "redis": (False, False),
    "valkey": (False, False),
    "rediss": (True, False),
    "valkeys": (True, False),
    "redis+cluster": (False, True),
    "rediss+cluster": (True, True),
}
_EXAMPLE = "write for example redis://:password@localhost:6379/0 or redis+cluster://localhost:6379"

Place: TypeAlias = "tuple[str, int]"  # host and port


@dataclass(frozen=True, slots=True)
class Address:
    """Where a limiter is, as its URL says.

    Attributes:
        scheme, host, port, database: As in the URL.
        tls: Whether connections are encrypted.
        cluster: Whether the server is one of a cluster.
        options: User, password and files of certificates, as redis-py's `Connection` takes them.
    """

    scheme: str
    host: str
    port: int
    database: int
    tls: bool
    cluster: bool
    options: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" + ("" if self.cluster else f"/{self.database}")


class _Unusable(Exception):
    """A URL cannot be used. Says why, after the name of the setting."""


def parse_url(text: str) -> Address:
    """Return what a URL says. No message repeats any of it: where it cannot be read, a password may be anywhere.

    Raises:
        SettingsError: The URL cannot be used.
    """
    try:
        return _read_url(text)
    except _Unusable as problem:
        raise SettingsError([f"KEYDESK_LIMITER {problem}"]) from None


def _read_url(text: str) -> Address:
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
        (host or "").encode("idna")
        options: dict[str, Any] = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
    except ValueError:  # a port that is no number, a bracket that is not closed, a host with too long a name
        raise _Unusable(
            f"cannot be read; {_EXAMPLE}. In a password, write %2F for /, %3F for ?, %23 for # and %40 for @"
        ) from None
    if url.scheme not in _SCHEMES:
        raise _Unusable(f"begins with none of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}; {_EXAMPLE}")
    tls, cluster = _SCHEMES[url.scheme]
    if not host:
        raise _Unusable(f"names no host; {_EXAMPLE}")
    database = url.path.strip("/") or "0"
    if not (database.isascii() and database.isdigit()) or url.fragment:
        raise _Unusable(
            "has something other than the number of a database after its host; in a password, write %2F for /, "
            "%3F for ? and %23 for #"
        )
    if cluster and int(database):
        raise _Unusable("names a database of a cluster, which has only number 0; leave it out")
    if options.keys() - (_TLS_OPTIONS if tls else frozenset()):
        raise _Unusable(
            f"has options other than {', '.join(sorted(_TLS_OPTIONS))}, which go with rediss://, valkeys:// and "
            "rediss+cluster://; take them out. In a password, write %3F for ?"
        )
    if options.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise _Unusable("has an ssl_cert_reqs other than required and none")
    if url.username and not url.password:
        raise _Unusable(
            "has a user and no password; where it is the password, write a colon before it: redis://:...@host"
        )
    if tls:
        options["ssl_check_hostname"] = options.get("ssl_cert_reqs") != "none"
    if url.password:
        options |= {"username": unquote(url.username or "") or None, "password": unquote(url.password)}
    return Address(url.scheme, host, port or _PORT, int(database), tls, cluster, options)


class Node:
    """One server, and the connections to it that nobody uses now."""

    def __init__(self, address: Address, place: Place) -> None:
        self.place = place
        self._class = SSLConnection if address.tls else Connection
        self._options: dict[str, Any] = {
            **address.options,
            "host": place[0],
            "port": place[1],
            "db": address.database,
            "protocol": 2,
            "socket_connect_timeout": ANSWER_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
            "retry": Retry(NoBackoff(), 0),
        }
        self._idle: deque[Any] = deque()
        self._closed = False

    def ask(self, command: Sequence[bytes], *, asking: bool = False) -> Any:
        """Send a command once and return its answer. Waits for each step at most `ANSWER_SECONDS`.

        Args:
            command: Its name and arguments.
            asking: Say before it that the cluster sent us here for this one command.

        Raises:
            RedisError: The server answers with an error, or not at all.
        """
        # By hand: redis-py joins and encodes part by part, for 12 µs of each take.
        packed = b"*%d\r\n" % len(command) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in command])
        connection = self._connection()
        try:
            if asking:
                connection.send_command("ASKING")
                connection.read_response()
            connection.send_packed_command([packed])
            answer = connection.read_response(disable_decoding=True)
        except ResponseError:  # an answer too: the connection is as good as before
            self._keep(connection)
            raise
        except BaseException:  # half a command, or half an answer; also where a greenlet is ended in between
            connection.disconnect()
            raise
        self._keep(connection)
        return answer

    def _connection(self) -> Any:
        while True:
            try:
                kept = self._idle.pop()
            except IndexError:
                break
            if _is_alive(kept):
                return kept
            kept.disconnect()
        connection: Any = self._class(**self._options)
        connection.connect()
        return connection

    def _keep(self, connection: Any) -> None:
        if self._closed or len(self._idle) >= KEPT_CONNECTIONS:
            connection.disconnect()
        else:
            self._idle.append(connection)

    def leave_to_parent(self) -> object:
        """Begin without connections, and return those there were, still open."""
        inherited, self._idle = self._idle, deque()
        return inherited

    def drop_idle(self) -> None:
        """Close the connections that nobody uses now."""
        while self._idle:
            try:
                self._idle.pop().disconnect()
            except IndexError:  # another thread was faster
                return

    def close(self) -> None:
        """Close all connections; those in use when they are given back."""
        self._closed = True
        self.drop_idle()


def _is_alive(connection: Any) -> bool:
    """Return whether a connection is still open. Asked before each use, when nothing was sent yet."""
    try:
        return not connection.can_read()  # what there is to read is its end, or what nobody asked for
    except (RedisError, OSError):
        return False


class Servers(Protocol):
    """One server or a cluster, as the limiter sees them."""

    def of_key(self, key: bytes) -> Node:
        """Return the server that has a key."""
        ...

    def at(self, place: Place) -> Node:
        """Return the server at a place that a server named."""
        ...

    def moved(self, key: bytes, place: Place) -> Node:
        """Take notice that a key is at another place now, and return the server there."""
        ...

    def failed(self, node: Node) -> None:
        """Take notice that a server does not do its part."""
        ...

    def all(self) -> list[Node]:
        """Return the servers that hold keys."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Single:
    """One server."""

    def __init__(self, address: Address) -> None:
        self._node = Node(address, (address.host, address.port))
        at_fork(self._node, Node.leave_to_parent)

    def of_key(self, _key: bytes) -> Node:
        """See `Servers.of_key`."""
        return self._node

    def at(self, _place: Place) -> Node:
        """See `Servers.at`. One that names others is of a cluster; it is asked again, and its answer told."""
        return self._node

    def moved(self, _key: bytes, _place: Place) -> Node:
        """See `Servers.moved`."""
        return self._node

    def failed(self, node: Node) -> None:
        """See `Servers.failed`. Its name may stand for another server by now: connect anew."""
        node.drop_idle()

    def all(self) -> list[Node]:
        """See `Servers.all`."""
        return [self._node]

    def close(self) -> None:
        """See `Servers.close`."""
        self._node.close()


class Cluster:
    """A cluster: which server has which of its slots. Asked for with the first command, and again after a failure."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._seed = (address.host, address.port)
        self._nodes: dict[Place, Node] = {}
        self._slots: list[Node | None] | None = None
        self._last_failed: Node | None = None
        at_fork(self, Cluster._leave_to_parent)

    def _leave_to_parent(self) -> object:
        return [node.leave_to_parent() for node in self._nodes.values()]

    def of_key(self, key: bytes) -> Node:
        """See `Servers.of_key`.

        Raises:
            ClusterDownError: No server has it.
            RedisError: No server says which has it.
        """
        slots = self._slots or self._learn()
        node = slots[key_slot(key)]
        if node is None:
            self._slots = None
            raise ClusterDownError("no server has the slot of this key")
        return node

    def at(self, place: Place) -> Node:
        """See `Servers.at`."""
        return self._nodes.setdefault(place, Node(self._address, place))

    def moved(self, key: bytes, place: Place) -> Node:
        """See `Servers.moved`. Only this slot is noted: the others will be heard of in the same way."""
        node = self.at(place)
        slots = self._slots  # another thread may forget them meanwhile
        if slots is not None:
            slots[key_slot(key)] = node
        return node

    def failed(self, node: Node) -> None:
        """See `Servers.failed`. Another may have taken its slots over: the next command asks who."""
        self._slots = None
        self._last_failed = node
        node.drop_idle()

    def _learn(self) -> list[Node | None]:
        """Ask two servers for the slots at most, so that the wait has an end; last the one that failed just now."""
        self.at(self._seed)
        asked = list(self._nodes.values())
        random.shuffle(asked)  # where several are gone, somebody finds one that is not
        asked.sort(key=lambda node: node is self._last_failed)
        problem: RedisError = ClusterDownError("no server says which has which slots")
        for node in asked[:_ASKED_FOR_SLOTS]:
            try:
                answer = node.ask((b"CLUSTER", b"SLOTS"))
            except RedisError as error:
                problem, self._last_failed = error, node
                continue
            slots: list[Node | None] = [None] * _SLOTS
            for first, last, primary, *_ in answer:
                host = (primary[0] or b"").decode() or node.place[0]  # empty where it does not know its own
                slots[first : last + 1] = [self.at((host, primary[1]))] * (last + 1 - first)
            self._slots = slots
            return slots
        raise problem

    def all(self) -> list[Node]:
        """See `Servers.all`.

        Raises:
            RedisError: No server says which there are.
        """
        return list(dict.fromkeys(node for node in self._slots or self._learn() if node is not None))

    def close(self) -> None:
        """See `Servers.close`."""
        for node in list(self._nodes.values()):
            node.close()
