"""An adaptation as a page with the curves, as CSV and JSON, and as tables for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from mser.config import write_json, write_text
from mser.languages import name_of
from mser.markup import Markup, bullets, document, element, grid, paragraph, picture, section, table
from mser.style import CSS
from train.adapt.ways import WAYS
from train.report.page import POLICY
from train.report.pictures import COLOURS, FAINT, svg
from train.report.study import degrees

#: Score -> what it is, for readers.
MEANING = {
    "closed": "utterances whose emotion run and language both have; an answer is one of these emotions",
    "open": "the same utterances; an answer may be any emotion that the way knows",
    "all": "every utterance; those of emotions that the way does not know cannot be right",
}
#: What a way needs -> for readers.
NEEDS = {
    "nothing": "nothing of the language", "unlabelled": "unlabelled clips",
    "emotions": "unlabelled clips, and which emotions there are", "shots": "k labelled clips",
}  # fmt: skip
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "h")
COLUMNS = ("language", "run", "mapping", "way", "k", "score", "emotions", "utterances", "draws", "uar", "deviation",
           "low", "high")  # fmt: skip
NONE = "–"


def write_page(content: Mapping[str, Any], folder: Path) -> Path:
    """Writes ``adapt.html``, ``adapt.json``, ``adapt.csv`` and ``adapt.svg``, each whole or not at all."""
    write_json(folder / "adapt.json", dict(content))
    write_text(folder / "adapt.csv", long_form(content))
    write_text(folder / "adapt.svg", curves(content, "closed" if is_scored(content, "closed") else "all", (6.4, 4.0)))
    write_text(folder / "adapt.html", make_page(content))
    return folder / "adapt.html"


def make_page(content: Mapping[str, Any]) -> str:
    """The whole page, which loads nothing; the same bytes for the same content."""
    title = f"{name_of(content['language'])}, new to a run of {' '.join(content['known_languages'])}"
    pictures = [
        picture(curves(content, name, (4.6, 3.4)), element("b", f"{name}: {denominator(content, name)}"))
        for name in ("closed", "all") if is_scored(content, name)
    ]  # fmt: skip
    tables = [
        part for title, columns, rows in [*score_tables(content), *calibration_tables(content)]
        for part in (element("h3", title), table(columns, rows, css="wide"))
    ]  # fmt: skip
    ways = bullets([Markup(f"<code>{one.name}</code>: {one.title} ({needs(one.name)})") for one in WAYS])
    body = [
        element("header", element("h1", title), paragraph("; ".join(facts(content)), css="facts")),
        section("notes", "What to know first", bullets(notes(content))),
        section("curves", "UAR over labelled clips", grid(pictures), paragraph(READING, css="small")),
        section("scores", "All numbers", *tables, *map(paragraph, [*overtaking(content), for_use(content)])),
        section("ways", "The ways", ways),
        section("near", "How far the run's languages are", table(["language", "distance"], near(content))),
    ]
    return document(f"mser: {title}", POLICY, CSS, *body)


READING = (
    "Mean over draws; bands: 95 % over speakers, drawn again whole. k is the labelled clips of each emotion, by "
    "speakers that are not tested; 0: none, all: every clip of theirs. Steps are drawn even. Dotted: chance."
)


def is_scored(content: Mapping[str, Any], name: str) -> bool:
    """Whether any way has this score."""
    return any(one[name] for one in content["points"])


def needs(name: str) -> str:
    """What a way needs of the language."""
    (way,) = (one for one in WAYS if one.name == name)
    return NEEDS[way.needs]


def denominator(content: Mapping[str, Any], name: str) -> str:
    """N and E of a score."""
    if name == "all":
        return f"E = {len(content['emotions'])}, N = {content['utterances']}"
    return f"E = {len(content['shared'])}, N = {content['shared_utterances']} of {content['utterances']}"


def facts(content: Mapping[str, Any]) -> list[str]:
    """What was asked, in short."""
    return [
        f"run {Path(content['run']).parent.name} ({content['method']})",
        f"upstreams {', '.join(content['upstreams'])}",
        f"{content['speakers']} speakers, {content['utterances']} utterances",
        f"{content['draws']} draws of two halves of the speakers",
        f"mapping {content['mapping']['name']}: {content['mapping']['title']}",
    ]


def notes(content: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the numbers, each a sentence."""
    found: list[str] = []
    if not content["shared"]:
        found.append("Run and language have no emotion in common: without labelled clips nothing can be recognised.")
    if len(content["shared"]) == 1:
        found.append(f"Run and language have only {content['shared'][0]} in common: there is no closed or open score.")
    if content["unknown"]:
        counts = ", ".join(f"{one} ({content['emotions'][one]} utterances)" for one in content["unknown"])
        found.append(f"The run does not know {counts}: they count in `all` alone.")
    if content["run_alone"]:
        found.append(f"The run also knows {', '.join(content['run_alone'])}, which the language does not have: open "
                     "answers may be these, and are wrong then.")  # fmt: skip
    if content["left_out"]:
        counts = ", ".join(f"{one} ({number})" for one, number in content["left_out"].items())
        found.append(f"The mapping {content['mapping']['name']} leaves out {counts}; no score counts them.")
    if any(one["way"] == "self-trained" for one in content["points"]) and (content["run_alone"] or content["unknown"]):
        found.append("self-trained is told which emotions the language has, which the other ways without labels are "
                     "not: only its closed score compares with theirs.")  # fmt: skip
    for k, fewest in content["fewest_shots"].items():
        found.append(f"k = {k}: of an emotion only {fewest} labelled clips were there in some draws.")
    if content["speakers"] < 2:
        found.append("A single speaker: nothing of the language may be learned from and be tested as well, so there is "
                     "only zero-shot, once.")  # fmt: skip
    return found + list(content["audit"])


