"""Sections on what was learnt: gates over experts, layers of experts, and the layers that probes chose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mser.markup import Markup, details, element, grid, join, paragraph, picture, section, table
from train.report.marks import language_mark, language_text, method_mark
from train.report.pictures import colours, expert_picture, layer_picture
from train.report.study import MISSING, Study, degrees, is_number, number

#: Methods that a picture of gates holds at most, and which come first where there are more.
DRAWN = 6
FIRST = ("searched", "multi-domain", "gate-conditioned", "fixed", "random", "fixed-multi")
#: Weights are kept to six decimals: what deviates by less is the same for every utterance.
CONSTANT = 1e-6
#: A deviation over utterances below this decides nothing: one percent of the whole weight.
NEARLY_CONSTANT = 0.01


def gates(study: Study) -> Markup:
    lead = (
        "What each language takes from each expert, with the deviation over utterances, and from each layer of an "
        "expert, with the deviation over folds and seeds. Dashed: every layer alike. An expert of a single layer has "
        "nothing to mix; a method without a gate is shown with equal weights."
    )
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        name = language["language"]
        if found := study.of_language("gates", name):
            parts += [element("h3", language_mark(study, name)), *_pictures(study, name, found)]
            numbers = f"{language_text(study, name)}: the weights as numbers"
            parts += [*_conditioned(study, found), details(numbers, _weights(study, found))]
    if len(parts) == 1:
        parts.append(paragraph("No gates were kept."))
    return section("gates", "Gates and layers", *parts)


def _pictures(study: Study, name: str, found: Sequence[dict[str, Any]]) -> list[Markup]:
    """The experts and the layers of each; of so many methods as can be told apart."""
    order = sorted(found, key=lambda gate: FIRST.index(gate["method"]) if gate["method"] in FIRST else len(FIRST))
    kept = [gate["method"] for gate in order[:DRAWN]]
    drawn = [gate for gate in found if gate["method"] in kept]
    tints, leaky = colours([gate["method"] for gate in drawn]), study.leaky(name)
    mixed = [weights for gate in drawn for weights in gate.get("layers", {}).items()]
    layered = {expert: len(weights["mean"]) for expert, weights in mixed}
    pictures = [picture(expert_picture(name, drawn, tints, leaky), element("b", "Experts"))]
    pictures += [picture(layer_picture(name, expert, drawn, tints, leaky), join(["Layers of ", element("b", expert)]))
                 for expert, count in layered.items() if count > 1]  # fmt: skip
    parts = [grid(pictures)]
    if len(drawn) < len(found):
        parts.append(paragraph(f"Drawn are {len(drawn)} of {len(found)} methods; the numbers hold all.", css="small"))
    return parts


def _conditioned(study: Study, found: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Whether gates that the utterance decides are constants still."""
    moves = {gate["method"]: max((dev for dev in gate["deviation"] if is_number(dev)), default=0.0) for gate in found}
    moving = {method: most for method, most in moves.items() if most >= CONSTANT}
    if not moving:
        return [paragraph("Every gate is a constant: the same weights for every utterance.", css="small")]
    rows = [
        [method_mark(study, gate["method"]), join(_moved(gate)), _said(moving[gate["method"]])]
        for gate in found
        if gate["method"] in moving
    ]
    lead = "Gates that the utterance decides: is the weight still a constant? The deviation is over the utterances of "
    lead += "a test fold, and the mean over folds and seeds; a fold whose structure has a constant gate counts as 0."
    rest = [study.title(gate["method"]) for gate in found if gate["method"] not in moving]
    if rest:
        lead += f" Of {len(rest)} more the gate is" if len(rest) > 3 else f" The gate of {'; '.join(rest)} is"
        lead += " a constant."
    columns = ["method", "mean weight ± deviation over utterances", "still a constant?"]
    return [paragraph(lead, css="small"), table(columns, rows, css="prose")]


def _moved(gate: Mapping[str, Any]) -> list[Markup]:
    experts = zip(gate["experts"], gate["mean"], gate["deviation"], strict=True)
    return [element("div", f"{expert} {number(mean, 3)} ± {number(dev, 3)}") for expert, mean, dev in experts]


def _said(most: float) -> str:
    if most < NEARLY_CONSTANT:
        return f"nearly: the deviation is {number(most, 4)} at most"
    return f"no: the deviation is up to {number(most, 3)}"


def _weights(study: Study, found: Sequence[Mapping[str, Any]]) -> Markup:
    """Rows: method and expert; columns: the gate, then the layers."""
    rows = []
    for gate in found:
        for place, expert in enumerate(gate["experts"]):
            layers = gate.get("layers", {}).get(expert, {"mean": [], "deviation": []})
            means = [gate["mean"][place], *layers["mean"]]
            deviations = [gate["deviation"][place], *layers["deviation"]]
            weights = [_weight(mean, deviation) for mean, deviation in zip(means, deviations, strict=True)]
            rows.append([method_mark(study, gate["method"], gate["method"]), expert, *weights])
    width = max(len(row) for row in rows)
    filled = ([*row, *[""] * (width - len(row))] for row in rows)
    return table(["method", "expert", "gate", *(f"layer {layer}" for layer in range(width - 3))], filled)


def _weight(mean: Any, deviation: Any) -> Markup:
    return join([number(mean, 3), element("small", f"± {number(deviation, 3)}")])


def calibration(study: Study) -> Markup:
    lead = (
        "Whether the probabilities of the method for use mean what they say: expected calibration error (ECE, 15 bins) "
        "and mean negative log-likelihood over all test utterances, mean over seeds, as the models say them and with "
        "each fold's temperature, which was fitted on dev speakers that the model asked was not trained on."
    )
    rows = [
        [
            language_mark(study, one["language"]), method_mark(study, one["method"]), str(one["utterances"]),
            f"{number(one['ece_before'], 1)} %", f"{number(one['ece_after'], 1)} %", number(one["nll_before"], 3),
            number(one["nll_after"], 3), " / ".join(degrees(value) for value in one["temperatures"]),
        ]
        for one in study.content.get("calibration", [])
    ]  # fmt: skip
    if not rows:
        return section("calibration", "Calibration", paragraph("No method of this run was calibrated."))
    columns = [
        "language", "method", "utterances", "ECE", "ECE with temperature", "NLL", "NLL with temperature",
        "temperature: least / median / largest",
    ]  # fmt: skip
    return section("calibration", "Calibration", paragraph(lead, css="lead"), table(columns, rows))


def layers(study: Study) -> Markup:
    lead = "For each upstream the layer that scored highest on a fold's dev speakers, and below it that dev UAR."
    parts: list[object] = [paragraph(lead, css="lead")]
    for language in study.languages:
        if found := study.of_language("layer_choices", language["language"]):
            parts += [element("h3", language_mark(study, language["language"])), _layer_table(found)]
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
