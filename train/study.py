"""Trains and tests every method on every test fold with every seed; each result is a file of its own.

A result holds the predictions of every test utterance, so every number of a report can be computed again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.checkpoint import save_model
from mser.config import write_json
from mser.loader import Expert, Loader
from mser.model import Domain, MultiGateModel
from mser.nas.genotype import Genotype
from mser.probe import fit_logistic
from mser.protocol import Fold, everyone
from train.data import LanguageData
from train.fit import fit, predict
from train.prior import best_layer, prior_of
from train.search import loaded, read_search
from train.settings import Inputs

#: The methods of a table in its order, each with a title and a sentence.
METHODS: dict[str, tuple[str, str]] = {
    "logistic": (
        "logistic regression",
        "Mean over frames of one layer of one upstream, both chosen on dev speakers. The bar.",
    ),
    "fixed": ("fixed head", "All experts, constant gate, no temporal operation, one hidden layer; nothing searched."),
    "random": ("random search", "The best on dev speakers of structures drawn at random, at about the search's cost."),
    "searched": ("searched", "The structure of a differentiable search with beta-decay; language-specific."),
    "multi-domain": ("multi-domain", "All languages in one model: shared projections, each its searched structure."),
}
#: Methods that train one language for itself by gradient.
STRUCTURES = ("fixed", "random", "searched")


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
        found: list[tuple[Any, ...]] = []
        if "multi-domain" in self.methods:
            found += [(self, None, number) for number in range(max(folds.values()))]
        if set(self.methods) - {"multi-domain"}:
            found += [(self, language, number) for language in self.languages for number in range(folds[language])]
        return found


def result_path(study: Study, method: str, language: str, fold: str, seed: int) -> Path:
    return study.folder / method / language / f"{fold}-seed{seed}.json"


def study_block(study: Study, language: str | None, number: int) -> None:
    """All methods and seeds of one test fold of a language; of one fold of every language if it is None."""
    if language is None:
        _multi_domain_block(study, number)
        return
    data = loaded(study.inputs, language)
    fold = data.folds[number]
    todo = [
        (method, seed)
        for method in study.methods
        for seed in (study.seeds[:1] if method == "logistic" else study.seeds)
        if method != "multi-domain" and not result_path(study, method, language, fold.name, seed).is_file()
    ]
    if not todo:
        return
    search = read_search(study.inputs, data, fold.name)
    if ("logistic", study.seeds[0]) in todo:
        _logistic(study, data, fold, search)
    if any(method in STRUCTURES for method, _ in todo):
        experts, loader = standardised(data, fold, study.inputs.device)
        for method, seed in todo:
            if method in STRUCTURES:
                genotype = Genotype.from_dict(search[method]["genotype"])
                domain = Domain(language, data.emotions, genotype, prior_of(search["probes"], study.inputs.settings))
                train_and_test(study, method, [(data, fold, domain, experts, loader)], seed)


def standardised(data: LanguageData, fold: Fold, device: str) -> tuple[list[Expert], Loader]:
    """The experts, standardised on the fold's training speakers, and a loader that holds their states in memory."""
    experts = [expert.standardised(fold.train) for expert in data.experts]
    return experts, Loader([expert.resident() for expert in experts], data.labels, device)


def _multi_domain_block(study: Study, number: int) -> None:
    """Holds one fold of every language out at once; a language with fewer folds begins again, unused."""
    parts = []
    for language in study.languages:
        data = loaded(study.inputs, language)
        fold = data.folds[number % len(data.folds)]
        search = read_search(study.inputs, data, fold.name)
        genotype = Genotype.from_dict(search["searched"]["genotype"])
        domain = Domain(language, data.emotions, genotype, prior_of(search["probes"], study.inputs.settings))
        parts.append((data, fold, domain))
    tested = [part for part in parts if number < len(part[0].folds)]
    seeds = [
        seed
        for seed in study.seeds
        if not all(
            result_path(study, "multi-domain", data.language, fold.name, seed).is_file() for data, fold, _ in tested
        )
    ]
    if not seeds:
        return
    full = [(*part, *standardised(part[0], part[1], study.inputs.device)) for part in parts]
    for seed in seeds:
        train_and_test(study, "multi-domain", full, seed, tested=[data.language for data, _, _ in tested])


