"""Room pages: fresh proof of the key, asked for before a secret is made or a key is ended."""

from __future__ import annotations

from ..decision import Denied
from ..errors import InvalidField
from ..flask.current import real_request
from ..verifier import ANY_KEY
from ..web.refusals import log_refusal
from . import session
from .people import person, the_desk


def require_proof() -> None:
    """Return if what is asked for may be done without the secret being shown again, or where it has just been.

    Raises:
        InvalidField: It has to be shown.
    """
    request, sender = real_request(), person()
    if sender.proven or sender.key is None:
        return
    secret = request.form.get("proof", "").strip()
    if not secret:
        raise InvalidField("proof", "is empty: show the secret of your key again, as it was some time ago")
    decision = the_desk().verifier.verify(secret, ANY_KEY, request.remote_addr, cost=0)
    if isinstance(decision, Denied) or decision.key.id != sender.key.id:
        if isinstance(decision, Denied):
            log_refusal(decision, request.remote_addr, request.endpoint)
        raise InvalidField("proof", "is not the secret of the key you signed in with")
    session.note_proven(request, the_desk().clock.now())
