"""A server in this process, behind a real socket, and what an application needs to use it for a store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from keydesk import Desk, open_desk
from keydesk.keys.networks import Networks
from keydesk.server.deciding import Decider
from keydesk.server.forwarded import ClientAddresses
from keydesk.server.metrics import Metrics
from keydesk.server.sync import Sync
from keydesk.testing import ManualClock
from keydesk.web.credentials import CredentialReader
from keydesk.web.responses import Answers

EVERY_SCOPE = ("keydesk:sync", "keydesk:keys:read", "keydesk:usage:read")


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object, **__: object) -> None:
        pass


@contextmanager
def listening(application: Any, *, port: int = 0, **options: Any) -> Iterator[str]:
    """Run a WSGI application until the end of the block, and give its URL."""
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=Quiet, **options)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if options else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@contextmanager
def serving_desk(desk: Desk, clock: ManualClock) -> Iterator[tuple[str, str]]:
    """Serve the calls of applications for a desk that holds no key of theirs, and give URL and secret.

    Contracts count the keys of a store, so the key that asks is of another desk.
    """
    callers = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    secret = callers.issue(name="application", scopes=EVERY_SCOPE).secret
    reader = CredentialReader(header="X-API-Key", query_parameter=None)
    decider = Decider(callers.verifier, reader, ClientAddresses(Networks()), Metrics(callers, None))
    with listening(Sync(desk, Answers(realm="api", header="X-API-Key"), decider)) as url:
        yield url, secret
    callers.close()
