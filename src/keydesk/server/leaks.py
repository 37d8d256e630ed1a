"""Room server: leak reports, by GitHub and by anybody else. The key of a secret that was found is revoked.

GitHub signs its reports. For others the secret itself is all that it takes: whoever has it could do worse with it. That
is no way to end keys by guessing, as nobody guesses 190 bits; imported secrets may have less, so to report such a one
takes a key that may revoke keys anyway.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from typing import Any

from ..decision import Denied, Reason
from ..desk import Desk
from ..errors import InvalidField, StoreError, StoreReadOnly
from ..keys.authority import KEYS_WRITE
from ..keys.record import Key
from ..keys.scopes import requirement_of
from ..keys.secret import redact
from ..leaks import find_leak, revoke_leak
from ..web.responses import Answer, Answers, problem_answer
from .deciding import Decider
from .github_keys import ASK_AGAIN_SECONDS, META_URL, GithubKeys, Verdict
from .messages import (
    answer_post,
    json_answer,
    parse_json,
    read_body,
    require_json,
)

logger = logging.getLogger("keydesk")

MAX_BODY_BYTES = 2_097_152
MAX_LEAKS = 1000
MAX_ANONYMOUS_BYTES = 65_536
MAX_ANONYMOUS_LEAKS = 20  # each costs a read, as a request with a made-up key does
MAX_URL_CHARACTERS = 300
MAX_SECONDS = 25  # GitHub waits for 30
GITHUB_ACTOR = "github secret scanning"
ANONYMOUS_ACTOR = "leak report"
_REVOKER = requirement_of((KEYS_WRITE,), ())
_FIELDS = frozenset({"secret", "url", "source"})
_UNAVAILABLE = Denied(Reason.UNAVAILABLE)
_OTHER = "other"
_SOURCE = re.compile(r"[a-z0-9][a-z0-9 ._/-]{0,31}")  # too short to hold a secret
_URL = re.compile(r"https?://[0-9A-Za-z.:\[\]-]+(?:/[0-9A-Za-z._~:/\[\]@!$&()*+,;=%-]*)?")


class Result(StrEnum):
    """What became of a secret that was reported."""

    REVOKED = "revoked"  # its key, just now
    OVER = "over"  # it could not be used any more
    UNKNOWN = "unknown"
    NOT_REVOKED = "not_revoked"  # its key is kept where it cannot be changed from here; the log says where
    NOT_CHECKED = "not_checked"  # it has not our shape, and who reports has no key that may revoke


@dataclass(frozen=True, slots=True)
class _Report:
    """One secret that was found, and where. It is left out of the repr."""

    secret: str = field(repr=False)
    source: str
    url: str


class Leaks:
    """Answers `POST /v1/leaks` and `POST /v1/leaks/github`. Any number of threads may share it.

    Args:
        desk, answers: As every door has them.
        decider: Decides about callers.
        github_url: Where GitHub's public keys are.
    """

    def __init__(
        self,
        desk: Desk,
        answers: Answers,
        decider: Decider,
        *,
        github_url: str = META_URL,
    ) -> None:
        self._desk = desk
        self._answers = answers
        self._decider = decider
        self._github_keys = GithubKeys(desk.clock, github_url)

    def github(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a report of GitHub's secret scanning (PEP 3333)."""
        return answer_post(partial(self._answer, self._of_github), environ, start_response)

    def report(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a report of another scanner, or of a person (PEP 3333)."""
        return answer_post(partial(self._answer, self._of_others), environ, start_response)

    def _answer(self, answer_to: Callable[[dict[str, Any]], Answer], environ: dict[str, Any]) -> Answer:
        try:
            return answer_to(environ)
        except StoreError as error:
            logger.error("Keydesk cannot look up secrets that are reported as leaked: %s", error)
            return self._answers.answer(_UNAVAILABLE)

    # GitHub

    def _of_github(self, environ: dict[str, Any]) -> Answer:
        identifier = environ.get("HTTP_GITHUB_PUBLIC_KEY_IDENTIFIER", "")
        signature = environ.get("HTTP_GITHUB_PUBLIC_KEY_SIGNATURE", "")
        if not identifier or not signature:
            return problem_answer(HTTPStatus.FORBIDDEN, "not_signed", "This is for reports that GitHub has signed.")
        body = read_body(environ, MAX_BODY_BYTES)
        verdict = self._github_keys.check(identifier, signature, body)
        if verdict is Verdict.WRONG:
            return problem_answer(HTTPStatus.FORBIDDEN, "wrong_signature", "GitHub has not signed this.")
        if verdict is Verdict.NOT_KNOWN:
            detail = "GitHub's public keys cannot be had at the moment. Send the report again in two minutes."
            return _again_later(detail, ASK_AGAIN_SECONDS)
        said = parse_json(body)
        if not isinstance(said, list) or len(said) > MAX_LEAKS:
            raise InvalidField("body", f"must be an array of at most {MAX_LEAKS} objects")
        # What cannot be read is passed over: it keeps no secret beside it from being revoked.
        entries = [entry for entry in said if isinstance(entry, dict) and isinstance(entry.get("token"), str)]
        found = [_Report(entry["token"], _source(entry.get("source")), _url(entry.get("url"))) for entry in entries]
        results = self._handle(found, GITHUB_ACTOR, "GitHub in {}", proven=True)
        if len(results) < len(found):
            return _again_later("There was too much to do for one request. Send the same again.", 1)
        labels = [
            {
                "token_hash": hashlib.sha256(entry["token"].encode("utf-8", "surrogatepass")).hexdigest(),
                "token_type": entry["type"] if isinstance(entry.get("type"), str) else "",
                "label": "false_positive" if result is Result.UNKNOWN else "true_positive",
            }
            for entry, result in zip(entries, results, strict=True)
        ]
        return json_answer(labels)

    # Others

    def _of_others(self, environ: dict[str, Any]) -> Answer:
        caller = None
        if not self._decider.is_anonymous(environ):
            decision = self._decider.decide(environ, _REVOKER)
            if isinstance(decision, Denied):  # a wrong key is refused, as everywhere
                return self._answers.answer(decision)
            caller = decision.key
        require_json(environ)
        said = parse_json(read_body(environ, MAX_BODY_BYTES if caller else MAX_ANONYMOUS_BYTES))
        found = _reports(said, MAX_LEAKS if caller else MAX_ANONYMOUS_LEAKS)
        results = self._handle(found, caller.id if caller else ANONYMOUS_ACTOR, "{}", caller)
        if len(results) < len(found):
            return _again_later("There was too much to do for one request. Send the same again.", 1)
        return json_answer({"leaks": [{"result": result.value} for result in results]})

    # Both

    def _handle(
        self, found: list[_Report], actor: str, named: str, caller: Key | None = None, *, proven: bool = False
    ) -> list[Result]:
        """Revoke the keys of what was found, in order, for as long as there is time; return what became of each.

        Args:
            found, caller: What was reported, and by whose key, if by one.
            actor, named: Who that is, for the event and in its reason; `{}` stands for the source.
            proven: Whether all of it has leaked for certain, whatever it looks like.
        """
        end, results = self._desk.clock.monotonic() + MAX_SECONDS, list[Result]()
        for report in found:
            if self._desk.clock.monotonic() > end:
                break
            reason = f"leaked: reported by {named.format(report.source)}{': ' if report.url else ''}{report.url}"
            guessed = not (proven or self._desk.mint.secret_format.claims(report.secret))
            results.append(self._revoke(report.secret, reason, actor, caller, maybe_guessed=guessed))
        return results

    def _revoke(self, secret: str, reason: str, actor: str, caller: Key | None, *, maybe_guessed: bool) -> Result:
        """Revoke the key of a secret, if there is one. For one that could be guessed, the caller must be allowed to."""
        if maybe_guessed and caller is None:
            return Result.NOT_CHECKED
        leak = find_leak(self._desk, secret)
        if leak is None or (maybe_guessed and caller and caller.owner not in (None, leak.key.owner)):
            return Result.UNKNOWN
        try:
            revoked = revoke_leak(self._desk, leak, reason=reason, actor=actor)
        except StoreReadOnly as error:
            logger.error("%s (%s) has leaked and is still in force: %s", leak.key.id, leak.secret.hint, error)
            return Result.NOT_REVOKED
        if revoked:
            logger.warning("Keydesk revoked %s (%s): %s", leak.key.id, leak.secret.hint, reason)
        return Result.REVOKED if revoked else Result.OVER


def _reports(said: Any, most: int) -> list[_Report]:
    """Return the secrets that a body reports.

    Raises:
        InvalidField: Something of it cannot be used. Nothing of it is repeated.
    """
    leaks = said.get("leaks") if isinstance(said, dict) else None
    if not isinstance(leaks, list) or len(leaks) > most:
        more = "" if most == MAX_LEAKS else f"; with a key that has keydesk:keys:write, {MAX_LEAKS}"
        raise InvalidField("leaks", f"must be a list of at most {most} objects{more}")
    found = []
    for number, entry in enumerate(leaks):
        here = f"leaks[{number}]"
        if not isinstance(entry, dict) or not entry.keys() <= _FIELDS or not isinstance(entry.get("secret"), str):
            raise InvalidField(here, "must be an object with secret and, if known, source and url, as texts")
        if not all(isinstance(value, str) for value in entry.values()):
            raise InvalidField(here, "must hold texts only")
        found.append(_Report(entry["secret"], _source(entry.get("source")), _url(entry.get("url"))))
    return found


def _source(value: object) -> str:
    """Return where something was found, in lower case, as it may stand in an event; `other` where it may not."""
    source = value.lower() if isinstance(value, str) and len(value) <= MAX_URL_CHARACTERS else ""
    return source if _SOURCE.fullmatch(source) else _OTHER


def _url(value: object) -> str:
    """Return an address as it may stand in an event and in a log; nothing where it may not. It is never fetched.

    What follows its path is cut off, and one with a name and a password in front of its host is left out.
    """
    if not isinstance(value, str):
        return ""
    address = re.split(r"[?#]", value[: MAX_URL_CHARACTERS + 1], maxsplit=1)[0]
    if len(address) > MAX_URL_CHARACTERS or not _URL.fullmatch(address) or redact(address) != address:
        return ""
    return address


def _again_later(detail: str, seconds: int) -> Answer:
    answer = problem_answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail)
    return replace(answer, headers=(*answer.headers, ("Retry-After", str(seconds))))
