"""From the results of a run to the numbers of its report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mser import __version__
from mser.errors import RunError
from mser.metrics import clustered_intervals, confusion, score
from train.calibrate import calibration
from train.compare import comparisons
from train.compare import pairs as of_pairs
from train.data import LanguageData
from train.methods import METHODS, strategies
from train.notes import has_random_weights, notes, upstreams_of
from train.prior import choices
from train.search import fold_probes, folds_to_search, probed, searched
from train.study import Study, read_result, result_path

SCHEMA_VERSION = 2


def evaluate(study: Study, languages: Sequence[LanguageData], timings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scores every method of a finished run.

    Returns:
        The content of ``results.json``: JSON-able, percent for every score.

    Raises:
        RunError: a result is missing, damaged or was made from other data.
    """
    pairs = [(data, method) for data in languages for method in study.methods]
    results = {(data.language, method): _read(study, data, method) for data, method in pairs}
    joined = {
        (data.language, method): _predictions(data, method, results[data.language, method]) for data, method in pairs
    }
    heads = [(data, method) for data, method in pairs if METHODS[method].trained]
    return {
        **_facts(study, languages),
        "notes": notes(study, languages, results),
        "results": [
            _scores(data, method, results[data.language, method], joined[data.language, method])
            for data, method in pairs
        ],
        "comparisons": [
            row
            for data in languages
            for row in comparisons(data, {method: joined[data.language, method] for method in study.methods})
        ],
        "pairs": [
            row
            for data in languages
            for row in of_pairs(data, {name: joined[data.language, name] for name in study.methods})
        ],
        "calibration": [
            found
            for data, method in heads
            if (found := calibration(study, method, data, results[data.language, method])) is not None
        ],
        "gates": [_gates(data, method, results[data.language, method]) for data, method in heads],
        "searches": [found for data in languages for fold in data.folds for found in _searches(study, data, fold.name)],
        "layer_choices": [
            {"language": data.language, **choices(fold_probes(study.inputs, data, fold), fold.name)}
            for data in languages
            for fold in data.folds
        ],
        "timings": [*_search_timings(study, languages), *timings],
    }


