"""The page: all sections, in one file that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mser.config import write_json, write_text
from mser.markup import document, element
from mser.style import CSS
from train.report.background import audits, header, notes, timings, what_was_run
from train.report.gates import calibration, gates, layers
from train.report.pairs import pairs
from train.report.scores import confusions, folds_and_seeds, main_table
from train.report.searches import search, structures
from train.report.study import MISSING, Study
from train.report.tables import long_form

#: Identifier of each section -> its link.
LINKS = {
    "run": "Run", "audit": "Audit", "scores": "Scores", "pairs": "Pairs", "confusions": "Confusions",
    "calibration": "Calibration", "gates": "Gates", "structures": "Structures", "search": "Search", "layers": "Layers",
    "folds": "Folds", "timings": "Timings",
}  # fmt: skip
#: What a browser may load for the page: nothing but what is in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(results: dict[str, Any], folder: Path) -> Path:
    """Writes ``report.html``, ``results.json`` and ``results.csv`` into a folder, each whole or not at all.

    Args:
        results: what ``train.evaluate`` found.

    Returns:
        The path of the page.

    Raises:
        RunError: the results are of another schema.
    """
    page = make_page(Study(results))
    write_json(folder / "results.json", results)
    write_text(folder / "results.csv", long_form(results))
    write_text(folder / "report.html", page)
    return folder / "report.html"


def make_page(study: Study) -> str:
    """The whole page as HTML; the same bytes for the same results."""
    sections = [
        what_was_run(study), audits(study), main_table(study), pairs(study), confusions(study),
        calibration(study), gates(study), structures(study), search(study), layers(study),
        folds_and_seeds(study), timings(study),
    ]  # fmt: skip
    links = (element("a", text, attributes={"href": f"#{name}"}) for name, text in LINKS.items())
    body = [header(study), notes(study), element("nav", *links, attributes={"aria-label": "sections"}), *sections]
    title = f"mser: report of run {study.content.get('run', MISSING)}"
    return document(title, POLICY, CSS, *body)
