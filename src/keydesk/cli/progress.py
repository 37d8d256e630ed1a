"""Room cli: progress bars. On standard error, and only where somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .context import Run


@contextmanager
def progress_bar(run: Run, text: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar while a block runs. It is handed what to call with how much is done, and of how much (None: unknown).

    Nothing is shown where standard error is no terminal.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=run.err, transient=True, disable=not run.err.is_terminal) as progress:
        task = progress.add_task(text, total=None)

        def tell(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield tell
