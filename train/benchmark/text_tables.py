"""The leaderboard as plain tables: for a terminal, and as a long form for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from mser.mapping import EMOTIONS
from train.benchmark.board import (
    FAILED,
    WITHIN,
    ZERO_SHOT,
    Board,
    Setting,
    has_failed,
    place,
    result_of,
    setting_of,
    written,
)
from train.benchmark.score_cells import system_text
from train.report.marks import language_text
from train.report.study import METRICS, MISSING, number
from train.report.tables import DENOMINATORS

#: level: cell, seed, bar and control (paired tests with the system in ``against``), chosen on test, absent (value is
#: empty, statistic says why), mean (over cells); denominator counts ``counted``; leaky and adapts are yes or no.
LONG_COLUMNS = [
    "protocol", "labels", "source", "target", "k", "system", "level", "against", "seed", "metric", "statistic", "value",
    "denominator", "counted", "leaky", "adapts",
]  # fmt: skip
TESTS = ("difference", "p_speakers", "p_utterances", "least_p")
Table = tuple[str, list[str], list[list[str]]]


def terminal_tables(content: dict[str, Any]) -> list[Table]:
    """Title, columns and rows of each table; those without a cell are left out."""
    board = Board(content)
    first, *others = list(board.labels) or [board.first]
    told = "" if first == EMOTIONS else f", labels: {first}"
    shown = {
        Setting(WITHIN, first): f"Within a language{told}: UAR %, mean ± deviation over seeds",
        Setting(ZERO_SHOT, first): f"Across languages, zero-shot{told}: UAR %",
    }
    tables = [_scores(board, setting, title) for setting, title in shown.items() if setting in board.settings]
    if any(setting.k for setting in board.few_shot(first)):
        tables.append(_few(board, f"Across languages, few-shot{told}: UAR %, mean over pairs"))
    further = [Setting(ZERO_SHOT, name) for name in others]
    return tables + [
        _scores(board, setting, f"Across languages, zero-shot, labels: {setting.labels}: UAR %")
        for setting in further
        if setting in board.settings
    ]


def _scores(board: Board, setting: Setting, title: str) -> Table:
    asked = board.settings[setting]
    heads = [language_text(board.study, cell["source"]) if board.leaky(cell) else place(cell) for cell in asked]
    means = [] if setting.protocol == WITHIN else ["uar", "rank"]
    rows = [
        [system_text(board, name), *(_score(cell, name) for cell in asked),
         *(_mean(board, setting, name, field) for field in means)]
        for name in board.asked(asked)
    ]  # fmt: skip
    chance = ["chance", *(number(cell.get("chance")) for cell in asked), *("" for _ in means)]
    return title, ["system", *heads, *(["mean", "mean rank"] if means else [])], [*rows, chance]


def _score(cell: Mapping[str, Any], system: str) -> str:
    result = result_of(cell, system)
    if result is None:
        return FAILED if has_failed(cell, system) else MISSING
    # Twelve pairs with deviations are wider than terminals are.
    return written(result["uar"], len(result.get("seeds", [])) if cell["protocol"] == WITHIN else 1)


def _mean(board: Board, setting: Setting, system: str, field: str) -> str:
    value = board.mean(setting, system, field, whole=False)
    if value is None:
        return MISSING
    entry = board.means[setting, system]
    return number(value) + (f" ({entry['cells']} of {entry['of']})" if entry["cells"] < entry["of"] else "")


def _few(board: Board, title: str) -> Table:
    settings = board.few_shot(board.first)
    names = board.asked([cell for setting in settings if setting.k for cell in board.settings[setting]])
    rows = [[system_text(board, name), *(_mean(board, setting, name, "uar") for setting in settings)] for name in names]
    return title, ["system", *(f"k={one.k}" for one in settings)], rows


def long_form(board: Board) -> str:
    """The leaderboard as CSV, one number a row; columns :data:`LONG_COLUMNS`, empty where one does not apply."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, LONG_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for cell in board.content.get("cells", []):
        place_ = {field: cell[field] for field in LONG_COLUMNS[:5]}
        place_ |= {"leaky": _yes(board.leaky(cell))}
        for row in _cell_rows(cell, board.bar):
            adapts = {"adapts": _yes(board.adapts(row["system"]))} if row["system"] in board.systems else {}
            writer.writerow({**row, **place_, **adapts})
    for part in ("summary", "ideas"):
        for entry in board.content.get(part, []):
            base = {field: entry[field] for field in ("protocol", "labels", "k", "system")}
            base |= {"level": "mean", "adapts": _yes(board.adapts(entry["system"]))}
            base |= {"leaky": _yes(board.leaks(setting_of(entry)))}
            writer.writerows({**base, **row} for row in _mean_rows(entry))
    return stream.getvalue()


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _cell_rows(cell: Mapping[str, Any], bar: str) -> Iterator[dict[str, Any]]:
    counts = {"utterances": cell["tested"], "emotions": len(cell.get("emotions", []))}
    chance = {"system": "chance", "level": "cell", "metric": "uar", "statistic": "mean", "value": cell.get("chance")}
    yield {**chance, "denominator": counts["emotions"], "counted": "emotions"}
    asked = {"metric": "utterances", "statistic": "tested", "value": cell["tested"], "counted": "utterances"}
    yield {"system": "", "level": "cell", **asked, "denominator": cell.get("utterances")}
    ranked = {"denominator": len(cell.get("results", [])), "counted": "systems"}
    for result in cell.get("results", []):
        base = {"system": result["system"], "level": "cell"}
        yield from ({**base, **row} for row in _score_rows(result, counts))
        yield {**base, "metric": "rank", "statistic": "value", "value": result.get("rank"), **ranked}
        for metric in ("parameters", "seconds"):
            yield {**base, "metric": metric, "statistic": "value", "value": result.get(metric)}
        yield from _test_rows(result, bar, counts)
        if chosen := result.get("test_chosen"):
            row = {"metric": "uar", "statistic": chosen.get("choice"), "value": chosen.get("uar")}
            yield {**base, "level": "chosen on test", **row, **_counted("uar", counts)}
    for statistic, names in {
        FAILED: [entry["system"] for entry in cell.get("failed", [])], "missing": cell.get("missing", []),
    }.items():  # fmt: skip
        for name in names:
            yield {"system": name, "level": "absent", "metric": "uar", "statistic": statistic}


