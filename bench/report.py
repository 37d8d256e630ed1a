"""What a run found: tables and promises, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from .harness import Result

BEGIN = "<!-- figures: begin (python -m bench --markdown writes what follows) -->"
END = "<!-- figures: end -->"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure that must not be above its limit, or not below it where `at_least` is set."""

    text: str
    limit: float
    measured: float
    unit: str = ""
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Section:
    """What one module of `bench` found."""

    tables: tuple[Table, ...]
    promises: tuple[Promise, ...] = ()


def table_of(title: str, results: Iterable[Result], *, first: str = "route", baseline: str = "plain") -> Table:
    """Return the table of some results. `first` and `baseline` name what was measured, and what it is compared with."""
    headings = (first, "median µs", f"{baseline} beside it µs", "added µs", "ratio")
    rows = ((r.name, f"{r.median:.0f}", f"{r.baseline:.0f}", f"{r.added:+.1f}", f"{r.ratio:.2f}") for r in results)
    return Table(title, headings, tuple(rows))


def promises_table(promises: Iterable[Promise]) -> Table:
    """Return the table of all promises."""
    rows = (
        (
            promise.text,
            f"at {'least' if promise.at_least else 'most'} {_number(promise.limit, promise.unit)}",
            _number(promise.measured, promise.unit),
            "kept" if promise.kept else "NOT KEPT",
        )
        for promise in promises
    )
    return Table("Promises", ("promise", "limit", "measured", ""), tuple(rows))


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit else f"{value:.2f}"


def show(tables: Sequence[Table], console: Console) -> None:
    """Print tables for people."""
    for table in tables:
        shown = RichTable(title=table.title, title_justify="left", title_style="bold")
        for position, heading in enumerate(table.headings):
            shown.add_column(heading, justify="left" if position == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def around_figures(path: Path) -> tuple[str, str]:
    """Return what a Markdown file says before and after the two marker comments, with them.

    Raises:
        ValueError: The file does not have the two comments.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the tables; put these two lines into it:\n{BEGIN}\n{END}")
    return before + begin, end + after


def write_markdown(path: Path, tables: Sequence[Table]) -> None:
    """Put the tables between the two marker comments of a Markdown file.

    Raises:
        ValueError: The file does not have the two comments.
    """
    before, after = around_figures(path)
    figures = "\n\n".join(map(_markdown, tables))
    path.write_text(f"{before}\n\n{figures}\n\n{after}", encoding="utf-8")


def _markdown(table: Table) -> str:
    alignment = ("---", *("---:" for _ in table.headings[1:]))
    lines = (table.headings, alignment, *table.rows)
    return f"### {table.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