Part = tuple[LanguageData, Fold, Domain, list[Expert], Loader]


def train_and_test(
    study: Study, method: str, parts: Sequence[Part], seed: int, tested: Sequence[str] | None = None
) -> None:
    """Trains one model on the training speakers of each part, and tests each of ``tested`` (or all) once."""
    began = time.monotonic()
    model, losses = trained(study, parts, seed)
    seconds = time.monotonic() - began
    facts = {
        "method": method,
        "seed": seed,
        "folds": {part[0].language: part[1].name for part in parts},
        "data": {part[0].language: part[0].fingerprint for part in parts},
    }
    for data, fold, domain, _, loader in parts:
        if tested is not None and data.language not in tested:
            continue
        probabilities, gates = predict(model, data.language, loader, fold.test)
        path = result_path(study, method, data.language, fold.name, seed)
        save_model(path.with_suffix(".safetensors"), model, {part[0].language: part[3] for part in parts}, facts)
        _write(
            path,
            data,
            fold,
            probabilities,
            seconds,
            {
                "method": method,
                "seed": seed,
                "genotype": domain.genotype.to_dict(),
                "losses": losses,
                "gates": gates.round(6).tolist(),
                "experts": [shape.name for shape in data.shapes],
                "layers": model.layer_weights(data.language),
            },
        )


def trained(study: Study, parts: Sequence[Part], seed: int) -> tuple[MultiGateModel, list[float]]:
    """One model of all parts' languages, trained on their folds' training speakers, and the loss of each epoch."""
    settings, device = study.inputs.settings, study.inputs.device
    torch.manual_seed(seed)
    model = MultiGateModel([part[2] for part in parts], parts[0][0].shapes, settings.model).to(device)
    loaders = {part[0].language: part[4] for part in parts}
    rows = {part[0].language: part[1].train for part in parts}
    return model, fit(model, loaders, rows, settings.fit, seed, shared_labels(parts, device))


def shared_labels(parts: Sequence[Part], device: str) -> dict[str, torch.Tensor]:
    """For each language (E_g,) the index of each of its emotions among those of all languages."""
    every = sorted({emotion for part in parts for emotion in part[0].emotions})
    return {
        part[0].language: torch.tensor([every.index(emotion) for emotion in part[0].emotions], device=device)
        for part in parts
    }


def _logistic(study: Study, data: LanguageData, fold: Fold, search: dict[str, Any]) -> None:
    began = time.monotonic()
    upstream, layer, dev_uar = best_layer(search["probes"])
    features, labels = data.means(upstream)[:, layer], data.labels.numpy()
    classifier = fit_logistic(features[fold.train], labels[fold.train])
    probabilities = np.zeros((len(fold.test), len(data.emotions)))
    probabilities[:, classifier.classes_] = classifier.predict_proba(features[fold.test])
    path = result_path(study, "logistic", data.language, fold.name, study.seeds[0])
    chosen = {"upstream": upstream, "layer": layer, "dev_uar": dev_uar}
    _write(
        path,
        data,
        fold,
        probabilities,
        time.monotonic() - began,
        {
            "method": "logistic",
            "seed": study.seeds[0],
            "chosen": chosen,
        },
    )


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


def final_model(study: Study) -> Path:
    """Trains the model that is to be used: every language, every speaker, the first seed; there is no test for it."""
    path = study.folder / "model.safetensors"
    if path.is_file():
        return path
    settings, parts = study.inputs.settings, []
    for language in study.languages:
        data = loaded(study.inputs, language)
        fold = everyone(data.utterances)
        search = read_search(study.inputs, data, fold.name)
        genotype = Genotype.from_dict(search["searched"]["genotype"])
        domain = Domain(language, data.emotions, genotype, prior_of(search["probes"], settings))
        parts.append((data, fold, domain, *standardised(data, fold, study.inputs.device)))
    model, _ = trained(study, parts, study.seeds[0])
    facts = {
        "method": "multi-domain",
        "seed": study.seeds[0],
        "data": {part[0].language: part[0].fingerprint for part in parts},
    }
    save_model(path, model, {part[0].language: part[3] for part in parts}, facts)
    return path
