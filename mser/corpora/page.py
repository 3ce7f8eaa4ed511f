"""The catalogue of definitions as a page in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from mser.corpora.definition import CorpusDefinition
from mser.corpora.describe import defects_of, emotions_of, in_order, is_demo
from mser.corpora.fields import ACCESS, DEFECTS
from mser.languages import name_of

#: What follows it on a page is generated; what stands above is written by hand.
MARKER = "<!-- catalogue -->"


def with_catalogue(page: str, definitions: Iterable[CorpusDefinition]) -> str:
    """A page whose part behind :data:`MARKER` is the catalogue; one without a marker gets it at its end."""
    above = page.split(MARKER)[0].rstrip() or "# Corpora"
    return f"{above}\n\n{MARKER}\n\n{catalogue(definitions)}"


def catalogue(definitions: Iterable[CorpusDefinition]) -> str:
    """The generated part: counts, and a table a language; the same for the same definitions."""
    ordered = [one for one in in_order(definitions) if not is_demo(one)]
    return "\n".join([*_head(ordered), *_tables(ordered), *_defects(ordered)]).rstrip() + "\n"


def _head(ordered: list[CorpusDefinition]) -> Iterator[str]:
    access = Counter(one.access or "unknown" for one in ordered)
    counts = ", ".join(f"{access[kind]} {kind}" for kind in (*ACCESS, "unknown") if access[kind])
    published = [one.expected["utterances"] for one in ordered if "utterances" in one.expected]
    open_ended = len(ordered) - len(published)
    yield f"{len(ordered)} definitions, {len({one.language for one in ordered})} languages, " + (
        f"{sum(published):,} utterances published in total"
        + (f" ({open_ended} without a published count)." if open_ended else ".")
    )
    yield f"By access: {counts}."
    yield ""


def _tables(ordered: list[CorpusDefinition]) -> Iterator[str]:
    by_language = sorted(ordered, key=lambda one: (name_of(one.language), one.language, one.name))
    for (title, code), group in groupby(by_language, key=lambda one: (name_of(one.language), one.language)):
        yield f"### {title} ({code})"
        yield ""
        yield "| corpus | emotions | speakers | utterances | speech | licence | access | defects |"
        yield "|---|---|---|---|---|---|---|---|"
        for one in group:
            name = f"[`{one.name}`]({one.page})" if one.page else f"`{one.name}`"
            cells = [
                f"{name} {_cell(one.title)}",
                f"{len(emotions_of(one))}: {', '.join(emotions_of(one))}",
                str(one.expected.get("speakers", "–")),
                str(one.expected.get("utterances", "–")),
                one.speech or "–",
                _cell(one.licence),
                one.access or "–",
                "<br>".join(_cell(f"{defect['kind']}: {defect['note']}") for defect in one.defects) or "–",
            ]
            yield f"| {' | '.join(cells)} |"
        yield ""


def _defects(ordered: list[CorpusDefinition]) -> Iterator[str]:
    kinds = [kind for kind in DEFECTS if any(kind in defects_of(one) for one in ordered)]
    if kinds:
        yield "### Kinds of defects"
        yield ""
        for kind in kinds:
            number = sum(kind in defects_of(one) for one in ordered)
            yield f"- `{kind}` ({number}): {DEFECTS[kind]}"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
