"""Trains and tests methods on the test folds of languages; each result is a file of its own.

A result holds the predictions of every test utterance, so every number of a report can be computed again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mser.checkpoint import facts_if_whole, save_model
from mser.config import read_if_whole, write_json
from mser.errors import RunError
from mser.loader import Loader
from mser.model import Domain
from mser.protocol import Fold
from train.data import LanguageData
from train.fit import Replica, predict
from train.heads import domains_of, facts_of, fit_all, loaders_of, replica_of
from train.keeper import Fitted
from train.methods import HEADS, MEAN, METHODS, PROBE, SHARED_PROBE
from train.probes import shared_layers, single_layer
from train.search import fold_probes, loaded, read_strategy, structure_of
from train.settings import Inputs, require_seeds

#: What the file of a result holds, whatever the method; one that lacks any of it is damaged.
RESULT_FIELDS = ("language", "fold", "method", "seed", "data", "utterance_ids", "truth", "probabilities", "seconds")


@dataclass(frozen=True)
class Study:
    """What is trained: methods x languages x folds x seeds, into one run folder.

    Raises:
        ConfigError: a seed that no training can draw from.
    """

    inputs: Inputs
    folder: Path
    languages: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        require_seeds(self.seeds)

    def blocks(self, folds: Mapping[str, int]) -> list[tuple[Any, ...]]:
        """Arguments of :func:`study_block`: the costly ones first.

        Args:
            folds: number of test folds of each language.
        """
        found: list[tuple[int, tuple[Any, ...]]] = []
        for name in self.methods:
            method = METHODS[name]
            if method.kind == MEAN:
                continue
            groups = [self.languages] if method.all_languages else [(language,) for language in self.languages]
            size = self.inputs.settings.fold_block if method.trained else 1
            for languages in groups:
                count = max(folds[language] for language in languages)
                for start in range(0, count, size):
                    numbers = tuple(range(start, min(start + size, count)))
                    cost = method.trained * len(numbers) * len(languages)
                    found.append((cost, (self, name, languages, numbers)))
        return [block for _, block in sorted(found, key=lambda one: -one[0])]

    def late_blocks(self) -> list[tuple[Any, ...]]:
        """Arguments of :func:`late_block`, for when all blocks are done."""
        return [(self, name, language) for name in self.methods for language in self.languages]

    def seeds_of(self, method: str) -> tuple[int, ...]:
        """The seeds that make a difference to a method."""
        return self.seeds if METHODS[method].seeded else self.seeds[:1]


def result_path(study: Study, method: str, language: str, fold: str, seed: int) -> Path:
    return study.folder / method / language / f"{fold}-seed{seed}.json"


def result_paths(study: Study, method: str, data: LanguageData, fold: Fold) -> list[Path]:
    return [result_path(study, method, data.language, fold.name, seed) for seed in study.seeds_of(method)]


def read_result(path: Path) -> dict[str, Any]:
    """A result of the run.

    Raises:
        RunError: it is missing or damaged.
    """
    found = read_if_whole(path, RESULT_FIELDS)
    if found is None:
        raise RunError("A result of the run is missing.", file=path, hint="run `make train` again")
    return found


def _whole(path: Path) -> bool:
    """Whether a result is there and not damaged."""
    return read_if_whole(path, RESULT_FIELDS) is not None


def _model_whole(path: Path) -> bool:
    """Whether the model beside a result is not damaged, if there is one."""
    model = path.with_suffix(".safetensors")
    return not model.exists() or facts_if_whole(model) is not None


def study_block(study: Study, name: str, languages: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    """One method on some test folds of one language, or of several in one model, with every seed.

    A block that was interrupted is computed again as a whole: what trains together stays together, so that its
    results are the same bit for bit.
    """
    datas = [loaded(study.inputs, language) for language in languages]
    if len(datas) == 1:
        numbers = tuple(number for number in numbers if twin(study, name, datas[0], datas[0].folds[number]) is None)
    wanted = [
        path
        for data in datas
        for number in numbers
        if number < len(data.folds)
        for path in result_paths(study, name, data, data.folds[number])
    ]
    if all(_whole(path) and _model_whole(path) for path in wanted):
        return
    if METHODS[name].trained:
        _heads(study, name, datas, numbers)
        return
    for number in numbers:
        _probe(study, name, datas[0], datas[0].folds[number])


def twin(study: Study, name: str, data: LanguageData, fold: Fold) -> str | None:
    """An earlier method of the study that trains the very same network on a fold; searches often agree."""
    method = METHODS[name]
    if method.kind != HEADS or method.all_languages:
        return None
    own = method.genotype(structure_of(study.inputs, data, fold.name, method.structure))
    for other in study.methods[: study.methods.index(name)]:
        one = METHODS[other]
        alike = one.kind == HEADS and one.trains_alike(method)
        if alike and one.genotype(structure_of(study.inputs, data, fold.name, one.structure)) == own:
            return other
    return None


def late_block(study: Study, name: str, language: str) -> None:
    """What one method takes from the results of others: a mean of them, or those of a twin."""
    data = loaded(study.inputs, language)
    for fold in data.folds:
        if all(map(_whole, result_paths(study, name, data, fold))):
            continue
        if METHODS[name].kind == MEAN:
            _mean(study, name, data, fold)
        elif other := twin(study, name, data, fold):
            sources = result_paths(study, other, data, fold)
            for source, path in zip(sources, result_paths(study, name, data, fold), strict=True):
                write_json(path, {**read_result(source), "method": name, "same_as": other})


def _heads(study: Study, name: str, datas: Sequence[LanguageData], numbers: Sequence[int]) -> None:
    """Trains a method's models, all folds and seeds of the block as one program, and tests each once."""
    method, inputs = METHODS[name], study.inputs
    loaders = loaders_of(inputs, datas, method)
    began = time.monotonic()
    keys = [(number, seed) for number in numbers for seed in study.seeds]
    folds = {number: [data.folds[number % len(data.folds)] for data in datas] for number in numbers}
    domains = {number: domains_of(inputs, method, datas, folds[number]) for number in numbers}
    replicas = [replica_of(inputs, method, datas, folds[number], domains[number], seed) for number, seed in keys]
    fitted = fit_all(inputs, method, datas, loaders, replicas)
    seconds = (time.monotonic() - began) / len(replicas)
    for (number, _), replica, one in zip(keys, replicas, fitted, strict=True):
        for data, fold, domain in zip(datas, folds[number], domains[number], strict=True):
            if number < len(data.folds):
                facts = facts_of(inputs, name, datas, replica.seed, fold=fold.name)
                _test(study, facts, data, fold, domain, loaders[data.language], replica, one, seconds)


