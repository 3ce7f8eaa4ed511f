"""Who is better: said only where the 95 % intervals allow it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from train.report.study import Study, bounds, is_number, number

SEARCHED = "searched"
#: What the searched structure is measured against, and what a sentence calls it.
CONTROLS = {"random": "random search", "fixed": "the fixed head", "logistic": "logistic regression"}
BEATS, TIES, LOSES = "beats", "ties with", "loses to"
RULE = (
    "Two methods tie when the mean UAR of either lies in the other's 95 % interval. This reads the intervals of "
    "each method alone and is no paired test: a tie means that no difference was shown, not that there is none."
)


def tied(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether a difference cannot be told: the mean of either lies in the other's interval.

    Args:
        first, second: mean, low and high. A missing interval contains nothing but its mean.
    """
    return first["mean"] == second["mean"] or _contains(first, second["mean"]) or _contains(second, first["mean"])


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """What the first does to the second: ``BEATS``, ``TIES`` or ``LOSES``.

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


def scored(study: Study, language: str) -> dict[str, dict[str, Any]]:
    """The UAR summaries of a language by method, where there is a mean."""
    found = {method: result["uar"] for method, result in study.results(language).items()}
    return {method: uar for method, uar in found.items() if is_number(uar.get("mean"))}


def ranks(study: Study, language: str) -> dict[str, str]:
    """For each method of a language: ``best`` (the highest mean UAR), ``tie`` with it, or ``lower``."""
    found = scored(study, language)
    if not found:
        return {}
    best = max(found, key=lambda method: found[method]["mean"])
    marks = {method: "tie" if tied(uar, found[best]) else "lower" for method, uar in found.items()}
    return {**marks, best: "best"}


def verdict(study: Study, language: str) -> str:
    """One sentence: what the searched structure does to each control."""
    found = scored(study, language)
    if SEARCHED not in found:
        return "There is no result of a searched structure, so nothing can be said of the search."
    searched = found[SEARCHED]
    clauses = [
        f"{compare(searched, found[control])} {name} ({number(found[control]['mean'])} {bounds(found[control])})"
        for control, name in CONTROLS.items()
        if control in found
    ]
    absent = [name for control, name in CONTROLS.items() if control not in found]
    sentence = f"The searched structure (UAR {number(searched['mean'])} {bounds(searched)})"
    sentence += f" {_joined(clauses)}." if clauses else " stands alone."
    return sentence + (f" There is no result of {_joined(absent)} to compare with." if absent else "")


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
        summaries = [scored(study, language["language"]) for language in study.languages]
        both = [found for found in summaries if SEARCHED in found and control in found]
        if both:
            outcomes = Counter(compare(found[SEARCHED], found[control]) for found in both)
            sentences.append(
                f"Against {name}: better in {outcomes[BEATS]}, tied in {outcomes[TIES]}, worse in {outcomes[LOSES]} "
                f"of {len(both)} {'language' if len(both) == 1 else 'languages'}."
            )
    return sentences


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
