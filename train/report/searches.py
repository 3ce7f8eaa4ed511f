"""Sections on what was found: the structures of each search strategy, and how its search went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mser.markup import (
    Markup,
    boxed_table,
    cells,
    details,
    element,
    grid,
    join,
    paragraph,
    picture,
    section,
    table,
)
from train.report.marks import language_mark, language_text
from train.report.pictures import colours, curve_picture, dev_picture, value
from train.report.structure import choice_counts, genotype_picture, most_frequent
from train.report.study import METHOD_OF, MISSING, Study, duration, is_number, number

Searches = Sequence[Mapping[str, Any]]
CURVES = {
    "losses": {"weight_loss": "weights (training)", "alpha_loss": "structure (dev)"},
    "decision": {"entropy": "entropy", "parameter_free": "parameter-free share"},
}
#: Scores that differ by less are equal: they are made of the same counts.
EQUAL = 1e-9
OVERVIEW = [
    "strategy", "dev UAR", "of random search", "better", "equal", "worse", "time of search", "time of random search",
    "last entropy", "last parameter-free share",
]  # fmt: skip


def structures(study: Study) -> Markup:
    lead = (
        "The search is nested: the structure with which a test fold is judged was found without that fold's test "
        "utterances, so that there is one structure a fold. Drawn is the most frequent one; blue: chosen by the "
        "search; dashed: an expert left out."
    )
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        if found := study.searches_by_strategy(language):
            parts.append(element("h3", language_mark(study, language["language"])))
            parts += _by_strategy(study, language["language"], found)
    if len(parts) == 1:
        parts.append(paragraph("Nothing was searched."))
    return section("structures", "Structures found", *parts)


def _by_strategy(study: Study, language: str, found: Mapping[str, Searches]) -> list[Markup]:
    """The structures of the first strategy, and those of the others folded away: there may be many."""
    parts: list[Markup] = []
    for strategy, searches in found.items():
        title = study.strategy_title(strategy)
        name = f"{language_text(study, language)}, {title}"
        body = _structures(name, searches)
        parts += [details(f"{name}: structures", *body)] if parts else [element("h4", title), *body]
    return parts


def _structures(name: str, searches: Searches) -> list[Markup]:
    genotype, count = most_frequent(searches)
    caption = f"Found in {count} of {len(searches)} folds."
    if count == 1 and len(searches) > 1:
        caption = f"All {len(searches)} folds found different structures; this is that of the first fold."
    counts = [
        [choice, join(element("span", found, element("b", f" {times}"), css="chip") for found, times in votes)]
        for choice, votes in choice_counts(searches).items()
    ]
    folds = [[search["fold"], number(search.get("dev_uar")), search["text"]] for search in searches]
    return [
        picture(Markup(genotype_picture(genotype, name)), caption),
        table(["choice", f"how many of {len(searches)} folds chose what"], counts, css="prose"),
        details(f"{name}: the structure of each fold", table(["fold", "dev UAR", "structure"], folds, css="prose")),
    ]


def search(study: Study) -> Markup:
    lead = (
        "Dev UAR chose the structures and is therefore too high to stand for unseen speakers; what counts is the test "
        "UAR under Scores. Random search and the fixed head were scored on the same dev utterances. Better, equal, "
        "worse: on how many folds a strategy's dev UAR is above, at or below that of the best that random search "
        "found, in the time that stands beside it. UAR, entropy and share are means over folds, times are sums."
    )
    collapse = (
        "Entropy of the operations 1: undecided, 0: decided. A parameter-free share (skip or leave out) that runs to "
        "1 is the known way in which such a search fails. Both are of the last epoch; perturbation does not decide by "
        "them."
    )
    groups = {language["language"]: study.searches_by_strategy(language) for language in study.languages}
    groups = {name: found for name, found in groups.items() if found}
    if not groups:
        return section("search", "The search", paragraph(lead, css="lead"), paragraph("Nothing was searched."))
    bodies = join(_overview(study, name, found) for name, found in groups.items())
    note = "Dots and faint lines: a fold each (candidates: all that random search drew); strong lines: their mean."
    parts = [paragraph(lead, css="lead"), paragraph(collapse, css="lead"), boxed_table(OVERVIEW, bodies, "grouped"),
             paragraph(note, css="lead")]  # fmt: skip
    for name, found in groups.items():
        parts += [element("h3", language_mark(study, name)), *_language_search(study, name, found)]
    return section("search", "The search", *parts)


def _overview(study: Study, name: str, found: Mapping[str, Searches]) -> Markup:
    """A row for each strategy of a language, beside random search, and one for the fixed head."""
    folds = len(dict.fromkeys(one["fold"] for searches in found.values() for one in searches))
    title = element(
        "span", element("b", language_mark(study, name)), f" {folds} {'fold' if folds == 1 else 'folds'}", css="stay"
    )
    rows = [
        element("tr", element("th", title, attributes={"colspan": len(OVERVIEW), "scope": "rowgroup"}), css="group")
    ]
    for strategy, searches in found.items():
        outcomes = Counter(_against_random(one) for one in searches)
        counts = [str(outcomes[key]) if outcomes.total() > outcomes[""] else MISSING
                  for key in ("better", "equal", "worse")]  # fmt: skip
        last = [one["curves"][-1] for one in searches if one.get("curves")]
        rows.append(cells([
            study.strategy_title(strategy), _mean(one.get("dev_uar") for one in searches),
            _mean(_part(one, "random").get("dev_uar") for one in searches), *counts,
            *(_total(_part(one, "seconds").get(way) for one in searches) for way in ("search", "random")),
            *(_mean((point.get(key) for point in last), 2) for key in ("entropy", "parameter_free")),
        ]))  # fmt: skip
    fixed = _mean(_part(one, "fixed").get("dev_uar") for one in next(iter(found.values())))
    if fixed != MISSING:
        rows.append(cells(["fixed head, nothing searched", fixed, *[""] * (len(OVERVIEW) - 2)]))
    return element("tbody", *rows)


def _against_random(found: Mapping[str, Any]) -> str:
    """How a search's dev UAR compares with random search's on its fold; empty where either is missing."""
    own, other = found.get("dev_uar"), _part(found, "random").get("dev_uar")
    if not is_number(own) or not is_number(other):
        return ""
    return "equal" if abs(own - other) < EQUAL else "better" if own > other else "worse"


def _mean(values: Iterable[Any], digits: int = 1) -> str:
    known = [one for one in values if is_number(one)]
    return number(float(np.mean(known)), digits) if known else MISSING


def _total(values: Iterable[Any]) -> str:
    known = [one for one in values if is_number(one)]
    return duration(sum(known)) if known else MISSING


def _language_search(study: Study, name: str, found: Mapping[str, Searches]) -> list[Markup]:
    """Dev UAR of every strategy in one picture; the curves of each strategy in pictures of its own."""
    leaky, controls = study.leaky(name), _controls(found)
    groups = {
        METHOD_OF.get(strategy, strategy): [value(one.get("dev_uar")) for one in searches]
        for strategy, searches in found.items()
    } | {
        "random": [value(_part(one, "random").get("dev_uar")) for one in controls],
        "candidates": [value(drawn.get("dev_uar")) for one in controls for drawn in _candidates(one)],
        "fixed": [value(_part(one, "fixed").get("dev_uar")) for one in controls],
    }
    known = {group: dots for group, every in groups.items() if (dots := [dot for dot in every if is_number(dot)])}
    dev = [picture(dev_picture(name, known, colours([*known]), leaky), element("b", "dev UAR"))] if known else []
    drawn = {strategy: _curves(study, name, strategy, searches) for strategy, searches in found.items()}
    first, *others = (strategy for strategy in drawn if drawn[strategy]) if any(drawn.values()) else ("",)
    parts = [grid([*dev, *drawn.get(first, [])])]
    parts += [details(f"{study.strategy_title(strategy)}: curves", grid(drawn[strategy])) for strategy in others]
    candidates = [[one["fold"], number(one_drawn.get("dev_uar")), one_drawn["text"]]
                  for one in controls for one_drawn in _candidates(one)]  # fmt: skip
    parts.append(details(f"{language_text(study, name)}: dev UAR and time of each fold", *_fold_tables(study, found)))
    if candidates:
        draws = table(["fold", "dev UAR", "structure"], candidates, css="prose")
        parts.append(
            details(f"{language_text(study, name)}: the candidates of random search ({len(candidates)})", draws)
        )
    return parts


def _curves(study: Study, name: str, strategy: str, searches: Searches) -> list[Markup]:
    curves = [one["curves"] for one in searches if one.get("curves")]
    if not curves:
        return []
    by, leaky = study.strategy_title(strategy), study.leaky(name)
    return [
        picture(curve_picture(f"{name}, {by}", title, curves, keys, leaky), join([element("b", title), f" · {by}"]))
        for title, keys in CURVES.items()
    ]


def _fold_tables(study: Study, found: Mapping[str, Searches]) -> list[Markup]:
    """Rows: folds; columns: strategies and controls, first their dev UAR, then their times."""
    titles = [study.strategy_title(strategy) for strategy in found]
    by_fold = [{one["fold"]: one for one in searches} for searches in found.values()]
    scores, times = [], []
    for control in _controls(found):
        fold, random = control["fold"], _part(control, "random")
        own = [searches.get(fold, {}) for searches in by_fold]
        scores.append([fold, *(number(one.get("dev_uar")) for one in own), number(random.get("dev_uar")),
                       len(_candidates(control)), number(_part(control, "fixed").get("dev_uar"))])  # fmt: skip
        times.append([fold, *(duration(_part(one, "seconds").get("search")) for one in own),
                      duration(_part(control, "seconds").get("random"))])  # fmt: skip
    return [
        element("h4", "dev UAR"),
        table(["fold", *titles, "best random", "candidates", "fixed head"], scores),
        element("h4", "time of search"),
        table(["fold", *titles, "random search"], times),
    ]


def _controls(found: Mapping[str, Searches]) -> Searches:
    """One search of each fold: those of all strategies bring the same controls."""
    return list({one["fold"]: one for searches in found.values() for one in searches}.values())


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return found.get(name) or {}


def _candidates(found: Mapping[str, Any]) -> Searches:
    return _part(found, "random").get("candidates") or []
