"""What parts are worth: an idea against its own control, and a choice on the test against one on dev speakers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mser.markup import Markup, details, element, join, paragraph, section, table
from train.benchmark.board import ON_TEST, WITHIN, Board, Setting, place, setting_of
from train.benchmark.score_cells import badge, link, setting_mark, signed, system_mark
from train.report.marks import language_mark
from train.report.study import MISSING, is_number, number

#: Where choices were made, for readers.
ON_DEV = "chosen on dev speakers"


def ideas(board: Board) -> Markup:
    """Rows: a system against its control; columns: settings."""
    lead = (
        "Each idea against the same system without it: points of UAR, mean over the languages or pairs that both "
        "finished. Below: in how many of them it is better and worse by a paired permutation test, p at most .05 over "
        "speakers, corrected (Holm) over them. Bold: better somewhere and worse nowhere."
    )
    found = {(entry["system"], entry["control"], setting_of(entry)): entry for entry in board.content.get("ideas", [])}
    title = "What each idea is worth against its own control"
    if not found:
        return section("ideas", title, paragraph("No system was run together with its control."))
    settings = [setting for setting in board.settings if any(setting == key[2] for key in found)]
    rows = [
        [join([system_mark(board, system), element("small", "against ", system_mark(board, control))]),
         *(_worth(found.get((system, control, setting))) for setting in settings)]
        for system, control in dict.fromkeys((key[0], key[1]) for key in found)
    ]  # fmt: skip
    body = table(["idea", *(setting_mark(board, setting) for setting in settings)], rows, css="wide board")
    return section("ideas", title, paragraph(lead, css="lead"), body)


def _worth(entry: Mapping[str, Any] | None) -> Markup:
    if entry is None:
        return element("span", MISSING)
    better, worse = entry["better"], entry["worse"]
    shown = element("strong" if better and not worse else "span", signed(entry["difference"]))
    return join([shown, element("small", f"{better} better, {worse} worse of {entry['cells']}")])


def chosen_on_test(board: Board) -> Markup:
    """The scores that the same answers would have, had the choice been made on the test."""
    lead = join([
        "Some papers choose a layer, or another part, by the accuracy on the test itself. Here every choice is made on "
        "dev speakers; what the other way would report stands beside it, marked ", badge(ON_TEST),
        ", and ranks nowhere.",
    ])  # fmt: skip
    found: dict[tuple[Setting, str], list[tuple[float, float]]] = {}
    rows = []
    for cell, result in _chosen(board):
        scores = (result["uar"]["mean"], result["test_chosen"]["uar"])
        found.setdefault((setting_of(cell), result["system"]), []).append(scores)
        rows.append([
            join([system_mark(board, result["system"])]), setting_of(cell).title, _where(board, cell),
            link(result.get("folder"), number(scores[0])),
            join([element("span", f"{number(scores[1])} "), badge(ON_TEST)]), signed(scores[1] - scores[0]),
            result["test_chosen"].get("choice", MISSING),
        ])  # fmt: skip
    title = "Chosen on the test, as some papers do"
    if not found:
        return section("chosen", title, paragraph("No system has a choice that could have been made on the test."))
    by_system = sorted(found, key=lambda key: list(board.systems).index(key[1]))
    means = [_means(board, setting, system, found[setting, system]) for setting, system in by_system]
    columns = ["system", "protocol", "means over", ON_DEV, join(["the same, ", badge(ON_TEST)]), "points too high"]
    single = ["system", "protocol", "where", ON_DEV, "the same", "points too high", "choice on the test"]
    body = table(columns, means, css="wide board")
    folded = details(f"Every one ({len(rows)})", table(single, rows, css="wide board"))
    return section("chosen", title, paragraph(lead, css="lead"), body, folded)


def _chosen(board: Board) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for cell in board.content.get("cells", []):
        for result in cell.get("results", []):
            chosen = result.get("test_chosen")
            if chosen and is_number(chosen.get("uar")) and is_number(result["uar"]["mean"]):
                yield cell, result


def _means(board: Board, setting: Setting, system: str, scores: list[tuple[float, float]]) -> list[object]:
    dev, test = np.mean(scores, axis=0).tolist()
    marked = join([element("span", f"{number(test)} "), badge(ON_TEST)])
    over = f"{len(scores)} {setting.places}"
    return [system_mark(board, system), setting_mark(board, setting), over, number(dev), marked, signed(test - dev)]


def _where(board: Board, cell: Mapping[str, Any]) -> Markup:
    named = language_mark(board.study, cell["source"]) if cell["protocol"] == WITHIN else place(cell, " → ")
    return join([named])