def _facts(study: Study, languages: Sequence[LanguageData]) -> dict[str, Any]:
    """What was asked: settings, upstreams, languages and methods."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": study.folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "mser_version": __version__,
        "settings": {**study.inputs.settings.to_dict(), "seeds": list(study.seeds)},
        "upstreams": [
            {**asdict(shape), "random_weights": has_random_weights(shape.name, languages)}
            for shape in upstreams_of(languages)
        ],
        "languages": [_language(data) for data in languages],
        "methods": [
            {
                "name": name,
                "title": METHODS[name].title,
                "description": METHODS[name].description,
                "transductive": METHODS[name].transductive,
            }
            for name in study.methods
        ],
    }


def _read(study: Study, data: LanguageData, method: str) -> list[dict[str, Any]]:
    found = []
    for seed in study.seeds_of(method):
        for fold in data.folds:
            path = result_path(study, method, data.language, fold.name, seed)
            result = read_result(path)
            if result["data"] != data.fingerprint:
                raise RunError(
                    "A result of the run was made from other data.",
                    file=path,
                    field="data",
                    expected=data.fingerprint,
                    found=result["data"],
                    hint="give another RUN, or delete this one",
                )
            found.append(result)
    return found


def _language(data: LanguageData) -> dict[str, Any]:
    return {
        "language": data.language,
        "corpora": list(data.manifests),
        "emotions": list(data.emotions),
        "utterances": len(data.utterances),
        "speakers": len({row.speaker_id for row in data.utterances}),
        "tested": len(data.tested),
        "minutes": sum(row.seconds for row in data.utterances) / 60,
        "protocol": data.audit.protocol,
        "chance": 100 / len(data.emotions),
        "audit": {**asdict(data.audit), "messages": list(data.audit.messages)},
        "folds": [{"name": fold.name, "train": len(fold.train), "test": len(fold.test)} for fold in data.folds],
    }


def _predictions(data: LanguageData, method: str, results: Sequence[dict[str, Any]]) -> np.ndarray:
    """(seeds, N) emotion indices, -1 where no fold tests an utterance.

    Raises:
        RunError: an utterance of a test fold was not tested.
    """
    rows = {row.utterance_id: number for number, row in enumerate(data.utterances)}
    seeds = sorted({result["seed"] for result in results})
    predictions = np.full((len(seeds), len(rows)), -1)
    for result in results:
        place = [rows[key] for key in result["utterance_ids"]]
        predictions[seeds.index(result["seed"]), place] = np.array(result["probabilities"]).argmax(1)
    if (predictions[:, data.tested] < 0).any():
        raise RunError(f"{method} did not test every utterance of {data.language}.", hint="run `make train` again")
    return predictions


def _scores(
    data: LanguageData, method: str, results: Sequence[dict[str, Any]], predictions: np.ndarray
) -> dict[str, Any]:
    """Scores over all test utterances joined, for each seed; each utterance is tested once a seed."""
    truth, seeds = data.labels.numpy(), sorted({result["seed"] for result in results})
    per_fold = []
    tests = {fold.name: fold.test for fold in data.folds}
    for result in results:
        place = tests[result["fold"]]
        scored = score(truth[place], predictions[seeds.index(result["seed"]), place])
        per_fold.append({"fold": result["fold"], "seed": result["seed"], **asdict(scored)})
    truth, predictions = truth[data.tested], predictions[:, data.tested]
    scores = [score(truth, one) for one in predictions]
    bounds = clustered_intervals(truth, predictions, data.speakers.numpy()[data.tested])
    summary: dict[str, Any] = {}
    for name, (low, high) in bounds.items():
        values = [getattr(one, name) for one in scores]
        summary[name] = {"mean": float(np.mean(values)), "deviation": float(np.std(values)), "low": low, "high": high}
    folds = [one["uar"] for one in per_fold]
    return {
        "language": data.language,
        "method": method,
        "seeds": seeds,
        "utterances": scores[0].utterances,
        "emotions": scores[0].emotions,
        **summary,
        "fold_uar": {"mean": float(np.mean(folds)), "deviation": float(np.std(folds))},
        "per_seed": [
            {"seed": seed, **{name: getattr(one, name) for name in bounds}}
            for seed, one in zip(seeds, scores, strict=True)
        ],
        "per_fold": per_fold,
        "confusion": np.sum([confusion(truth, one, data.emotions) for one in predictions], axis=0).tolist(),
        "seconds": sum(result["seconds"] for result in results),
    }


def _gates(data: LanguageData, method: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gate weights over utterances, and layer weights over folds and seeds."""
    gates = np.concatenate([np.array(result["gates"]) for result in results])
    within = np.mean([np.array(result["gates"]).std(0) for result in results], axis=0)
    layers: dict[str, list[list[float]]] = defaultdict(list)
    for result in results:
        for expert, weights in result["layers"].items():
            layers[expert].append(weights)
    return {
        "language": data.language,
        "method": method,
        "experts": results[0]["experts"],
        "mean": gates.mean(0).tolist(),
        "deviation": within.tolist(),
        "layers": {
            expert: {"mean": np.mean(rows, axis=0).tolist(), "deviation": np.std(rows, axis=0).tolist()}
            for expert, rows in layers.items()
        },
    }


def _searches(study: Study, data: LanguageData, fold: str) -> list[dict[str, Any]]:
    """For each strategy with a supernet what it found for a fold, beside the controls where they were searched too."""
    read = {name: searched(study.inputs, data, fold, name) for name in strategies(study.methods)}
    found = {name: one for name, one in read.items() if one is not None}
    random, fixed = found.get("random"), found.get("fixed")
    return [
        {
            "language": data.language,
            "fold": fold,
            "strategy": name,
            "genotype": one["genotype"],
            "text": one["text"],
            "dev_uar": one["dev_uar"],
            "random": {
                "dev_uar": random["dev_uar"] if random else None,
                "text": random["text"] if random else None,
                "candidates": random["candidates"] if random else [],
            },
            "fixed": {"dev_uar": fixed["dev_uar"] if fixed else None},
            "curves": one["curves"],
            "seconds": {"search": one["seconds"], "random": random["seconds"] if random else None},
        }
        for name, one in found.items()
        if name not in ("random", "fixed")
    ]


def _search_timings(study: Study, languages: Sequence[LanguageData]) -> list[dict[str, Any]]:
    timings = []
    for data in languages:
        seconds: dict[str, float] = defaultdict(float)
        for fold in folds_to_search(data):
            probes = probed(study.inputs, data, fold.name)
            seconds["probes"] += probes["seconds"] if probes else 0.0
            for name in strategies(study.methods):
                if found := searched(study.inputs, data, fold.name, name):
                    seconds[f"search, {name}"] += found["seconds"]
        timings += [{"stage": stage, "language": data.language, "seconds": spent} for stage, spent in seconds.items()]
    return timings
