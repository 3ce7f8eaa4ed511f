"""Sections on how well it worked: the main table, its reading, confusions, folds and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mser.markup import (
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
from train.report.marks import language_mark, method_mark
from train.report.pictures import colours, interval_picture
from train.report.study import METRICS, MISSING, Study, bounds, duration, is_number, number, probability, spread
from train.report.verdict import (
    BEATS,
    LEVEL,
    LOSES,
    RULE,
    TIES,
    against_bar,
    chance_sentence,
    decided,
    least_attainable,
    paired,
    ranks,
    tallies,
    verdict,
)

COLUMNS = [
    "method", "UAR, %", "against the best", "against the bar, points", "p over speakers", "p over utterances", "WA, %",
    "macro-F1, %", "UAR over folds", "N", "E", "seeds", "time",
]  # fmt: skip
MARKS = {"best": "highest", "tie": "ties with it", "lower": "lower", "apart": "not ranked"}
SAID = {BEATS: "beats it", TIES: "tie", LOSES: "loses to it"}
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
    tests = (
        f"Against the bar ({_bars(study)}): the difference of UAR and two p-values of paired permutation tests on the "
        "same test utterances, corrected (Holm) for all methods of the language. A small p over speakers says that the "
        "difference should hold for new speakers; a small p over utterances only that it should hold for new "
        "utterances of these very speakers. Where there are few speakers, the least p that can come out stands below."
    )
    bodies = join(_language_rows(study, language) for language in study.languages)
    readings = [
        join([element("b", language_mark(study, language["language"]), ". "), verdict(study, language["language"]),
              " ", against_bar(study, language["language"]), " ", chance_sentence(study, language)])
        for language in study.languages
    ]  # fmt: skip
    return section(
        "scores", "Scores", paragraph(lead, css="lead"), paragraph(tests, css="lead"),
        boxed_table(COLUMNS, bodies, css="main"), element("h3", "Who is better"), bullets(tallies(study), css="tally"),
        bullets(readings, css="reading"), paragraph(RULE, css="small"), _pictures(study),
    )  # fmt: skip


def _bars(study: Study) -> str:
    bars = dict.fromkeys(row["against"] for row in study.content.get("comparisons", []))
    return ", ".join(study.title(bar) for bar in bars) or "none was trained"


def _language_rows(study: Study, language: Mapping[str, Any]) -> Markup:
    name, emotions = language["language"], language.get("emotions", [])
    facts = f"{', '.join(language.get('corpora', []))} · N = {_tested(language)} utterances"
    facts += f" of {language.get('speakers', MISSING)} speakers · E = {len(emotions)} emotions"
    facts += f" · {language.get('protocol', MISSING)}"
    title = element("span", element("b", language_mark(study, name)), " ", facts, css="stay")
    rows = [element("tr", element("th", title, attributes={"colspan": len(COLUMNS), "scope": "rowgroup"}), css="group")]
    marks = ranks(study, name)
    for method, result in study.results(name).items():
        mark = marks.get(method)
        row = cells([
            method_mark(study, method), _score(result["uar"], mark == "best"), MARKS.get(mark or "", MISSING),
            *_comparison(study, name, method), _score(result["wa"]), _score(result["macro_f1"]),
            spread(result.get("fold_uar")), result["utterances"], result["emotions"], len(result.get("seeds", [])),
            duration(result.get("seconds")),
        ])  # fmt: skip
        rows.append(row)
    if len(rows) == 1:
        rows.append(cells(["no results", *[MISSING] * (len(COLUMNS) - 1)]))
    rest = [""] * 8
    rows.append(cells(["chance (1 / E)", number(language.get("chance")), *rest, len(emotions), "", ""]))
    return element("tbody", *rows)


def _tested(language: Mapping[str, Any]) -> str:
    """How many utterances are tested, and of how many, where that is not all."""
    tested, every = language.get("tested", MISSING), language.get("utterances", MISSING)
    return str(tested) if tested == every else f"{tested} tested of {every}"


def _comparison(study: Study, language: str, method: str) -> list[Markup | str]:
    """Three cells: the difference from the bar, p over speakers and p over utterances."""
    row = paired(study, language, method, _bar(study, language))
    if row is None:
        return ["the bar" if method == _bar(study, language) else MISSING, "", ""]
    said = decided(row["difference"], row["p_speakers"])
    speakers, least = element("span", probability(row["p_speakers"])), least_attainable(study, language)
    if least is not None and least >= LEVEL:
        speakers = join([speakers, element("small", f"least {probability(least)}")])
    difference = join([element("span", f"{row['difference']:+.1f}"), element("small", SAID[said])])
    return [difference, speakers, probability(row["p_utterances"])]


def _bar(study: Study, language: str) -> str:
    return next((str(row["against"]) for row in study.of_language("comparisons", language)), "")


def _score(summary: Mapping[str, Any], bold: bool = False) -> Markup:
    value = element("strong" if bold else "span", spread(summary))
    return join([value, element("small", bounds(summary))])


def _pictures(study: Study) -> Markup:
    tints = colours(study.methods)
    pictures = []
    for language in study.languages:
        name, chance = language["language"], language.get("chance")
        if results := study.results(name):
            marked = {method: study.transductive(method) for method in results}
            caption = join([element("b", language_mark(study, name)), f" · chance {number(chance)}"])
            drawn = interval_picture(name, results, tints, chance, _limits(results, chance), marked, study.leaky(name))
            pictures.append(picture(drawn, caption))
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
            method: element(
                "figure", element("figcaption", method_mark(study, method)), _matrix(counts, language["emotions"])
            )
            for method, result in study.results(language["language"]).items()
            if (counts := result.get("confusion"))
        }
        first = [method for method in SHOWN if method in drawn] or list(drawn)[: len(SHOWN)]
        others = [drawn[method] for method in drawn if method not in first]
        parts.append(element("h3", language_mark(study, language["language"])))
        parts.append(grid(drawn[method] for method in first) if drawn else paragraph("No results."))
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
            inside = [_fold_table(study, results), element("h4", "Seeds"), _seed_table(study, results)]
            parts.append(details(join([language_mark(study, name), ": folds and seeds"]), *inside))
    return section("folds", "Folds and seeds", *parts)


def _fold_table(study: Study, results: Mapping[str, dict[str, Any]]) -> Markup:
    """Rows: methods, of which there may be many; columns: folds with their N and E."""
    sizes: dict[str, tuple[Any, Any]] = {}
    scores: dict[tuple[str, str], list[float]] = {}
    for method, result in results.items():
        for entry in result.get("per_fold", []):
            sizes[entry["fold"]] = (entry["utterances"], entry["emotions"])
            scores.setdefault((method, entry["fold"]), []).append(entry["uar"])
    rows = [
        [method_mark(study, method), *(_over_seeds(scores.get((method, fold), [])) for fold in sizes)]
        for method in results
    ]
    heads = [join([element("span", fold), element("small", f"N {n}, E {e}")]) for fold, (n, e) in sizes.items()]
    return table(["method", *heads], rows, css="wide")


def _over_seeds(values: Sequence[float]) -> str:
    known = [value for value in values if is_number(value)]
    return f"{number(np.mean(known))} ± {number(np.std(known))}" if known else MISSING


def _seed_table(study: Study, results: Mapping[str, dict[str, Any]]) -> Markup:
    rows = [
        [method_mark(study, method), entry["seed"], *(number(entry[metric]) for metric in METRICS)]
        for method, result in results.items()
        for entry in result.get("per_seed", [])
    ]
    return table(["method", "seed", *METRICS.values()], rows)
