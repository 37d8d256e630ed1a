"""Core: how each setting is read from what somebody wrote. Every problem names its fix."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import InvalidField, SettingsError
from .keys.digest import parse_pepper
from .keys.limits import Limit
from .keys.networks import Networks
from .keys.record import parse_actor, parse_field
from .keys.secret import MAX_SECRET_BYTES, SecretFormat, shown

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token of RFC 9110, of sane length
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_REALM = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}")  # what needs no escaping in a quoted string, RFC 9110
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLACELESS = ("memory", "config")
_DATABASES = ("sqlite", "postgresql", "mysql", "mariadb")
_LIMITERS = ("memory", "sqlite", "redis", "rediss", "valkey", "valkeys", "redis+cluster", "rediss+cluster")
_SERVERS = ("https", "http")
_STORES = "https://desk.example, memory://, config://, file:keys.yml, sqlite:///path, postgresql+psycopg:// or mysql+pymysql://"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidField(name, f"must be text, not {type(value).__name__}; write one text, in quotes")
    return value.strip()


def read_store(value: Any) -> str:
    """Return where keys are kept; empty for the default.

    Raises:
        InvalidField: It is no store, or holds control characters.
    """
    store = "" if value is None else _text(value, "store")
    scheme, colon, rest = store.partition(":")
    kind = scheme.partition("+")[0]
    # No message shows the value but where it is a file: a URL holds a password, and somebody may have pasted a secret.
    if _CONTROL.search(store):
        raise InvalidField("store", "holds control characters; take them out")
    if kind in _PLACELESS and store != f"{kind}://":
        raise InvalidField("store", f"begins with {kind}, which needs :// and nothing behind it; write {kind}://")
    if kind == "file" and not (scheme == kind and colon and rest.lower().endswith((".yml", ".yaml", ".toml"))):
        problem = f"names the file {shown(rest, 80)}" if scheme == kind else "is no store"
        raise InvalidField("store", f"{problem}; write file: and a name that ends in .yml, .yaml or .toml")
    if is_server(store):
        return _server(store)
    if store and kind not in (*_PLACELESS, "file", *_DATABASES):
        begins = f"begins with {kind}:" if re.fullmatch(r"[a-z]{1,12}", kind) and colon else "is no store"
        raise InvalidField("store", f"{begins}; write {_STORES}")
    return store


def is_server(store: str) -> bool:
    """Return whether a store is a server of Keydesk."""
    return store.partition(":")[0] in _SERVERS


def _server(store: str) -> str:
    try:
        parts = urlsplit(store)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not store.isascii() or " " in store:
        raise InvalidField("store", "is no URL of a server; write https://desk.example")
    if parts.username is not None or parts.query or parts.fragment or "?" in store or "#" in store:
        problem = "holds more than the place of the server; write https://desk.example"
        raise InvalidField("store", f"{problem}, and the key with which to ask into KEYDESK_SERVER_KEY")
    return store.rstrip("/")


def read_server_key(value: Any) -> str | None:
    """Return the key with which a server is asked, or None.

    Raises:
        InvalidField: It is no text that can be a key.
    """
    key = None if value is None else _text(value, "server_key") or None
    if key is not None and not re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_SECRET_BYTES}}}", key):
        raise InvalidField("server_key", "cannot be a key; write the secret that `keydesk issue` has shown")
    return key


def read_limiter(value: Any) -> str:
    """Return where requests are counted for their limits; empty for the default.

    Raises:
        InvalidField: It is no limiter.
    """
    limiter = "" if value is None else _text(value, "limiter")
    scheme, colon, rest = limiter.partition("://")
    if limiter and (scheme not in _LIMITERS or not colon or _CONTROL.search(limiter)):
        raise InvalidField("limiter", f"is none; write {', '.join(f'{each}://' for each in _LIMITERS)}")
    if scheme == "memory" and rest:
        raise InvalidField("limiter", "begins with memory, which needs nothing behind it; write memory://")
    if scheme == "sqlite" and (not rest.startswith("/") or not rest.strip("/")):
        raise InvalidField("limiter", "names no file; write for example sqlite:////var/lib/app/limits.db")
    return limiter


def read_limiter_failure(value: Any) -> str:
    """Return what happens to requests while the limiter does not answer: `open` or `closed`.

    Raises:
        InvalidField: It is neither.
    """
    policy = "open" if value is None or value == "" else _text(value, "limiter_failure").lower()
    if policy not in ("open", "closed"):
        raise InvalidField("limiter_failure", f"is neither open nor closed: {shown(policy)}; write one of them")
    return policy


def read_limits(value: Any) -> tuple[Limit, ...]:
    """Return limits, from a list of texts or one text with commas between.

    Raises:
        InvalidField: It is no list, or one of them is no limit.
    """
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    limits: tuple[Limit, ...] = parse_field("limits", value or ())
    return limits


def read_folder(value: Any) -> str | None:
    """Return the path of a folder, or None.

    Raises:
        InvalidField: It is no text, or there is no such folder.
    """
    folder = None if value is None else _text(value, "folder") or None
    if folder is not None and ("\0" in folder or not Path(folder).is_dir()):
        raise InvalidField("folder", "is no folder; make it, or correct the path")
    return folder


def read_trusted_proxies(value: Any) -> Networks:
    """Return networks, from a list of texts or one text with commas between.

    Raises:
        InvalidField: It is no list, one of them is no network, or they are all there are.
    """
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    networks: Networks = parse_field("networks", value or ())
    if value and not len(networks):
        raise InvalidField("trusted_proxies", "trusts every address there is; name the proxies alone")
    return networks


def read_admin_header(value: Any) -> str | None:
    """Return the name of the header in which a proxy says whom it has signed in, or None.

    Raises:
        InvalidField: It is no name of a header.
    """
    if value is None or value == "":
        return None
    header = _text(value, "admin_header")
    if not _HEADER.fullmatch(header):
        raise InvalidField("admin_header", f"is no header name: {header[:80]!r}; write for example X-Forwarded-Email")
    return header


def read_admins(value: Any) -> tuple[str, ...]:
    """Return names of people, from a list of texts or one text with commas between.

    Raises:
        InvalidField: It is no list of names.
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value or (), (list, tuple)):
        raise InvalidField("admins", f"must be a list, not {type(value).__name__}; write the names in it")
    return tuple(parse_actor(name) for name in value or ())


