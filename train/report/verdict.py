"""Who is better: said only where a paired test or, where there is none, the 95 % intervals allow it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from train.report.study import LEAKY, TRANSDUCTIVE, Study, bounds, is_number, number, probability

SEARCHED = "searched"
#: What the searched structure is measured against, and what a sentence calls it.
CONTROLS = {"random": "random search", "fixed": "the fixed head", "logistic": "logistic regression"}
BEATS, TIES, LOSES = "beats", "ties with", "loses to"
OPPOSITE = {BEATS: LOSES, LOSES: BEATS, TIES: TIES}
#: Ties that a sentence names; more are counted.
NAMED = 3
#: A corrected p-value below this shows a difference.
LEVEL = 0.05
RULE = (
    "Beats, ties with, loses to: against the bar a paired permutation test on the same test utterances decides, at "
    "p < 0.05 over speakers, corrected (Holm) for all methods of the language. Other pairs have no test: they tie when "
    "the mean UAR of either lies in the other's 95 % interval, which reads the intervals of each method alone. A tie "
    "means that no difference was shown, not that there is none."
)


def tied(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether intervals show no difference: the mean of either lies in the other's interval.

    Args:
        first, second: mean, low and high. A missing interval contains nothing but its mean.
    """
    return first["mean"] == second["mean"] or _contains(first, second["mean"]) or _contains(second, first["mean"])


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """What the first does to the second by their intervals: ``BEATS``, ``TIES`` or ``LOSES``.

    >>> narrow, wide = {"mean": 90.0, "low": 89.0, "high": 91.0}, {"mean": 80.0, "low": 70.0, "high": 90.0}
    >>> compare(narrow, wide)
    'ties with'
    >>> compare(narrow, {**wide, "high": 89.0}), compare({**wide, "high": 89.0}, narrow)
    ('beats', 'loses to')
    """
    if tied(first, second):
        return TIES
    return BEATS if first["mean"] > second["mean"] else LOSES


def _contains(summary: Mapping[str, Any], value: float) -> bool:
    low, high = summary.get("low"), summary.get("high")
    return is_number(low) and is_number(high) and low <= value <= high


def decided(difference: Any, p: Any) -> str:
    """What the first method of a paired test does to the second.

    >>> decided(4.2, 0.03), decided(-4.2, 0.03), decided(4.2, 0.125)
    ('beats', 'loses to', 'ties with')
    """
    if not is_number(p) or not is_number(difference) or p >= LEVEL or difference == 0:
        return TIES
    return BEATS if difference > 0 else LOSES


def paired(study: Study, language: str, first: str, second: str) -> Mapping[str, Any] | None:
    """The paired test of the first method against the second, if there was one."""
    for row in (*study.of_language("comparisons", language), *study.of_language("pairs", language)):
        if (row["method"], row["against"]) == (first, second) and is_number(row.get("p_speakers")):
            return row
    return None


def outcome(study: Study, language: str, first: str, second: str) -> str:
    """What the first method does to the second: by the paired test over speakers, or by the intervals without one."""
    if row := paired(study, language, first, second):
        return decided(row["difference"], row["p_speakers"])
    if row := paired(study, language, second, first):
        return OPPOSITE[decided(row["difference"], row["p_speakers"])]
    found = scored(study, language)
    return compare(found[first], found[second])


def least_attainable(study: Study, language: str) -> float | None:
    """The least corrected p over speakers that could come out in a language, whatever its methods do."""
    rows = study.of_language("comparisons", language)
    known = [row["least_p"] for row in rows if is_number(row.get("least_p"))]
    # Holm multiplies the least of the p-values by their number, and no other becomes less than that.
    return min(1.0, max(known) * len(rows)) if known else None


def scored(study: Study, language: str) -> dict[str, dict[str, Any]]:
    """The UAR summaries of a language by method, where there is a mean."""
    found = {method: result["uar"] for method, result in study.results(language).items()}
    return {method: uar for method, uar in found.items() if is_number(uar.get("mean"))}


def ranks(study: Study, language: str) -> dict[str, str]:
    """For each method of a language: ``best`` (the highest mean UAR), ``tie`` with it, ``lower``, or ``apart``.

    Transductive methods are ``apart``: they do not rank with the others.
    """
    found = scored(study, language)
    ranked = [method for method in found if not study.transductive(method)]
    marks = dict.fromkeys(found, "apart")
    if ranked:
        best = max(ranked, key=lambda method: found[method]["mean"])
        # A mean below the best's is never more than a tie, whatever the test says.
        marks |= {method: "lower" if outcome(study, language, best, method) == BEATS else "tie" for method in ranked}
        marks[best] = "best"
    return marks


