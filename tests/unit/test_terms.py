"""Which limits a key is under, and whose requests each counts together."""

from __future__ import annotations

from itertools import combinations

from keydesk import Desk
from keydesk.claims import Claim
from keydesk.keys.limits import Limit
from keydesk.keys.record import Key
from keydesk.terms import Terms, ViewLimits


def _key(desk: Desk, owner: str | None = None, *limits: str) -> Key:
    return desk.issue(name="client", owner=owner, limits=limits).key


def test_claims_of_a_key(desk: Desk) -> None:
    key = _key(desk, None, "100/minute", "5 per 10 seconds")
    subject = f"{{{key.id}}}{key.id}"
    assert Terms().claims_of(key) == (
        Claim("100/minute", subject, 100, 60),
        Claim("5/10 seconds", subject, 5, 10),
    )


def test_of_two_limits_with_one_window_the_tighter_holds(desk: Desk) -> None:
    claims = Terms().claims_of(_key(desk, None, "100/minute", "50/minute", "60/60 seconds"))
    assert [(claim.policy, claim.most) for claim in claims] == [("50/minute", 50)]


def test_default_limits_are_for_keys_that_state_none(desk: Desk) -> None:
    terms = Terms((Limit(7, 60),))
    assert [claim.most for claim in terms.claims_of(_key(desk))] == [7]
    assert [claim.most for claim in terms.claims_of(_key(desk, None, "9/hour"))] == [9]


def test_subjects_differ_whatever_owners_and_views_are_called(desk: Desk) -> None:
    odd = ["a", "A", "a b", "a}", "{a", "a:b", "a%7D", "a/b", "ä", "a}key_", None]
    terms, subjects = Terms(), []
    for owner in odd:
        key = _key(desk, owner, "5/minute")
        own = terms.claims_of(key)
        for view in ("app:index", "app:in:dex", "app}:index", ""):
            claims = terms.claims_in_view(key, own, ViewLimits(view, (Limit(1, 60),)))
            homes = {claim.subject[: claim.subject.index("}") + 1] for claim in claims}
            assert len(homes) == 1  # so that a cluster keeps them in one place
            assert claims[-1].policy == "1/minute per view"
            subjects.append(claims[-1].subject)
        subjects.append(own[0].subject)
    assert all(one != other for one, other in combinations(subjects, 2))
    assert all(subject.isascii() and subject.count("{") == subject.count("}") == 1 for subject in subjects)
