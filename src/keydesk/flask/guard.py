"""Room flask: one request, from its headers to a refusal or to the view."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from flask import Flask, Request, Response, after_this_request
from werkzeug.routing import Rule

from ..decision import Allowed, Decision, Denied, Reason, Refused
from ..desk import Desk
from ..errors import LimiterUnavailable, StoreError
from ..quotas import Reservation
from ..settings import Settings
from ..terms import ViewLimits
from ..verifier import MISSING
from ..web.credentials import CredentialReader
from ..web.refusals import log_refusal
from ..web.responses import Answer, Answers, expiry_notice, rate_limit_headers
from .access import Access, access_of
from .current import find_allowed, real_request, set_allowed
from .exceptions import EXCEPTIONS, AccessDenied, LimitExceeded, StoreUnavailable, response_of
from .signals import key_accepted, key_denied
from .watch import Watch

logger = logging.getLogger("keydesk")

_LIMITS_TAKEN = "_keydesk_limits_taken"  # of this request, on the request object; see current.py


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class Guard:
    """What the extension keeps for one application."""

    app: Flask
    desk: Desk
    settings: Settings
    credentials: CredentialReader
    answers: Answers
    watch: Watch
    view_limits: dict[str | None, ViewLimits] = field(default_factory=dict)
    handled: dict[tuple[str | None, type[AccessDenied]], bool] = field(default_factory=dict)

    def check(self, access: Access) -> Response | None:
        """Return None where the caller of this request may pass, else the response that refuses it.

        Raises:
            AccessDenied: Refused, and the application has an error handler that takes it.
            RuntimeError: A decorator hides the limits of the view from the guard around it.
        """
        request = real_request()
        if request.method == "OPTIONS" and not self.settings.protect_options:
            return self._options(request, access)
        denied = self._decide(request, access)
        return None if denied is None else self._refuse(request, denied)

    def demand(self, access: Access, exceptions: Mapping[Reason, type[AccessDenied]]) -> None:
        """Return where the caller of this request may pass. For other extensions, which are told by an exception.

        Args:
            access: What is asked of the caller.
            exceptions: What to raise, for each reason; its handler shapes status and body, the headers are put back.

        Raises:
            AccessDenied: Refused.
            RuntimeError: A decorator hides the limits of the view from the guard around it.
        """
        request = real_request()
        denied = self._decide(request, access)
        if denied is not None:
            answer, exception = self._report(request, denied), exceptions[denied.reason]
            _keep_headers(answer)
            raise exception(denied, answer)

    def _decide(self, request: Request, access: Access) -> Denied | None:
        """Return why the caller of this request may not pass; None, and `current_key` is set, where they may."""
        decision: Decision
        earlier = find_allowed(request)
        if earlier is not None:  # a guard within a guard asks for more scopes of the same caller
            self._require_taken(request, access)
            verifier = self.desk.verifier
            decision = verifier.judge(earlier.key, earlier.secret, access.requirement, request.remote_addr)
        else:
            presented = self.credentials.read(request.environ)
            if isinstance(presented, str):
                view = self._view_limits(request, access) if access.limits else None
                decision = self.desk.verifier.verify(
                    presented, access.requirement, request.remote_addr, cost=access.cost, view=view
                )
            elif access.optional and presented is MISSING:
                return None
            else:
                decision = presented
        if isinstance(decision, Denied):
            return decision
        if earlier is None:
            self._accept(request, decision)
            if access.limits:
                request.__dict__[_LIMITS_TAKEN] = access.limits
        return None

    def _require_taken(self, request: Request, access: Access) -> None:
        """Return if the limits of a guard within a guard were taken by the outer one, which cannot see behind all.

        Raises:
            RuntimeError: They were not.
        """
        if not set(access.limits) <= set(request.__dict__.get(_LIMITS_TAKEN, ())):
            raise RuntimeError(
                f"The limits of the view {request.endpoint!r} are hidden by a decorator between @keys.require and "
                "@keys.limit. Put functools.wraps into it, or @keys.limit above it."
            )

    def _view_limits(self, request: Request, access: Access) -> ViewLimits:
        """Return the limits of a view, told apart from those of other applications that share the limiter."""
        endpoint = request.endpoint
        found = self.view_limits.get(endpoint)
        if found is None or found.limits != access.limits:
            found = self.view_limits[endpoint] = ViewLimits(f"{self.app.import_name}:{endpoint}", access.limits)
        return found

    def _options(self, request: Request, access: Access) -> Response | None:
        """Let OPTIONS through: a browser sends no key with a CORS preflight. But never to a view's own code.

        Where Flask itself answers OPTIONS there is nothing to guard. Where the view does, a caller without a key gets
        the answer Flask would have given.
        """
        rule = request.url_rule
        if rule is None or _is_automatic(rule):
            return None
        if not access.optional and self.credentials.read(request.environ) is MISSING:
            return self.app.make_default_options_response()
        return self._check(request, access)

    def _check(self, request: Request, access: Access) -> Response | None:
        denied = self._decide(request, access)
        return None if denied is None else self._refuse(request, denied)

    def _accept(self, request: Request, decision: Allowed) -> None:
        set_allowed(request, decision)
        if key_accepted.receivers:
            key_accepted.send(self.app, decision=decision)
        if decision.taken is not None:
            _add_rate_limits(rate_limit_headers(decision.taken))
        if decision.secret.expires_at is not None or decision.key.expires_at is not None:
            notice = expiry_notice(decision, self.desk.clock.now())
            if notice is not None:
                _add_headers((notice,))

    def _refuse(self, request: Request, denied: Denied) -> Response:
        answer, exception = self._report(request, denied), EXCEPTIONS[denied.reason]
        if self._is_handled(request, exception):
            _keep_headers(answer)
            raise exception(denied, answer)
        return response_of(answer)

    def _report(self, request: Request, denied: Denied) -> Answer:
        """Write down a refusal, tell who listens, and return what is answered."""
        log_refusal(denied, request.remote_addr, request.endpoint)
        if key_denied.receivers:
            key_denied.send(self.app, decision=denied)
        return self.answers.answer(denied)

    def reserve(self, credits_: int) -> Reservation:
        """Take credits from the quotas of the key of this request.

        Raises:
            LimitExceeded: A quota has not as many left.
            StoreUnavailable: The store or the limiter does not answer.
            InvalidField: The number is out of range.
            RuntimeError: There is no key on this request.
        """
        request = real_request()
        allowed = find_allowed(request)
        if allowed is None:
            raise RuntimeError("There is no key on this request. Put @keys.require(cost=0) on the view.")
        denied: Denied
        try:
            return self.desk.quotas.reserve(allowed.key, credits_)
        except Refused as refused:
            denied = refused.decision
            exception: type[LimitExceeded | StoreUnavailable] = LimitExceeded
        except (StoreError, LimiterUnavailable) as error:
            if not getattr(error, "logged", False):
                logger.error("Keydesk cannot take credits: %s", error)
            denied, exception = Denied(Reason.UNAVAILABLE, allowed.key, allowed.secret.hint), StoreUnavailable
        raise exception(denied, self._report(request, denied))

    def _is_handled(self, request: Request, exception: type[AccessDenied]) -> bool:
        """Return whether an error handler of the application would take this exception.

        Asked beforehand, since raising costs more than everything else about a refusal. The answer cannot change:
        Flask refuses new handlers once it has served a request.
        """
        place = (request.endpoint, exception)
        handled = self.handled.get(place)
        if handled is None:
            handled = self.handled[place] = self._has_handler(request, exception)
        return handled

    def _has_handler(self, request: Request, exception: type[AccessDenied]) -> bool:
        """Look where Flask looks: for the blueprints and the application, by status and without, by class."""
        for name in (*request.blueprints, None):
            by_code = self.app.error_handler_spec.get(name, {})
            for code in (exception.code, None):
                handlers = by_code.get(code, {})
                if any(handlers.get(parent) is not None for parent in exception.__mro__):
                    return True
        return False

    def check_options(self) -> Response | None:
        """Run before every request where OPTIONS is protected: guard what Flask itself answers, behind no view.

        Raises:
            AccessDenied: Refused, and the application has an error handler that takes it.
            RuntimeError: A decorator hides the limits of the view from the guard around it.
        """
        request = real_request()
        rule = request.url_rule
        if request.method != "OPTIONS" or rule is None or not _is_automatic(rule):
            return None
        access = access_of(self.app.view_functions.get(rule.endpoint))
        return None if access is None or access.public else self._check(request, access)


def _keep_headers(answer: Answer) -> None:
    """Put back what a handler, which shapes status and body, drops of the headers of an answer.

    Among them is the challenge a 401 must have (RFC 9110).
    """
    about_body = ("Content-Type", "Content-Length")
    _add_headers(tuple(h for h in answer.headers if h[0] not in about_body), status=answer.status)


def _add_headers(headers: tuple[tuple[str, str], ...], *, status: int | None = None) -> None:
    """Add headers that the response of this request does not have yet; with a status, only to one of that status."""

    def add(response: Response) -> Response:
        return _with_headers(response, headers) if status is None or response.status_code == status else response

    after_this_request(add)


def _with_headers(response: Response, headers: tuple[tuple[str, str], ...]) -> Response:
    present = {name.lower() for name in response.headers.keys()}  # noqa: SIM118 - iterating gives pairs
    for name, value in headers:
        if name.lower() not in present:
            response.headers.add(name, value)
    return response


def _add_rate_limits(limits: tuple[tuple[str, str], ...]) -> None:
    """As `_add_headers`, for what every request with limits is answered with, and hardly any view sets itself."""

    def add(response: Response) -> Response:
        headers = response.headers
        for name, _ in headers:
            if name[0] in "Rr" and name.lower() in ("ratelimit", "ratelimit-policy"):
                return _with_headers(response, limits)
        for name, value in limits:
            headers.add(name, value)
        return response

    after_this_request(add)


def _is_automatic(rule: Rule) -> bool:
    """Return whether Flask itself answers OPTIONS here, without the view."""
    return bool(getattr(rule, "provide_automatic_options", False))
