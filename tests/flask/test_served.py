"""The application under real servers, over real sockets: what a test client would tidy up arrives as it was sent."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from keydesk import open_desk

from .rig import Rig

PROGRAM = """
from flask import Flask
from keydesk.flask import Keydesk, current_key

app = Flask(__name__)
app.config["KEYDESK_STORE"] = "sqlite:///{database}"
app.config["KEYDESK_QUERY_PARAMETER"] = "api_key"
keys = Keydesk(app)

@app.get("/")
@keys.require()
def view():
    return "in " + current_key.name
"""


def send(port: int, *lines: bytes, start: bytes = b"GET / HTTP/1.1") -> tuple[int, bytes]:
    """Send a request of exactly these bytes; return the status (0 where the server hung up) and all that came."""
    head = b"\r\n".join([start, b"Host: localhost", b"Connection: close", *lines]) + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
    match = re.match(rb"HTTP/1\.\d (\d{3})", answer)
    return int(match[1]) if match else 0, answer


# Header lines that no client library sends. Each must end in a refusal, of ours or of the server's, and never in 500.
ODD = {
    "not UTF-8": b"X-API-Key: \xff\xfe\xfa",
    "UTF-8": "X-API-Key: schlüssel-für-alles".encode(),
    "NUL": b"X-API-Key: kd_live_\x00",
    "lone CR": b"X-API-Key: a\rb",
    "tab": b"X-API-Key: \t",
    "vertical tab": b"X-API-Key: \x0b",
    "non-breaking space": b"X-API-Key: \xa0",
    "escape": b"X-API-Key: \x1b[2J",
    "delete": b"X-API-Key: \x7f\x7f\x7f",
    "folded line": b"X-API-Key: one\r\n two",
    "no colon": b"X-API-Key",
    "space before colon": b"X-API-Key : one",
    "empty": b"X-API-Key:",
    "Bearer alone": b"Authorization: Bearer",
    "Bearer and space": b"Authorization: Bearer ",
    "Bearer not UTF-8": b"Authorization: Bearer \xff\xff",
    "two headers": b"X-API-Key: one\r\nX-API-Key: two",
    "two authorizations": b"Authorization: Bearer one\r\nAuthorization: Bearer two",
    "underscores": b"X_API_Key: one",
    "both spellings": b"X-API-Key: one\r\nX_API_Key: two",
    "ten thousand commas": b"X-API-Key: " + b"," * 10_000,
    "long": b"X-API-Key: " + b"k" * 7_000,
    "very long": b"X-API-Key: " + b"k" * 100_000,
    "a thousand headers": b"\r\n".join(b"X-API-Key: one" for _ in range(1000)),
    "SQL": b"X-API-Key: ' OR '1'='1' --",
    "bidi": "X-API-Key: \u202eabc".encode(),
}


class _Werkzeug:
    """The application in a thread of this process, under werkzeug's server."""

    def __init__(self, rig: Rig) -> None:
        self.server = make_server("127.0.0.1", 0, rig.app, threaded=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def werkzeug_server(rig: Rig) -> Iterator[_Werkzeug]:
    @rig.app.get("/")
    @rig.keys.require()
    def view() -> str:
        return "in"

    rig.app.testing = False
    server = _Werkzeug(rig)
    yield server
    server.stop()


@pytest.mark.parametrize("name", ODD)
def test_werkzeug_odd_bytes(werkzeug_server: _Werkzeug, name: str) -> None:
    status, answer = send(werkzeug_server.port, ODD[name])
    assert status in (0, 400, 401, 413, 431), answer[:200]
    if b"application/problem+json" in answer:
        assert answer.count(b"\r\n\r\n") == 1


def test_werkzeug_repeated_headers(rig: Rig, werkzeug_server: _Werkzeug) -> None:
    """Servers fold repeated headers and `X_API_Key` into one value with commas: equal ones pass, different ones not."""
    one, two = rig.secret().encode(), rig.secret().encode()
    port = werkzeug_server.port
    assert send(port, b"X-API-Key: " + one)[0] == 200
    assert send(port, b"X-API-Key: " + one, b"X-API-Key: " + one)[0] == 200
    assert send(port, b"X-API-Key: " + one, b"x-api-key: " + two)[0] == 400
    assert send(port, b"X-API-Key: " + one, b"Authorization: Bearer " + two)[0] == 400
    assert send(port, b"Authorization: Bearer " + one, b"Authorization: Bearer " + one)[0] == 200
    assert send(port, b"X-API-Key: \t" + one + b" \t")[0] == 200


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path, str]]:
    """The application under gunicorn with two workers: its port, its access log and a secret."""
    pytest.importorskip("gunicorn", reason="pip install gunicorn")
    folder = tmp_path_factory.mktemp("gunicorn")
    database = folder / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{database}"})
    secret = desk.issue(name="me").secret
    desk.close()
    (folder / "served.py").write_text(PROGRAM.format(database=database))
    listener = socket.create_server(("127.0.0.1", 0))
    log = folder / "access.log"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "served:app", "--workers", "2", "--threads", "2"),
            *("--bind", f"fd://{listener.fileno()}", "--access-logfile", str(log), "--log-level", "warning"),
            *("--worker-tmp-dir", str(folder), "--no-control-socket"),
        ],
        cwd=folder,
        pass_fds=[listener.fileno()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield listener.getsockname()[1], log, secret
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        listener.close()
    assert b"Traceback" not in errors, errors.decode()


def test_gunicorn_lets_in(gunicorn: tuple[int, Path, str]) -> None:
    port, _, secret = gunicorn
    for _ in range(6):
        status, answer = send(port, b"X-API-Key: " + secret.encode())
        assert status == 200, answer
        assert answer.endswith(b"in me")


@pytest.mark.parametrize("name", ODD)
def test_gunicorn_odd_bytes(gunicorn: tuple[int, Path, str], name: str) -> None:
    status, answer = send(gunicorn[0], ODD[name])
    assert status in (0, 400, 401, 413, 431), answer[:200]


def test_gunicorn_access_log_blanked(gunicorn: tuple[int, Path, str]) -> None:
    port, log, secret = gunicorn
    uuid = "0d9b1b0e-7d3c-4b0e-9b6e-2f1f0a4a9c11"
    assert send(port, start=f"GET /?page=2&api_key={secret} HTTP/1.1".encode())[0] == 200
    referer = f"Referer: http://localhost/?api_key={uuid}".encode()
    assert send(port, referer, start=f"GET /?api_key={uuid}&last=line HTTP/1.1".encode())[0] == 401
    assert send(port, start=b"GET /nowhere-after-all HTTP/1.1")[0] == 404
    for _ in range(1000):  # the workers write once they have answered
        text = log.read_text()
        if "nowhere-after-all" in text and "last=line" in text:
            break
        threading.Event().wait(0.01)
    assert secret not in text
    assert uuid not in text
    assert "/?page=2&api_key=… HTTP/1.1" in text
    assert "/?api_key=…&last=line HTTP/1.1" in text