def _test(
    study: Study,
    model_facts: dict[str, Any],
    data: LanguageData,
    fold: Fold,
    domain: Domain,
    loader: Loader,
    replica: Replica,
    fitted: Fitted,
    seconds: float,
) -> None:
    """Asks a trained model for the test fold, once, and writes what it says."""
    probabilities, gates = predict(replica.model, data.language, loader, fold.test)
    path = result_path(study, model_facts["method"], data.language, fold.name, replica.seed)
    if replica.seed == study.seeds[0]:
        save_model(path.with_suffix(".safetensors"), replica.model, model_facts)
    _write(
        path,
        data,
        fold,
        probabilities,
        seconds,
        {
            "method": model_facts["method"],
            "seed": replica.seed,
            "genotype": domain.genotype.to_dict(),
            "losses": fitted.losses,
            **({"dev_uar_of_epochs": fitted.dev_uar} if fitted.dev_uar else {}),
            "best_epoch": fitted.best,
            "diverged": fitted.diverged,
            "gates": gates.round(6).tolist(),
            "experts": [shape.name for shape in replica.model.experts],
            "layers": replica.model.layer_weights(data.language),
        },
    )


def _probe(study: Study, name: str, data: LanguageData, fold: Fold) -> None:
    """One test fold by a method that fits logistic regression."""
    began = time.monotonic()
    method = METHODS[name]
    probes = fold_probes(study.inputs, data, fold, method.normalise)
    if method.kind == PROBE:
        probabilities, chosen = single_layer(method, data, fold, probes)
    else:
        others = [loaded(study.inputs, language) for language in study.languages if language != data.language]
        probabilities, chosen = shared_layers(method, data, others, fold, probes)
    seed = study.seeds[0]
    path = result_path(study, name, data.language, fold.name, seed)
    facts = {"method": name, "seed": seed, "chosen": chosen}
    _write(path, data, fold, probabilities, time.monotonic() - began, facts)


def _mean(study: Study, name: str, data: LanguageData, fold: Fold) -> None:
    """The weighted mean of other methods' probabilities, seed by seed; a method without seeds gives all the same.

    The weights follow the methods' UAR on the dev speakers of the fold's first split, as experts' do at the start of
    training (:func:`train.prior.prior_of`).
    """
    dev = np.array([_dev_uar(study, part, data, fold) for part in METHODS[name].of])
    weights = np.exp((dev - dev.max()) / study.inputs.settings.expert_scale)
    weights /= weights.sum()
    for seed in study.seeds:
        parts = []
        for part in METHODS[name].of:
            own = seed if METHODS[part].seeded else study.seeds[0]
            parts.append(read_result(result_path(study, part, data.language, fold.name, own)))
        probabilities = np.average([part["probabilities"] for part in parts], axis=0, weights=weights)
        path = result_path(study, name, data.language, fold.name, seed)
        facts = {"method": name, "seed": seed, "of": dict(zip(METHODS[name].of, weights.tolist(), strict=True))}
        _write(path, data, fold, probabilities, sum(part["seconds"] for part in parts), facts)


def _dev_uar(study: Study, name: str, data: LanguageData, fold: Fold) -> float:
    """UAR on the dev speakers of the fold's first split: of a probe, or of a searched structure trained there."""
    if METHODS[name].kind == SHARED_PROBE:
        result = read_result(result_path(study, name, data.language, fold.name, study.seeds[0]))
        return float(result["chosen"]["dev_uar_of_splits"][0])
    return float(read_strategy(study.inputs, data, fold.name, METHODS[name].structure)["dev_uar"])


def _write(
    path: Path, data: LanguageData, fold: Fold, probabilities: np.ndarray, seconds: float, facts: dict[str, Any]
) -> None:
    write_json(
        path,
        {
            "language": data.language,
            "fold": fold.name,
            "data": data.fingerprint,
            "emotions": data.emotions,
            "utterance_ids": [data.utterances[row].utterance_id for row in fold.test],
            "truth": data.labels[fold.test].tolist(),
            "probabilities": np.round(probabilities, 6).tolist(),
            "seconds": seconds,
            **facts,
        },
    )
