"""Room server: many keys in one request to the management API."""

from __future__ import annotations

from flask import Response

from ...desk import Desk
from ...errors import AddedBefore
from ...keys.authority import KEYS_WRITE
from ...keys.record import Status
from ...ports import KeyFilter
from .keys import new_fields, once_of, shown_before
from .models import IssuedKeyShown, IssuedKeysShown, KeyShown, NewKeys, Revocations, RevokedKeys
from .queries import IdempotencyKey
from .requests import caller
from .routes import Routes, shown


def add_bulk(routes: Routes, desk: Desk) -> None:
    """Put in the views that make and end many keys."""

    @routes.add("POST", "/v1/bulk/issue", {201: IssuedKeysShown, 200: IssuedKeysShown}, KEYS_WRITE)
    def issue_keys(header: IdempotencyKey, body: NewKeys) -> Response:
        """Make up to 1,000 keys, all or none. Their secrets are in this answer and nowhere else, ever."""
        by = caller()
        fields = [new_fields(key, by) for key in body.keys]
        try:
            made = desk.issue_many(fields, once=once_of(desk, header, by), by=by)
        except AddedBefore as before:
            return shown(shown_before(desk, before), Idempotency_Replayed="true")
        now = desk.clock.now()
        keys = [IssuedKeyShown(key=KeyShown.of(each.key, now), secret=each.secret) for each in made]
        return shown(IssuedKeysShown(keys=keys), 201)

    @routes.add("POST", "/v1/bulk/revoke", {200: RevokedKeys}, KEYS_WRITE)
    def revoke_keys(body: Revocations) -> Response:
        """End up to 1,000 keys that match, each with an event of its own. The caller's own key is never among them."""
        by, where = caller(), body.where
        if by.owner is not None and where.owner not in (None, by.owner):
            return shown(RevokedKeys(revoked=[], more=False))
        wanted = KeyFilter(
            owner=by.owner or where.owner,
            status=Status(where.status) if where.status else None,
            text=where.text,
            idle_since=where.idle_since,
            plan=where.plan,
            scope=where.scope,
        )
        revoked, more = desk.revoke_all(wanted, reason=body.reason, by=by)
        return shown(RevokedKeys(revoked=list(revoked), more=more))
