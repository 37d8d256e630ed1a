"""Core: how much of a quota is handed out at a time, and when people are told. Pure; stores keep the numbers."""

from __future__ import annotations

from .ports import Balance

_SHARE = 64  # of what is left: so much at most lies with each limiter when the quota is used up


def leased_now(balance: Balance, count: int, least: int) -> int:
    """Return how many credits to hand out: at least `least`, or 0 where there are not as many.

    A share of what is left: while there is much, few requests come to the store; towards the end little lies idle with
    limiters that no request asks.
    """
    left = count + balance.refilled - balance.leased
    return 0 if left < least else max(least, left // _SHARE)


def percent_to_tell(balance: Balance, count: int, *, used_up: bool) -> int:
    """Return the percentage that somebody should be told of now; 0 for none."""
    reached = 100 if used_up else 80 if balance.leased * 100 >= 80 * (count + balance.refilled) else 0
    return reached if reached > balance.told_percent else 0
