"""Sections on how well it worked: the main table, its reading, confusions, folds and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.report.markup import (
    Markup,
    boxed_table,
    bullets,
    cells,
    details,
    element,
    grid,
    join,
    paragraph,
    picture,
    section,
    table,
)
from train.report.pictures import colours, interval_picture
from train.report.study import METRICS, MISSING, Study, bounds, duration, is_number, number, spread
from train.report.verdict import RULE, chance_sentence, ranks, tallies, verdict

COLUMNS = ["method", "UAR, %", "against the best", "WA, %", "macro-F1, %", "UAR over folds", "N", "E", "seeds", "time"]
MARKS = {"best": "highest", "tie": "ties with it", "lower": "lower"}
#: Methods whose confusions are shown at once; the others are folded away.
SHOWN = ("searched", "multi-domain", "logistic")
#: The darkest cell of a confusion matrix, and the share above which its text turns white.
DARK, TURN = (0x0B, 0x4F, 0x82), 0.55


def main_table(study: Study) -> Markup:
    lead = (
        "UAR, the mean of the recalls of the E emotions, is the headline; WA is the share of the N test utterances "
        "that are right; macro-F1 is the mean F1 of the E emotions. Each score is that of all test utterances joined "
        "over the folds: mean ± deviation over seeds, and below it the 95 % interval when whole speakers are drawn "
        "again. The highest UAR of a language is bold."
    )
    bodies = join(_language_rows(study, language) for language in study.languages)
    readings = [
        join([element("b", f"{language['language']}. "), verdict(study, language["language"]), " ",
              chance_sentence(study, language)])
        for language in study.languages
    ]  # fmt: skip
    return section(
        "scores", "Scores", paragraph(lead, css="lead"), boxed_table(COLUMNS, bodies, css="main"),
        element("h3", "What the intervals say of the search"), bullets(tallies(study), css="tally"),
        bullets(readings, css="reading"), paragraph(RULE, css="small"), _pictures(study),
    )  # fmt: skip


def _language_rows(study: Study, language: Mapping[str, Any]) -> Markup:
    name, emotions = language["language"], language.get("emotions", [])
    facts = f"{', '.join(language.get('corpora', []))} · N = {language.get('utterances', MISSING)} utterances"
    facts += f" of {language.get('speakers', MISSING)} speakers · E = {len(emotions)} emotions"
    facts += f" · {language.get('protocol', MISSING)}"
    title = element("span", element("b", name), " ", facts, css="stay")
    rows = [element("tr", element("th", title, attributes={"colspan": len(COLUMNS), "scope": "rowgroup"}), css="group")]
    marks = ranks(study, name)
    for method, result in study.results(name).items():
        mark = marks.get(method)
        row = cells([
            study.title(method), *(_score(result["uar"], mark == "best"), MARKS.get(mark or "", MISSING)),
            _score(result["wa"]), _score(result["macro_f1"]), spread(result.get("fold_uar")), result["utterances"],
            result["emotions"], len(result.get("seeds", [])), duration(result.get("seconds")),
        ])  # fmt: skip
        rows.append(row)
    if len(rows) == 1:
        rows.append(cells(["no results", *[MISSING] * (len(COLUMNS) - 1)]))
    rest = [""] * 5
    rows.append(cells(["chance (1 / E)", number(language.get("chance")), *rest, len(emotions), "", ""]))
    return element("tbody", *rows)


def _score(summary: Mapping[str, Any], bold: bool = False) -> Markup:
    value = element("strong" if bold else "span", spread(summary))
    return join([value, element("small", bounds(summary))])


def _pictures(study: Study) -> Markup:
    tints = colours(study.methods)
    pictures = []
    for language in study.languages:
        name, chance = language["language"], language.get("chance")
        if results := study.results(name):
            caption = join([element("b", name), f" · chance {number(chance)}"])
            pictures.append(picture(interval_picture(name, results, tints, chance, _limits(results, chance)), caption))
    note = (
        "Dot and number: mean over seeds; bar: 95 % interval over speakers; small dots: seeds; dashed: chance, where "
        "the axis reaches it. Each language has an axis of its own."
    )
    return join([grid(pictures), paragraph(note, css="small")]) if pictures else Markup()


def _limits(results: Mapping[str, dict[str, Any]], chance: Any) -> tuple[float, float]:
    """Ends of an axis that holds every interval, and chance where it is near them."""
    ends = [result["uar"].get(end) for result in results.values() for end in ("low", "mean", "high")]
    known = [end for end in ends if is_number(end)] or [0, 100]
    width = max(known) - min(known) + 4
    if is_number(chance) and min(known) - chance < width:
        known.append(chance)
    return min(known) - 0.06 * width, max(known) + 0.06 * width


def confusions(study: Study) -> Markup:
    lead = "Row: the true emotion; column: the one said. Percent of the row, and below it the count, summed over seeds."
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        drawn = {
            method: element("figure", element("figcaption", study.title(method)), _matrix(counts, language["emotions"]))
            for method, result in study.results(language["language"]).items()
            if (counts := result.get("confusion"))
        }
        shown = [drawn[method] for method in SHOWN if method in drawn]
        others = [drawn[method] for method in drawn if method not in SHOWN]
        parts += [element("h3", language["language"]), grid(shown) if drawn else paragraph("No results.")]
        parts += [details(f"Other methods ({len(others)})", grid(others))] if others else []
    return section("confusions", "Confusions", *parts)


def _matrix(counts: Sequence[Sequence[float]], emotions: Sequence[str]) -> Markup:
    rows = []
    for emotion, row in zip(emotions, counts, strict=True):
        total = sum(row)
        values = [_shaded(count, count / total if total else None) for count in row]
        rows.append(element("tr", element("th", emotion, attributes={"scope": "row"}), *values))
    heads = [element("span", emotion, css="upright") for emotion in emotions]
    return boxed_table(["true", *heads], element("tbody", *rows), css="matrix")


def _shaded(count: float, share: float | None) -> Markup:
    if share is None:
        return element("td", MISSING)
    tint = "".join(f"{round(255 + (dark - 255) * share):02x}" for dark in DARK)
    style = f"background:#{tint}" + (";color:#fff" if share > TURN else "")
    return element("td", number(100 * share, 0), element("small", f"{count:.0f}"), attributes={"style": style})


def folds_and_seeds(study: Study) -> Markup:
    lead = "UAR of each test fold, mean ± deviation over seeds. Every fold and seed alone is in results.csv."
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        name, results = language["language"], study.results(language["language"])
        if results:
            inside = [_fold_table(results), element("h4", "Seeds"), _seed_table(study, results)]
            parts.append(details(f"{name}: folds and seeds", *inside))
    return section("folds", "Folds and seeds", *parts)


def _fold_table(results: Mapping[str, dict[str, Any]]) -> Markup:
    """Rows: folds with their N and E; columns: methods."""
    sizes: dict[str, tuple[Any, Any]] = {}
    scores: dict[tuple[str, str], list[float]] = {}
    for method, result in results.items():
        for entry in result.get("per_fold", []):
            sizes[entry["fold"]] = (entry["utterances"], entry["emotions"])
            scores.setdefault((entry["fold"], method), []).append(entry["uar"])
    rows = [[fold, *size, *(_over_seeds(scores.get((fold, method), [])) for method in results)]
            for fold, size in sizes.items()]  # fmt: skip
    return table(["fold", "N", "E", *results], rows)


def _over_seeds(values: Sequence[float]) -> str:
    known = [value for value in values if is_number(value)]
    return f"{number(np.mean(known))} ± {number(np.std(known))}" if known else MISSING


def _seed_table(study: Study, results: Mapping[str, dict[str, Any]]) -> Markup:
    rows = [
        [study.title(method), entry["seed"], *(number(entry[metric]) for metric in METRICS)]
        for method, result in results.items()
        for entry in result.get("per_seed", [])
    ]
    return table(["method", "seed", *METRICS.values()], rows)
