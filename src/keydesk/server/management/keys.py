"""Room server: keys in the management API: list, make, read, change, end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response

from ...desk import Desk
from ...errors import AddedBefore, StateConflict
from ...flask.current import real_request
from ...keys.authority import KEYS_READ, KEYS_WRITE
from ...keys.record import IssuedKey, Key, Status
from ...ports import Once, Page
from .models import (
    IssuedKeyShown,
    IssuedKeysShown,
    KeyChange,
    KeyPage,
    KeyShown,
    NewKey,
    Revocation,
    Rotation,
)
from .queries import IdempotencyKey, IfMatch, KeyPath, KeyQuery
from .requests import caller
from .routes import Routes, changed, etag, shown, visible

DONE_BEFORE = (
    "This request was done before, and this is what came of it. Its secret was shown then and is not kept: where it "
    "was lost, rotate the key."
)


def add_keys(routes: Routes, desk: Desk) -> None:
    """Put in the views of keys."""

    @routes.add("GET", "/v1/keys", {200: KeyPage}, KEYS_READ)
    def list_keys(query: KeyQuery) -> Response:
        """List keys, newest first."""
        asked = query.model_dump()
        asked["status"] = Status(query.status) if query.status else None
        by = caller()
        if by.owner is not None and query.owner not in (None, by.owner):
            page = Page((), None)
        else:
            page = desk.list_keys(**asked | {"owner": by.owner or query.owner})
        now = desk.clock.now()
        return shown(KeyPage(keys=[KeyShown.of(key, now) for key in page.keys], next_cursor=page.next_cursor))

    @routes.add("POST", "/v1/keys", {201: IssuedKeyShown, 200: IssuedKeyShown}, KEYS_WRITE)
    def issue_key(header: IdempotencyKey, body: NewKey) -> Response:
        """Make a key. Its secret is in this answer and nowhere else, ever."""
        by = caller()
        try:
            (issued,) = desk.issue_many([new_fields(body, by)], once=once_of(desk, header, by), by=by)
        except AddedBefore as before:
            (key,) = made_before(desk, before)
            answer = IssuedKeyShown(key=KeyShown.of(key, desk.clock.now()), secret=None, detail=DONE_BEFORE)
            return shown(answer, ETag=etag(key.version), Idempotency_Replayed="true")
        return _issued(desk, issued, 201, Location=f"{real_request().script_root}/v1/keys/{issued.key.id}")

    @routes.add("GET", "/v1/keys/<key_id>", {200: KeyShown}, KEYS_READ, wrong=(404,))
    def get_key(path: KeyPath) -> Response:
        """Show a key. Its secrets are not to be had: only their hints."""
        return _shown(desk, visible(desk, path.key_id))

    @routes.add("PATCH", "/v1/keys/<key_id>", {200: KeyShown}, KEYS_WRITE, wrong=(404, 412))
    def update_key(path: KeyPath, header: IfMatch, body: KeyChange) -> Response:
        """Change fields of a key. What is left out stays as it is."""
        fields: dict[str, Any] = {"if_version": header.versions(), "by": caller(), **body.given()}
        return _shown(desk, changed(desk, path.key_id, lambda: desk.update(path.key_id, **fields)))

    @routes.add("DELETE", "/v1/keys/<key_id>", {204: None}, KEYS_WRITE, wrong=(404, 412))
    def delete_key(path: KeyPath, header: IfMatch) -> Response:
        """Remove the record of a revoked key. Its events stay."""
        versions, by = header.versions(), caller()
        changed(desk, path.key_id, lambda: desk.delete(path.key_id, if_version=versions, by=by))
        return Response(status=204)

    _add_states(routes, desk)


def _add_states(routes: Routes, desk: Desk) -> None:
    @routes.add("POST", "/v1/keys/<key_id>/rotate", {200: IssuedKeyShown}, KEYS_WRITE, wrong=(404, 412))
    def rotate_key(path: KeyPath, header: IfMatch, body: Rotation) -> Response:
        """Make a new secret for a key. The earlier ones go on for the overlap and then end."""
        overlap, versions, by = timedelta(seconds=body.overlap_seconds), header.versions(), caller()
        issued = changed(
            desk, path.key_id, lambda: desk.rotate(path.key_id, overlap=overlap, if_version=versions, by=by)
        )
        return _issued(desk, issued, 200)

    @routes.add("POST", "/v1/keys/<key_id>/disable", {200: KeyShown}, KEYS_WRITE, wrong=(404, 412))
    def disable_key(path: KeyPath, header: IfMatch) -> Response:
        """Switch a key off until it is enabled again."""
        versions, by = header.versions(), caller()
        return _shown(desk, changed(desk, path.key_id, lambda: desk.disable(path.key_id, if_version=versions, by=by)))

    @routes.add("POST", "/v1/keys/<key_id>/enable", {200: KeyShown}, KEYS_WRITE, wrong=(404, 412))
    def enable_key(path: KeyPath, header: IfMatch) -> Response:
        """Switch a disabled key on again."""
        versions, by = header.versions(), caller()
        return _shown(desk, changed(desk, path.key_id, lambda: desk.enable(path.key_id, if_version=versions, by=by)))

    @routes.add("POST", "/v1/keys/<key_id>/revoke", {200: KeyShown}, KEYS_WRITE, wrong=(404, 412))
    def revoke_key(path: KeyPath, header: IfMatch, body: Revocation) -> Response:
        """End a key for good, with all its secrets."""
        given: dict[str, Any] = {"reason": body.reason, "if_version": header.versions(), "by": caller()}
        return _shown(desk, changed(desk, path.key_id, lambda: desk.revoke(path.key_id, **given)))


def new_fields(body: NewKey, by: Key) -> dict[str, Any]:
    """Return the fields of a key to be made: those that were sent, and where none were, owner and environment of `by`.

    No other would be permitted to a caller that is bound to an owner, and none at all of another environment.
    """
    return {"owner": by.owner, "environment": by.environment, **body.given()}


def once_of(desk: Desk, header: IdempotencyKey, by: Key) -> Once | None:
    """Return by what name a request is to be done once; None where it has none."""
    if header.idempotency_key is None:
        return None
    request = real_request()
    return Once.of(by.id, header.idempotency_key, [request.path, request.get_json()], desk.clock.now())


def made_before(desk: Desk, before: AddedBefore) -> list[Key]:
    """Return the keys that came of a request that was done before.

    Raises:
        StateConflict: They are there no more.
        StoreUnavailable: The store does not answer.
    """
    by = caller()
    found = [desk.find_key(key_id) for key_id in before.key_ids]
    keys = [key for key in found if key is not None and by.owner in (None, key.owner)]
    if len(keys) != len(found):
        raise StateConflict(
            "This request was done before, and keys that came of it were deleted or given to another owner since. "
            "Send it with a new idempotency key to make others."
        )
    return keys


def shown_before(desk: Desk, before: AddedBefore) -> IssuedKeysShown:
    """Return what is answered to a request for many keys that was done before.

    Raises:
        StateConflict: They are there no more.
        StoreUnavailable: The store does not answer.
    """
    now = desk.clock.now()
    keys = [IssuedKeyShown(key=KeyShown.of(key, now), secret=None) for key in made_before(desk, before)]
    return IssuedKeysShown(keys=keys, detail=DONE_BEFORE)


def _shown(desk: Desk, key: Key) -> Response:
    return shown(KeyShown.of(key, desk.clock.now()), ETag=etag(key.version))


def _issued(desk: Desk, issued: IssuedKey, status: int, **headers: str) -> Response:
    answer = IssuedKeyShown(key=KeyShown.of(issued.key, desk.clock.now()), secret=issued.secret)
    return shown(answer, status, ETag=etag(issued.key.version), **headers)
