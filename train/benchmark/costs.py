"""What failed, what it cost, and what the systems are."""

from __future__ import annotations

from mser.markup import Markup, details, element, join, paragraph, section, table
from train.benchmark.board import FAILED, Board, Setting, place, setting_of
from train.benchmark.score_cells import identifier, link, system_mark
from train.report.background import flat
from train.report.study import MISSING, duration, is_number


def failures(board: Board) -> Markup:
    lead = "A system that could not answer has no score there, rather than one that would flatter it."
    rows = [
        [system_mark(board, entry["system"]), setting_of(cell).title, place(cell, " → "),
         link(entry.get("folder"), f"{entry.get('tasks', MISSING)} tasks"), entry["reason"]]
        for cell in board.content.get("cells", [])
        for entry in cell.get("failed", [])
    ]  # fmt: skip
    if not rows:
        return section("failures", "Failures", paragraph("Nothing failed."))
    columns = ["system", "protocol", "where", FAILED, "reason"]
    return section("failures", "Failures", paragraph(lead, css="lead"), table(columns, rows, css="wide prose"))


def costs(board: Board) -> Markup:
    """Rows: systems; columns: seconds of each setting, k together, and what a training trains."""
    lead = (
        "Seconds of all tasks of a protocol together, with all seeds and folds: of a core, or of the clock where a "
        "device computed; parameters of one training, the most that a task needed."
    )
    groups: dict[Setting, dict[str, float]] = {}
    parameters: dict[str, int] = {}
    for cell in board.content.get("cells", []):
        together = Setting(cell["protocol"], cell["labels"])
        for result in cell.get("results", []):
            name, seconds, count = (result.get(field) for field in ("system", "seconds", "parameters"))
            spent = groups.setdefault(together, {})
            spent[str(name)] = spent.get(str(name), 0.0) + (seconds if is_number(seconds) else 0.0)
            if is_number(count):
                parameters[str(name)] = max(parameters.get(str(name), 0), int(count))
    names = board.asked(board.content.get("cells", []))
    rows = [
        [system_mark(board, name), *(duration(spent.get(name)) for spent in groups.values()),
         duration(sum(spent.get(name, 0.0) for spent in groups.values())),
         f"{parameters[name]:,}" if name in parameters else MISSING]
        for name in names
    ]  # fmt: skip
    if not groups:
        return section("costs", "Time and parameters", paragraph("Nothing was computed."))
    columns = ["system", *(_together(setting) for setting in groups), "all", "parameters"]
    body = table(columns, rows, css="wide board")
    return section("costs", "Time and parameters", paragraph(lead, css="lead"), body)


def _together(setting: Setting) -> str:
    return setting.title.replace(f", k = {setting.k}", "")


def systems(board: Board) -> Markup:
    lead = "What each system is, where it comes from, and the options that it was run with."
    parts = []
    for name, entry in board.systems.items():
        facts = [f"short name {name}", f"version {entry.get('version', MISSING)}", *(
            [f"control: {board.title(entry['control'])}"] if entry.get("control") else []
        ), f"takes part in {', '.join(entry.get('protocols', [])) or MISSING}"]  # fmt: skip
        options = flat(entry.get("options") or {})
        # An empty mapping is flat as one nameless entry.
        chosen = [(option, value) for option, value in options.items() if option]
        folded = [details(f"Options ({len(chosen)})", table(["option", "value"], chosen))] if chosen else []
        title = element("h3", system_mark(board, name, linked=False), attributes={"id": identifier(board, name)})
        source = entry.get("source")
        parts.append(element(
            "div", title, paragraph(entry.get("description", "")),
            *([paragraph(join(["Source: ", source]))] if source else []),
            paragraph(" · ".join(facts), css="small"), *folded,
        ))  # fmt: skip
    return section("systems", "Systems", paragraph(lead, css="lead"), *parts)
