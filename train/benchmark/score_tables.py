"""The tables of scores: systems by languages, by pairs of languages, and by k."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mser.markup import Markup, boxed_table, cells, details, element, join, paragraph, section, table
from train.benchmark.board import (
    WITHIN,
    ZERO_SHOT,
    Board,
    Setting,
    best,
    place,
    share_tested,
)
from train.benchmark.few_shot import curves, table_of_means
from train.benchmark.score_cells import against_bar, mean_cell, other_scores, score, setting_mark, system_mark
from train.report.marks import language_mark
from train.report.study import MISSING, number, probability
from train.report.verdict import LEVEL

#: What a cell of a table shows, of a cell of the benchmark and a system.
Fill = Callable[[Board, Mapping[str, Any], str], object]
NOT_RUN = "Not run."


def within(board: Board) -> Markup:
    lead = (
        "One language at a time: the speakers of each test fold were never heard. UAR in percent, mean ± deviation "
        "over seeds; below it the 95 % interval when whole speakers are drawn again, and the rank among the systems "
        "of the language. Bold: the highest of a column. Every number leads to the folder of its run."
    )
    return section(
        "within", "Within a language", paragraph(lead, css="lead"), *_tables(board, Setting(WITHIN, board.first))
    )


def zero_shot(board: Board) -> Markup:
    lead = (
        "Learnt in the language before the arrow, tested in the one behind it, of which no label was seen. Only "
        "labels that both languages have are asked, so a pair may test fewer utterances than the language has (N)."
    )
    parts = _tables(board, Setting(ZERO_SHOT, board.first))
    return section("zero-shot", "Across languages, zero-shot", paragraph(lead, css="lead"), *parts)


def few_shot(board: Board) -> Markup:
    lead = (
        "As above, with k labelled clips of each emotion from target speakers that are not tested. The clips are drawn "
        "by the seed; those of a smaller k are among those of a larger one."
    )
    parts = [curves(board, board.first), *_few(board)]
    return section("few-shot", "Across languages, few-shot", paragraph(lead, css="lead"), *parts)


def other_labels(board: Board) -> list[Markup]:
    """A section for each further label set: the pairs, zero-shot."""
    found = []
    for name, entry in list(board.labels.items())[1:]:
        lead = (
            f"The same pairs with other labels: {entry['title']}. So languages whose emotions differ can be asked "
            "about more of their utterances."
        )
        parts = _tables(board, Setting(ZERO_SHOT, name))
        heading = f"Across languages, labels: {name}"
        found.append(section(f"labels-{name}", heading, paragraph(lead, css="lead"), *parts))
    return found


def _few(board: Board) -> list[Markup]:
    """The means over pairs, and each k's pairs folded away."""
    settings = [setting for setting in board.few_shot(board.first) if setting.k]
    if not settings:
        return [paragraph(NOT_RUN)]
    folded = [details(f"k = {setting.k}: every pair", matrix(board, setting)) for setting in settings]
    return [table_of_means(board, board.first), *folded]


def _tables(board: Board, setting: Setting) -> list[Markup]:
    """The table of a setting, what to know of it, and its other numbers folded away."""
    asked = board.settings.get(setting, [])
    if not asked:
        return [paragraph(NOT_RUN)]
    least = _least(board, asked)
    absent = [board.title(name) for name in board.systems if name not in board.asked(asked)]
    notes = [paragraph(least, css="small")] if least else []
    notes += [paragraph(f"Not for this protocol: {'; '.join(absent)}.", css="small")] if absent else []
    tests = "Against the bar: points, p over speakers / over utterances"
    return [
        matrix(board, setting), *notes,
        details(tests, _filled(board, setting, against_bar)),
        details("WA and macro-F1", _filled(board, setting, other_scores)),
        details("What was asked", _asked(board, asked)),
    ]  # fmt: skip


def matrix(board: Board, setting: Setting) -> Markup:
    """Systems by cells of a setting: UAR with all that belongs to it, mean and mean rank first."""
    asked = board.settings[setting]
    highest = {place(cell): best(cell) for cell in asked}
    rows = [
        cells([
            system_mark(board, name),
            *(mean_cell(board, setting, name, field) for field in ("uar", "rank")),
            *(score(board, cell, name, highest[place(cell)]) for cell in asked),
        ])
        for name in board.asked(asked)
    ]  # fmt: skip
    rows.append(cells(["chance (1 / E)", "", "", *(number(cell.get("chance")) for cell in asked)]))
    means = [setting_mark(board, setting, name) for name in ("mean", "mean rank")]
    heads = ["system", *means, *(_head(board, cell) for cell in asked)]
    return boxed_table(heads, element("tbody", *rows), css="wide board")


def _filled(board: Board, setting: Setting, fill: Fill) -> Markup:
    asked = board.settings[setting]
    rows = [[system_mark(board, name), *(fill(board, cell, name) for cell in asked)] for name in board.asked(asked)]
    return table(["system", *(_head(board, cell) for cell in asked)], rows, css="wide board")


def _head(board: Board, cell: Mapping[str, Any]) -> Markup:
    name = language_mark(board.study, cell["source"]) if board.leaky(cell) else place(cell, " → ")
    return join([element("span", name), element("small", f"N {share_tested(cell)}")])


def _asked(board: Board, asked: Sequence[Mapping[str, Any]]) -> Markup:
    columns = ["where", "tested utterances", "test speakers", "chance, %", "E", "emotions"]
    rows = [
        [_head_name(board, cell), share_tested(cell), cell.get("speakers", MISSING), number(cell.get("chance")),
         len(cell.get("emotions", [])), ", ".join(cell.get("emotions", []))]
        for cell in asked
    ]  # fmt: skip
    return table(columns, rows, css="prose")


def _head_name(board: Board, cell: Mapping[str, Any]) -> Markup:
    return language_mark(board.study, cell["source"]) if board.leaky(cell) else join([place(cell, " → ")])


def _least(board: Board, asked: Sequence[Mapping[str, Any]]) -> str:
    """Where no system can differ from the bar over speakers, whatever it says; empty where there is no such place."""
    found = []
    for cell in asked:
        tests = [test for result in cell.get("results", []) if (test := result.get("against_bar"))]
        # Holm multiplies the least of the p-values by their number, and no other becomes less than that.
        least = min(1.0, max((test["least_p"] for test in tests), default=0.0) * len(tests))
        if least > LEVEL:
            found.append(f"{place(cell, ' → ')} ({cell['speakers']} speakers: {probability(least)})")
    if not found:
        return ""
    return (
        f"Too few test speakers for so many systems: no difference from {board.title(board.bar)} can be shown for new "
        f"speakers, since p over speakers cannot be below what stands behind each: {', '.join(found)}."
    )
