"""`keydesk import` of JSON lines into a new SQLite database, in a process of its own: how fast, how much memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from keydesk.cli import keydesk

from .harness import Scale
from .report import Promise, Section, Table
from .samples import write_import

FEW = 1000
MIN_KEYS_PER_SECOND = 20_000
MAX_GROWTH_MIB = 128


def database(scale: Scale, keys: int) -> Path:
    """Return where the imported database of so many keys is, for who measures with it later."""
    return scale.folder / f"{keys}.db"


def import_file(into: Path, source: Path) -> dict[str, float]:
    """Run `keydesk import` in another process.

    Returns:
        The seconds it took, without the start of Python, and the most memory it held, in MiB.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    ours = ("API_KEY", "KEYDESK_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment["KEYDESK_STORE"] = f"sqlite:///{into}"
    command = [sys.executable, "-m", "bench.importing", str(source)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(run.stdout))


def measure(source: str) -> dict[str, float]:
    """Import into the store that the environment names."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = keydesk(["import", source, "--json"], standalone_mode=False)
    if code:
        raise SystemExit(code)
    return {"seconds": time.perf_counter() - began, "memory": _peak_mib()}


def _peak_mib() -> float:
    """Return the most memory this process has held. Not from `getrusage`: that begins with what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run(scale: Scale) -> Section:
    """Measure an import of a few keys, and of many."""
    found = {}
    for keys in (FEW, scale.keys):
        source = scale.folder / f"{keys}.jsonl"
        write_import(source, keys)
        found[keys] = import_file(database(scale, keys), source)
    speed = scale.keys / found[scale.keys]["seconds"]
    growth = found[scale.keys]["memory"] - found[FEW]["memory"]
    rows = tuple(
        (
            f"{keys:,}",
            f"{measured['seconds']:.1f}",
            f"{keys / measured['seconds']:,.0f}",
            f"{measured['memory']:.0f}",
            f"{database(scale, keys).stat().st_size / 1e6:.0f}",
        )
        for keys, measured in found.items()
    )
    headings = ("keys", "seconds", "keys a second", "peak of memory MiB", "database MB")
    many = f"import of {scale.keys:,} keys"
    return Section(
        (Table("keydesk import: JSON lines into SQLite", headings, rows),),
        (
            Promise(many, MIN_KEYS_PER_SECOND, speed, "keys/s", at_least=True),
            Promise(f"{many}: memory above that of {FEW:,} keys", MAX_GROWTH_MIB, growth, "MiB"),
        ),
    )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
