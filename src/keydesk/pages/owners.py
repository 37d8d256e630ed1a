"""Room pages: owners: what all keys of one share, and what they sent."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as AnyResponse

from ..errors import InvalidField, NotPermitted
from ..flask.current import real_request
from ..keys.authority import KEYS_READ, PLANS_WRITE, USAGE_READ
from ..keys.record import parse_owner
from .forms import lines_of
from .keys import VIEWS, chart_of, chosen_view
from .people import may_change, person, require_scope, the_desk
from .routes import Routes, done, shown

ROWS = 100
_KEYS_SHOWN = 20


def add_owners(routes: Routes) -> None:
    """Put in the list of owners, and the page of each."""

    @routes.add("/owners", KEYS_READ, PLANS_WRITE, for_all_owners=True)
    def list_owners() -> Response:
        desk, request = the_desk(), real_request()
        found = desk.owners.list(after=request.args.get("after", ""), size=ROWS + 1)
        return shown(
            "owners.html",
            owners=found[:ROWS],
            after=found[ROWS - 1].owner if len(found) > ROWS else None,
            may_change=may_change(PLANS_WRITE),
            done=request.args.get("done", ""),
        )

    @routes.add("/owner", KEYS_READ, PLANS_WRITE, post=True, for_all_owners=True)
    def show_owner() -> AnyResponse:
        request, desk = real_request(), the_desk()
        try:
            owner = parse_owner(request.values.get("owner", ""))
        except InvalidField as error:
            return shown("owner_named.html", 422, errors={"owner": error.problem}, name=request.values.get("owner", ""))
        if request.method == "GET":
            return _page(owner)
        texts = {name: request.form.get(name, "").replace("\r\n", "\n") for name in ("limits", "quotas")}
        try:
            require_scope(PLANS_WRITE)
            if "delete" in request.form:
                desk.owners.delete(owner, **person().acting)
                return done("removed", ".list_owners")
            lines = {name: lines_of(text) for name, text in texts.items()}
            desk.owners.put(owner, limits=lines["limits"], quotas=lines["quotas"], **person().acting)
        except InvalidField as error:
            return _page(owner, 422, texts=texts, errors={error.field: error.problem})
        except NotPermitted as error:
            return _page(owner, 403, texts=texts, problem=str(error))
        return done("changed", ".show_owner", owner=owner)

    @routes.add("/owners/new", PLANS_WRITE, for_all_owners=True)
    def name_owner() -> Response:
        return shown("owner_named.html", errors={}, name="")


def _page(
    owner: str,
    status: int = 200,
    *,
    texts: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    problem: str = "",
) -> Response:
    desk, request = the_desk(), real_request()
    terms = desk.owners.find(owner)
    by = chosen_view()
    in_force = {
        "limits": "\n".join(map(str, terms.limits if terms else ())),
        "quotas": "\n".join(map(str, terms.quotas if terms else ())),
    }
    return shown(
        "owner.html",
        status,
        owner=owner,
        terms=terms,
        texts=texts or in_force,
        errors=errors or {},
        problem=problem,
        keys=desk.list_keys(owner=owner, size=_KEYS_SHOWN) if person().may(KEYS_READ) else None,
        chart=chart_of(desk, by, f"Requests of {owner}", owner=owner) if person().may(USAGE_READ) else None,
        by=by,
        views=VIEWS,
        may_change=may_change(PLANS_WRITE),
        done=request.args.get("done", ""),
    )
