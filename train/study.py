"""Trains and tests methods on the test folds of languages; each result is a file of its own.

A result holds the predictions of every test utterance, so every number of a report can be computed again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.checkpoint import read_facts, save_model
from mser.config import read_json, write_json
from mser.faithful import FaithfulModel
from mser.loader import Loader
from mser.model import Domain, ExpertShape, MultiGateModel
from mser.protocol import Fold, everyone
from train.data import LanguageData
from train.fit import Replica, fit, predict
from train.keeper import Fitted
from train.methods import FAITHFUL, HEADS, MEAN, METHODS, PROBE, SHARED_PROBE, Method
from train.prior import prior_of
from train.probes import shared_layers, single_layer
from train.search import fold_probes, loaded, read_strategy, structure_of
from train.settings import Inputs

#: Between the seeds of the members of one ensemble.
MEMBER_STRIDE = 10_007
#: Of the authors' code, over the number of languages.
FAITHFUL_RATE = 5e-4


@dataclass(frozen=True)
class Study:
    """What is trained: methods x languages x folds x seeds, into one run folder."""

    inputs: Inputs
    folder: Path
    languages: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]

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
                    cost = method.trained * method.members * len(numbers) * len(languages)
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
    if all(path.is_file() for path in wanted):
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
        if all(path.is_file() for path in result_paths(study, name, data, fold)):
            continue
        if METHODS[name].kind == MEAN:
            _mean(study, name, data, fold)
        elif other := twin(study, name, data, fold):
            sources = result_paths(study, other, data, fold)
            for source, path in zip(sources, result_paths(study, name, data, fold), strict=True):
                write_json(path, {**read_json(source), "method": name, "same_as": other})


def _heads(study: Study, name: str, datas: Sequence[LanguageData], numbers: Sequence[int]) -> None:
    """Trains a method's models, all folds and seeds of the block as one program, and tests each once."""
    method, inputs = METHODS[name], study.inputs
    loaders = loaders_of(inputs, datas, method)
    began = time.monotonic()
    keys = [(number, seed, member) for number in numbers for seed in study.seeds for member in range(method.members)]
    folds = {number: [data.folds[number % len(data.folds)] for data in datas] for number in numbers}
    domains = {number: domains_of(study.inputs, method, datas, folds[number]) for number in numbers}
    replicas = [
        replica_of(inputs, method, datas, folds[number], domains[number], seed + MEMBER_STRIDE * member)
        for number, seed, member in keys
    ]
    fitted = fit_all(inputs, method, datas, loaders, replicas)
    seconds = (time.monotonic() - began) / len(replicas)
    trained = dict(zip(keys, zip(replicas, fitted, strict=True), strict=True))
    for number in numbers:
        for seed in study.seeds:
            members = [trained[number, seed, member] for member in range(method.members)]
            for data, fold, domain in zip(datas, folds[number], domains[number], strict=True):
                if number < len(data.folds):
                    loader = loaders[data.language]
                    _test(study, name, data, fold, domain, loader, members, seed, seconds * len(members))


def loaders_of(inputs: Inputs, datas: Sequence[LanguageData], method: Method) -> dict[str, Loader]:
    """A loader for each language, over its experts as the method normalises them."""
    return {
        data.language: Loader(data.normalised(method.normalise), data.labels, inputs.device, inputs.placement)
        for data in datas
    }


def domains_of(inputs: Inputs, method: Method, datas: Sequence[LanguageData], folds: Sequence[Fold]) -> list[Domain]:
    """For each language where its network starts: structure and mixtures, found on the fold's training speakers."""
    found = []
    for data, fold in zip(datas, folds, strict=True):
        genotype = structure_of(inputs, data, fold.name, method.structure)
        probes = fold_probes(inputs, data, fold, method.normalise)
        prior = prior_of(probes, data.normalised(method.normalise), fold.train, inputs.settings)
        names = tuple(shape.name for shape in data.shapes)
        found.append(Domain(data.language, data.emotions, method.genotype(genotype), prior, names))
    return found


def replica_of(
    inputs: Inputs,
    method: Method,
    datas: Sequence[LanguageData],
    folds: Sequence[Fold],
    domains: Sequence[Domain],
    seed: int,
) -> Replica:
    """A model with its training rows; with early stopping the fold's first dev speakers are no training rows."""
    torch.manual_seed(seed)
    kind = FaithfulModel if method.kind == FAITHFUL else MultiGateModel
    model = kind(domains, every_shape(datas), method.model_settings(inputs.settings.model))
    named = {data.language: fold for data, fold in zip(datas, folds, strict=True)}
    if not method.fit_settings(inputs.settings.fit).patience:
        return Replica(model, {language: fold.train for language, fold in named.items()}, seed)
    splits = {language: fold.splits[0] for language, fold in named.items()}
    rows = {language: split.train for language, split in splits.items()}
    return Replica(model, rows, seed, {language: split.dev for language, split in splits.items()})


def every_shape(datas: Sequence[LanguageData]) -> list[ExpertShape]:
    """The experts of all languages; a language may lack some."""
    return list({shape.name: shape for data in datas for shape in data.shapes}.values())


