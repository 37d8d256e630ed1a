"""Room server: one line of JSON for each request, for machines that read logs. No secret is in it, nor any query."""

from __future__ import annotations

import json
import logging
from typing import Any

from ..keys.secret import redact
from .forwarded import ClientAddresses

logger = logging.getLogger("keydesk.access")

KEY_ID = "keydesk.key_id"  # in the environ, where a door has found who calls
_STATUS = "keydesk.status"
MAX_CHARACTERS = 200
# Where each way of asking has the method and the path of the request that is asked about. They are only written down.
_ORIGINAL = {
    "/authz/nginx": ("HTTP_X_ORIGINAL_METHOD", "HTTP_X_ORIGINAL_URI"),
    "/authz/forwarded": ("HTTP_X_FORWARDED_METHOD", "HTTP_X_FORWARDED_URI"),
}


class AccessLog:
    """Writes down requests.

    Args:
        addresses: Finds the address of the client.
    """

    def __init__(self, addresses: ClientAddresses) -> None:
        self._addresses = addresses

    def listening(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Return a `start_response` that notes the status."""

        def noting(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            environ[_STATUS] = status
            return start_response(status, headers, *more)

        return noting

    def write(self, environ: dict[str, Any], seconds: float) -> None:
        """Write one line."""
        path = environ["PATH_INFO"]
        line = {
            "method": environ["REQUEST_METHOD"],
            "path": _shown(path),
            "status": int(environ[_STATUS][:3]),
            "duration_ms": round(seconds * 1000, 3),
            "key": environ.get(KEY_ID),
            "client": _shown(self._addresses.of(environ) or ""),
            "request_id": _shown(environ.get("HTTP_X_REQUEST_ID", "")),
        }
        if path in _ORIGINAL:
            method, uri = _ORIGINAL[path]
            line["original_method"] = _shown(environ.get(method, ""))
            line["original_path"] = _shown(environ.get(uri, ""))
        logger.info("%s", json.dumps(line))


def _shown(text: str) -> str:
    """Return a text without its query, with what looks like a secret taken out, and of bounded length."""
    return redact(text.partition("?")[0])[:MAX_CHARACTERS]