def _score_rows(result: Mapping[str, Any], counts: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for metric in METRICS:
        for statistic, value in result[metric].items():
            yield {"metric": metric, "statistic": statistic, "value": value, **_counted(metric, counts)}
    for entry in result.get("per_seed", []):
        for metric in METRICS:
            row = {"level": "seed", "seed": entry["seed"], "metric": metric, "statistic": "value"}
            yield {**row, "value": entry[metric], **_counted(metric, counts)}


def _test_rows(result: Mapping[str, Any], bar: str, counts: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    # The bar may be the control as well; its two tests are corrected over other systems.
    for level in ("bar", "control"):
        test = result.get(f"against_{level}") or {}
        other = bar if level == "bar" else test.get("control")
        base = {"system": result["system"], "level": level, "against": other, "metric": "uar"}
        for statistic in TESTS:
            if statistic in test:
                counted = _counted("uar", counts) if statistic == "difference" else {}
                yield {**base, "statistic": statistic, "value": test[statistic], **counted}


def _mean_rows(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of an entry of ``summary``, or of ``ideas``, which has a control."""
    counted = {"denominator": entry["cells"], "counted": "cells"}
    if "control" in entry:
        for statistic in ("difference", "better", "worse"):
            row = {"against": entry["control"], "metric": "uar", "statistic": statistic, "value": entry[statistic]}
            yield {**row, **counted}
        return
    for metric in ("uar", "rank"):
        yield {"metric": metric, "statistic": "mean", "value": entry[metric], **counted}
    for metric in ("cells", "failed"):
        row = {"metric": metric, "statistic": "value", "value": entry[metric], "counted": "cells"}
        yield {**row, "denominator": entry["of"]}
    for metric in ("seconds", "parameters"):
        yield {"metric": metric, "statistic": "value", "value": entry[metric]}


def _counted(metric: str, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"denominator": counts[DENOMINATORS[metric]], "counted": DENOMINATORS[metric]}
