"""How the page begins: what was run, what to know first, how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mser.markup import Markup, bullets, element, join, paragraph, section, table
from train.benchmark.board import ADAPTS, ON_TEST, Board
from train.benchmark.score_cells import MARKS, MEANINGS, badge
from train.report.marks import language_mark, warnings
from train.report.study import LEAKY, MISSING, duration

PROTOCOLS = {
    "Within a language": "learnt and tested in one language. The test speakers were never heard in training. Some of "
    "the other speakers are held out as dev speakers; they make every choice.",
    "Across languages, zero-shot": "learnt in a source language, tested in a target language. The target's speakers "
    "are parted into two halves: the utterances of one may be adapted to, without their labels, those of the other "
    "are tested; then the other way round. Dev speakers of the source make every choice.",
    "Across languages, few-shot": "the same, and k clips of each emotion by the speakers that are not tested have "
    "labels.",
}
NUMBER = (
    "A number is UAR, the mean of the recalls of the E emotions, in percent: mean ± deviation over seeds, and [95 % "
    "interval] when whole speakers are drawn again. Without ±, one seed was computed: nothing is drawn by it, or the "
    "others are still to come. Guessing gets chance, 100 / E."
)
FOR_SPEAKERS = "p at most .05 over speakers: it should hold for new speakers."
FOR_UTTERANCES = "p at most .05 only over utterances: it should hold for new utterances of these very speakers."
TESTED = (
    "p is that of a paired permutation test on the same utterances, corrected (Holm) for all systems of the column. No "
    "triangle: no difference was shown, which does not mean that there is none."
)
RANKS = (
    "Rank 1 is the highest UAR of a column. A mean or mean rank over only some of the columns is grey: it does not "
    "compare with the others. “failed” leads to the reason; a dash is what is not computed yet."
)


def header(board: Board) -> Markup:
    content = board.content
    facts = [
        f"mser {content.get('mser_version', MISSING)}",
        f"{len(board.systems)} systems",
        f"{len(board.study.languages)} languages",
        f"computed on {content.get('device', MISSING)}",
        f"wall time {duration(content.get('wall_seconds'))}",
    ]
    long, whole = (element("a", name, attributes={"href": name}) for name in ("leaderboard.csv", "leaderboard.json"))
    numbers = join(["The numbers of this page: ", long, " (long form), ", whole, " (everything)."])
    kicker = paragraph("Multilingual speech emotion recognition", css="kicker")
    title = element("h1", "Leaderboard of benchmark ", element("em", content.get("benchmark", MISSING)))
    return element("header", kicker, title, paragraph(" · ".join(facts), css="facts"), paragraph(numbers, css="facts"))


def notes(board: Board) -> Markup:
    """What a reader must see before any number."""
    found = [*warnings(board.study), *board.content.get("notes", [])]
    if not found:
        return Markup()
    heading = element("h2", "Read this first")
    return element("section", heading, bullets(found), css="warning", attributes={"id": "notes"})


def what_was_run(board: Board) -> Markup:
    content = board.content
    listed = {
        "Upstreams": content.get("upstreams"),
        "Seeds": content.get("seeds"),
        "Labelled clips of each emotion in few-shot (k)": content.get("shots"),
    }
    facts = [join([element("b", f"{name}: "), ", ".join(map(str, values or [])) or MISSING])
             for name, values in listed.items()]  # fmt: skip
    languages = [
        [language_mark(board.study, entry["language"]), ", ".join(entry.get("corpora", [])),
         entry.get("utterances", MISSING), entry.get("speakers", MISSING), entry["protocol"],
         ", ".join(entry.get("emotions", []))]
        for entry in board.study.languages
    ]  # fmt: skip
    columns = ["language", "corpora", "utterances (N)", "speakers", "folds within", "emotions"]
    labels = ["labels", "asked", "left out: utterances", "what counts as what"]
    sets = [[name, entry["title"], _left_out(entry), _parts(entry)] for name, entry in board.labels.items()]
    audit = join(["What the folds leak: ", element("a", "audit", attributes={"href": "#audit"}), "."])
    return section("run", "What was run", bullets(facts), table(columns, languages, css="prose"),
                   paragraph(audit, css="small"), table(labels, sets, css="prose"))  # fmt: skip


def _parts(entry: Mapping[str, Any]) -> str:
    """
    >>> _parts({"parts": {"anger": ["anger", "frustration"], "fear": ["fear"]}})
    'anger: anger, frustration; fear'
    """
    parts = entry["parts"].items()
    return "; ".join(label if own == [label] else f"{label}: {', '.join(own)}" for label, own in parts)


def _left_out(entry: Mapping[str, Any]) -> str:
    """
    >>> _left_out({"left_out": {"boredom": {"de": 81}, "calm": {"en": 192, "ur": 3}}})
    'boredom: de 81; calm: en 192, ur 3'
    """
    out = entry["left_out"].items()
    return "; ".join(f"{name}: {', '.join(f'{one} {n}' for one, n in own.items())}" for name, own in out) or "none"


def how_to_read(board: Board) -> Markup:
    protocols = [join([element("b", f"{name}: "), text]) for name, text in PROTOCOLS.items()]
    up, down, here_up, here_down = (element("b", sign) for sign in MARKS.values())
    bar = board.title(board.bar) if board.bar else MISSING
    marks = [
        NUMBER,
        join([up, " better, ", down, f" worse than the bar ({bar}), ", FOR_SPEAKERS, " ", here_up, " better, ",
              here_down, " worse, ", FOR_UTTERANCES, " ", TESTED]),
        join([badge(ADAPTS), f" {MEANINGS[ADAPTS]}."]),
        join([badge(ON_TEST), f" {MEANINGS[ON_TEST]}."]),
        RANKS,
    ]  # fmt: skip
    if any(board.study.leaky(entry["language"]) for entry in board.study.languages):
        marks.append(f"{LEAKY} stands at what is tested within a language; across languages its folds are not used.")
    return section("reading", "How to read", bullets(protocols), element("h3", "Numbers and marks"), bullets(marks))