def read_api_key(value: Any) -> str | None:
    """Return the one key, or None.

    Raises:
        InvalidField: It is no text.
    """
    return None if value is None else _text(value, "api_key") or None


def read_api_keys(value: Any) -> Mapping[str, Any]:
    """Return the keys by their secrets; each entry is looked at later.

    Raises:
        InvalidField: It is no mapping, or a text that is no JSON.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            raise InvalidField("api_keys", 'is no JSON; write {"the-secret": "Name of the client"}') from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):  # its entries are looked at one by one, see `keys_of_mapping`
        problem = "must be a mapping of secret to name, or to a table of fields"
        raise InvalidField("api_keys", f'{problem}; write {{"the-secret": "Name of the client"}}')
    return value


def read_prefix(value: Any) -> str:
    """Return the first part of secrets.

    Raises:
        InvalidField: It is none that a secret can have.
    """
    prefix = "kd" if value is None else _text(value, "prefix")
    return SecretFormat(prefix).prefix


def read_pepper(value: Any) -> bytes | None:
    """Return a pepper, or None.

    Raises:
        InvalidField: It is no base64, or too short.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()
    return parse_pepper(_text(value, "pepper"))


def read_peppers(value: Any) -> tuple[bytes, ...]:
    """Return peppers.

    Raises:
        InvalidField: It is no list.
        SettingsError: Some of them are none. All problems are in it.
    """
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, bytes):
        value = [value]
    if value is not None and not isinstance(value, Sequence):
        problem = f"must be a list, not {type(value).__name__}"
        raise InvalidField("previous_peppers", f"{problem}; write a list of peppers, or one text with commas between")
    peppers, problems = [], []
    for number, one in enumerate(value or (), 1):
        try:
            peppers.append(read_pepper(one))
        except InvalidField as error:
            problems.append(f"number {number} {error.problem}")
    if problems:
        raise SettingsError(problems)
    return tuple(filter(None, peppers))


def read_header(value: Any) -> str:
    """Return the name of a header.

    Raises:
        InvalidField: It is none, or one that means something else.
    """
    header = "X-API-Key" if value is None else _text(value, "header")
    if not _HEADER.fullmatch(header):
        raise InvalidField("header", f"is no header name: {header[:80]!r}; write for example X-API-Key")
    if header.lower() in ("authorization", "cookie", "host"):
        raise InvalidField(
            "header",
            f"cannot be {header}: Authorization: Bearer is always read; name another, such as X-API-Key",
        )
    return header


def read_query_parameter(value: Any) -> str | None:
    """Return the name of a parameter, or None.

    Raises:
        InvalidField: It is none.
    """
    parameter = None if value is None else _text(value, "query_parameter") or None
    if parameter is not None and not _PARAMETER.fullmatch(parameter):
        raise InvalidField("query_parameter", f"is no parameter name: {parameter[:80]!r}; write for example api_key")
    return parameter


def read_realm(value: Any) -> str:
    """Return a realm.

    Raises:
        InvalidField: It cannot stand in a header as it is.
    """
    realm = "api" if value is None else _text(value, "realm")
    if not _REALM.fullmatch(realm):
        problem = "must be 1 to 64 printable ASCII characters without quotes and backslashes"
        raise InvalidField("realm", f"{problem}; write for example api")
    return realm


def read_boolean(value: Any) -> bool:
    """Return true or false.

    Raises:
        InvalidField: It is neither.
    """
    text = "" if value is None else str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise InvalidField("boolean", f"is neither true nor false: {shown(str(value))}; write true or false")
    return text in _TRUE


def number_from(lowest: float, highest: float, default: float | None, *, whole: bool = False) -> Callable[[Any], Any]:
    """Return what reads a number from `lowest` to `highest`; nothing is the default."""
    advice = f"write a {'whole ' if whole else ''}number from {lowest:g} to {highest:g}"

    def read(value: Any) -> float | None:
        if value is None or value == "":
            return default
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not lowest <= number <= highest or (whole and number != int(number)):
            raise InvalidField("number", f"is out of range: {shown(str(value))}; {advice}")
        return int(number) if whole else number

    return read
