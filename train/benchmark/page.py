"""The leaderboard's page and files: one page that loads nothing, its numbers as JSON and CSV, tables for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mser.config import write_json, write_text
from mser.markup import document, element
from mser.style import CSS
from train.benchmark.board import Board
from train.benchmark.costs import costs, failures, systems
from train.benchmark.few_shot import means_picture
from train.benchmark.opening import header, how_to_read, notes, what_was_run
from train.benchmark.score_tables import few_shot, other_labels, within, zero_shot
from train.benchmark.text_tables import long_form, terminal_tables
from train.benchmark.worth import chosen_on_test, ideas
from train.report.background import audits
from train.report.page import POLICY
from train.report.study import MISSING

__all__ = ["terminal_tables", "write_leaderboard"]


def links(board: Board) -> dict[str, str]:
    """Identifier of each section -> its link."""
    others = {f"labels-{name}": name.capitalize() for name in list(board.labels)[1:]}
    return {
        "run": "Run", "reading": "How to read", "within": "Within", "zero-shot": "Zero-shot", "few-shot": "Few-shot",
        **others, "ideas": "Ideas", "chosen": "Chosen on test", "failures": "Failures", "costs": "Time",
        "systems": "Systems", "audit": "Audit",
    }  # fmt: skip


def write_leaderboard(content: dict[str, Any], folder: Path) -> Path:
    """Writes ``leaderboard.html``, ``.json`` and ``.csv``, and ``few-shot.svg`` of the means, each whole or not at all.

    Args:
        content: what the benchmark found; scores in percent, differences in points.
        folder: of the page. The folders of runs that ``content`` names are relative to it.

    Returns:
        The path of the page.

    Raises:
        RunError: the content is of another schema.
    """
    board = Board(content)
    page = make_page(board)
    write_json(folder / "leaderboard.json", content)
    write_text(folder / "leaderboard.csv", long_form(board))
    if (drawn := means_picture(board)) is not None:
        write_text(folder / "few-shot.svg", drawn)
    write_text(folder / "leaderboard.html", page)
    return folder / "leaderboard.html"


def make_page(board: Board) -> str:
    """The whole page as HTML; the same bytes for the same content."""
    sections = [
        what_was_run(board), how_to_read(board), within(board), zero_shot(board), few_shot(board),
        *other_labels(board), ideas(board), chosen_on_test(board), failures(board), costs(board), systems(board),
        audits(board.study),
    ]  # fmt: skip
    found = (element("a", text, attributes={"href": f"#{name}"}) for name, text in links(board).items())
    body = [header(board), notes(board), element("nav", *found, attributes={"aria-label": "sections"}), *sections]
    title = f"mser: leaderboard of benchmark {board.content.get('benchmark', MISSING)}"
    return document(title, POLICY, CSS, *body)