def fit_all(
    inputs: Inputs,
    method: Method,
    datas: Sequence[LanguageData],
    loaders: Mapping[str, Loader],
    replicas: Sequence[Replica],
) -> list[Fitted]:
    """Trains the replicas; the order of their batches is over all rows of their languages."""
    population = {data.language: np.arange(len(data.utterances)) for data in datas}
    settings = method.fit_settings(inputs.settings.fit)
    if method.kind == FAITHFUL:
        settings = replace(settings, rate=FAITHFUL_RATE / len(datas))
    return fit(replicas, loaders, population, settings, shared_labels(datas), together=trains_together(inputs))


def trains_together(inputs: Inputs) -> bool:
    """Whether trainings gain by running as one program (`bench/study.py speed`).

    On two CPU cores pooled statistics do, 2.8 times: a step alone is many small operations. Frames do not, 0.7 times:
    there a step is bound by memory traffic, and stacked tensors leave the caches. A CUDA device is never filled by one.
    """
    return inputs.settings.features.kind == "pooled" or not inputs.device.startswith("cpu")


def shared_labels(datas: Sequence[LanguageData]) -> dict[str, torch.Tensor]:
    """For each language (E_g,) the index of each of its emotions among those of all languages."""
    every = sorted({emotion for data in datas for emotion in data.emotions})
    return {data.language: torch.tensor([every.index(emotion) for emotion in data.emotions]) for data in datas}


def _test(
    study: Study,
    name: str,
    data: LanguageData,
    fold: Fold,
    domain: Domain,
    loader: Loader,
    members: Sequence[tuple[Replica, Fitted]],
    seed: int,
    seconds: float,
) -> None:
    """Asks the members for the test fold, once, and writes what they say on average."""
    said = [predict(replica.model, data.language, loader, fold.test) for replica, _ in members]
    probabilities, gates = (np.mean([one[part] for one in said], axis=0) for part in (0, 1))
    path = result_path(study, name, data.language, fold.name, seed)
    first, fitted = members[0]
    if seed == study.seeds[0]:
        facts = {"method": name, "seed": seed, "fold": fold.name, "data": data.fingerprint}
        save_model(path.with_suffix(".safetensors"), first.model, facts)
    _write(
        path,
        data,
        fold,
        probabilities,
        seconds,
        {
            "method": name,
            "seed": seed,
            "genotype": domain.genotype.to_dict(),
            "losses": fitted.losses,
            "best_epoch": fitted.best,
            "diverged": [one.diverged for _, one in members if one.diverged is not None],
            "gates": gates.round(6).tolist(),
            "experts": [shape.name for shape in first.model.experts],
            "layers": first.model.layer_weights(data.language),
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
            parts.append(read_json(result_path(study, part, data.language, fold.name, own)))
        probabilities = np.average([part["probabilities"] for part in parts], axis=0, weights=weights)
        path = result_path(study, name, data.language, fold.name, seed)
        facts = {"method": name, "seed": seed, "of": dict(zip(METHODS[name].of, weights.tolist(), strict=True))}
        _write(path, data, fold, probabilities, sum(part["seconds"] for part in parts), facts)


def _dev_uar(study: Study, name: str, data: LanguageData, fold: Fold) -> float:
    """UAR on the dev speakers of the fold's first split: of a probe, or of a searched structure trained there."""
    if METHODS[name].kind == SHARED_PROBE:
        result = read_json(result_path(study, name, data.language, fold.name, study.seeds[0]))
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


def final_method(study: Study) -> str | None:
    """The method of the models for use: one of our heads, which needs no other utterances of a speaker.

    Of several one that holds all languages in one model, and of these the last.
    """
    chosen = [name for name in study.methods if METHODS[name].kind == HEADS and not METHODS[name].transductive]
    return max(chosen, key=lambda name: (METHODS[name].all_languages, chosen.index(name)), default=None)


def final_models(study: Study) -> list[Path]:
    """Trains the models that are to be used: every speaker, the first seed; there is no test for them.

    One of all languages where the method has it so, else one for each.
    """
    name = final_method(study)
    if name is None:
        return []
    method = METHODS[name]
    groups = [study.languages] if method.all_languages else [(language,) for language in study.languages]
    paths = []
    for languages in groups:
        path = study.folder / ("model.safetensors" if method.all_languages else f"model-{languages[0]}.safetensors")
        paths.append(path)
        # A run that was given other methods since has another one for use.
        if not path.is_file() or read_facts(path).get("method") != name:
            _final_model(study, name, languages, path)
    return paths


def _final_model(study: Study, name: str, languages: Sequence[str], path: Path) -> None:
    method, inputs = METHODS[name], study.inputs
    datas = [loaded(inputs, language) for language in languages]
    folds = [everyone(data.utterances) for data in datas]
    domains = domains_of(inputs, method, datas, folds)
    replica = replica_of(inputs, method, datas, folds, domains, study.seeds[0])
    fit_all(inputs, method, datas, loaders_of(inputs, datas, method), [replica])
    facts = {"method": name, "seed": study.seeds[0], "data": {data.language: data.fingerprint for data in datas}}
    save_model(path, replica.model, facts)