def score_tables(content: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of a table for each score: a row a way, a column a k; the best of a column is marked."""
    steps, points = content["steps"], content["points"]
    at = {(one["way"], one["k"]): one for one in points}
    tables = []
    for name, meaning in MEANING.items():
        scored = [one for one in points if one[name]]
        if not scored:
            continue
        best = {k: max((one[name]["mean"] for one in scored if one["k"] == k), default=None) for k in steps}
        rows = []
        for way in WAYS:
            own = [at.get((way.name, k), {}).get(name) for k in steps]
            if any(own):
                rows.append([way.name, *(_cell(one, best[k]) for one, k in zip(own, steps, strict=True))])
        title = f"{name}, UAR in percent, {denominator(content, name)}: {meaning}"
        tables.append((title, ["way", *(f"k = {k}" for k in steps)], rows))
    return tables


def _cell(one: Mapping[str, Any] | None, best: float | None) -> str:
    if one is None:
        return NONE
    mark = " *" if best is not None and one["mean"] > best - 0.05 else ""
    deviation = f" ± {one['deviation']:.1f}" if one["draws"] > 1 else ""
    return f"{one['mean']:.1f}{deviation} [{one['low']:.1f}, {one['high']:.1f}]{mark}"


def calibration_tables(content: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of what the probabilities are worth, of the ways that a model for use may be made by."""
    found = content["calibration"]
    if not found:
        return []
    rows = [
        [one["way"], f"{one['ece_before']:.1f}", f"{one['ece_after']:.1f}", f"{one['nll_before']:.3f}",
         f"{one['nll_after']:.3f}", degrees(one["temperature"])]
        for one in found
    ]  # fmt: skip
    title = (
        f"probabilities at k = all, N = {found[0]['utterances']}: calibration error (ECE, percent, 15 bins) and "
        "negative log-likelihood (NLL, nats), as they are and with a temperature of the other half"
    )
    columns = ["way", "ECE", "ECE with temperature", "NLL", "NLL with temperature", "temperature of all draws"]
    return [(title, columns, rows)]


def for_use(content: Mapping[str, Any]) -> str:
    """How the model for use is made, a sentence."""
    way, temperature = content["kept"]["way"], content["kept"]["temperature"]
    if temperature is None:
        return f"Model for use: {way} on all clips; not calibrated, as no draw tells how sure it may be."
    if temperature == 1:
        return f"Model for use: {way} on all clips; its probabilities stay as they are, as no temperature mends them."
    return f"Model for use: {way} on all clips; its probabilities get the temperature {degrees(temperature)}."


def overtaking(content: Mapping[str, Any]) -> list[str]:
    """Where training from scratch overtakes, a sentence for each way and score."""
    found = []
    there = {(one["way"], score) for one in content["points"] for score in MEANING if one[score]}
    for name, scores in content["overtakes"].items():
        for score, steps in scores.items():
            if (name, score) not in there:
                continue  # nothing was compared
            said = f"at k = {', '.join(steps)}" if steps else f"at no k up to {content['steps'][-1]}"
            found.append(f"{name} is at least as good as the best of shots and shots-gentle ({score}) {said}.")
    return found


def near(content: Mapping[str, Any]) -> list[list[str]]:
    """Languages of the run with their distance, the nearest first."""
    return [[one, f"{value:.2f}"] for one, value in sorted(content["distances"].items(), key=lambda pair: pair[1])]


def curves(content: Mapping[str, Any], name: str, size: tuple[float, float]) -> Markup:
    """UAR over k with bands, a line a way; ways without labelled clips are points at 0."""
    steps = list(content["steps"])
    looks = {one.name: (COLOURS[place % len(COLOURS)], MARKERS[place]) for place, one in enumerate(WAYS)}

    def draw(axes: Axes) -> None:
        for way, (colour, marker) in looks.items():
            own = [one for one in content["points"] if one["way"] == way and one[name]]
            if not own:
                continue
            x = [steps.index(one["k"]) for one in own]
            y, low, high = ([one[name][key] for one in own] for key in ("mean", "low", "high"))
            if len(own) > 1:
                axes.fill_between(x, low, high, color=colour, alpha=0.08, lw=0)
            hollow = "none" if x == [0] else colour
            axes.plot(x, y, color=colour, marker=marker, ms=5, lw=1.4, mfc=hollow, label=way)
        axes.axhline(content["chance"]["all" if name == "all" else "closed"], color=FAINT, ls=":", lw=1)
        axes.set_xticks(range(len(steps)), steps)
        axes.set_xlim(-0.3, len(steps) - 0.7)
        axes.set_xlabel("k, labelled clips of each emotion")
        axes.set_ylabel(f"UAR, %, {name}")
        axes.legend(fontsize=6.5, loc="best")

    said = "; ".join(f"{one['way']} k = {one['k']}: {one[name]['mean']:.1f}" for one in content["points"] if one[name])
    return svg(draw, size, f"{content['language']}: UAR over k, {name}: {said}", leaky=False)


def long_form(content: Mapping[str, Any]) -> str:
    """CSV with a row a way, k and score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in content["points"]:
        for name in MEANING:
            if one[name]:
                numbers = [
                    one[name][key] for key in ("emotions", "utterances", "draws", "mean", "deviation", "low", "high")
                ]
                writer.writerow([content["language"], content["run"], content["mapping"]["name"], one["way"], one["k"],
                                 name, *numbers])  # fmt: skip
    return text.getvalue()
