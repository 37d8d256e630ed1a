"""Real gateways with the files of examples/gateways, and what is before and behind them, on free loopback ports.

The files name three ports; the tests put free ones in their places and change nothing else.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..servers import Server, ServerMissing, halt, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES, OPERATION = ROOT / "examples" / "gateways", ROOT / "examples" / "operation"
GATEWAY, KEYDESK, BACKEND = "8000", "8080", "5000"  # in the files
CLIENT = "127.0.0.2"  # the address that clients call from; a gateway has another
REQUEST_SECONDS = 20.0  # what takes longer has no answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back through a gateway, and how long it took in seconds."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    took: float


def ask(
    port: int,
    path: str = "/",
    secret: str | None = None,
    method: str = "GET",
    *,
    headers: Iterable[tuple[str, str]] = (),
    host: str = "api.example",
    body: bytes | None = None,
) -> Answer:
    """Send one request, with the path and the names of headers as they are written here."""
    sent_at = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, REQUEST_SECONDS, source_address=(CLIENT, 0))
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in [*([] if secret is None else [("X-API-Key", secret)]), *headers]:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read(), time.monotonic() - sent_at)
    finally:
        connection.close()


class _Granian(Server):
    """Granian with one worker. A signal to it alone leaves the worker as it is."""

    application: tuple[str, ...]
    path = "/"
    environment: dict[str, str]

    def command(self) -> list[str]:
        program = [sys.executable, "-m", "granian", "--interface", "wsgi", *self.application]
        listen = ["--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"]
        given = [f"{name}={value}" for name, value in self.environment.items()]
        path = os.pathsep.join([str(EXAMPLES), str(ROOT / "src")])
        return ["env", f"PYTHONPATH={path}", *given, *program, *listen, "--backpressure", "16"]

    def try_connect(self) -> None:
        assert ask(self.port, self.path).status == 200

    def workers(self) -> list[int]:
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def halt(self) -> None:
        """Let it hang: connections stay, new ones are taken, nothing is answered."""
        for pid in self.workers():
            halt(pid)

    def go_on(self) -> None:
        """Let it go on after `halt`."""
        for pid in self.workers():
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; it is dead when this returns."""
        workers = self.workers()
        self.stop(signal.SIGKILL)  # it would replace a worker that is killed
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and _runs(pid) for pid in workers))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class KeydeskServer(_Granian):
    """Keydesk's server, believing proxies on this machine."""

    application = ("--factory", "keydesk.server:create_app")
    path = "/healthz"

    def __init__(self, store: str) -> None:
        self.environment = {
            "KEYDESK_STORE": store,
            "KEYDESK_TRUSTED_PROXIES": "127.0.0.1",
            "KEYDESK_DEVELOPMENT": "true",
        }
        super().__init__()

    def make(self) -> None:
        """Nothing; its tables are there."""


class Backend(_Granian):
    """The backend of the examples, under a server that takes `X_Key_Id` for `X-Key-Id`, as CGI did."""

    application = ("backend:app",)
    environment = {}

    def make(self) -> None:
        """Nothing."""


class Gateway(Server):
    """A gateway with a file of examples/gateways.

    Args:
        keydesk, backend: The ports of what it is between.
    """

    program: str
    package: str
    files: tuple[str, ...]

    def __init__(self, keydesk: int, backend: int) -> None:
        self._ports = {KEYDESK: str(keydesk), BACKEND: str(backend)}
        super().__init__()

    def make(self) -> None:
        found = shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None:
            raise ServerMissing(f"{self.program} is not installed; on Debian: apt-get install {self.package}")
        self.found = found
        for file in self.files:
            to = self.folder / file
            to.parent.mkdir(exist_ok=True)
            to.write_text(self.text_of(file))

    def text_of(self, file: str) -> str:
        """Return what stands in a file of the example, with our ports."""
        ports = self._ports | {GATEWAY: str(self.port)}
        pattern = re.compile("|".join(rf"(?<=:){port}\b" for port in ports))
        return pattern.sub(lambda match: ports[match[0]], (EXAMPLES / file).read_text())

    def try_connect(self) -> None:
        assert ask(self.port).status == 401

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop at once, breaking off every connection."""
        super().stop(how)


class Nginx(Gateway):
    """nginx from Debian's `nginx-light`, with one worker."""

    program, package, files = "nginx", "nginx-light", ("nginx.conf",)

    def make(self) -> None:
        super().make()
        (self.folder / "tmp").mkdir()
        paths = "".join(
            f"{kind}_temp_path tmp/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "main.conf").write_text(
            f"daemon off; pid nginx.pid; events {{}} http {{ access_log off; {paths} include nginx.conf; }}"
        )
        user = ["user root;"] if os.geteuid() == 0 else []  # its temporary files are in a folder of root's
        self.arguments = ["-p", str(self.folder), "-c", "main.conf", "-e", str(self.folder / "error.log")]
        self.arguments += ["-g", *user] if user else []
        done = subprocess.run([self.found, *self.arguments, "-t"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def command(self) -> list[str]:
        return [self.found, *self.arguments]


class Balancer(Nginx):
    """nginx with the file of examples/operation, before two servers of Keydesk.

    Args:
        first, second: Their ports.
    """

    def __init__(self, first: int, second: int) -> None:
        self._places = {"first:8080": f"127.0.0.1:{first}", "second:8080": f"127.0.0.1:{second}"}
        Server.__init__(self)

    def text_of(self, file: str) -> str:
        text = (OPERATION / file).read_text()
        for there, here in {**self._places, "listen 8000;": f"listen 127.0.0.1:{self.port};"}.items():
            assert text.count(there) == 1
            text = text.replace(there, here)
        return text

    def try_connect(self) -> None:
        assert ask(self.port, "/healthz").status == 200


class Caddy(Gateway):
    """Caddy from Debian's `caddy`."""

    program, package, files = "caddy", "caddy", ("Caddyfile",)

    def command(self) -> list[str]:
        home = ["env", f"HOME={self.folder}", "GOMAXPROCS=2"]
        return [*home, self.found, "run", "--adapter", "caddyfile", "--config", str(self.folder / "Caddyfile")]


class HAProxy(Gateway):
    """HAProxy from Debian's `haproxy`, with our action in Lua."""

    program, package, files = "haproxy", "haproxy", ("haproxy/haproxy.cfg", "haproxy/keydesk.lua")

    def command(self) -> list[str]:
        return [self.found, "-db", "-f", str(self.folder / "haproxy" / "haproxy.cfg")]


GATEWAYS: dict[str, type[Gateway]] = {"nginx": Nginx, "caddy": Caddy, "haproxy": HAProxy}
