"""Room server: the decision about who sends a request, for all that is plain WSGI."""

from __future__ import annotations

from typing import Any

from ..decision import Decision, Denied
from ..keys.scopes import Requirement
from ..verifier import MISSING, Verifier
from ..web.credentials import CredentialReader
from ..web.refusals import log_refusal
from .access_log import KEY_ID
from .forwarded import ClientAddresses
from .metrics import Metrics


class Decider:
    """Decides about callers, and sees that each refusal is counted and written down.

    Args:
        verifier, credentials: As every door has them.
        addresses: Finds the address of the client.
        metrics: Where decisions are counted.
    """

    def __init__(
        self, verifier: Verifier, credentials: CredentialReader, addresses: ClientAddresses, metrics: Metrics
    ) -> None:
        self._verify = verifier.verify
        self._credentials = credentials
        self._addresses = addresses
        self.count = metrics.count

    def is_anonymous(self, environ: dict[str, Any]) -> bool:
        """Return whether a request presents no key at all."""
        return self._credentials.read(environ) is MISSING

    def decide(self, environ: dict[str, Any], requirement: Requirement) -> Decision:
        """Return whether the caller of a request may do what the requirement names. Who is allowed is not counted."""
        presented, address = self._credentials.read(environ), self._addresses.of(environ)
        decision: Decision = self._verify(presented, requirement, address) if isinstance(presented, str) else presented
        if decision.key is not None:
            environ[KEY_ID] = decision.key.id
        if isinstance(decision, Denied):
            self.count(decision.reason)
            log_refusal(decision, address, environ["PATH_INFO"])
        return decision
