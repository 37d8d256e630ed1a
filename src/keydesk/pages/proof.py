"""Room pages: fresh proof of the key, asked for before a secret is made or a key is ended."""

from __future__ import annotations

from ..decision import Denied
from ..flask.current import real_request
from ..verifier import ANY_KEY
from ..web.refusals import log_refusal
from . import session
from .people import person, the_desk

WRONG = "This is not the secret of the key you signed in with."


def check_proof() -> str | None:
    """Return why what is asked for is not done yet: the secret has to be shown again. None where it need not."""
    request, sender = real_request(), person()
    if sender.proven or sender.key is None:
        return None
    secret = request.form.get("proof", "").strip()
    if not secret:
        return "Show the secret of your key again: it was some time ago."
    decision = the_desk().verifier.verify(secret, ANY_KEY, request.remote_addr, cost=0)
    if isinstance(decision, Denied) or decision.key.id != sender.key.id:
        if isinstance(decision, Denied):
            log_refusal(decision, request.remote_addr, request.endpoint)
        return WRONG
    session.note_proven(request, the_desk().clock.now())
    return None
