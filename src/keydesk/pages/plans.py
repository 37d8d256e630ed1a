"""Room pages: plans: what each gives, and how it is changed."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as AnyResponse

from ..errors import InvalidField, NotPermitted, PlanNotFound, StateConflict, VersionConflict
from ..flask.current import real_request
from ..keys.authority import KEYS_READ, KEYS_WRITE, PLANS_WRITE
from ..keys.plans import Plan
from .forms import lines_of, version_of
from .people import may_change, person, require_scope, the_desk
from .routes import Routes, done, shown

ROWS = 100
_FIELDS = ("name", "description", "scopes", "limits", "quotas")
_CHANGED = "Somebody has changed this plan meanwhile. Look at it as it is now, and try again."


def add_plans(routes: Routes) -> None:
    """Put in the list of plans, and the page of each."""

    @routes.add("/plans", KEYS_READ, KEYS_WRITE, PLANS_WRITE)
    def list_plans() -> Response:
        desk, request, sender = the_desk(), real_request(), person()
        if sender.owner is not None:
            own = desk.plans.find(sender.key.plan) if sender.key and sender.key.plan else None
            found: tuple[Plan, ...] = (own,) if own else ()
        else:
            found = desk.plans.list(after=request.args.get("after", ""), size=ROWS + 1)
        return shown(
            "plans.html",
            plans=found[:ROWS],
            after=found[ROWS - 1].name if len(found) > ROWS else None,
            may_change=person().owner is None and may_change(PLANS_WRITE),
            done=request.args.get("done", ""),
        )

    @routes.add("/plans/new", PLANS_WRITE, post=True, for_all_owners=True)
    def new_plan() -> AnyResponse:
        if real_request().method == "GET":
            return _form(None, dict.fromkeys(_FIELDS, ""))
        return _put(None)

    @routes.add("/plans/<name>", KEYS_READ, KEYS_WRITE, PLANS_WRITE, post=True)
    def show_plan(name: str) -> AnyResponse:
        sender = person()
        if sender.owner is not None and (sender.key is None or sender.key.plan != name):
            raise PlanNotFound(name)
        plan = the_desk().plans.get(name)
        if real_request().method == "GET":
            return _form(plan, _texts_of(plan))
        if "delete" in real_request().form:
            return _delete(plan)
        return _put(plan)


def _texts_of(plan: Plan) -> dict[str, str]:
    return {
        "name": plan.name,
        "description": plan.description,
        "scopes": "\n".join(plan.scopes),
        "limits": "\n".join(map(str, plan.limits)),
        "quotas": "\n".join(map(str, plan.quotas)),
    }


def _form(
    plan: Plan | None,
    texts: dict[str, str],
    status: int = 200,
    *,
    errors: dict[str, str] | None = None,
    problem: str = "",
) -> Response:
    return shown(
        "plan.html",
        status,
        plan=plan,
        texts=texts,
        errors=errors or {},
        problem=problem,
        may_change=person().owner is None and may_change(PLANS_WRITE),
        done=real_request().args.get("done", ""),
    )


def _put(plan: Plan | None) -> AnyResponse:
    form = real_request().form
    texts = {name: form.get(name, "").replace("\r\n", "\n").strip() for name in _FIELDS}
    name = plan.name if plan else texts["name"]
    try:
        require_scope(PLANS_WRITE)
        the_desk().plans.put(
            name,
            description=texts["description"],
            scopes=texts["scopes"].split(),
            limits=lines_of(texts["limits"]),
            quotas=lines_of(texts["quotas"]),
            if_version=version_of(form) if plan else (0,),
            **person().acting,
        )
    except InvalidField as error:
        field = "name" if error.field == "plan" else error.field
        return _form(plan, texts, 422, errors={field: error.problem})
    except VersionConflict:
        said = _CHANGED if plan else "There is a plan of this name. Choose another one, or change that one."
        return _form(plan, texts, 409, problem=said)
    except NotPermitted as error:
        return _form(plan, texts, 403, problem=str(error))
    return done("changed" if plan else "made", ".show_plan", name=name)


def _delete(plan: Plan) -> AnyResponse:
    try:
        require_scope(PLANS_WRITE)
        the_desk().plans.delete(plan.name, if_version=version_of(real_request().form), **person().acting)
    except VersionConflict:
        return _form(plan, _texts_of(plan), 409, problem=_CHANGED)
    except StateConflict as error:
        return _form(plan, _texts_of(plan), 409, problem=str(error))
    except NotPermitted as error:
        return _form(plan, _texts_of(plan), 403, problem=str(error))
    return done("deleted", ".list_plans")
