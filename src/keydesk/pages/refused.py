"""Room pages: what was refused: by reason and by network, over time."""

from __future__ import annotations

from flask import Response

from ..keys.authority import USAGE_READ
from ..usage import ALLOWED, Usage
from .charts import usage_chart
from .keys import VIEWS, bars_of, chosen_view
from .people import the_desk
from .routes import Routes, shown

_NETWORKS = 50
_TOP = 20
_MOST_LOOKED_AT = 200  # keys that sent the most; of those, the ones that were refused the most


def add_refused(routes: Routes) -> None:
    """Put in the page of what was refused."""

    @routes.add("/refused", USAGE_READ, for_all_owners=True)
    def show_refused() -> Response:
        desk, by = the_desk(), chosen_view()
        span, back, _ = VIEWS[by]
        since = desk.clock.now() - back
        known = desk.usage(since=since, span=span)
        unknown = desk.mistake_counts(since=since, span=span)
        refused = [usage for usage in (*known.counts, *unknown.counts) if usage.outcome != ALLOWED]
        refused.sort(key=lambda usage: usage.start_at)
        starts, labels = bars_of(by, known.range)
        return shown(
            "refused.html",
            chart=usage_chart("Refused requests by reason", starts, refused, labels),
            reasons=_totals(refused),
            networks=desk.mistakes(since=since, size=_NETWORKS),
            top=sorted(
                (each for each in desk.top_keys(since=since, size=_MOST_LOOKED_AT).keys if each.count > each.allowed),
                key=lambda each: each.allowed - each.count,
            )[:_TOP],
            by=by,
            views=VIEWS,
        )


def _totals(counts: list[Usage]) -> list[tuple[str, int]]:
    totals: dict[str, int] = {}
    for usage in counts:
        totals[usage.outcome] = totals.get(usage.outcome, 0) + usage.count
    return sorted(totals.items(), key=lambda each: -each[1])
