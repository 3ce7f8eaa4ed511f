"""The results as plain tables: for a terminal, and as a long form for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from train.report.marks import language_text, method_text
from train.report.study import METRICS, MISSING, Study, bounds, number, probability, spread
from train.report.verdict import BEATS, LOSES, TIES, decided, ranks

TERMINAL_COLUMNS = [
    "language", "method", "UAR % ± over seeds [95 %]", "against the best", "against the bar, p speakers/utterances",
    "WA %", "macro-F1 %", "N", "E", "seconds",
]  # fmt: skip
#: level: aggregate (all test utterances joined), comparison (with the bar), folds (over folds), seed, fold; denominator
#: counts ``counted``; leaky and transductive are yes or no.
LONG_COLUMNS = [
    "language", "method", "level", "seed", "fold", "metric", "statistic", "value", "denominator", "counted", "leaky",
    "transductive",
]  # fmt: skip
SAID = {BEATS: "beats", TIES: "tie", LOSES: "loses"}
#: What each score is divided by.
DENOMINATORS = {"uar": "emotions", "wa": "utterances", "macro_f1": "emotions"}


def terminal_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table language x method.

    ``against the best`` is as :func:`train.report.verdict.ranks` has it. ``against the bar`` is whether a method beats
    it, ties or loses, by how many points, and p over speakers and over utterances: ``beats +4.2 p=.03/.001``.
    """
    study = Study(results)
    rows = []
    for language in study.languages:
        name = str(language["language"])
        marks = ranks(study, name)
        for method, result in study.results(name).items():
            rows.append([
                language_text(study, name), method_text(study, method),
                f"{spread(result['uar'])} {bounds(result['uar'])}", marks.get(method, MISSING),
                _against_bar(study, name, method), spread(result["wa"]), spread(result["macro_f1"]),
                str(result["utterances"]), str(result["emotions"]), number(result.get("seconds")),
            ])  # fmt: skip
        emotions = str(len(language.get("emotions", [])))
        chance = number(language.get("chance"))
        rows.append([language_text(study, name), "chance", chance, *[""] * 5, emotions, ""])
    return list(TERMINAL_COLUMNS), rows


def _against_bar(study: Study, language: str, method: str) -> str:
    for row in study.of_language("comparisons", language):
        if row["method"] == method:
            said = SAID[decided(row["difference"], row["p_speakers"])]
            p = "/".join(probability(row[unit]) for unit in ("p_speakers", "p_utterances"))
            return f"{said} {row['difference']:+.1f} p={p}"
        if row["against"] == method:
            return "the bar"
    return MISSING


def long_form(results: dict[str, Any]) -> str:
    """The results as CSV, one number a row; columns :data:`LONG_COLUMNS`, empty where a column does not apply."""
    study = Study(results)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, LONG_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for language in study.languages:
        name = language["language"]
        leaky = _yes(study.leaky(name))
        chance = {"language": name, "method": "chance", "level": "aggregate", "metric": "uar", "leaky": leaky}
        emotions = len(language.get("emotions", []))
        counted = {"denominator": emotions, "counted": "emotions"}
        writer.writerow({**chance, "statistic": "mean", "value": language.get("chance"), **counted})
        tests = {row["method"]: row for row in study.of_language("comparisons", name)}
        for method, result in study.results(name).items():
            marks = {"leaky": leaky, "transductive": _yes(study.transductive(method))}
            rows = [*_long_rows(result), *_test_rows(tests.get(method))]
            writer.writerows({**row, **marks} for row in rows)
    return stream.getvalue()


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _test_rows(test: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The paired test against the bar; the correction of p is that of the results."""
    if test is None:
        return
    base = {"language": test["language"], "method": test["method"], "level": "comparison", "metric": "uar"}
    values = {name: test[name] for name in ("p_speakers", "p_utterances", "least_p")}
    for statistic, value in {f"less {test['against']}": test["difference"], **values}.items():
        yield {**base, "statistic": statistic, "value": value}


def _long_rows(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    base = {"language": result["language"], "method": result["method"]}
    for metric in METRICS:
        counted = _counted(metric, result)
        for statistic, value in result[metric].items():
            row = {"level": "aggregate", "metric": metric, "statistic": statistic, "value": value}
            yield {**base, **row, **counted}
    for statistic, value in (result.get("fold_uar") or {}).items():
        row = {"level": "folds", "metric": "uar", "statistic": statistic, "value": value}
        yield {**base, **row, "denominator": len(_folds(result)), "counted": "folds"}
    for level in ("seed", "fold"):
        for entry in result.get(f"per_{level}", []):
            place = {"level": level, "seed": entry["seed"], "fold": entry.get("fold", "")}
            for metric in METRICS:
                values = {"metric": metric, "statistic": "value", "value": entry[metric]}
                yield {**base, **place, **values, **_counted(metric, {**result, **entry})}
    yield {**base, "level": "aggregate", "metric": "seconds", "statistic": "value", "value": result.get("seconds")}


def _counted(metric: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    return {"denominator": scores[DENOMINATORS[metric]], "counted": DENOMINATORS[metric]}


def _folds(result: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(entry["fold"] for entry in result.get("per_fold", [])))
