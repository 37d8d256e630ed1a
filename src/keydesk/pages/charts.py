"""Room pages: charts, as SVG in the page. Their colours, hatching included, are in our stylesheet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pygal
from markupsafe import Markup

from ..usage import ALLOWED, Span, Usage

# For maps, which are not drawn here, it puts itself in the way of every import, in a manner that Python 3.11 warns of.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

SPARK_HOURS = 36
_HEIGHT = 24  # of a sparkline, whose bars are two units wide with one between them
_MOST_SERIES = 6  # of what was refused; our stylesheet has as many
OTHER = "other reasons"
_DROPPED = {"style", "script", "defs", "title"}
_FORMATS = {Span.HOUR: "%d %b %H:00", Span.DAY: "%d %b %Y"}


@dataclass(frozen=True, slots=True)
class Chart:
    """Requests over time.

    Attributes:
        svg: The picture.
        heads: The outcomes, as over the columns of the table beside it.
        styles: For each of them what it is drawn by, as in our stylesheet.
        rows: For each span with requests its name, and how many had each outcome.
    """

    svg: Markup
    heads: tuple[str, ...]
    styles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def usage_chart(title: str, starts: Sequence[datetime], counts: Sequence[Usage], labels: Sequence[str]) -> Chart:
    """Return what was counted, as stacked bars: what was allowed below, and above it what was refused, by reason.

    Args:
        title: What is shown, for who cannot see it.
        starts: The beginning of each bar, in order.
        counts: What was counted; each belongs to the last bar that begins no later.
        labels: What each bar is called.
    """
    heads = _outcomes(counts)
    values = {head: [0] * len(starts) for head in heads}
    place = 0
    for usage in counts:
        while place + 1 < len(starts) and starts[place + 1] <= usage.start_at:
            place += 1
        values[usage.outcome if usage.outcome in values else OTHER][place] += usage.count
    rows = tuple(
        (label, tuple(values[head][number] for head in heads))
        for number, label in enumerate(labels)
        if any(values[head][number] for head in heads)
    )
    refused = [head for head in heads if head != ALLOWED]
    styles = tuple(ALLOWED if head == ALLOWED else f"refused-{refused.index(head) + 1}" for head in heads)
    svg = _bars(title, labels, {head: values[head] for head in heads}, styles)
    return Chart(svg, heads, styles, rows)


def _outcomes(counts: Sequence[Usage]) -> tuple[str, ...]:
    totals: dict[str, int] = {}
    for usage in counts:
        totals[usage.outcome] = totals.get(usage.outcome, 0) + usage.count
    refused = sorted((name for name in totals if name != ALLOWED), key=lambda name: -totals[name])
    most = refused if len(refused) <= _MOST_SERIES else [*refused[: _MOST_SERIES - 1], OTHER]
    return (*((ALLOWED,) if ALLOWED in totals or not totals else ()), *most)


def _bars(title: str, labels: Sequence[str], series: dict[str, list[int]], styles: Sequence[str]) -> Markup:
    chart = pygal.StackedBar(
        width=960,
        height=300,
        explicit_size=False,
        show_legend=False,
        js=(),
        css=(),
        x_labels_major_every=max(1, len(labels) // 8),
        show_minor_x_labels=False,
        truncate_label=20,
        margin=8,
        spacing=6,
        no_data_text="",
        value_formatter=lambda value: f"{int(value):,}" if value == int(value) else "",
        min_scale=2,
        include_x_axis=True,
        disable_xml_declaration=True,
    )
    chart.x_labels = list(labels)
    for name, values in series.items():
        chart.add(name, values)
    return _plain(chart.render_tree(), title, list(zip(series, styles, strict=True)), labels)


def _plain(root: Any, title: str, series: Sequence[tuple[str, str]], labels: Sequence[str]) -> Markup:
    """Return a chart of pygal without what a page may not hold: styles, scripts, and what only these use."""
    for parent in list(root.iter()):
        for child in list(parent):
            if _is_left_out(child):
                parent.remove(child)
            else:
                child.tag = _tag(child)
    for group in root.iter("g"):
        kind = group.get("class", "")
        if kind.startswith("series "):
            name, style = series[int(kind.split()[1].removeprefix("serie-"))]
            group.set("class", style)
            _say(group, name.replace("_", " "), labels)
    root.tag = "svg"
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "chart", "role": "img", "aria-label": title}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - which escapes all texts in it


def _is_left_out(element: Any) -> bool:
    if not isinstance(element.tag, str):  # a comment
        return True
    kind = element.get("class", "")
    return _tag(element) in _DROPPED or "overlay" in kind or kind in ("titles", "background")


def _say(series: Any, name: str, labels: Sequence[str]) -> None:
    """Let each bar say what it stands for when somebody points at it; leave out those that stand for nothing."""
    for bars in series:
        for bar, label in zip(list(bars), labels, strict=False):
            found = next((each.text for each in bar if each.tag == "desc"), "0")
            rect = next((each for each in bar if each.tag == "rect"), None)
            bars.remove(bar)
            if found != "0" and rect is not None:
                rect.attrib = {side: rect.attrib[side] for side in ("x", "y", "width", "height")}
                said = ElementTree.SubElement(rect, "title")
                said.text = f"{label}: {found} {name}"
                bars.append(rect)


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def sparkline(counts: Sequence[Usage], now: datetime) -> Markup:
    """Return the requests of a key in the last 36 hours: a bar for each hour, its refused part apart.

    Written by hand: a page holds a hundred of them, and pygal takes milliseconds for each.
    """
    first = Span.HOUR.start_of(now) - timedelta(hours=SPARK_HOURS - 1)
    allowed, refused = [0] * SPARK_HOURS, [0] * SPARK_HOURS
    for usage in counts:
        place = int((usage.start_at - first) / Span.HOUR.length)
        if 0 <= place < SPARK_HOURS:
            (allowed if usage.outcome == ALLOWED else refused)[place] += usage.count
    sums = [good + bad for good, bad in zip(allowed, refused, strict=True)]
    total, most = sum(sums), max(sums)
    if not total:
        return Markup('<span class="none">none</span>')
    bars = []
    for place, (good, bad) in enumerate(zip(allowed, refused, strict=True)):
        above = _HEIGHT * bad / most
        height = _HEIGHT * good / most
        x = place * 3
        if good:
            bars.append(f'<rect class="allowed" x="{x}" y="{_HEIGHT - height:.1f}" width="2" height="{height:.1f}"/>')
        if bad:
            y = _HEIGHT - height - above
            bars.append(f'<rect class="refused" x="{x}" y="{y:.1f}" width="2" height="{above:.1f}"/>')
    said = f"{total:,} in {SPARK_HOURS} hours, {sum(refused):,} refused"
    return Markup('<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        SPARK_HOURS * 3,
        _HEIGHT,
        said,
        said,
        Markup("".join(bars)),  # noqa: S704 - numbers
    )


def labels_of(span: Span, starts: Sequence[datetime]) -> list[str]:
    """Return what the bars of a chart are called."""
    return [start.strftime(_FORMATS[span]) for start in starts]
