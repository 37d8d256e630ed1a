"""Under gevent, which may come after Keydesk: gunicorn with `--preload` loads the application first."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme

from .running import listening

ANSWER = 0.5
TOGETHER = 6
PROGRAM = """
    import sys
    from keydesk import sync
    from keydesk.client.connection import Connection
    from keydesk.errors import StoreUnavailable

    connection = Connection(sys.argv[1], "secret", answer_seconds=float(sys.argv[2]))

    from gevent import monkey
    monkey.patch_all()
    import gevent
    import socket
    from gevent.event import Event

    over, look_up = Event(), socket.getaddrinfo

    def look_up_late(*given):
        if gevent.getcurrent() is late:
            over.wait(10)  # until others are
        return look_up(*given)

    def ask(key_id):
        try:
            return connection.ask(sync.FIND_KEY, sync.ById(key_id))
        except StoreUnavailable as error:
            return str(error)

    socket.getaddrinfo = look_up_late
    jobs = [gevent.spawn(ask, key_id) for key_id in ["endless", *["answered"] * int(sys.argv[3])]]
    late = gevent.spawn(ask, "late")
    gevent.joinall(jobs[1:], raise_error=True)
    over.set()
    gevent.joinall([*jobs, late], raise_error=True)
    for job in (*jobs, late):
        print(job.value)
"""


def test_each_question_has_the_deadline_of_its_own() -> None:
    """One is answered byte after byte, without an end; it alone is given up on. One begins before the others end."""
    arrived, ended = threading.Barrier(TOGETHER), threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        asked = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        if b"endless" in asked:
            start_response("200 OK", [("Content-Length", "100000")])
            while not ended.wait(ANSWER / 10):
                yield b" "
            return
        elif b"answered" in asked:
            arrived.wait(30)
        start_response("200 OK", [("Content-Length", "4")])
        yield b"null"

    with listening(application) as url:
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), url, str(ANSWER), str(TOGETHER)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        finally:
            ended.set()
    assert done.returncode == 0, done.stderr
    endless, *answered = done.stdout.splitlines()
    assert "it takes too long" in endless
    assert answered == ["None"] * (TOGETHER + 1)


def test_server_is_known_by_its_certificate(tmp_path: Path) -> None:
    """urllib3 keeps the class for TLS that there was when it was loaded, which does not work under gevent."""
    program = """
        import sys
        from keydesk import sync
        from keydesk.client.connection import Connection

        connection = Connection(sys.argv[1], "secret")

        from gevent import monkey
        monkey.patch_all()
        print(connection.ask(sync.FIND_KEY, sync.ById("x")))
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    said = {}
    for name, trusted in (("ours", authority), ("a stranger's", trustme.CA())):
        trusted.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        with listening(_nothing, ssl_context=context) as url:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), url],
                env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "authority.pem")},
                capture_output=True,
                text=True,
                timeout=20,
            )
        said[name] = done.stdout + done.stderr
    assert said["ours"] == "None\n"
    assert "StoreUnavailable" in said["a stranger's"]
    assert "certificate" in said["a stranger's"]


def _nothing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [("Content-Length", "4")])
    return [b"null"]
