"""What a data card is built of: escaped markup, tables, histograms, style.

>>> tag("td", "<script>")
'<td>&lt;script&gt;</td>'

Bars are CSS, which reads well in light and dark and at any width.
"""

import base64
import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Html(str):
    """Markup, which `escape` leaves as it is."""


class Number(Html):
    """A formatted number, which stands to the right in a table."""


def escape(value: object) -> Html:
    """A value as HTML: text is escaped, numbers get their thousands, None is nothing."""
    if isinstance(value, Html):
        return value
    if isinstance(value, int | np.integer):
        return Html(f"{value:,}")
    return Html("" if value is None else html.escape(str(value)))


def tag(name: str, *content: object, cls: str = "") -> Html:
    """An element; what it holds is escaped."""
    attribute = f' class="{cls}"' if cls else ""
    return Html(f"<{name}{attribute}>{''.join(escape(item) for item in content)}</{name}>")


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> Html:
    """A table that scrolls by itself on a narrow screen; numbers stand to the right."""
    numeric = [bool(rows) and not _is_text(cell) for cell in (rows or [head])[0]]
    classes = ["n" if is_number else "" for is_number in numeric]
    lines = [_row("th", head, classes)]
    lines += [_row("td", row, ["" if _is_text(cell) else "n" for cell in row]) for row in rows]
    return tag("div", tag("table", *lines), cls="scroll")


def _row(name: str, cells: Sequence[object], classes: Sequence[str]) -> Html:
    tags = (tag(name, cell, cls=cls) for cell, cls in zip(cells, classes, strict=True))
    return tag("tr", *tags)


def _is_text(cell: object) -> bool:
    return isinstance(cell, str) and not isinstance(cell, Number)


def percent(part: float, whole: float) -> Number:
    """A share, and a dash of nothing."""
    return Number(f"{100 * part / whole:.1f}%" if whole else "–")


# ---------------------------------------------------------------------------------------- pictures


def histogram(title: str, values: NDArray[Any], edges: NDArray[np.float64], note: str) -> Html:
    """Bars of CSS; what lies below the first edge is counted in the first bar."""
    finite = values[np.isfinite(values)]
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    most = max(int(counts.max()), 1)
    bars = []
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        style = f"height:{100 * count / most:.2f}%" if count else "height:0;min-height:0"
        bars.append(f'<i style="{style}" title="{low:.3g} to {high:.3g}: {count:,}"></i>')
    ticks = (tag("span", f"{edges[i]:.3g}") for i in np.linspace(0, len(edges) - 1, 5).astype(int))
    middle = np.median(finite) if len(finite) else np.nan
    caption = f"median {middle:.3g}; highest bar {most:,}" + (f"; {note}" if note else "")
    chart = Html(f'<div class="hist" role="img" aria-label="{escape(title)}">{"".join(bars)}</div>')
    return tag(
        "figure", tag("h3", title), chart, tag("div", *ticks, cls="ticks"),
        tag("figcaption", caption),
    )  # fmt: skip


def data_uri(kind: str, content: bytes) -> str:
    """A file inside the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6875; --page: #f6f7f9; --card: #fff;
  --line: #dfe4ea; --s0: #3f76b5; --s1: #e59a2f; --s2: #4d9f63; --leak: #c0362c;
  --leak-back: #fdecea; --note: #8a6100; --note-back: #fdf4dc; --ok: #22703c;
  --ok-back: #e6f5ea; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa7b4; --page: #12171d;
  --card: #1b222b; --line: #313c48; --s0: #6aa2e0; --s1: #f0b04e; --s2: #6fc387; --leak: #ff8d84;
  --leak-back: #3d1d1b; --note: #f3c969; --note-back: #362c13; --ok: #86d79f;
  --ok-back: #17301f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1180px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { margin: 0; font-size: 30px; overflow-wrap: anywhere; } h1 small { color: var(--soft);
  font-weight: 400; font-size: 18px; } h2 { margin: 0 0 12px; font-size: 20px; }
h3 { margin: 0 0 6px; font-size: 15px; overflow-wrap: anywhere; } p { margin: 6px 0; }
code { font: 12.5px/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
header > p, figcaption, li span { color: var(--soft); }
section { margin-top: 18px; padding: 18px 20px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px;
  margin: 16px 0 10px; }
.tiles div { padding: 10px 14px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; } .tiles b { display: block; font-size: 22px; white-space: nowrap; }
.tiles span { color: var(--soft); font-size: 13px; }
ul { margin: 0; padding: 0; list-style: none; }
.warnings { display: grid; gap: 8px; margin-top: 14px; }
.warnings li { padding: 9px 14px; border-left: 4px solid; border-radius: 6px;
  overflow-wrap: anywhere; }
.warnings .leak { color: var(--leak); background: var(--leak-back); font-weight: 600; }
.warnings .note { color: var(--note); background: var(--note-back); }
.warnings .ok { color: var(--ok); background: var(--ok-back); }
.scroll { overflow-x: auto; margin: 6px 0 12px; }
table { border-collapse: collapse; min-width: 50%; } .columns table { width: 100%; }
th, td { padding: 4px 10px; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); } tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; font-size: 13px; vertical-align: bottom; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:has(.bar) { width: 40%; } table:has(.bar) { width: 100%; }
.bar { display: flex; height: 12px; margin-top: 5px; min-width: 160px; }
.s0 { background: var(--s0); } .s1 { background: var(--s1); } .s2 { background: var(--s2); }
.key { display: inline-block; margin-right: 10px; padding-left: 16px; background: none; }
.key::before { content: ""; display: inline-block; width: 10px; height: 10px;
  margin: 0 6px 0 -16px; }
.key.s0::before { background: var(--s0); } .key.s1::before { background: var(--s1); }
.key.s2::before { background: var(--s2); }
.columns { display: grid; gap: 6px 28px; grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 230px), 1fr)); align-items: start; }
.columns.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr));
  margin-bottom: 14px; }
figure { margin: 0; min-width: 0; } figcaption { font-size: 13px; overflow-wrap: anywhere; }
.hist { display: flex; align-items: flex-end; gap: 1px; height: 120px;
  border-bottom: 1px solid var(--soft); }
.hist i { flex: 1; background: var(--s0); min-height: 2px; }
.ticks { display: flex; justify-content: space-between; color: var(--soft); font-size: 12px; }
.groups { display: grid; gap: 8px; grid-template-columns:
  repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
.groups > div { padding: 8px 12px; border: 1px solid var(--line); border-left-width: 4px;
  border-radius: 6px; } .groups > .leak { border-left-color: var(--leak); }
.examples { display: grid; gap: 18px 28px; grid-template-columns:
  repeat(auto-fill, minmax(min(100%, 500px), 1fr)); margin-top: 12px; }
.row { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(85px, 1fr)); }
@media (min-width: 600px) { .row { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); } }
.feature { display: block; width: 100%; height: 110px; border-radius: 4px; }
.sharp { image-rendering: pixelated; } svg.feature { fill: var(--s0); background: var(--page); }
audio { display: block; width: 100%; height: 32px; margin-top: 4px; }
"""
