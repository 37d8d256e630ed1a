"""Room cli: all commands, the same objects for `keydesk` and for `flask keys`."""

from __future__ import annotations

import click

from .crediting import quotas, refill
from .doctor import doctor
from .ending import delete, disable, enable, revoke
from .history import events
from .imports import import_
from .issuing import init, issue, rotate
from .planning import owners, plans
from .reading import list_, show
from .scanning import scan
from .serving import serve
from .tending import db, prune
from .updating import update
from .using import usage
from .verifying import verify

COMMANDS: tuple[click.Command, ...] = (
    issue,
    list_,
    show,
    update,
    rotate,
    disable,
    enable,
    revoke,
    delete,
    verify,
    plans,
    owners,
    usage,
    quotas,
    refill,
    events,
    import_,
    scan,
    prune,
    db,
    doctor,
    init,
    serve,
)
