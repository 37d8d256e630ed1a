"""Room pages: what can be done with a key: change, rotate, switch off and on, revoke, delete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import Response, url_for
from werkzeug.wrappers import Response as AnyResponse

from ..errors import InvalidField, NotPermitted, StateConflict, VersionConflict
from ..flask.current import real_request
from ..keys.authority import KEYS_WRITE
from ..keys.record import Key
from .forms import fields_of, plan_choices, texts_of, texts_of_key, version_of
from .issuing import plans_for, secret_page
from .keys import key_page, visible
from .people import person, the_desk
from .proof import require_proof
from .routes import Routes, done, shown

OVERLAPS = (
    ("0", "none: they end at once"),
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
    ("2592000", "30 days"),
)
_DEFAULT_OVERLAP = "86400"
_CHANGED = "Somebody has changed this key meanwhile, or this was done before. Look at it as it is now, and try again."


def add_tending(routes: Routes) -> None:
    """Put in the actions on keys."""
    _add_edit(routes)
    _add_rotate(routes)
    _add_ends(routes)

    @routes.add("/keys/<key_id>/disable", KEYS_WRITE, post=True)
    def disable_key(key_id: str) -> AnyResponse:
        return _act(key_id, "disabled", lambda given: the_desk().disable(key_id, **given))

    @routes.add("/keys/<key_id>/enable", KEYS_WRITE, post=True)
    def enable_key(key_id: str) -> AnyResponse:
        return _act(key_id, "enabled", lambda given: the_desk().enable(key_id, **given))


def _add_edit(routes: Routes) -> None:
    @routes.add("/keys/<key_id>/edit", KEYS_WRITE, post=True)
    def edit_key(key_id: str) -> AnyResponse:
        key, request, desk = visible(key_id), real_request(), the_desk()
        if request.method == "GET":
            return _edit_form(key, texts_of_key(key))
        before, texts = texts_of_key(key), texts_of(request.form)
        fields, now_there = fields_of({**texts, "environment": before["environment"]}), fields_of(before)
        given = {name: value for name, value in fields.items() if value != now_there[name]}
        try:
            desk.update(key_id, if_version=version_of(request.form), **given, **person().acting)
        except InvalidField as error:
            return _edit_form(key, texts, 422, errors={error.field: error.problem})
        except VersionConflict:
            return _edit_form(key, texts, 409, problem=_CHANGED)
        except (NotPermitted, StateConflict) as error:
            return _edit_form(key, texts, 422, problem=str(error))
        return done("changed", ".show_key", key_id=key_id)


def _edit_form(
    key: Key, texts: dict[str, str], status: int = 200, *, errors: dict[str, str] | None = None, problem: str = ""
) -> Response:
    return shown(
        "edit.html",
        status,
        key=key,
        texts=texts,
        errors=errors or {},
        problem=problem,
        plan_choices=plan_choices(plans_for(the_desk(), person()), texts["plan"]),
        cancel=url_for(".show_key", key_id=key.id),
    )


def _add_rotate(routes: Routes) -> None:
    @routes.add("/keys/<key_id>/rotate", KEYS_WRITE, post=True)
    def rotate_key(key_id: str) -> AnyResponse:
        key, request = visible(key_id), real_request()
        chosen = request.form.get("overlap", _DEFAULT_OVERLAP)
        if request.method == "GET":
            return _rotate_form(key, chosen)
        try:
            require_proof()
            if chosen not in dict(OVERLAPS):
                raise InvalidField("overlap", "is none of the list; choose one")
            overlap = timedelta(seconds=int(chosen))
            issued = the_desk().rotate(key_id, overlap=overlap, if_version=version_of(request.form), **person().acting)
        except InvalidField as error:
            return _rotate_form(key, chosen, 422, errors={error.field: error.problem})
        except VersionConflict:
            return key_page(key_id, 409, problem=_CHANGED)
        except (NotPermitted, StateConflict) as error:
            return _rotate_form(key, chosen, 422, problem=str(error))
        return secret_page(issued, "rotated")


def _rotate_form(key: Key, chosen: str, status: int = 200, **values: Any) -> Response:
    return _confirm("rotate.html", key, status, chosen=chosen, overlaps=OVERLAPS, **values)


def _confirm(template: str, key: Key, status: int, **values: Any) -> Response:
    values = {"errors": {}, "problem": "", **values}
    return shown(template, status, key=key, proof_needed=not person().proven, **values)


def _add_ends(routes: Routes) -> None:
    @routes.add("/keys/<key_id>/revoke", KEYS_WRITE, post=True)
    def revoke_key(key_id: str) -> AnyResponse:
        reason = real_request().form.get("reason", "").strip()
        return _end(
            "revoke.html",
            key_id,
            lambda given: the_desk().revoke(key_id, reason=reason, **given),
            lambda: done("revoked", ".show_key", key_id=key_id),
            reason=reason,
        )

    @routes.add("/keys/<key_id>/delete", KEYS_WRITE, post=True)
    def delete_key(key_id: str) -> AnyResponse:
        return _end(
            "delete.html",
            key_id,
            lambda given: the_desk().delete(key_id, **given),
            lambda: done("deleted", ".list_keys"),
        )


def _end(
    template: str,
    key_id: str,
    end: Callable[[dict[str, Any]], object],
    go_on: Callable[[], AnyResponse],
    **values: Any,
) -> AnyResponse:
    """Ask before something that cannot be undone, or do it."""
    key = visible(key_id)
    if real_request().method == "GET":
        return _confirm(template, key, 200, **values)
    try:
        require_proof()
        end({"if_version": version_of(real_request().form), **person().acting})
    except InvalidField as error:
        return _confirm(template, key, 422, errors={error.field: error.problem}, **values)
    except VersionConflict:
        return key_page(key_id, 409, problem=_CHANGED)
    except (NotPermitted, StateConflict) as error:
        return _confirm(template, key, 422, problem=str(error), **values)
    return go_on()


def _act(key_id: str, what: str, act: Callable[[dict[str, Any]], object]) -> AnyResponse:
    visible(key_id)
    if real_request().method == "GET":  # a link that somebody kept
        return done("", ".show_key", key_id=key_id)
    try:
        act({"if_version": version_of(real_request().form), **person().acting})
    except VersionConflict:
        return key_page(key_id, 409, problem=_CHANGED)
    except (NotPermitted, StateConflict) as error:
        return key_page(key_id, 422, problem=str(error))
    return done(what, ".show_key", key_id=key_id)
