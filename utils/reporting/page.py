"""A self-contained HTML page: sections with tables, SVG figures and images, light and dark, without scripts.

Everything that is not made here is escaped: class names, file names and options come from strangers' files.
"""

import base64
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from graftdet.utils.text import valid_utf8

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # no scripts, nothing from elsewhere
STYLE = """
:root { color-scheme: light dark; --ink: #1b1c1d; --page: #ffffff; --muted: #5c6370; --line: #d9dce1; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --page: #16181b; --muted: #9aa1ac; --line: #353a41; --band: #1e2125; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px; max-width: 1240px; color: var(--ink); background: var(--page);
  font: 15px/1.45 system-ui, "Segoe UI", "Helvetica Neue", "Noto Sans", "PingFang SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.5rem; margin: 8px 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 32px 0 8px; padding-top: 8px; border-top: 1px solid var(--line); }
p { margin: 6px 0; max-width: 90ch; }
p.note, figcaption { color: var(--muted); font-size: 0.88rem; }
nav { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 0.9rem; }
a { color: inherit; }
.wide { overflow-x: auto; margin-bottom: 12px; }
.row { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
.row > * { flex: 1 1 380px; min-width: 0; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 3px 10px; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: break-word; }
th { background: var(--band); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles { display: grid; gap: 4px 16px; grid-template-columns: repeat(auto-fill, minmax(min(380px, 100%), 1fr)); }
svg { width: 100%; height: auto; }
figure { margin: 0 0 12px; }
figure img { max-width: 100%; height: auto; }
img.graph { background: #ffffff; max-width: none; }
pre { overflow-x: auto; background: var(--band); padding: 10px; font-size: 0.8rem; }
summary { cursor: pointer; }
.numbers { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 10px 0; }
.numbers div { line-height: 1.2; }
.numbers b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.numbers span { color: var(--muted); font-size: 0.85rem; }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Heading, plain text.
        html: Content, made by the functions of this module.
    """

    title: str
    html: str


def page(title: str, summary: str, sections: Sequence[Section], reload_seconds: int = 0) -> str:
    """Return a page.

    Args:
        title: Heading, plain text.
        summary: HTML below it.
        sections: Parts, in their order.
        reload_seconds: The page reloads after this time; 0: never.
    """
    reload = f'<meta http-equiv="refresh" content="{reload_seconds:d}">' if reload_seconds else ""
    links = "".join(f'<a href="#s{i}">{text(section.title)}</a>' for i, section in enumerate(sections))
    parts = "\n".join(
        f'<section id="s{i}"><h2>{text(section.title)}</h2>\n{section.html}\n</section>'
        for i, section in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{reload}\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{text(title)}</h1>\n"
        f"{summary}\n<nav>{links}</nav>\n{parts}\n</body></html>\n"
    )


def text(value: Any) -> str:
    """Return a value as escaped text."""
    return escape(valid_utf8(str(value)))


def paragraph(value: Any, note: bool = False) -> str:
    """Return a paragraph of plain text; a note is less prominent."""
    css = ' class="note"' if note else ""
    return f"<p{css}>{text(value)}</p>"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], right: Collection[int] = ()) -> str:
    """Return a table of plain values.

    Args:
        head: Names of the columns.
        rows: Cells of each row; floats get three decimals, NaN and None become a dash.
        right: Columns of numbers.
    """

    def cells(tag: str, values: Sequence[Any]) -> str:
        css = [' class="n"' if i in right else "" for i in range(len(values))]
        return "".join(f"<{tag}{one}>{text(_cell(value))}</{tag}>" for one, value in zip(css, values, strict=True))

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
    )


def numbers(values: dict[str, Any]) -> str:
    """Return large numbers with their names below."""
    items = "".join(f"<div><b>{text(_cell(v))}</b><span>{text(name)}</span></div>" for name, v in values.items())
    return f'<div class="numbers">{items}</div>'


def row(*parts: str) -> str:
    """Return parts side by side, one below the other on small screens."""
    return f'<div class="row">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def details(summary: str, content: str) -> str:
    """Return content that opens on a click; `summary` is plain text."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def preformatted(value: str) -> str:
    """Return plain text in a font of equal widths."""
    return f"<pre>{text(value)}</pre>"


def image(data: bytes, kind: str, description: str, caption: str = "", css_class: str = "") -> str:
    """Return an embedded image.

    Args:
        data: Content of the file.
        kind: jpeg, png or svg+xml.
        description: Plain text for screen readers.
        caption: Plain text below the image.
        css_class: A class of `STYLE`.
    """
    content = base64.b64encode(data).decode()
    css = f' class="{css_class}"' if css_class else ""
    tag = f'<img{css} src="data:image/{kind};base64,{content}" alt="{text(description)}">'
    return f"<figure>{tag}{f'<figcaption>{text(caption)}</figcaption>' if caption else ''}</figure>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
