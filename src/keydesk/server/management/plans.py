"""Room server: plans in the management API."""

from __future__ import annotations

from collections.abc import Collection

from flask import Response

from ...desk import Desk
from ...errors import PlanNotFound
from ...keys.authority import PLANS_WRITE
from .models import NamedPlanGiven, PlanFieldsGiven, PlanPage, PlanShown
from .queries import IfMatch, PlanPath, PlanQuery, Preconditions
from .requests import caller, decode_name, encode_name
from .routes import ANY_PLANS, Routes, etag, shown


def add_plans(routes: Routes, desk: Desk) -> None:
    """Put in the views of plans."""

    @routes.add("GET", "/v1/plans", {200: PlanPage}, any_of=ANY_PLANS)
    def list_plans(query: PlanQuery) -> Response:
        """List plans by name. A caller bound to an owner sees that of its own key alone."""
        after, by = decode_name(query.cursor), caller()
        if by.owner is not None:
            own = desk.plans.find(by.plan) if by.plan is not None and by.plan > after else None
            return shown(PlanPage(plans=[PlanShown.of(own)] if own else [], next_cursor=None))
        found = desk.plans.list(after=after, size=query.size)
        more = len(found) == query.size and desk.plans.list(after=found[-1].name, size=1)
        cursor = encode_name(found[-1].name) if more else None
        return shown(PlanPage(plans=[PlanShown.of(plan) for plan in found], next_cursor=cursor))

    @routes.add("PUT", "/v1/plans", {200: PlanShown, 201: PlanShown}, PLANS_WRITE, wrong=(412,))
    def put_named_plan(header: Preconditions, body: NamedPlanGiven) -> Response:
        """Make a plan, or put this in the place of the one of its name."""
        return _put(desk, body.name, body, header.versions_of_new())

    @routes.add("GET", "/v1/plans/<name>", {200: PlanShown}, any_of=ANY_PLANS, wrong=(404,))
    def get_plan(path: PlanPath) -> Response:
        """Show a plan."""
        by = caller()
        if by.owner is not None and path.name != by.plan:
            raise PlanNotFound(path.name)
        plan = desk.plans.get(path.name)
        return shown(PlanShown.of(plan), ETag=etag(plan.version))

    @routes.add("PUT", "/v1/plans/<name>", {200: PlanShown, 201: PlanShown}, PLANS_WRITE, wrong=(404, 412))
    def put_plan(path: PlanPath, header: Preconditions, body: PlanFieldsGiven) -> Response:
        """Make a plan, or put this in the place of the one of this name. It is in force for all its keys at once."""
        return _put(desk, path.name, body, header.versions_of_new())

    @routes.add("DELETE", "/v1/plans/<name>", {204: None}, PLANS_WRITE, wrong=(404, 412))
    def delete_plan(path: PlanPath, header: IfMatch) -> Response:
        """Remove a plan that no key has; revoked ones do not count."""
        desk.plans.delete(path.name, if_version=header.versions(), by=caller())
        return Response(status=204)


def _put(desk: Desk, name: str, body: PlanFieldsGiven, versions: Collection[int] | None) -> Response:
    plan = desk.plans.put(
        name,
        description=body.description,
        scopes=body.scopes,
        limits=body.limits,
        quotas=body.quotas,
        if_version=versions,
        by=caller(),
    )
    return shown(PlanShown.of(plan), 201 if plan.version == 1 else 200, ETag=etag(plan.version))
