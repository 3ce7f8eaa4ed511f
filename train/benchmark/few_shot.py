"""What labelled clips of the target are worth: curves over k, and the table of their means."""

from __future__ import annotations

from collections.abc import Sequence

from mser.markup import Markup, bullets, element, grid, join, paragraph, picture, table
from train.benchmark.board import Board, Setting, place, result_of
from train.benchmark.pictures import MARKERS, Line, limits, shots_picture
from train.benchmark.score_cells import mean_cell, system_mark
from train.report.pictures import COLOURS, INK

NOTE = (
    "UAR in percent over k, whose steps are drawn even; k = 0 is zero-shot. Dotted: chance. The pairs share one axis. "
    "A mean is drawn only where every pair has a score."
)


def highlighted(board: Board, labels: str) -> list[str]:
    """The systems that are drawn in colour: the bar, then those of the lowest mean rank at the largest k.

    Systems without a score in every pair are left out: their ranks do not compare.
    """
    settings = board.few_shot(labels)
    if not settings:
        return []
    ranks = {name: board.mean(settings[-1], name, "rank") for name in board.systems if name != board.bar}
    known = {name: rank for name, rank in ranks.items() if rank is not None}
    bar = [board.bar] if board.bar in board.systems else []
    return bar + sorted(known, key=lambda name: known[name])[: len(COLOURS)]


def means_picture(board: Board) -> Markup | None:
    """The mean over pairs as a picture that stands alone; None where no shots were asked."""
    settings = board.few_shot(board.first)
    if not any(setting.k for setting in settings):
        return None
    names = board.asked([cell for setting in settings for cell in board.settings[setting]])
    means = _means(board, settings, names)
    looks = _looks(board, highlighted(board, board.first), names)
    steps = [setting.k for setting in settings]
    ends = limits(list(means.values()), [])
    return shots_picture("mean over pairs", means, looks, steps, None, ends, (6.4, 4.2), legend=True)


def _means(board: Board, settings: Sequence[Setting], names: Sequence[str]) -> dict[str, Line]:
    return {name: [(setting.k, board.mean(setting, name)) for setting in settings] for name in names}


def curves(board: Board, labels: str) -> Markup:
    """The mean over pairs, then a small picture of each pair."""
    settings = board.few_shot(labels)
    if not any(setting.k for setting in settings):
        return Markup()
    shown = highlighted(board, labels)
    names = board.asked([cell for setting in settings for cell in board.settings[setting]])
    looks = _looks(board, shown, names)
    means = _means(board, settings, names)
    pairs: dict[str, dict[str, Line]] = {}
    chances: dict[str, float | None] = {}
    for setting in settings:
        for cell in board.settings[setting]:
            where = place(cell, " → ")
            chances[where] = cell.get("chance")
            for name in names:
                result = result_of(cell, name)
                point = (setting.k, result["uar"]["mean"] if result else None)
                pairs.setdefault(where, {}).setdefault(name, []).append(point)
    shared = limits([line for lines in pairs.values() for line in lines.values()], list(chances.values()))
    steps = [setting.k for setting in settings]
    large = shots_picture("mean over pairs", means, looks, steps, None, limits(list(means.values()), []), (5.2, 3.1))
    small = [
        picture(shots_picture(where, lines, looks, steps, chances[where], shared, (3.2, 2.2)), element("b", where))
        for where, lines in pairs.items()
    ]
    legend = element("div", *_legend(board, shown, len(names), settings[-1].k))
    first = element("div", picture(large, element("b", "Mean over pairs")), legend, css="beside")
    return join([first, grid(small), paragraph(NOTE, css="small")])


def _looks(board: Board, shown: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, str] | None]:
    """Colour and marker of each system, None of the pale ones, which are drawn first."""
    others = [name for name in shown if name != board.bar]
    looks = {name: (COLOURS[place], MARKERS[place][0]) for place, name in enumerate(others)}
    looks |= {board.bar: (INK, "")} if board.bar in shown else {}
    return {name: None for name in names if name not in looks} | {name: looks[name] for name in reversed(shown)}


def _legend(board: Board, shown: Sequence[str], drawn: int, k: int) -> list[Markup]:
    others = [name for name in shown if name != board.bar]
    entries = []
    if board.bar in shown:
        entries.append(join([element("span", "- -", attributes={"style": f"color:{INK}"}), " ",
                             system_mark(board, board.bar), " (the bar)"]))  # fmt: skip
    for number_, name in enumerate(others):
        sign = element("span", MARKERS[number_][1], attributes={"style": f"color:{COLOURS[number_]}"})
        entries.append(join([sign, " ", system_mark(board, name)]))
    said = (
        f"In colour: the bar, and the {len(others)} systems with the lowest mean rank over all pairs at k = {k}. "
        f"Pale: the other {drawn - len(shown)}."
    )
    return [paragraph(said, css="small"), bullets(entries, css="legend")]


def table_of_means(board: Board, labels: str) -> Markup:
    """Rows: systems; columns: k, with the mean UAR over pairs and the mean rank."""
    settings = board.few_shot(labels)
    names = board.asked([cell for setting in settings for cell in board.settings[setting] if setting.k])
    rows = [
        [system_mark(board, name), *(mean_cell(board, setting, name, "uar", ranked=True) for setting in settings)]
        for name in names
    ]
    heads = [f"k = {setting.k}" if setting.k else "k = 0 (zero-shot)" for setting in settings]
    return table(["system: mean UAR over pairs, %", *heads], rows, css="wide board")
