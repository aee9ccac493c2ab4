"""The comparison as one HTML file with a sortable table and the plots inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

__all__ = ["page"]

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 88em; padding: 0 1em; color: #222 }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .35em .8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd }
th { border-bottom: 2px solid #666; vertical-align: bottom }
th.text, td.text { text-align: left }
td.long { white-space: normal; max-width: 40em; overflow-wrap: anywhere }
tbody tr:hover { background: #f3f3f3 }
th button { font: inherit; font-weight: 600; border: 0; background: none; cursor: pointer; padding: 0; color: inherit }
th[aria-sort=ascending] button::after { content: " ▲" }
th[aria-sort=descending] button::after { content: " ▼" }
img { max-width: 100%; height: auto }
</style>
<h1>$title</h1>
<p>$note</p>
<div class="wide">$table</div>
$plots
$unfinished
<script>
const number = text => { const m = text.replace(/,/g, "").match(/^-?[0-9.]+(e[-+]?[0-9]+)?/i); return m ? +m[0] : NaN };
const compare = (a, b) => {
  const x = number(a), y = number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) || a.localeCompare(b) : x - y;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => down * compare(a.cells[i].textContent, b.cells[i].textContent));
    table.tBodies[0].append(...rows);
  }));
}
</script>
</html>
""")


def page(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int,
    plots: Mapping[str, bytes],
    unfinished: tuple[Sequence[str], Sequence[Sequence[str]]],
    note: str = "",
) -> str:
    """Return the page as text.

    Args:
        title: of the page.
        head, rows: the table of runs; the first ``left`` columns are text, the others numbers.
        plots: PNG files by what they show.
        unfinished: headings and rows of the runs that are not finished.
        note: a sentence above the table.
    """
    images = "".join(f"<h2>{escape(name)}</h2>\n{_image(name, data)}\n" for name, data in plots.items())
    rest = (
        f"<h2>Not finished</h2>\n<div class=wide>{_table(*unfinished, left=99, kind='rest')}</div>"
        if unfinished[1]
        else ""
    )
    return PAGE.substitute(
        title=escape(title),
        note=escape(note),
        table=_table(head, rows, left=left, kind="sortable"),
        plots=images,
        unfinished=rest,
    )


def _image(name: str, data: bytes) -> str:
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, kind: str) -> str:
    def mark(i: int) -> str:
        return ' class="text long"' if left > len(head) else ' class="text"' if i < left else ""

    button = "<button>{}</button>" if kind == "sortable" else "{}"
    top = "".join(f"<th{mark(i)}>{button.format(escape(name))}</th>" for i, name in enumerate(head))
    body = "".join(
        f"<tr>{''.join(f'<td{mark(i)}>{escape(cell)}</td>' for i, cell in enumerate(row))}</tr>\n" for row in rows
    )
    return f'<table class="{kind}">\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>'
