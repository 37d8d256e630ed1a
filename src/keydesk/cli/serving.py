"""Room cli: `serve`, which runs the server."""

from __future__ import annotations

import os
import signal
import socket
from tempfile import TemporaryDirectory

import click
from rich.console import RenderableType
from rich.text import Text

from ..errors import SettingsError
from ..ports import WritableKeyStore
from ..settings import problems_of_server
from .command import command
from .context import Run
from .demo_life import fill
from .issuing import find_administrator, make_administrator
from .presence import existing_desk

APPLICATION = "keydesk.server.app:create_worker"
# What a thread waits for: the store for a key that is not known, the limiter, and callers who send their bodies slowly.
# For the last no more than four of them wait; see server/bodies.py. Those with nothing to wait for rest; see
# server/crew.py.
THREADS = 8
HEADER_SECONDS = 10
MAX_HEADER_BYTES = 65_536
STOP_SECONDS = 10
STOPS = {signal.SIGTERM, signal.SIGINT}
# What is wrong goes to standard error, for people; requests, where they are written down, to standard output. No
# handler lets a secret through, whoever it is that logs.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "people": {"format": "%(asctime)s %(levelname)s %(message)s"},
        "access": {"format": "%(message)s"},
    },
    "filters": {"no secrets": {"()": "keydesk.redaction.RedactSecrets"}},
    "handlers": {
        "errors": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "people",
            "filters": ["no secrets"],
        },
        "access": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "access",
            "filters": ["no secrets"],
        },
    },
    "loggers": {"keydesk.access": {"handlers": ["access"], "level": "INFO", "propagate": False}, "_granian": {}},
    "root": {"handlers": ["errors"], "level": "WARNING"},
}


@command(
    "serve",
    examples=("keydesk serve", "keydesk serve --host 0.0.0.0 --port 80 --workers 4", "keydesk serve --demo"),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8080, show_default=True, help="The port to listen at.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many processes; about as many as there are processors.",
)
@click.option(
    "--demo",
    is_flag=True,
    help="Fill the empty store with made-up keys and two weeks of requests first, to look at. Only with "
    "KEYDESK_DEVELOPMENT=true.",
)
def serve(run: Run, host: str, port: int, workers: int, demo: bool) -> None:
    """Run the server: forward-auth for gateways, verification and management over HTTP.

    It stops on SIGTERM and Ctrl-C, after the requests that are under way, and writes down what it counted.
    """
    if run.program != "keydesk":
        run.refuse(
            "the server reads the environment, and not the configuration of an application; run it outside of flask, "
            "or mount keydesk.server.create_app(app.config) in the application"
        )
    try:
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.log import LogLevels
    except ModuleNotFoundError:
        run.refuse("the server needs Granian; install it: pip install 'keydesk[server]'")
    settings = run.read_settings()
    if problems := problems_of_server(settings):
        run.refuse(str(SettingsError(problems)))
    address = _free_address(run, host, port)  # before anything is written
    if demo:
        fill(run)
    if settings.development:
        _make_what_is_missing(run)
    _look_at_store(run, settings.store, workers)
    with TemporaryDirectory(prefix="keydesk-metrics-") as folder:
        if settings.metrics_folder is None:
            # The workers inherit it: whichever is asked for metrics tells what all have counted.
            os.environ["KEYDESK_METRICS_FOLDER"] = folder
        run.show({"url": f"http://{_in_url(host)}:{port}", "workers": workers}, lambda: _how_to_call(host, port))
        _wake_every_second()
        os.register_at_fork(
            before=_hold_stops, after_in_parent=_let_stops_through, after_in_child=_let_starting_worker_be_stopped
        )
        server = Granian(
            APPLICATION,
            address=address,
            port=port,
            interface=Interfaces.WSGI,
            workers=workers,
            blocking_threads=THREADS,
            factory=True,
            websockets=False,
            http=HTTPModes.http1,  # the other has no deadline for headers, and proxies speak this one
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=MAX_HEADER_BYTES),
            workers_kill_timeout=STOP_SECONDS,
            respawn_failed_workers=True,
            log_level=LogLevels.error,
            log_dictconfig=LOGGING,
        )
        try:
            server.serve()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # at its end Python gives up its handlers


def _hold_stops() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _let_stops_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _let_starting_worker_be_stopped() -> None:
    """Take back the handlers of the main process: until Granian sets its own they would swallow the signal.

    Ctrl-C reaches all processes of a terminal; the main one then tells each worker.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _wake_every_second()
    _let_stops_through()


def _wake_every_second() -> None:
    """Have the main thread look for signals each second, whatever it waits for.

    Python runs handlers in that thread, and one that waits for a lock is woken by the signal itself. One that was just
    about to wait is not: it would never stop, or be killed after `STOP_SECONDS` with what it has counted.
    """
    signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)


def _make_what_is_missing(run: Run) -> None:
    """Make the first administrator's key, and with it the tables of a SQLite database."""
    with run.open_desk() as desk:
        if isinstance(desk.store, WritableKeyStore) and find_administrator(desk) is None:
            run.note("The first administrator's key, which is shown this once:")
            make_administrator(run, desk)
            run.note("")


def _look_at_store(run: Run, store: str, workers: int) -> None:
    """See that the store answers, once and before any worker does.

    Raises:
        click.exceptions.Exit: It does not, or each worker would have its own.
    """
    if workers > 1 and store.startswith("memory:"):
        run.refuse("with memory:// each worker would know keys of its own; set KEYDESK_STORE, or use one worker")
    with existing_desk(run) as desk:
        wrong = [check for check in desk.store.checks() if check.passed is False]
    if wrong:
        run.refuse("\n".join(f"{check.found}; {check.fix}" if check.fix else check.found for check in wrong))


def _free_address(run: Run, host: str, port: int) -> str:
    """Return the IP address of a host, at whose port nobody listens.

    Raises:
        click.exceptions.Exit: It has none of this machine, or somebody does.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        run.refuse(f"nobody can listen at {_in_url(host)}:{port}: {error.strerror}; choose another --host or --port")
    return str(place[0])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _how_to_call(host: str, port: int) -> RenderableType:
    url = f"http://{_in_url(host)}:{port}"
    return Text(
        f"Keydesk serves at {url}\n"
        f"  As a gateway does:  curl -i -H 'X-API-Key: YOUR-KEY' {url}/authz/forwarded\n"
        f"  Manage keys:        curl -H 'X-API-Key: YOUR-KEY' {url}/v1/keys\n"
        f"  In a browser:       {url}/admin/\n"
        f"  What there is:      {url}/docs\n"
        f"  How it is:          {url}/readyz and {url}/metrics\n"
        "Ctrl-C stops it."
    )
