"""Requests a second of an API under gunicorn with two workers, with Keydesk and without, measured with wrk."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from statistics import median
from types import MappingProxyType
from urllib.request import Request, urlopen

from flask import Flask

from keydesk import open_desk

from .harness import HEADER, Scale
from .report import Promise, Section, Table
from .requests import keydesk_app, plain_app

WORKERS, CONNECTIONS, RUNS, SECONDS = 2, 8, 9, 1  # short runs in turn: the machine changes its speed meanwhile
MIN_RATIO = 0.85
START_SECONDS = 30.0
NOTHING: Mapping[str, str] = MappingProxyType({})

_GUNICORN = ("gunicorn", "--log-level", "error", "--bind", "127.0.0.1:{port}")
SERVERS = {
    "gunicorn": (*_GUNICORN, "{make}()"),  # a connection for each request
    "gunicorn with threads": (*_GUNICORN, "--threads", "4", "--keep-alive", "75", "{make}()"),
    "Granian": (
        *("granian", "--log-level", "error", "--interface", "wsgi", "--blocking-threads", "1"),
        *("--host", "127.0.0.1", "--port", "{port}", "--factory", "{make}"),
    ),
}


def make_app() -> Flask:
    """Return what gunicorn serves: protected where the environment names a store."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("KEYDESK_")}
    return keydesk_app(settings)[0] if settings else plain_app()


class Api:
    """An API in processes of its own.

    Args:
        make: What makes the application: a module and a function in it.
        server: One of `SERVERS`.
        settings: Its environment.
        secret: Sent with each request.
    """

    def __init__(
        self,
        make: str = "bench.throughput:make_app",
        *,
        server: str = "gunicorn",
        settings: Mapping[str, str] = NOTHING,
        secret: str = "",
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/"
        self._header = {HEADER: secret} if secret else {}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYDESK_")}
        name, *options = [part.format(port=port, make=make) for part in SERVERS[server]]
        command = [sys.executable, "-m", name, "--workers", str(WORKERS), *options]
        self._process = subprocess.Popen(command, env={**environment, **settings})
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                with urlopen(Request(self._url, headers=self._header), timeout=5) as answer:
                    answer.read()
                    return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    self.stop()
                    raise
                time.sleep(0.05)

    def requests_a_second(self) -> float:
        """Return what wrk counts.

        Raises:
            RuntimeError: Some of the answers were refusals or errors.
        """
        headers = [part for name, value in self._header.items() for part in ("-H", f"{name}: {value}")]
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *headers, self._url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        counted = re.search(r"Requests/sec:\s*([\d.]+)", said)
        if counted is None or "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(f"wrk says:\n{said}")
        return float(counted[1])

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)


def run(scale: Scale) -> Section:
    """Measure both in turn; each figure is the median of its runs."""
    if shutil.which("wrk") is None:
        row = ("not measured", "install wrk, such as with: apt-get install wrk")
        return Section((Table("Requests a second", ("API", "requests/s"), (row,)),))
    store = f"sqlite:///{scale.folder / 'throughput.db'}"
    desk = open_desk({"KEYDESK_STORE": store})
    secret = desk.issue(name="wrk").secret
    desk.close()
    apis = {"without Keydesk": Api(), "with Keydesk on SQLite": Api(settings={"KEYDESK_STORE": store}, secret=secret)}
    try:
        counted: dict[str, list[float]] = {name: [] for name in apis}
        for api in apis.values():
            api.requests_a_second()  # the first connections and imports
        for _ in range(min(RUNS, scale.pairs // 10)):
            for name, api in apis.items():
                counted[name].append(api.requests_a_second())
    finally:
        for api in apis.values():
            api.stop()
    plain, protected = (counted[name] for name in apis)
    ratio = median(with_keys / without for without, with_keys in zip(plain, protected, strict=True))
    rows = tuple((name, f"{median(figures):,.0f}") for name, figures in counted.items())
    title = f"Requests a second: gunicorn with {WORKERS} workers, wrk with {CONNECTIONS} connections"
    return Section(
        (Table(title, ("API", "requests/s"), (*rows, ("ratio", f"{ratio:.2f}"))),),
        (Promise("requests a second, to the same API without Keydesk", MIN_RATIO, ratio, at_least=True),),
    )
