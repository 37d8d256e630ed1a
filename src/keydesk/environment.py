"""Core: settings from the environment, and from the TOML file that `KEYDESK_CONFIG` names."""

from __future__ import annotations

import functools
import logging
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from .errors import first_problems
from .keys.secret import redact
from .setting_table import NAMES
from .settings import CONFIG_FILE, LONG_NAME, OURS, Given, nearest_setting

logger = logging.getLogger("keydesk")


def read_environment(environ: Mapping[str, str] | None = None) -> Given:
    """Return our settings from the environment, over those of the TOML file that `KEYDESK_CONFIG` names.

    A name in the environment that is nearly one of ours is logged, once. Those that only look like ours, such as those
    Kubernetes makes for a service called keydesk, are passed over; `keydesk doctor` lists them. What is wrong with the
    file is found in the result, so that it can be reported with everything else.
    """
    environ = os.environ if environ is None else environ
    for name in environ:
        if name.upper().startswith(OURS) and name not in {*NAMES, CONFIG_FILE}:
            _warn_of(name)
    path = environ.get(CONFIG_FILE)
    file = _read_file(path) if path else Given({})
    return Given({**file.values, **{name: environ[name] for name in NAMES if name in environ}}, file.problems)


def _read_file(path: str) -> Given:
    try:
        held = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError):
            problem = f"{error.strerror}; correct the path, or put a file there that this user may read"
        else:  # without the parser's own message: it may quote the line, and that may hold a secret
            place = re.search(r"line \d+", str(error))
            problem = f"it is no TOML in UTF-8{f', see {place[0]}' if place else ''}; correct it there"
        return Given({}, (f"{CONFIG_FILE} names {path}, which cannot be read: {problem}",))
    wrong = [_unknown_in_file(name, at, path) for at, name in enumerate(held, 1) if name not in NAMES]
    return Given({name: held[name] for name in NAMES if name in held}, tuple(first_problems(wrong)))


def _unknown_in_file(name: str, position: int, path: str) -> str:
    """Return what is wrong with a name in the file. One that is not like ours is not shown: it may be a secret."""
    if name == CONFIG_FILE:
        return f"{CONFIG_FILE} is read from the environment only; take it out of the file {path}"
    if near := nearest_setting(name):
        return f"{name} in the file {path} is no setting; did you mean {near}?"
    if name.startswith(OURS):
        return f"{redact(name)[:LONG_NAME]} in the file {path} is no setting of this version; take it out"
    fix = "take it out, or write it under [API_KEYS] if it is a key"
    return f"entry {position} of the file {path} is no setting; {fix}"


@functools.cache
def _warn_of(name: str) -> None:
    """Log a name in the environment that is nearly ours, once. A start does not fail for it: somebody else may have it.

    The cache keeps as many names as the environments of a process have, which are few.
    """
    if near := nearest_setting(name):
        logger.warning("%s in the environment is not read; did you mean %s?", name, near)


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names in an environment that begin like ours and are none."""
    return sorted(name for name in environ if name.startswith(OURS) and name not in {*NAMES, CONFIG_FILE})
