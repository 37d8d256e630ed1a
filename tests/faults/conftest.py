"""What the tests of faults share: databases of each kind with their tables in them, and figures worth telling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from keydesk import open_desk

KINDS = ("sqlite", "postgres", "mariadb")


def upgraded(url: str) -> str:
    """Make the tables in a database; return its URL."""
    desk = open_desk({"KEYDESK_STORE": url})
    desk.store.upgrade()  # type: ignore[attr-defined]
    desk.close()
    return url


@pytest.fixture(scope="module")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """Make a database of a kind, with its tables: `new_database("postgres")` returns its URL."""
    with ExitStack() as stack:

        def make(kind: str) -> str:
            if kind == "sqlite":
                return upgraded(f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db")
            return upgraded(stack.enter_context(request.getfixturevalue(kind).fresh()))

        yield make
