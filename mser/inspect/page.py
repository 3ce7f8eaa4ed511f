"""The page: the sections that were asked for, in one file that loads nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mser.config import write_json, write_text
from mser.inspect import sections
from mser.inspect.pictures import library
from mser.inspect.style import CSS as OWN_CSS
from mser.inspect.style import SCRIPT
from mser.markup import Markup, element, join, paragraph
from mser.style import CSS

#: Part of the results -> its link, and what makes its section.
SECTIONS: dict[str, tuple[str, Callable[[Mapping[str, Any]], Markup]]] = {
    "stores": ("Stores", sections.stores),
    "statistics": ("Statistics", sections.statistics),
    "similarity": ("Similarity", sections.similarity),
    "probes": ("Probes", sections.probes),
    "map": ("Maps", sections.maps),
    "rejected": ("Rejected files", sections.rejected),
    "audit": ("Audit", sections.audits),
}
#: What a browser may do with the page: draw it, from what is in it.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def write_page(results: Mapping[str, Any], folder: Path, name: str = "inspect") -> Path:
    """Writes ``<name>.html`` and ``<name>.json`` into a folder, each whole or not at all.

    Args:
        results: what :func:`mser.inspect.survey.survey` found.

    Returns:
        The path of the page.
    """
    page = make_page(results)
    write_json(folder / f"{name}.json", results)
    write_text(folder / f"{name}.html", page)
    return folder / f"{name}.html"


def make_page(results: Mapping[str, Any]) -> str:
    """The whole page as HTML."""
    present = [name for name in SECTIONS if name in results]
    links = [element("a", SECTIONS[name][0], attributes={"href": f"#{name}"}) for name in present]
    languages = ", ".join(results["languages"])
    header = element(
        "header",
        paragraph("mser inspect", css="kicker"),
        element("h1", "What is cached of ", element("em", languages)),
        paragraph(f"mser {results['mser_version']}, {results['created']}.", css="facts"),
    )
    body = [SECTIONS[name][1](results) for name in present]
    head = join([
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("title", f"mser inspect: {languages}"), element("style", Markup(CSS + OWN_CSS)),
        element("script", Markup(library())),
    ])  # fmt: skip
    navigation = element("nav", *links, attributes={"aria-label": "sections"})
    script = element("script", Markup(SCRIPT))
    main = element("main", header, navigation, *body, sections.seconds(results))
    page = join([element("head", head), element("body", main, script)])
    return f'<!DOCTYPE html>\n<html lang="en">{page}</html>\n'
