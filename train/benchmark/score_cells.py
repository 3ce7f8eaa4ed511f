"""One number of the leaderboard with all that belongs to it: its link, its interval, its marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mser.markup import Markup, element, join
from train.benchmark.board import (
    ADAPTS,
    FAILED,
    ON_TEST,
    SPEAKERS,
    UTTERANCES,
    WITHIN,
    Board,
    Setting,
    has_failed,
    outcome,
    place,
    result_of,
    written,
)
from train.report.marks import MEANINGS as LEAKS
from train.report.study import LEAKY, METRICS, MISSING, bounds, is_number, number, probability
from train.report.verdict import BEATS, LOSES, equals

#: Full where a difference from the bar should hold for new speakers, hollow where for these very speakers only.
MARKS = {(BEATS, SPEAKERS): "▲", (LOSES, SPEAKERS): "▼", (BEATS, UTTERANCES): "△", (LOSES, UTTERANCES): "▽"}
MEANINGS = {
    LEAKY: LEAKS[LEAKY],
    ADAPTS: "uses unlabelled utterances of the target's speakers that are not tested",
    ON_TEST: "the choice was made on the scores of the test itself, so the number is too high",
}


def badge(mark: str) -> Markup:
    """A badge with its meaning, of one of :data:`MEANINGS`."""
    return element("span", mark, css=f"badge {mark.lower().replace(' ', '-')}", attributes={"title": MEANINGS[mark]})


def setting_mark(board: Board, setting: Setting, text: str = "") -> Markup:
    """The setting's title (or another text), with a badge where a part of its means leaks."""
    shown = text or setting.title
    return join([shown, " ", badge(LEAKY)]) if board.leaks(setting) else join([shown])


def system_mark(board: Board, system: str, linked: bool = True) -> Markup:
    """The system's title, linked to what is said of it, and a badge where it adapts."""
    names = list(board.systems)
    title: object = board.title(system)
    if linked and system in names:
        title = element("a", title, css="plain", attributes={"href": f"#{identifier(board, system)}", "title": system})
    return join([title, " ", badge(ADAPTS)]) if board.adapts(system) else join([title])


def system_text(board: Board, system: str) -> str:
    """The short name, with a mark where the system adapts, as plain text."""
    return f"{system} ({ADAPTS})" if board.adapts(system) else system


def identifier(board: Board, system: str) -> str:
    """Of the system's description on the page; a number, since a name may hold anything."""
    return f"system-{list(board.systems).index(system)}"


def link(folder: Any, text: object, title: str = "") -> Markup:
    """The text, linked to a run's folder, which is relative to the page; the bare text without a folder."""
    if not folder:
        return element("span", text)
    # Quoted, nothing in a folder's name can be taken for a scheme, a query or a fragment.
    attributes = {"href": quote(str(folder)), **({"title": title} if title else {})}
    return element("a", text, css="plain", attributes=attributes)


def score(board: Board, cell: Mapping[str, Any], system: str, highest: float | None) -> Markup:
    """UAR with its mark, and below it the interval, and the rank where a table has few columns.

    Args:
        highest: UAR of the cell's best system, which is bold.
    """
    result = result_of(cell, system)
    if result is None:
        return absent(cell, system)
    uar, seeds = result["uar"], len(result.get("seeds", []))
    shown = element("strong" if uar["mean"] == highest else "span", written(uar, seeds))
    rank = f" · {rank_text(result.get('rank'))}" if cell["protocol"] == WITHIN else ""
    under = element("small", bounds(uar), rank)
    hint = f"{board.title(system)}, {place(cell, ' → ')}"
    return join([link(result.get("folder"), shown, hint), mark(board, result), under])


def absent(cell: Mapping[str, Any], system: str) -> Markup:
    """What stands where a system has no score: that it failed, or a dash."""
    if has_failed(cell, system):
        return element("a", FAILED, css="failed", attributes={"href": "#failures"})
    hint = "not computed yet" if system in cell.get("missing", []) else "not asked"
    return element("span", MISSING, attributes={"title": hint})


def mark(board: Board, result: Mapping[str, Any]) -> Markup:
    """The triangle beside a score that differs from the bar's; nothing where no difference was shown."""
    test = result.get("against_bar")
    found = outcome(test)
    if test is None or found not in MARKS:
        return Markup()
    said = (
        f"{found[0]} {board.title(board.bar)} over {found[1]}: {test['difference']:+.1f} points, "
        f"p {equals(test['p_speakers'])} over speakers, p {equals(test['p_utterances'])} over utterances"
    )
    attributes = {"title": said, "role": "img", "aria-label": said}
    return element("span", MARKS[found], css=f"mark {'up' if found[0] == BEATS else 'down'}", attributes=attributes)


def mean_cell(board: Board, setting: Setting, system: str, field: str, ranked: bool = False) -> Markup:
    """A mean over cells, bold where it is the best; over how many, where some lack a score: it does not compare then.

    Args:
        field: ``uar`` or ``rank``. ranked: whether the mean rank stands below.
    """
    value = board.mean(setting, system, field, whole=False)
    if value is None:
        return element("span", MISSING)
    entry = board.means[setting, system]
    if entry["cells"] < entry["of"]:
        under = element("small", f"{entry['cells']} of {entry['of']} {setting.places}")
        return join([element("span", number(value), css="part"), under])
    shown = element("strong" if value == board.best_mean(setting, field) else "span", number(value))
    return join([shown, element("small", rank_text(entry["rank"]))]) if ranked else shown


def against_bar(board: Board, cell: Mapping[str, Any], system: str) -> Markup:
    """Points of UAR from the bar and both p-values."""
    result = result_of(cell, system)
    if result is None:
        return absent(cell, system)
    test = result.get("against_bar")
    if test is None:
        return join(["the bar" if system == board.bar else MISSING])
    p = " / ".join(probability(test.get(f"p_{unit}")) for unit in (SPEAKERS, UTTERANCES))
    return join([element("span", signed(test.get("difference"))), mark(board, result), element("small", f"p {p}")])


def other_scores(board: Board, cell: Mapping[str, Any], system: str) -> Markup:
    """WA and macro-F1 with their intervals."""
    result = result_of(cell, system)
    if result is None:
        return absent(cell, system)
    seeds = len(result.get("seeds", []))
    lines = [
        element("small", f"{name} ", element("b", written(result[key], seeds)), f" {bounds(result[key])}")
        for key, name in METRICS.items()
        if key != "uar"
    ]
    return join(lines)


def rank_text(rank: Any) -> str:
    """
    >>> rank_text(2.0), rank_text(1.5)
    ('rank 2', 'rank 1.5')
    """
    return f"rank {number(rank).removesuffix('.0')}"


def signed(points: Any) -> str:
    """
    >>> signed(3.14), signed(-0.04), signed(None)
    ('+3.1', '-0.0', '–')
    """
    return f"{points:+.1f}" if is_number(points) else MISSING
