"""What parts add: method against method, of the pairs that a study names beforehand."""

from __future__ import annotations

from mser.markup import Markup, element, join, paragraph, section, table
from train.report.marks import language_mark, method_mark
from train.report.study import Study, probability
from train.report.verdict import decided

COLUMNS = ["language", "method", "against", "points of UAR", "p over speakers", "p over utterances"]


def pairs(study: Study) -> Markup:
    lead = (
        "Paired permutation tests as against the bar, of pairs that were named before any result was seen, so that "
        "each says what a part is worth: search, gates, losses, several languages. Corrected (Holm) over the pairs of "
        "a language."
    )
    rows = []
    for language in study.languages:
        name = language["language"]
        for row in study.of_language("pairs", name):
            said = decided(row["difference"], row["p_speakers"])
            rows.append([
                language_mark(study, name), method_mark(study, row["method"]), method_mark(study, row["against"]),
                join([element("span", f"{row['difference']:+.1f}"), element("small", said)]),
                probability(row["p_speakers"]), probability(row["p_utterances"]),
            ])  # fmt: skip
    if not rows:
        return section("pairs", "Method against method", paragraph("No two methods of a pair were trained."))
    return section("pairs", "Method against method", paragraph(lead, css="lead"), table(COLUMNS, rows, css="wide"))
