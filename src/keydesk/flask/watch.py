"""Room flask: sees that no view goes out without its guard. It looks when views come, not with every request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flask import Flask

from .access import is_bare
from .current import real_request


class Watch:
    """Looks at the views of an application before a request, until it has seen them all.

    Flask refuses new views once it has served a request, but code may put some into `app.view_functions`. It tells the
    watch of each, which then looks again. Where another dictionary stands in its place by then, it looks every time.
    """

    def __init__(self, app: Flask) -> None:
        self.seen: dict[str, Any] = {}
        self._app = app
        self._views = app.view_functions = _Views(app.view_functions, self._look_again)
        self._changes = 0
        self._lock = threading.Lock()
        app.before_request(self._look)

    def _look(self) -> None:
        """Run before a request.

        Raises:
            RuntimeError: `@keys.require` stands above `@app.route`, where it guards nothing.
        """
        rule = real_request().url_rule
        if rule is None:  # no view is there, so Flask answers 404 or 405
            return
        if self.seen.get(rule.endpoint) is not self._app.view_functions.get(rule.endpoint):
            changes = self._changes
            self.require_guards()
            with self._lock:
                # Somebody's own dictionary in the place of ours tells nothing: look on.
                if changes == self._changes and self._app.view_functions is self._views:
                    self._run_before_requests(False)

    def _look_again(self) -> None:
        with self._lock:
            self._changes += 1
            self._run_before_requests(True)

    def _run_before_requests(self, wanted: bool) -> None:
        """Have `_look` run before requests or not. In a new list: Flask may be going through the one there is."""
        others = [function for function in self._app.before_request_funcs.get(None, ()) if function != self._look]
        self._app.before_request_funcs[None] = [self._look, *others] if wanted else others

    def require_guards(self) -> None:
        """Return if every view that was given a guard is registered with it.

        Raises:
            RuntimeError: One is registered without.
        """
        views = dict(self._app.view_functions)
        for endpoint, view in views.items():
            if is_bare(view, views.values()):
                raise RuntimeError(
                    f"The view {endpoint!r} is not protected, though it looks so: its guard was put around it later, "
                    "or was lost. Write @app.route(...) above @keys.require(...); in a class of views, let "
                    "`decorators` add to those of its base. If it is meant to be open, mark it with @keys.public."
                )
        self.seen = views


class _Views(dict[str, Callable[..., Any]]):
    """The views of an application, by their endpoints. Tells when one is put in."""

    def __init__(self, views: dict[str, Callable[..., Any]], changed: Callable[[], None]) -> None:
        super().__init__(views)
        self._changed = changed

    def __setitem__(self, endpoint: str, view: Callable[..., Any]) -> None:
        super().__setitem__(endpoint, view)
        self._changed()

    def setdefault(self, endpoint: str, view: Any = None) -> Any:
        found = super().setdefault(endpoint, view)
        self._changed()
        return found

    def update(self, *views: Any, **more: Any) -> None:
        super().update(*views, **more)
        self._changed()

    def __ior__(self, views: Any) -> Any:  # type: ignore[misc]  # as `dict`'s, which takes more than `__or__`
        self.update(views)
        return self
