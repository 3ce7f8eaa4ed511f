"""The results as plain tables: for a terminal, and as a long form for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from train.report.study import METRICS, MISSING, Study, bounds, number, spread
from train.report.verdict import ranks

TERMINAL_COLUMNS = [
    "language", "method", "UAR % ± over seeds [95 %]", "against the best", "WA %", "macro-F1 %", "N", "E", "seconds",
]  # fmt: skip
#: level: aggregate (all test utterances joined), folds (over folds), seed, fold; denominator counts ``counted``.
LONG_COLUMNS = [
    "language", "method", "level", "seed", "fold", "metric", "statistic", "value", "denominator", "counted",
]  # fmt: skip
#: What each score is divided by.
DENOMINATORS = {"uar": "emotions", "wa": "utterances", "macro_f1": "emotions"}


def terminal_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table language x method.

    ``against the best`` is ``best`` for the highest mean UAR of a language, ``tie`` where the intervals show no
    difference from it, ``lower`` otherwise.
    """
    study = Study(results)
    rows = []
    for language in study.languages:
        name = str(language["language"])
        marks = ranks(study, name)
        for method, result in study.results(name).items():
            rows.append([
                name, method, f"{spread(result['uar'])} {bounds(result['uar'])}", marks.get(method, MISSING),
                spread(result["wa"]), spread(result["macro_f1"]), str(result["utterances"]), str(result["emotions"]),
                number(result.get("seconds")),
            ])  # fmt: skip
        emotions = str(len(language.get("emotions", [])))
        rows.append([name, "chance", number(language.get("chance")), "", "", "", "", emotions, ""])
    return list(TERMINAL_COLUMNS), rows


def long_form(results: dict[str, Any]) -> str:
    """The results as CSV, one number a row; columns :data:`LONG_COLUMNS`, empty where a column does not apply."""
    study = Study(results)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, LONG_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for language in study.languages:
        chance = {"language": language["language"], "method": "chance", "level": "aggregate", "metric": "uar"}
        emotions = len(language.get("emotions", []))
        counted = {"denominator": emotions, "counted": "emotions"}
        writer.writerow({**chance, "statistic": "mean", "value": language.get("chance"), **counted})
        for result in study.results(language["language"]).values():
            writer.writerows(_long_rows(result))
    return stream.getvalue()


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
