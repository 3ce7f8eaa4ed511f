"""Genotypes: drawn, and counted over the folds of a nested search."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mser.markup import Markup, element, join
from train.report.study import short

#: Size of a box, and the space around it, in pixels of the picture.
BOX_HEIGHT, ROW_HEIGHT, GAP, MARGIN, TOP = 38, 52, 34, 3, 32
#: Width of a letter at 13 pixels, and letters shown of a name.
LETTER, LETTERS = 7.8, 30
COLUMNS = ("expert", "layer mix", "operation", "pooling", "gate", "head")
FILLS = {"given": ("#f2f4f7", "#7b8794"), "chosen": ("#e3f0f8", "#0072b2"), "out": ("#ffffff", "#9aa5b1")}


def genotype_picture(genotype: dict[str, Any], language: str) -> str:
    """An SVG of the network: a row for each expert, joined by the gate. Boxes that the search chose are blue.

    Args:
        genotype: as :meth:`mser.nas.genotype.Genotype.to_dict` makes it. language: for the text of the picture.
    """
    operations = dict(genotype["operations"])
    texts = [list(operations), ["weighted sum"], list(operations.values()), [genotype["pooling"]],
             [genotype["gate"]], [head_text(genotype)]]  # fmt: skip
    widths = [_width([*column, title]) for column, title in zip(texts, COLUMNS, strict=True)]
    lefts = [MARGIN + sum(widths[:place]) + GAP * place for place in range(len(widths))]
    middle = TOP + ROW_HEIGHT * len(operations) / 2
    shapes = [_label(left + width / 2, title) for left, width, title in zip(lefts, widths, COLUMNS, strict=True)]
    for row, (expert, operation) in enumerate(operations.items()):
        height = TOP + ROW_HEIGHT * (row + 0.5)
        out = operation == "zero"
        for place, text in enumerate([expert, "weighted sum", operation, genotype["pooling"]]):
            kind = "out" if out else "given" if place < 2 else "chosen"
            shapes.append(_box(lefts[place], height, widths[place], str(text), kind))
            if place < 3:
                shapes.append(_arrow(lefts[place] + widths[place], height, lefts[place + 1], height, out))
        shapes.append(_arrow(lefts[3] + widths[3], height, lefts[4], middle, out))
    shapes.append(_box(lefts[4], middle, widths[4], str(genotype["gate"]), "chosen"))
    shapes.append(_arrow(lefts[4] + widths[4], middle, lefts[5], middle, False))
    shapes.append(_box(lefts[5], middle, widths[5], head_text(genotype), "chosen"))
    size = (lefts[-1] + widths[-1] + MARGIN, TOP + ROW_HEIGHT * len(operations) + MARGIN)
    said = f"{language}: structure: " + "; ".join(f"{name}: {found}" for name, found in choices(genotype).items())
    return element(
        "svg", *shapes,
        attributes={
            "xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": said, "width": f"{size[0]:.0f}",
            "height": f"{size[1]:.0f}", "viewBox": f"0 0 {size[0]:.0f} {size[1]:.0f}", "font-size": 13,
            "font-family": "sans-serif",
        },
    )  # fmt: skip


def head_text(genotype: Mapping[str, Any]) -> str:
    """The head in words, as the genotype itself says it."""
    if not genotype["depth"]:
        return "linear"
    return f"{genotype['depth']} x {genotype['width']} {genotype.get('activation', '')}".strip()


def choices(genotype: Mapping[str, Any]) -> dict[str, str]:
    """What was chosen, by the name of the choice."""
    found = {f"operation of {expert}": str(name) for expert, name in genotype["operations"].items()}
    return {**found, "pooling": genotype["pooling"], "gate": genotype["gate"], "head": head_text(genotype)}


def most_frequent(searches: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    """The genotype that most folds found (the first of several), and how many folds did."""
    texts = [json.dumps(search["genotype"], sort_keys=True) for search in searches]
    text, count = Counter(texts).most_common(1)[0]
    return dict(searches[texts.index(text)]["genotype"]), count


def choice_counts(searches: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """For each choice what the folds chose, the most frequent first."""
    counts: dict[str, Counter[str]] = {}
    for search in searches:
        for name, found in choices(search["genotype"]).items():
            counts.setdefault(name, Counter())[found] += 1
    return {name: counter.most_common() for name, counter in counts.items()}


def _width(texts: Sequence[object]) -> float:
    return LETTER * max(len(short(text, LETTERS)) for text in texts) + 22


def _label(middle: float, text: str) -> Markup:
    place = {"x": f"{middle:.1f}", "y": 18, "text-anchor": "middle", "fill": "#616e7c", "font-size": 12}
    return element("text", text, attributes=place)


def _box(left: float, middle: float, width: float, text: str, kind: str) -> Markup:
    fill, stroke = FILLS[kind]
    shape = {
        "x": f"{left:.1f}", "y": f"{middle - BOX_HEIGHT / 2:.1f}", "width": f"{width:.1f}", "height": BOX_HEIGHT,
        "rx": 7, "fill": fill, "stroke": stroke, "stroke-width": 1.3,
    }  # fmt: skip
    if kind == "out":
        shape["stroke-dasharray"] = "4 3"
    place = {"x": f"{left + width / 2:.1f}", "y": f"{middle + 4.5:.1f}", "text-anchor": "middle"}
    place["fill"] = "#7b8794" if kind == "out" else "#1f2933"
    title = element("title", text)
    return element(
        "g", title, element("rect", attributes=shape), element("text", short(text, LETTERS), attributes=place)
    )


def _arrow(left: float, start: float, right: float, end: float, faint: bool) -> Markup:
    """A line with a head; a curve where it changes height."""
    bend = (left + right) / 2
    tip = right - 2
    line = f"M{left:.1f} {start:.1f}C{bend:.1f} {start:.1f} {bend:.1f} {end:.1f} {tip - 6:.1f} {end:.1f}"
    head = f"M{tip:.1f} {end:.1f}l-7 -4v8z"
    tint = "#c4ccd4" if faint else "#52606d"
    stroke = {"d": line, "fill": "none", "stroke": tint, "stroke-width": 1.4}
    if faint:
        stroke["stroke-dasharray"] = "4 3"
    return join([element("path", attributes=stroke), element("path", attributes={"d": head, "fill": tint})])
