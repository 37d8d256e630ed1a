"""Room cli: what a key is under in the end, in the table of a key and as JSON."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ..standing import Standing
from .text import cell


def standing_json(standing: Standing) -> dict[str, Any]:
    """Return what a key is under as JSON values."""
    return {
        "scopes": list(standing.scopes),
        "limits": [{"limit": value, "from": source} for value, source in standing.limits],
        "quotas": [{"quota": value, "from": source} for value, source in standing.quotas],
    }


def add_standing(table: Table, standing: Standing) -> None:
    """Add what a key is under to the table of a key, where that is more than the key states itself."""
    if standing.lost:
        table.add_row("in force", cell(f"nothing: there is no plan {standing.plan}, and the key is let in nowhere"))
    elif standing.plan is not None:
        table.add_row("may do", cell("\n".join(standing.scopes) or "nothing that needs a scope"))
    for name, values in (("limits", standing.limits), ("quotas", standing.quotas)):
        if any(source != "key" for _, source in values):
            lines = "\n".join(f"{value} ({source})" for value, source in values)
            table.add_row(f"all {name}", cell(lines))
