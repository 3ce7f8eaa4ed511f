"""The parts of a survey as the page and the JSON have them: plain values, or why there are none."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mser.config import Workspace
from mser.errors import MserError
from mser.inspect.languages import Language
from mser.inspect.listing import StoreSummary, said
from mser.inspect.maps import Map
from mser.inspect.probes import Probe, Tested, probe_confound, probe_emotion, rounds
from mser.inspect.progress import Meter
from mser.inspect.similarity import linear_cka
from mser.inspect.statistics import FRAMES, MEANS, layer_statistics
from mser.manifest import Manifest
from mser.protocol import audit, make_folds
from mser.store import Store

#: Fewer utterances have no similarity.
LEAST = 3


def statistics_part(summary: StoreSummary, store: Store, over: str, workers: int, meter: Meter) -> dict[str, Any]:
    """The statistics of one store.

    Args:
        over: ``frames``, ``means``, or empty: frames where they are kept.
    """
    place = {"language": summary.language, "corpus": summary.corpus, "upstream": summary.upstream}
    try:
        found = layer_statistics(
            store, {"frames": FRAMES, "means": MEANS}.get(over), workers, lambda done, total: meter.step()
        )
    except MserError as error:
        return {**place, "over": "", "count": 0, "layers": [], "left_out": "", "trouble": said(error)}
    layers = [
        {
            "layer": number,
            "mean": float(found.mean[row].mean()),
            "deviation": float(found.deviation[row].mean()),
            "largest_deviation": float(found.deviation[row].max()),
            "norm": float(found.norm[row]),
            "rank": float(found.rank[row]),
            "dead": float(found.dead[row]),
        }
        for row, number in enumerate(summary.layer_numbers)
    ]
    return {
        **place,
        "dim": summary.dim,
        "over": found.over,
        "count": found.count,
        "layers": layers,
        "left_out": found.left_out,
        "trouble": "",
    }


def similarity_part(language: Language) -> dict[str, Any]:
    """Linear CKA between all layers of all upstreams of a language, on the utterances that all of them hold."""
    rows = language.common
    found: dict[str, Any] = {"language": language.language, "utterances": len(rows), "layers": [], "values": []}
    if len(rows) < LEAST:
        return {
            **found,
            "trouble": f"{len(rows)} utterances are held by every upstream; {LEAST} or more can be compared",
        }
    layers = []
    for upstream, cached in language.cached.items():
        places = {row: place for place, row in enumerate(cached.rows.tolist())}
        means = cached.means[[places[row] for row in rows.tolist()]]
        for index, number in enumerate(cached.layer_numbers):
            found["layers"].append([upstream, number])
            layers.append(means[:, index])
    # NaN is no JSON: a layer that is the same for all utterances has no similarity.
    values = [[None if value != value else round(value, 5) for value in row] for row in linear_cka(layers).tolist()]
    return {**found, "values": values, "trouble": ""}


def probes_part(
    language: Language, upstream: str, targets: Sequence[str], meter: Meter
) -> tuple[dict[str, Any], Probe | None]:
    """Every target of an upstream of a language; and the probe of emotions by itself, if it is among them."""
    cached = language.cached[upstream]
    utterances, steps = language.of(cached), 0

    def step() -> None:
        nonlocal steps
        steps += 1
        meter.step()

    emotion, test = probe_emotion(cached.means, utterances, step) if "emotion" in targets else (None, None)
    confounds = [name for name in targets if name != "emotion"]
    probes = [probe_confound(name, cached.means, utterances, step) for name in confounds]
    # Probes that cannot be asked take no step.
    meter.step(max(0, rounds(utterances, targets) - steps))
    part = {
        "language": language.language,
        "upstream": upstream,
        "layers": list(cached.layer_numbers),
        "tested": _tested(test, cached.layer_numbers) if test else None,
        "targets": [asdict(probe) for probe in [*([emotion] if emotion else []), *probes]],
    }
    return part, emotion


def _tested(test: Tested, layer_numbers: Sequence[int]) -> dict[str, Any]:
    chosen = [[layer_numbers[index], folds] for index, folds in test.chosen.items()]
    return {**asdict(test), "chosen": chosen}


def map_part(one: Map) -> dict[str, Any]:
    points = None if one.points is None else [[round(value, 4) for value in point] for point in one.points.tolist()]
    return {"method": one.method, "points": points, "note": one.note, "trouble": one.trouble}


def rejected_part(workspace: Workspace, manifest: Manifest) -> list[dict[str, str]]:
    """What ``<corpus>.rejected.csv`` lists; one entry without a path says that the list is missing."""
    path = workspace.manifests / f"{manifest.corpus}.rejected.csv"
    place = {"language": manifest.language, "corpus": manifest.corpus}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{**place, "path": row["path"], "reason": row["reason"]} for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        return [{**place, "path": "", "reason": f"{path.name} cannot be read ({error}); run `make manifest` again"}]


def audit_part(name: str, manifests: Sequence[Manifest]) -> dict[str, Any]:
    own = [manifest for manifest in manifests if manifest.language == name]
    utterances = [row for manifest in own for row in manifest.utterances]
    corpora = "+".join(manifest.corpus for manifest in own)
    try:
        folds = make_folds(utterances)
    except ValueError as error:
        reason = said(error) if isinstance(error, MserError) else str(error)
        return {"language": name, "corpus": corpora, "trouble": f"no folds can be made: {reason}"}
    report = asdict(audit(corpora, utterances, folds))
    return {"language": name, **report, "folds": len(folds), "trouble": ""}
