"""What the answers amount to: closed and open scores with intervals, curves over k, and where scratch overtakes.

- ``closed``: utterances whose emotion run and language both have; an answer is one of these that the way knows.
- ``open``: the same utterances; an answer may be any emotion that the way knows.
- ``all``: every utterance of the language; those of an emotion that the way does not know cannot be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mser.errors import ProtocolError, RunError
from mser.metrics import clustered_intervals, score
from train.adapt.held_out import calibrations, kept_way
from train.adapt.study import ALL, Adaptation, answered, word_of
from train.adapt.target import Start, Target
from train.adapt.ways import KEPT, WAYS

SCORES = ("closed", "open", "all")
#: The ways from scratch.
SCRATCH = tuple(one.name for one in WAYS if one.scratch)


def summary(adaptation: Adaptation, start: Start, target: Target, seconds: float) -> dict[str, Any]:
    """All numbers of an adaptation, JSON-able.

    Raises:
        RunError: an answer is missing.
    """
    found = _read(adaptation, start, target)
    parts = target.mapping.parts(start.emotions)
    shared = [one for one in target.emotions if one in parts]
    truth = target.labels[target.rows]
    points: dict[tuple[str, str], dict[str, Any]] = {}
    for (way, k), draws in _by_point(found).items():
        points[way, k] = {name: _scored(name, draws, target, shared) for name in SCORES}
    steps = ["0", *(str(word_of(k)) for k in adaptation.shots)]
    counts = {name: int((truth == number).sum()) for number, name in enumerate(target.emotions)}
    measured = calibrations(found, target)
    with_all = {way: point["all"]["mean"] for (way, k), point in points.items() if k == ALL and point["all"]}
    out = sorted({row.emotion for row in target.data.utterances if target.mapping[row.emotion] is None})
    return {
        "language": target.name,
        "corpora": list(target.data.manifests),
        "run": str(start.path),
        "method": start.facts.get("method"),
        "known_languages": list(start.model.domains),
        "upstreams": list(start.upstreams),
        "mapping": {"name": target.mapping.name, "title": target.mapping.title},
        "speakers": len(target.tested),
        "utterances": len(target.rows),
        "emotions": counts,
        "shared": shared,
        "shared_utterances": sum(counts[name] for name in shared),
        "unknown": [one for one in target.emotions if one not in shared],
        "left_out": {one: sum(row.emotion == one for row in target.data.utterances) for one in out},
        "run_alone": sorted(set(parts) - set(target.emotions)),
        "draws": len({one["draw"] for one in found}),
        "steps": steps,
        "distances": {name: float(np.mean([one["near"][name] for one in found])) for name in start.model.domains},
        "audit": _audit(target),
        "chance": {"closed": 100 / max(1, len(shared)), "all": 100 / len(target.emotions)},
        "fewest_shots": _fewest(found, target, adaptation.shots),
        "points": [
            {"way": way, "k": k, **points[way, k]} for way in (one.name for one in WAYS) for k in steps
            if (way, k) in points
        ],
        "calibration": measured,
        "kept": asdict(kept_way(with_all, measured)),
        "overtakes": {name: {one: overtaken(points, name, steps, one) for one in SCORES[::2]} for name in SCRATCH},
        "seconds": seconds,
    }  # fmt: skip


def overtaken(
    points: Mapping[tuple[str, str], Mapping[str, Any]], scratch: str, steps: Sequence[str], name: str
) -> list[str]:
    """The values of k at which a way from scratch is at least as good as the best way from the run."""
    found = []
    for k in steps:
        own = [points[way, k][name] for way in KEPT if (way, k) in points]
        other = points.get((scratch, k), {}).get(name)
        known = [one["mean"] for one in own if one is not None]
        if known and other is not None and other["mean"] >= max(known):
            found.append(k)
    return found


def _read(adaptation: Adaptation, start: Start, target: Target) -> list[dict[str, Any]]:
    key, found = adaptation.key(start, target), []
    for _, draw, number in adaptation.blocks(target):
        one = answered(adaptation.path(draw, number), key, adaptation.shots)
        if one is None:
            raise RunError(
                "An answer is missing.", file=adaptation.path(draw, number), hint="run the same `make adapt` again"
            )
        found.append(one)
    return found


def _by_point(found: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, list[tuple[Any, Any]]]]:
    """(way, k) -> draw -> its halves' utterances with the answer."""
    points: dict[tuple[str, str], dict[int, list[tuple[Any, Any]]]] = {}
    for one in found:
        for answer in one["answers"]:
            place = points.setdefault((answer["way"], str(answer["k"])), {})
            place.setdefault(one["draw"], []).append((one["utterance_ids"], answer))
    return points


