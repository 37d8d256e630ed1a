"""Room server: one WSGI application (PEP 3333). It finds who answers a path, and sees that everybody gets an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

from flask import Flask, request
from werkzeug.exceptions import ServiceUnavailable

from ..build import STAND_ALONE_STORE, build_desk
from ..clock import Clock
from ..decision import Allowed, Denied
from ..desk import Desk
from ..environment import read_environment
from ..flask.signals import key_accepted, key_denied
from ..settings import Given, Settings, problems_of_server, survey_settings
from ..usage import ALLOWED
from ..web.credentials import CredentialReader
from ..web.responses import Answers, problem_answer
from .access_log import KEY_ID, AccessLog
from .admin import PERSON, make_admin
from .authz import ForwardAuth
from .bodies import Bodies
from .crew import Crew
from .deciding import Decider
from .forwarded import ClientAddresses
from .leaks import Leaks
from .management import make_management
from .management.problems import BUSY
from .metrics import Metrics
from .operation import Operation
from .sync import Sync
from .verify import Verify

logger = logging.getLogger("keydesk")

# What answers, and what is counted with it.
Place: TypeAlias = "tuple[str, Callable[[dict[str, Any], Any], Iterable[bytes]]]"

_FAILED = problem_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "This went wrong; the server's log says why.")


class Server:
    """The server of one desk. Any number of threads may call it.

    Args:
        desk, settings: Whose, and which.
        crew: The threads that answer, where the server underneath starts several at once.

    Attributes:
        desk: Whose keys it verifies and manages.
    """

    def __init__(self, desk: Desk, settings: Settings, crew: Crew | None = None) -> None:
        self.desk = desk
        self._crew = crew
        self._monotonic = desk.clock.monotonic
        credentials = CredentialReader(header=settings.header, query_parameter=None)
        answers = Answers(realm=settings.realm, header=settings.header)
        addresses = ClientAddresses(settings.trusted_proxies)
        self._metrics = Metrics(desk, Path(settings.metrics_folder) if settings.metrics_folder else None)
        self._log = AccessLog(addresses) if settings.access_log else None
        decider = Decider(desk.verifier, credentials, addresses, self._metrics)
        authz = ForwardAuth(desk.clock, answers, decider)
        self._envoy: Place = ("authz", authz.envoy)
        leaks = Leaks(desk, answers, decider)
        operation = Operation(desk)
        # By the very path: what a proxy's normalising could change, such as `//` and `;`, is nowhere.
        self._by_path: dict[str, Place] = {
            "/authz/forwarded": ("authz", authz.forwarded),
            "/authz/nginx": ("authz", authz.nginx),
            "/authz/envoy": self._envoy,
            "/v1/verify": ("verify", Verify(desk.verifier, answers, decider)),
            "/v1/leaks": ("leaks", leaks.report),
            "/v1/leaks/github": ("leaks", leaks.github),
            "/healthz": ("operation", operation.health),
            "/readyz": ("operation", operation.ready),
            "/metrics": ("operation", self._metrics),
        }
        sync = Sync(desk, answers, decider)
        self._by_path |= dict.fromkeys(sync.paths, ("sync", sync))
        self._bodies = Bodies(desk.clock)
        self._addresses = addresses
        self._management = make_management(desk, settings)
        key_accepted.connect(self._note_accepted, self._management)
        key_denied.connect(self._note_denied, self._management)
        self._elsewhere: Place = ("management", self._manage)
        self._admin = make_admin(desk, settings)
        self._pages: Place = ("pages", self._administer)
        header = settings.admin_header
        self._admin_variable = header and "HTTP_" + header.upper().replace("-", "_")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        began = self._monotonic()
        path = environ["PATH_INFO"]
        place = self._by_path.get(path)
        if place is None:
            place = self._elsewhere
            if path.startswith("/authz/envoy/"):
                place = self._envoy
            elif path == "/admin" or path.startswith("/admin/"):
                place = self._pages
        door, application = place
        log = self._log
        if log is not None:
            start_response = log.listening(environ, start_response)
        if door != "authz":  # which reads none
            self._bodies.guard(environ, of_application=door == "sync")
        try:
            body = application(environ, start_response)
        except ServiceUnavailable:
            start_response(BUSY.status_line, list(BUSY.headers))
            body = [BUSY.body]
        except Exception:
            logger.exception("A request to the server went wrong")
            start_response(_FAILED.status_line, list(_FAILED.headers))
            body = [_FAILED.body]
        ended = self._monotonic()
        took = ended - began
        self._metrics.time(door, took)
        if log is not None:
            log.write(environ, took)
        if door == "authz" and self._crew is not None:
            return self._crew.sending(body, ended, took)
        return body

    def _manage(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["REMOTE_ADDR"] = self._addresses.of(environ) or ""  # where Flask looks for the address of the client
        return self._management.wsgi_app(environ, start_response)

    def _administer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        variable = self._admin_variable
        if variable and self._addresses.trusts(environ.get("REMOTE_ADDR")):
            environ[PERSON] = environ.get(variable)
        environ["REMOTE_ADDR"] = self._addresses.of(environ) or ""
        return self._admin.wsgi_app(environ, start_response)

    def _note_accepted(self, _: Flask, decision: Allowed) -> None:
        self._metrics.count(ALLOWED)
        request.environ[KEY_ID] = decision.key.id

    def _note_denied(self, _: Flask, decision: Denied) -> None:
        self._metrics.count(decision.reason)
        if decision.key is not None:
            request.environ[KEY_ID] = decision.key.id

    def close(self) -> None:
        """Write down what was counted, and give back connections. The server cannot be used afterwards."""
        self.desk.close()


def create_app(settings: Mapping[str, Any] | None = None, *, clock: Clock | None = None) -> Server:
    """Return the server of these settings, or of those in the environment.

    Args:
        settings: As for `keydesk.open_desk`.
        clock: What tells the time; the system's by default.

    Raises:
        SettingsError: Settings cannot be used, or there is no pepper. All problems are in it, each with its fix.
    """
    return Server(*_built(read_environment() if settings is None else settings, clock))


def create_worker() -> Server:
    """Return the server of the settings in the environment, for a process that answers with several threads.

    Raises:
        SettingsError: As of `create_app`.
    """
    desk, settings = _built(read_environment())
    return Server(desk, settings, Crew(desk.clock))


def _built(given: Mapping[str, Any] | Given, clock: Clock | None = None) -> tuple[Desk, Settings]:
    settings, problems = survey_settings(given, default_store=STAND_ALONE_STORE)
    problems += problems_of_server(settings)
    return build_desk(settings, problems=problems, clock=clock), settings
