"""The tables that the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mser.inspect.listing import StoreSummary
from mser.inspect.utterance import States, line
from mser.inspect.wanted import TARGETS
from mser.manifest import Utterance

STORES = ["corpus", "language", "upstream", "revision", "utterances", "hours", "layers x dim", "dtype", "holds", "MB",
          "health"]  # fmt: skip
STATES = ["layer", "mean", "deviation", "least", "largest", "length", "lengths over time"]
STATISTICS = ["layer", "mean", "deviation", "largest deviation", "mean length", "effective rank", "dead features"]
#: Up to this many layers the similarities fit a terminal.
PRINTED = 12


def left_out(results: Mapping[str, Any]) -> list[str]:
    """What a survey leaves out everywhere: damage, changed recordings, values that are not finite."""
    return [*(line for one in results["stores"] for line in one["left_out"]), *results.get("troubles", [])]


def troubles(results: Mapping[str, Any]) -> list[str]:
    """That, and what single sections cannot show, or leave out."""
    found = [*left_out(results), *statistics_troubles(results.get("statistics", []))]
    found += [f"{one['language']}: {one['trouble']}" for one in results.get("similarity", []) if one["trouble"]]
    return found + [f"{one['title']}: {one['trouble']}" for one in results.get("map", []) if one["trouble"]]


def statistics_troubles(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why a store has no statistics, or what is left out of them."""
    lines = [(one, one["trouble"] or one["left_out"]) for one in found]
    return [f"{one['corpus']} x {one['upstream']}: {line}" for one, line in lines if line]


def store_row(one: StoreSummary) -> list[str]:
    """Of a corpus without a manifest the length in hours is not known, nor how many utterances there should be."""
    return [
        one.corpus,
        one.language or "–",
        one.upstream,
        one.revision,
        f"{one.covered} of {one.total}" if one.language else str(one.held),
        f"{one.seconds / 3600:.2f}" if one.language else "–",
        f"{one.layers} x {one.dim}",
        one.dtype,
        " ".join(one.keep),
        f"{one.size_bytes / 1e6:.0f}",
        one.health,
    ]


def label_rows(row: Utterance) -> list[list[str]]:
    return [[name, str(value)] for name, value in asdict(row).items()]


def states_title(one: States) -> str:
    if one.frames:
        return f"{one.upstream}: {' x '.join(map(str, one.shape))} (layers, frames, features), {one.dtype}"
    return f"{one.upstream}: pooled alone, {' x '.join(map(str, one.shape))} (layers, statistics, features)"


def states_rows(one: States) -> list[list[str]]:
    return [
        [str(number), *(f"{value:.4g}" for value in values), f"{norms.mean():.4g}" if len(norms) else "", line(norms)]
        for number, values, norms in zip(one.layer_numbers, one.table, one.norms, strict=True)
    ]


def statistics_title(one: Mapping[str, Any]) -> str:
    return f"{one['corpus']} x {one['upstream']}: {one['count']} {one['over']}"


def statistics_rows(one: Mapping[str, Any]) -> list[list[str]]:
    """Averages over the features, and the ranks."""
    return [
        [
            str(layer["layer"]),
            *(f"{layer[key]:.4g}" for key in ("mean", "deviation", "largest_deviation", "norm")),
            f"{layer['rank']:.1f} of {one['dim']}",
            f"{100 * layer['dead']:.1f} %",
        ]
        for layer in one["layers"]
    ]


def similarity_table(one: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows; of many layers each one's likeness to the first alone."""
    title = f"{one['language']}: linear CKA over {one['utterances']} utterances"
    names = [f"{upstream} {number}" for upstream, number in one["layers"]]
    shown = range(len(names)) if len(names) <= PRINTED else range(1)
    rows = [
        [f"{number}: {name}", *("" if row[column] is None else f"{row[column]:.2f}" for column in shown)]
        for number, (name, row) in enumerate(zip(names, one["values"], strict=True))
    ]
    return title, ["layer", *map(str, shown)], rows


def probe_table(
    language: str, probed: Sequence[Mapping[str, Any]]
) -> tuple[str, list[str], list[list[str]], list[str]]:
    """Title, columns, rows and notes of a language: UAR in percent of each layer and target."""
    own = [one for one in probed if one["language"] == language]
    asked = {each["target"] for one in own for each in one["targets"]}
    targets = [name for name in TARGETS if name in asked]
    rows, notes = [], []
    for one in own:
        probes = {each["target"]: each for each in one["targets"]}
        for index, number in enumerate(one["layers"]):
            uars = [probes[name]["uar"] for name in targets]
            rows.append([f"{one['upstream']} {number}", *("–" if uar is None else f"{uar[index]:.1f}" for uar in uars)])
        chances = [f"{each['chance']:.1f}" if each["uar"] is not None else "–" for each in probes.values()]
        rows.append(["  chance", *chances])
        if one["tested"]:
            test = one["tested"]
            chosen = ", ".join(f"{number} ({folds})" for number, folds in test["chosen"])
            notes.append(
                f"{one['upstream']}: dev speakers chose layer (folds) {chosen}; UAR {test['uar']:.1f} % on test "
                f"speakers, {test['utterances']} utterances, {test['emotions']} emotions, {test['folds']} folds"
            )
        notes += [f"{one['upstream']}, {name}: {each['trouble'] or each['split']}" for name, each in probes.items()]
    return f"{language}: UAR of logistic regression, percent", ["layer", *targets], rows, notes