def _scored(
    name: str, draws: Mapping[int, Sequence[tuple[Any, Any]]], target: Target, shared: Sequence[str]
) -> dict[str, Any] | None:
    """Mean UAR over draws, its deviation and a 95 % interval over speakers; None where nothing can be told apart.

    Only draws in which the way answered both halves count.
    """
    if name != "all" and len(shared) < 2:
        return None
    halves = max(len(parts) for parts in draws.values())
    said = [_predicted(name, parts, target, shared) for parts in draws.values() if len(parts) == halves]
    rows = target.rows
    if name != "all":
        rows = rows[np.isin(target.labels[rows], [target.emotions.index(one) for one in shared])]
    truth = target.labels[rows]
    if any((one[rows] < -1).any() for one in said):
        return None
    # An answer outside the language's emotions is a class of its own: wrong, whatever the truth.
    predictions = np.stack([np.where(one[rows] < 0, len(target.emotions), one[rows]) for one in said])
    each = [score(truth, one).uar for one in predictions]
    low, high = clustered_intervals(truth, predictions, target.speakers[rows])["uar"]
    return {
        "mean": float(np.mean(each)), "deviation": float(np.std(each)), "low": low, "high": high,
        "draws": len(each), "utterances": len(rows), "emotions": len(np.unique(truth)),
    }  # fmt: skip


def _predicted(name: str, parts: Sequence[tuple[Any, Any]], target: Target, shared: Sequence[str]) -> np.ndarray:
    """(N,) indices into the language's emotions; -1 where the answer is none of them, -2 where there is no answer."""
    found = np.full(len(target.labels), -2, dtype=np.int64)
    for ids, answer in parts:
        emotions = list(answer["emotions"])
        said = np.asarray(answer["probabilities"])
        # One language's network may know only some of what the run and the language share.
        names = [one for one in emotions if name != "closed" or one in shared]
        index = np.array([target.emotions.index(one) if one in target.emotions else -1 for one in names])
        columns = [emotions.index(one) for one in names]
        found[[target.row_of[one] for one in ids]] = index[said[:, columns].argmax(1)] if names else -1
    return found


def _fewest(found: Sequence[Mapping[str, Any]], target: Target, shots: Sequence[int | None]) -> dict[str, int]:
    """For each k the fewest clips that an emotion had in a half, where that is below k."""
    emotion = {row.utterance_id: target.mapping[row.emotion] for row in target.data.utterances}
    asked = {k for k in shots if k is not None}
    least: dict[str, int] = {}
    for one in found:
        for answer in one["answers"]:
            k = answer["k"]
            if answer["way"] == KEPT[0] and k in asked:
                counts = [sum(emotion[name] == label for name in answer["shots"]) for label in target.emotions]
                least[str(k)] = min(least.get(str(k), k), *counts)
    return {k: count for k, count in least.items() if count < int(k)}


def _audit(target: Target) -> list[str]:
    """What the labels are tied to; of fewer than three speakers there are no folds to say it of."""
    if len(set(target.speakers)) < 3:
        return []
    try:
        return list(target.data.audit.messages)
    except ProtocolError as error:  # folds by speaker need more utterances than two halves do
        return [f"No audit: {error.what}"]
