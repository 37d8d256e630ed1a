"""Room pages: issuing a key. Its secret is in one answer, and there is no way back to it."""

from __future__ import annotations

import secrets
from typing import Any

from flask import Response, url_for

from ..desk import Desk
from ..errors import AddedBefore, InvalidField, KeydeskError, StoreError
from ..flask.current import real_request
from ..keys.authority import KEYS_WRITE
from ..keys.plans import Plan
from ..keys.record import IssuedKey, parse_fields
from ..keys.secret import Environment
from ..ports import Once, digest_of_json, writable
from ..standing import Standing, standing_of
from .forms import fields_of, plan_choices, texts_of
from .people import Person, person, the_desk, the_settings
from .proof import require_proof
from .routes import Routes, shown

_MOST_PLANS = 200
_ISSUED_BEFORE = (
    "This form was sent before, and the key was issued then. Its secret was shown that time and is kept nowhere: where "
    "it was lost, rotate the key."
)


def add_issuing(routes: Routes) -> None:
    """Put in the form for a new key."""

    @routes.add("/keys/new", KEYS_WRITE, post=True)
    def issue_key() -> Response:
        desk, sender, request = the_desk(), person(), real_request()
        writable(desk.store)
        if request.method == "GET":
            texts = {**texts_of({}), "environment": "live", "owner": sender.owner or request.args.get("owner", "")}
            texts["plan"] = request.args.get("plan", "")
            return _form(desk, sender, texts, secrets.token_urlsafe(16))
        texts, once = texts_of(request.form), request.form.get("once", "")[:100]
        if sender.owner is not None:
            texts["owner"] = texts["owner"] or sender.owner
        try:
            fields = fields_of(texts)
            parsed = parse_fields(fields)
            if "look" in request.form:
                return _form(desk, sender, texts, once, standing=standing_of(desk, parsed))
            require_proof()
            (issued,) = desk.issue_many([fields], once=_once(desk, sender, once, texts), **sender.acting)
        except AddedBefore as before:
            key_id = before.key_ids[0]
            return shown("issued_before.html", 409, said=_ISSUED_BEFORE, key_id=key_id)
        except InvalidField as error:
            return _form(desk, sender, texts, once, 422, errors={error.field: error.problem})
        except StoreError:
            raise
        except KeydeskError as error:
            return _form(desk, sender, texts, once, 422, problem=str(error))
        return secret_page(issued, "issued")


def _form(
    desk: Desk,
    sender: Person,
    texts: dict[str, str],
    once: str,
    status: int = 200,
    *,
    standing: Standing | None = None,
    errors: dict[str, str] | None = None,
    problem: str = "",
) -> Response:
    plans = plans_for(desk, sender)
    return shown(
        "issue.html",
        status,
        texts=texts,
        once=once,
        standing=standing,
        errors=errors or {},
        problem=problem,
        plans=plans,
        plan_choices=plan_choices(plans, texts["plan"]),
        environments=[(each.value, each.value) for each in Environment],
        proof_needed=not sender.proven,
        cancel=url_for(".list_keys"),
    )


def plans_for(desk: Desk, sender: Person) -> tuple[Plan, ...]:
    """Return the plans that a person may give a key: of a key that is bound to an owner, its own alone.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    if sender.owner is None:
        return desk.plans.list(size=_MOST_PLANS)
    own = desk.plans.find(sender.key.plan) if sender.key and sender.key.plan else None
    return (own,) if own else ()


def _once(desk: Desk, sender: Person, token: str, texts: dict[str, str]) -> Once:
    """Return by what name this form is done once: whoever loads the answer anew sends it again."""
    who = sender.key.id if sender.key else f"pages:{digest_of_json(sender.name)[:32]}"
    return Once.of(who, token, texts, desk.clock.now())


def secret_page(issued: IssuedKey, what: str) -> Response:
    """Return the one page that shows a secret.

    Args:
        issued: The key and its secret.
        what: What was done: `issued` or `rotated`.
    """
    values: dict[str, Any] = {"issued": issued, "what": what, "header": the_settings().header}
    return shown("secret.html", **values)
