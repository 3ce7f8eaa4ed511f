"""HTML from values: everything that is not :class:`Markup` is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence


class Markup(str):
    """Text that is HTML already."""


def markup(value: object) -> Markup:
    """The value as HTML.

    >>> markup("a < b"), markup(Markup("<b>x</b>"))
    ('a &lt; b', '<b>x</b>')
    """
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def element(name: str, *children: object, css: str = "", attributes: Mapping[str, object] | None = None) -> Markup:
    """An element with escaped children and attributes.

    >>> element("p", "a & b", css="note")
    '<p class="note">a &amp; b</p>'
    """
    given = {**({"class": css} if css else {}), **(attributes or {})}
    written = "".join(f' {key}="{markup(value)}"' for key, value in given.items())
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Markup:
    return Markup("".join(markup(child) for child in children))


def paragraph(text: object, css: str = "") -> Markup:
    return element("p", text, css=css)


def bullets(items: Iterable[object], css: str = "") -> Markup:
    return element("ul", *(element("li", item) for item in items), css=css)


def cells(values: Iterable[object], name: str = "td") -> Markup:
    """A table row: the first cell heads the row, the others hold values."""
    first, *rest = values
    attributes = {"scope": "row" if name == "td" else "col"}
    others = (element(name, value, attributes={"scope": "col"} if name == "th" else None) for value in rest)
    return element("tr", element("th", first, attributes=attributes), *others)


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], css: str = "") -> Markup:
    """A table that scrolls inside its box where it is too wide."""
    return boxed_table(columns, element("tbody", *(cells(row) for row in rows)), css)


def boxed_table(columns: Sequence[object], bodies: object, css: str = "") -> Markup:
    """A table of bodies made elsewhere."""
    inside = element("table", element("thead", cells(columns, "th")), bodies, css=css)
    return element("div", inside, css="scroll", attributes={"tabindex": 0})


def details(summary: object, *children: object) -> Markup:
    return element("details", element("summary", summary), *children)


def picture(svg: Markup, caption: object) -> Markup:
    """A figure whose picture scrolls inside its box where it is too wide."""
    return element("figure", element("figcaption", caption), element("div", svg, css="scroll"))


def grid(children: Iterable[object]) -> Markup:
    """Children beside each other where there is room."""
    return element("div", *children, css="grid")


def section(identifier: str, title: str, *children: object) -> Markup:
    heading = element("h2", title)
    return element("section", heading, *children, attributes={"id": identifier})


def document(title: str, policy: str, css: str, *body: object) -> str:
    """A whole page of HTML that reads well on a phone.

    Args:
        policy: what a browser may load for it. css: its look.
    """
    head = join([
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("title", title), element("style", Markup(css)),
    ])  # fmt: skip
    page = join([element("head", head), element("body", element("main", *body))])
    return f'<!DOCTYPE html>\n<html lang="en">{page}</html>\n'
