"""Calibration of the method for use: its temperature, fitted on dev speakers that the model has not been trained on.

For each test fold one more model is trained without the fold's first dev speakers, and asked for them; its temperature
is then applied to what the fold's own models say of the test speakers. The temperature of a model for use comes from as
many such models as there are parts of dev speakers. Layers and experts were chosen with the help of these dev speakers,
as they are in all that is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mser.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood, tempered
from mser.config import read_if_whole, write_json
from mser.protocol import Fold, Split
from train.data import LanguageData
from train.fit import Replica, predict
from train.heads import domains_of, fit_all, loaders_of, replica_of
from train.methods import METHODS
from train.search import loaded
from train.settings import Inputs
from train.study import Study


def temperature_path(study: Study, name: str, language: str, fold: str) -> Path:
    return study.folder / "calibration" / name / language / f"{fold}.json"


def _temperature(path: Path) -> float | None:
    """None where the file is missing, or damaged, with a warning."""
    found = read_if_whole(path, ("temperature",))
    return None if found is None else float(found["temperature"])


def calibration_blocks(study: Study, name: str, folds: Mapping[str, int]) -> list[tuple[Any, ...]]:
    """Arguments of :func:`calibration_block`."""
    groups = [study.languages] if METHODS[name].all_languages else [(language,) for language in study.languages]
    size = study.inputs.settings.fold_block
    return [
        (study, name, languages, tuple(range(start, min(start + size, count))))
        for languages in groups
        for count in [max(folds[language] for language in languages)]
        for start in range(0, count, size)
    ]


def calibration_block(study: Study, name: str, languages: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    """The temperatures of some test folds, by the first seed."""
    datas = [loaded(study.inputs, language) for language in languages]
    folds = {number: [data.folds[number % len(data.folds)] for data in datas] for number in numbers}
    # Beside the folds of the language with the most, those of others come again: only their first model is tested, too.
    first = {number: [number < len(data.folds) for data in datas] for number in numbers}
    wanted = [
        temperature_path(study, name, data.language, fold.name)
        for number, own in folds.items()
        for data, fold, counts in zip(datas, own, first[number], strict=True)
        if counts
    ]
    if all(_temperature(path) is not None for path in wanted):
        return
    cut = [[_without_dev(fold, 0) for fold in own] for own in folds.values()]
    said = said_of_dev(study.inputs, name, datas, list(folds.values()), cut, study.seeds[0])
    for number, each in zip(numbers, said, strict=True):
        for data, fold, counts, (probabilities, truth) in zip(datas, folds[number], first[number], each, strict=True):
            if counts:
                content = {"temperature": fit_temperature(probabilities, truth), "utterances": len(truth)}
                write_json(temperature_path(study, name, data.language, fold.name), content)


def said_of_dev(
    inputs: Inputs,
    name: str,
    datas: Sequence[LanguageData],
    starts: Sequence[Sequence[Fold]],
    cut: Sequence[Sequence[Fold]],
    seed: int,
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """What models say of dev speakers that they were not trained on, all models as one program.

    Args:
        starts: for each model the fold of each language by which its structure and mixtures start.
        cut: the same folds without the dev speakers that are asked for, which are their test rows.

    Returns:
        For each model and language: probabilities (n, E) and labels (n,).
    """
    method = METHODS[name]
    loaders = loaders_of(inputs, datas, method)
    replicas: list[Replica] = []
    for start, held in zip(starts, cut, strict=True):
        replicas.append(replica_of(inputs, method, datas, held, domains_of(inputs, method, datas, start), seed))
    fit_all(inputs, method, datas, loaders, replicas)

    def asked(replica: Replica, data: LanguageData, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
        probabilities, _ = predict(replica.model, data.language, loaders[data.language], fold.test)
        return probabilities, data.labels[fold.test].numpy()

    return [
        [asked(replica, data, fold) for data, fold in zip(datas, held, strict=True)]
        for replica, held in zip(replicas, cut, strict=True)
    ]


def temperatures_for_use(inputs: Inputs, name: str, datas: Sequence[LanguageData], folds: Sequence[Fold], seed: int
                         ) -> dict[str, float]:  # fmt: skip
    """For each language the temperature of a model of all speakers, from models that lack some of them each."""
    parts = min(len(fold.splits) for fold in folds)
    cut = [[_without_dev(fold, number) for fold in folds] for number in range(parts)]
    said = said_of_dev(inputs, name, datas, [folds] * parts, cut, seed)
    found = {}
    for place, data in enumerate(datas):
        probabilities, truth = (np.concatenate([each[place][part] for each in said]) for part in (0, 1))
        found[data.language] = fit_temperature(probabilities, truth)
    return found


def _without_dev(fold: Fold, number: int) -> Fold:
    """A fold whose test rows are the dev speakers of one of its splits."""
    held = fold.splits[number]
    inner: tuple[Split, ...] = tuple(
        Split(np.setdiff1d(split.train, held.dev), np.setdiff1d(split.dev, held.dev))
        for place, split in enumerate(fold.splits)
        if place != number
    )
    return replace(fold, train=held.train, test=held.dev, splits=inner or fold.splits)


def calibration(
    study: Study, name: str, data: LanguageData, results: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Calibration error and likelihood of a method's test predictions, as they are and with the folds' temperatures.

    Args:
        results: of all folds and seeds.

    Returns:
        Means over seeds, each over all test utterances; None where the method was not calibrated.
    """
    paths = {fold.name: temperature_path(study, name, data.language, fold.name) for fold in data.folds}
    found = {fold: _temperature(path) for fold, path in paths.items()}
    temperatures = {fold: value for fold, value in found.items() if value is not None}
    if len(temperatures) < len(found):
        return None
    scores: dict[str, list[float]] = {key: [] for key in ("ece_before", "ece_after", "nll_before", "nll_after")}
    for seed in study.seeds_of(name):
        own = [one for one in results if one["seed"] == seed]
        truth = np.concatenate([one["truth"] for one in own])
        before = np.concatenate([np.array(one["probabilities"]) for one in own])
        after = np.concatenate([tempered(np.array(one["probabilities"]), temperatures[one["fold"]]) for one in own])
        for when, said in (("before", before), ("after", after)):
            scores[f"ece_{when}"].append(100 * expected_calibration_error(said, truth))
            scores[f"nll_{when}"].append(negative_log_likelihood(said, truth))
    means = {key: float(np.mean(values)) for key, values in scores.items()}
    spread = [min(temperatures.values()), float(np.median(list(temperatures.values()))), max(temperatures.values())]
    return {
        "language": data.language,
        "method": name,
        "utterances": len(truth),
        "seeds": len(study.seeds_of(name)),
        "temperatures": spread,
        **means,
    }
