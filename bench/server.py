"""The server beside nginx: forward-auth with a valid key, and the way through nginx with and without it; with wrk."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from urllib.request import Request, urlopen

from keydesk import open_desk

from .harness import HEADER, Scale
from .report import Promise, Section, Table

CONNECTIONS, MANY_CONNECTIONS, RUNS, SECONDS = 16, 64, 5, 1
START_SECONDS = 30.0
MIN_VALID, MIN_LIMITED, MIN_THROUGH_NGINX = 0.4, 0.25, 0.5  # of the rate of nginx alone
MAX_SPREAD = 10.0  # p99 to p50, with many connections

_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream keydesk {{ server 127.0.0.1:{keydesk}; keepalive 32; }}
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 32; }}
  server {{ listen 127.0.0.1:{static}; location / {{ return 204; }} }}
  server {{ listen 127.0.0.1:{open}; location / {{
    proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
  }} }}
  server {{
    listen 127.0.0.1:{guarded};
    location / {{
      auth_request /authz;
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
    location = /authz {{
      internal;
      proxy_pass http://keydesk/authz/nginx; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length "";
    }}
  }}
}}
"""
_BACKEND, _NOTHING = "bench.server:backend", "bench.server:nothing"


def backend(_environ: object, start_response: object) -> Sequence[bytes]:
    """Answer as a small backend does (PEP 3333)."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])  # type: ignore[operator]
    return (b"ok\n",)


def nothing(_environ: object, start_response: object) -> Sequence[bytes]:
    """Answer with as little as can be (PEP 3333); Granian is fastest with a list."""
    start_response("200 OK", [("Content-Length", "0")])  # type: ignore[operator]
    return []


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


@contextmanager
def _running(command: Sequence[str], port: int, settings: Mapping[str, str] | None = None) -> Iterator[None]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYDESK_")}
    process = subprocess.Popen(
        command, env={**kept, **(settings or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _wrk(url: str, secret: str, connections: int = CONNECTIONS) -> tuple[float, float, float]:
    """Return the requests a second, and p50 and p99 in milliseconds.

    Raises:
        RuntimeError: Some of the answers were refusals or errors.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-H", f"{HEADER}: {secret}", url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    counted = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if counted is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk says:\n{said}")
    spread = [_milliseconds(*re.search(rf"{p}%\s+([\d.]+)(us|ms|s)\b", said).groups()) for p in (50, 99)]  # type: ignore[union-attr]
    return float(counted[1]), spread[0], spread[1]


def _milliseconds(figure: str, unit: str) -> float:
    return float(figure) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def run(scale: Scale) -> Section:
    """Measure all in turn; each figure is the median of its runs, each ratio that of the runs beside each other."""
    if shutil.which("wrk") is None or shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        row = ("not measured", "install them, such as with: apt-get install wrk nginx-light", "")
        return Section((Table("The server", ("wrk and nginx", "", ""), (row,)),))
    store = f"sqlite:///{scale.folder / 'server.db'}"
    desk = open_desk({"KEYDESK_STORE": store})
    valid = desk.issue(name="valid").secret
    limited = desk.issue(name="limited", limits=["100000000/minute"]).secret
    desk.close()
    folder = scale.folder / "nginx"
    folder.mkdir()
    names = ("keydesk", "backend", "bare", "static", "open", "guarded")
    ports = dict(zip(names, _ports(len(names)), strict=True))
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, **ports))
    url = {name: f"http://127.0.0.1:{port}/" for name, port in ports.items()}
    forwarded = f"{url['keydesk']}authz/forwarded"
    subjects = {
        "nginx, a static 204": (url["static"], valid),
        "/authz/forwarded, a valid key": (forwarded, valid),
        "/authz/forwarded, a key with one limit": (forwarded, limited),
        "a WSGI application that does nothing, under Granian with one thread": (url["bare"], valid),
        "nginx before a backend": (url["open"], valid),
        "nginx before a backend, with auth_request": (url["guarded"], valid),
    }
    python, settings = [sys.executable, "-m"], {"KEYDESK_STORE": store, "KEYDESK_DEVELOPMENT": "true"}
    serve = [sys.executable, "-c", "from keydesk.cli import main; main()", "serve", "--port", str(ports["keydesk"])]
    granian = [*python, "granian", "--interface", "wsgi", "--log-level", "error"]
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    spreads = []
    with ExitStack() as stack:
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or ""
        stack.enter_context(_running(serve, ports["keydesk"], settings))
        for name, application, more in (("backend", _BACKEND, ()), ("bare", _NOTHING, ("--blocking-threads", "1"))):
            command = [*granian, "--port", str(ports[name]), *more, application]
            stack.enter_context(_running(command, ports[name]))
        stack.enter_context(_running([nginx, "-c", str(folder / "nginx.conf")], ports["static"]))
        for place, secret in subjects.values():
            urlopen(Request(place, headers={HEADER: secret}), timeout=10).close()
        for _ in range(min(RUNS, scale.pairs // 10)):
            for name, (place, secret) in subjects.items():
                rates[name].append(_wrk(place, secret)[0])
            spreads.append(_wrk(forwarded, valid, MANY_CONNECTIONS)[1:])
    return _section(rates, spreads)


def _section(rates: dict[str, list[float]], spreads: list[tuple[float, float]]) -> Section:
    static, valid, limited, bare, before, guarded = rates.values()

    def ratio(ours: list[float], theirs: list[float]) -> float:
        return median(mine / other for mine, other in zip(ours, theirs, strict=True))

    beside = (None, *(ratio(each, static) for each in (valid, limited, bare)), None, ratio(guarded, before))
    rows = tuple(
        (name, f"{median(figures):,.0f}", "" if share is None else f"{share:.2f}")
        for (name, figures), share in zip(rates.items(), beside, strict=True)
    )
    p50, p99 = (median(each) for each in zip(*spreads, strict=True))
    spread = median(high / low for low, high in spreads)
    latencies = ((f"{MANY_CONNECTIONS} connections", f"{p50:.2f}", f"{p99:.2f}", f"{spread:.1f}"),)
    what = "the rate of a static 204 from nginx"
    return Section(
        (
            Table(
                f"Requests a second, one worker each, wrk with {CONNECTIONS} connections",
                ("what", "/s", "of nginx"),
                rows,
            ),
            Table("/authz/forwarded with a valid key", ("", "p50 ms", "p99 ms", "ratio"), latencies),
        ),
        (
            Promise(f"/authz/forwarded, a valid key: of {what}", MIN_VALID, ratio(valid, static), at_least=True),
            Promise(f"/authz/forwarded, one limit: of {what}", MIN_LIMITED, ratio(limited, static), at_least=True),
            Promise(
                "auth_request: of the rate of nginx before the same backend",
                MIN_THROUGH_NGINX,
                ratio(guarded, before),
                at_least=True,
            ),
            Promise(f"/authz/forwarded: p99 to p50 with {MANY_CONNECTIONS} connections", MAX_SPREAD, spread),
        ),
    )