def verdict(study: Study, language: str) -> str:
    """One sentence: what the searched structure does to each control."""
    found = scored(study, language)
    if SEARCHED not in found:
        return "There is no result of a searched structure, so nothing can be said of the search."
    searched = found[SEARCHED]
    clauses = [
        f"{outcome(study, language, SEARCHED, control)} {name} ({number(found[control]['mean'])} "
        f"{bounds(found[control])}{_test_text(paired(study, language, SEARCHED, control))})"
        for control, name in CONTROLS.items()
        if control in found
    ]
    absent = [name for control, name in CONTROLS.items() if control not in found]
    sentence = f"The searched structure (UAR {number(searched['mean'])} {bounds(searched)})"
    sentence += f" {_joined(clauses)}." if clauses else " stands alone."
    return sentence + (f" There is no result of {_joined(absent)} to compare with." if absent else "")


def _test_text(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"; {row['difference']:+.1f} points, p {equals(row['p_speakers'])} over speakers"


def equals(p: Any) -> str:
    """A p-value as it stands in a sentence behind the letter.

    >>> equals(0.03), equals(0.0001)
    ('= .03', '< .001')
    """
    said = probability(p)
    return f"< {said[1:]}" if said.startswith("<") else f"= {said}"


def against_bar(study: Study, language: str) -> str:
    """What every method does to the bar, over speakers where there are enough of them; empty without tests."""
    rows = [row for row in study.of_language("comparisons", language) if is_number(row.get("p_speakers"))]
    least = least_attainable(study, language)
    if not rows or least is None:
        return ""
    bar = study.title(rows[0]["against"])
    if least < LEVEL:
        return f"Against {bar}, over speakers: {_grouped(study, rows, 'p_speakers')}"
    raw = max(row["least_p"] for row in rows)
    corrected = f", nor below {probability(least)} when corrected for {len(rows)} methods" if len(rows) > 1 else ""
    return (
        f"With {round(1 - math.log2(raw))} tested speakers p over speakers cannot be below {probability(raw)}"
        f"{corrected}: no number of utterances could show that a method differs from {bar} for new speakers, so all "
        "tie with it. Over the utterances of these very speakers, which says nothing of new ones: "
        f"{_grouped(study, rows, 'p_utterances')}"
    )


def _grouped(study: Study, rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    """The methods that beat the bar, lose to it and tie with it: points and p, but for many ties."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        mark = f"{TRANSDUCTIVE}, " if study.transductive(row["method"]) else ""
        said = f"{study.title(row['method'])} ({mark}{row['difference']:+.1f}, p {equals(row[unit])})"
        groups.setdefault(decided(row["difference"], row[unit]), []).append(said)
    ties = groups.get(TIES, [])
    if len(ties) > NAMED:
        groups[TIES] = [f"{'all' if len(ties) == len(rows) else 'the other'} {len(ties)} methods"]
    words = {BEATS: "better", LOSES: "worse", TIES: "tied"}
    # Titles hold commas.
    parts = [f"{word}: {'; '.join(groups[result])}." for result, word in words.items() if result in groups]
    return " ".join([parts[0], *(part[0].upper() + part[1:] for part in parts[1:])])


def chance_sentence(study: Study, language: Mapping[str, Any]) -> str:
    """Names the methods of which nothing shows that they are above chance; empty where there are none."""
    chance = language.get("chance")
    if not is_number(chance):
        return ""
    found = scored(study, language["language"])
    low = [study.title(method) for method, uar in found.items() if is_number(uar.get("low")) and uar["low"] <= chance]
    if not low:
        return ""
    return f"Not shown to be above chance ({number(chance)} %): {'; '.join(low)}."


def tallies(study: Study) -> list[str]:
    """For each control one sentence: in how many languages the searched structure beats, ties and loses."""
    sentences = []
    for control, name in CONTROLS.items():
        summaries = {language["language"]: scored(study, language["language"]) for language in study.languages}
        both = [language for language, found in summaries.items() if SEARCHED in found and control in found]
        if both:
            outcomes = Counter(outcome(study, language, SEARCHED, control) for language in both)
            leaky = [language for language in both if study.leaky(language)]
            sentences.append(
                f"Against {name}: better in {outcomes[BEATS]}, tied in {outcomes[TIES]}, worse in {outcomes[LOSES]} "
                f"of {len(both)} {'language' if len(both) == 1 else 'languages'}"
                f"{f' ({LEAKY}: {_joined(leaky)})' if leaky else ''}."
            )
    return sentences


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
