"""Room web: which text a request presents as its secret, and where. Works on a WSGI environ (PEP 3333)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from ..decision import Denied, Reason
from ..verifier import MISSING

DUPLICATED = Denied(Reason.DUPLICATED)

_BLANKS = " \t"  # what RFC 9110 calls OWS; str.strip() would take away more
_MAX_PARAMETERS = 1000


class CredentialReader:
    """Finds the presented secret in the header, in `Authorization: Bearer`, and in the query string if that is on.

    Args:
        header: Name of the header.
        query_parameter: Name of the query parameter, or None to leave the query string alone.
    """

    def __init__(self, *, header: str, query_parameter: str | None = None) -> None:
        self._variable = "HTTP_" + header.upper().replace("-", "_")
        self._query_parameter = query_parameter

    def read(self, environ: Mapping[str, Any]) -> str | Denied:
        """Return the presented secret, not checked in any way, or why there is not exactly one.

        Servers join a repeated header into one value with commas, and no secret holds a comma. So a comma means more
        than one value; equal ones count as one, empty ones as none.
        """
        value = environ.get(self._variable, "")
        if value and "," not in value and "HTTP_AUTHORIZATION" not in environ and self._query_parameter is None:
            return value.strip(_BLANKS) or MISSING
        presented = {text for text in self._all(environ) if text}
        if len(presented) > 1:
            return DUPLICATED
        return presented.pop() if presented else MISSING

    def _all(self, environ: Mapping[str, Any]) -> Iterator[str]:
        for part in environ.get(self._variable, "").split(","):
            yield part.strip(_BLANKS)
        for part in environ.get("HTTP_AUTHORIZATION", "").split(","):
            scheme, _, rest = part.strip(_BLANKS).partition(" ")
            if scheme.lower() == "bearer":
                yield rest.strip(_BLANKS)
        if self._query_parameter is not None:
            yield from self._in_query(environ.get("QUERY_STRING", ""), self._query_parameter)

    def _in_query(self, query: str, parameter: str) -> Iterator[str]:
        if query.count("&") >= _MAX_PARAMETERS:  # more than anybody sends: do not search them
            return
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            # Compared as it stands: a name that needs decoding first would pass the filter that blanks access logs.
            if name == parameter:
                yield unquote_plus(value, encoding="latin-1").strip(_BLANKS)
