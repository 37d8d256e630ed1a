"""The walk that `make demo` takes: a sample API on SQLite, keys, real HTTP calls, and the pages to administer them.

In a terminal it stays until Ctrl-C, for the pages to be looked at. `--serve` leaves the API running without the walk.
"""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from orders_api import create_app, keys
from rich.console import Console
from rich.markup import escape
from werkzeug.serving import make_server

from keydesk import Desk
from keydesk.keys.secret import redact
from keydesk.pages import make_pages

SHOWN_HEADERS = ("WWW-Authenticate", "API-Key-Expires", "Retry-After")
out = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Walk through the life of a key, or serve until interrupted. Return 0 if every answer was as expected."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--serve", action="store_true", help="leave the API running")
    arguments.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    given = arguments.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, api(f"sqlite:///{folder}/keydesk.db", given.port) as (url, desk):
        return serve(url, desk) if given.serve else walk(url, desk)


@contextmanager
def api(store: str, port: int) -> Iterator[tuple[str, Desk]]:
    """Run the sample API on a loopback port. Yields its address and its desk."""
    app = create_app(store)
    app.secret_key = secrets.token_bytes(32)
    app.register_blueprint(make_pages(), url_prefix="/admin")
    server = make_server("127.0.0.1", free_or_any(port), app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with app.app_context():
            yield f"http://127.0.0.1:{server.server_port}", keys.desk
    finally:
        server.shutdown()
        server.server_close()


def free_or_any(port: int) -> int:
    """Return the port, or 0 for any free one where somebody else listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def walk(url: str, desk: Desk) -> int:
    """Make each call and print it with its answer. Return how many answered otherwise than expected."""
    logging.getLogger("keydesk").setLevel(logging.ERROR)  # the refusals are shown here anyway
    unexpected = 0

    def step(title: str, expected: int, secret: str | None = None, method: str = "GET") -> None:
        nonlocal unexpected
        out.print(f"\n[bold]{title}[/bold]")
        unexpected += call(url, secret, method) != expected

    out.print(f"[bold]Keydesk demo[/bold]: a sample API on {url}, its keys in SQLite.")
    step("Without a key", 401)

    reader = desk.issue(name="Mobile app", owner="acme", scopes=["orders:read"])
    told(f'issue "Mobile app" --owner acme --scope orders:read   -> {redact(reader.secret)}')
    step("With the key", 200, reader.secret)
    step("The same key, where it lacks the scope", 403, reader.secret, "POST")

    elsewhere = desk.issue(name="Warehouse", scopes=["orders:read"], networks=["203.0.113.0/24"])
    told('issue "Warehouse" --scope orders:read --network 203.0.113.0/24')
    step("A key for another network", 403, elsewhere.secret)

    rotated = desk.rotate(reader.key.id, overlap=timedelta(hours=24))
    told(f"rotate {reader.key.id} --overlap 24h   -> {redact(rotated.secret)}")
    step("During a rotation, the old secret goes on, and says until when", 200, reader.secret)
    step("and the new one works already", 200, rotated.secret)

    desk.revoke(reader.key.id, reason="leaked")
    told(f"revoke {reader.key.id} --reason leaked")
    step("A revoked key is out at once, with all of its secrets", 401, rotated.secret)

    report = desk.check_chain()
    out.print(f"\n{report.rows} events tell who changed what; the chain of their hashes is unbroken.")
    if unexpected or report.problem:
        out.print(f"[red]{unexpected} answers were not as expected.[/red]")
        return 1
    out.print("[green]All answers were as expected.[/green] `make sample` leaves the API running for you to call.")
    administer(url, desk)
    return 0


def administer(url: str, desk: Desk) -> None:
    """Say where the pages are and what opens them; in a terminal, wait until somebody has seen enough."""
    administrator = desk.issue(name="Administrator", scopes=["*"])
    pages = url.replace("127.0.0.1", "localhost")
    out.print(f"\nThe pages for all this: [bold]{pages}/admin/[/bold]   sign in with {administrator.secret}")
    if sys.stdout.isatty():
        out.print("They are there until Ctrl-C.")
        wait()
    else:
        out.print(
            "They ended with this run; in a terminal they stay until Ctrl-C. `make serve` shows them with more life."
        )


def call(url: str, secret: str | None, method: str) -> int:
    """Make one call, print the exchange, and return the status."""
    request = urllib.request.Request(f"{url}/orders", method=method)
    out.print(f"  > {method} /orders")
    if secret is not None:
        request.add_header("X-API-Key", secret)
        out.print(f"  > X-API-Key: {redact(secret)}")
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        out.print(f"  < [cyan]{answer.status} {answer.reason}[/cyan]")
        for name, value in answer.headers.items():
            if name in SHOWN_HEADERS:
                out.print(f"  < {name}: {value}")
        out.print(f"  < {escape(json.dumps(json.loads(answer.read())))}")
    return int(answer.status)


def told(command: str) -> None:
    """Print the command that does what was just done."""
    out.print(f"\n[dim]$ keydesk {escape(command)}[/dim]")


def serve(url: str, desk: Desk) -> int:
    """Issue a key, say how to call, and wait for an interrupt."""
    issued = desk.issue(name="You", scopes=["orders:read"])
    out.print(f"The sample API is on {url}. Call it with the key that was just issued:\n")
    out.print(f"  curl -H 'X-API-Key: {issued.secret}' {url}/orders")
    out.print(f"  curl -H 'X-API-Key: {issued.secret}' -X POST {url}/orders    # refused: no orders:write")
    out.print(f"  curl -i {url}/orders                                        # refused: no key\n")
    out.print("Ctrl-C ends it.")
    wait()
    return 0


def wait() -> None:
    """Wait for Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        out.print("Bye.")


if __name__ == "__main__":
    raise SystemExit(main())
