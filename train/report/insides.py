"""Sections on what was learnt and found: gates, layers, structures and the search itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from train.report.markup import Markup, details, element, grid, join, paragraph, picture, section, table
from train.report.pictures import colours, curve_picture, dev_picture, expert_picture, layer_picture, value
from train.report.structure import choice_counts, genotype_picture, most_frequent
from train.report.study import MISSING, Study, duration, is_number, number


def gates(study: Study) -> Markup:
    lead = (
        "What each language takes from each expert, with the deviation over utterances, and from each layer of an "
        "expert, with the deviation over folds and seeds. Dashed: every layer alike. An expert of a single layer has "
        "nothing to mix."
    )
    tints = colours(study.methods)
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        name = language["language"]
        if found := study.of_language("gates", name):
            mixed = [weights for gate in found for weights in gate.get("layers", {}).items()]
            layered = {expert: len(weights["mean"]) for expert, weights in mixed}
            pictures = [picture(expert_picture(name, found, tints), element("b", "Experts"))]
            pictures += [picture(layer_picture(name, expert, found, tints), join(["Layers of ", element("b", expert)]))
                         for expert, count in layered.items() if count > 1]  # fmt: skip
            parts += [element("h3", name), grid(pictures), details(f"{name}: the weights as numbers", _weights(found))]
    if len(parts) == 1:
        parts.append(paragraph("No gates were kept."))
    return section("gates", "Gates and layers", *parts)


def _weights(found: Sequence[Mapping[str, Any]]) -> Markup:
    """Rows: method and expert; columns: the gate, then the layers."""
    rows = []
    for gate in found:
        for place, expert in enumerate(gate["experts"]):
            layers = gate.get("layers", {}).get(expert, {"mean": [], "deviation": []})
            means = [gate["mean"][place], *layers["mean"]]
            deviations = [gate["deviation"][place], *layers["deviation"]]
            weights = [_weight(mean, deviation) for mean, deviation in zip(means, deviations, strict=True)]
            rows.append([gate["method"], expert, *weights])
    width = max(len(row) for row in rows)
    filled = ([*row, *[""] * (width - len(row))] for row in rows)
    return table(["method", "expert", "gate", *(f"layer {layer}" for layer in range(width - 3))], filled)


def _weight(mean: Any, deviation: Any) -> Markup:
    return join([number(mean, 3), element("small", f"± {number(deviation, 3)}")])


def structures(study: Study) -> Markup:
    lead = (
        "The search is nested: the structure with which a test fold is judged was found without that fold's speakers, "
        "so that there is one structure a fold. Drawn is the most frequent one; blue: chosen by the search; dashed: an "
        "expert left out."
    )
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        if searches := study.nested_searches(language):
            parts += _language_structures(language["language"], searches)
    if len(parts) == 1:
        parts.append(paragraph("Nothing was searched."))
    return section("structures", "Structures found", *parts)


def _language_structures(name: str, searches: Sequence[Mapping[str, Any]]) -> list[Markup]:
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
        element("h3", name),
        picture(Markup(genotype_picture(genotype, name)), caption),
        table(["choice", f"how many of {len(searches)} folds chose what"], counts, css="prose"),
        details(f"{name}: the structure of each fold", table(["fold", "dev UAR", "structure"], folds, css="prose")),
    ]


def search(study: Study) -> Markup:
    lead = (
        "Dev UAR chose the structures and is therefore too high to stand for unseen speakers; what counts is the test "
        "UAR under Scores. Random search and the fixed head were scored on the same dev speakers. Entropy 1: "
        "undecided, 0: decided. A parameter-free share that runs to 1 is the known way in which such a search fails. "
        "Dots and faint lines: a fold each (candidates: all that random search drew); strong lines: their mean."
    )
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        if searches := study.nested_searches(language):
            parts += _language_search(language["language"], searches, colours(study.methods))
    if len(parts) == 1:
        parts.append(paragraph("Nothing was searched."))
    return section("search", "The search", *parts)


def _language_search(name: str, searches: Sequence[Mapping[str, Any]], tints: Mapping[str, str]) -> list[Markup]:
    groups = {
        "searched": [value(found.get("dev_uar")) for found in searches],
        "random": [value(_part(found, "random").get("dev_uar")) for found in searches],
        "candidates": [value(drawn.get("dev_uar")) for found in searches for drawn in _candidates(found)],
        "fixed": [value(_part(found, "fixed").get("dev_uar")) for found in searches],
    }
    known = {group: dots for group, found in groups.items() if (dots := [dot for dot in found if is_number(dot)])}
    pictures = [picture(dev_picture(name, known, tints), element("b", "dev UAR"))] if known else []
    curves = [found["curves"] for found in searches if found.get("curves")]
    drawn = {
        "losses": {"weight_loss": "weights (training)", "alpha_loss": "structure (dev)"},
        "decision": {"entropy": "entropy", "parameter_free": "parameter-free share"},
    }
    if curves:
        pictures += [
            picture(curve_picture(name, title, curves, keys), element("b", title)) for title, keys in drawn.items()
        ]
    rows = [
        [found["fold"], number(found.get("dev_uar")), number(_part(found, "random").get("dev_uar")),
         len(_candidates(found)), number(_part(found, "fixed").get("dev_uar")),
         *(duration(_part(found, "seconds").get(way)) for way in ("search", "random"))]
        for found in searches
    ]  # fmt: skip
    columns = ["fold", "searched", "best random", "candidates", "fixed head", "time of search", "time of random search"]
    numbers = details(f"{name}: dev UAR and time of each fold", table(columns, rows))
    candidates = [[found["fold"], number(drawn.get("dev_uar")), drawn["text"]]
                  for found in searches for drawn in _candidates(found)]  # fmt: skip
    draws = details(f"{name}: the candidates of random search ({len(candidates)})",
                    table(["fold", "dev UAR", "structure"], candidates, css="prose"))  # fmt: skip
    return [element("h3", name), grid(pictures), numbers, *([draws] if candidates else [])]


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return found.get(name) or {}


def _candidates(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return _part(found, "random").get("candidates") or []


def layers(study: Study) -> Markup:
    lead = "For each upstream the layer that scored highest on a fold's dev speakers, and below it that dev UAR."
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        if found := study.of_language("layer_choices", language["language"]):
            parts += [element("h3", language["language"]), _layer_table(found)]
    if len(parts) == 1:
        parts.append(paragraph("No layers were chosen."))
    return section("layers", "Layers chosen", *parts)


def _layer_table(found: Sequence[Mapping[str, Any]]) -> Markup:
    """Rows: upstreams; columns: the layer most folds chose, then the folds."""
    folds = list(dict.fromkeys(entry["fold"] for entry in found))
    chosen: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in found:
        chosen.setdefault(entry["upstream"], {})[entry["fold"]] = entry
    rows = []
    for upstream, entries in chosen.items():
        layer, count = Counter(entry["layer"] for entry in entries.values()).most_common(1)[0]
        of_folds = (_choice(entries[fold]) if fold in entries else MISSING for fold in folds)
        rows.append([upstream, f"{layer} ({count} of {len(entries)})", *of_folds])
    return table(["upstream", "most often", *folds], rows)


def _choice(entry: Mapping[str, Any]) -> Markup:
    return join([element("span", entry["layer"]), element("small", number(entry.get("dev_uar")))])
