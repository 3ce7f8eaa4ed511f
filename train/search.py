"""Searches structures for each test fold of a language, and for use, by one or several strategies.

The search is nested: the structure with which a test speaker is judged was found without that speaker. What is found
lies in one folder a fold, a file for each strategy, beside the probes of single layers on which all of them build.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.config import read_if_whole, write_json
from mser.errors import RunError
from mser.loader import Loader
from mser.metrics import score
from mser.model import Domain, MultiGateModel, Prior
from mser.nas.genotype import Genotype, fixed_genotype, random_genotype
from mser.nas.search import search
from mser.nas.settings import SearchCurve
from mser.nas.supernet import Ingredients
from mser.protocol import Fold, everyone
from train.data import LanguageData
from train.fit import Replica, fit, predict
from train.memory import with_less_memory
from train.prior import prior_of, probe_layers
from train.settings import Inputs

#: A search learns from one split into training and dev speakers, with this seed.
SEARCH_SEED = 0
#: The strategy of a search that is not told which; random search and the fixed head are its controls.
DEFAULT_STRATEGIES = ("beta", "random", "fixed")
#: What files of probes and of searches hold; one that lacks any of it is damaged.
PROBE_FIELDS = ("probes", "seconds")
SEARCH_FIELDS = ("genotype", "text", "dev_uar", "curves", "seconds")

#: The stamp at which each language was opened in this process.
_stamps: dict[tuple[Inputs, str], tuple[object, ...]] = {}


def loaded(inputs: Inputs, language: str) -> LanguageData:
    """A language's data, opened once in each process, and anew once its manifests or stores have changed.

    The workers of a cluster outlive the command that found work for them.
    """
    stamp = inputs.stamp(language)
    if _stamps.get((inputs, language), stamp) != stamp:
        _loaded.cache_clear()  # states are large: what is out of date is let go at once
    _stamps[inputs, language] = stamp
    return _loaded(inputs, language, stamp)


@lru_cache(maxsize=8)
def _loaded(inputs: Inputs, language: str, stamp: tuple[object, ...]) -> LanguageData:
    return inputs.load(language)


def folds_to_search(data: LanguageData) -> list[Fold]:
    """The test folds, and everyone: for the structure of a model that is to be used."""
    return [*data.folds, everyone(data.utterances)]


def strategy_path(inputs: Inputs, data: LanguageData, fold: str, strategy: str) -> Path:
    return inputs.search_folder(data) / fold / f"{strategy}.json"


def probes_path(inputs: Inputs, data: LanguageData, fold: str, normalise: str) -> Path:
    name = "probes" if normalise == "none" else f"probes-{normalise}"
    return inputs.search_folder(data) / fold / f"{name}.json"


def search_block(inputs: Inputs, language: str, number: int, strategies: Sequence[str]) -> None:
    """Searches one fold by these strategies, each unless that was done before."""
    data = loaded(inputs, language)
    fold = folds_to_search(data)[number]
    todo = [name for name in strategies if searched(inputs, data, fold.name, name) is None]
    if not todo:
        return
    probes = fold_probes(inputs, data, fold)
    split = fold.splits[0]
    prior = prior_of(probes, data.experts, split.train, inputs.settings)
    loader = Loader(data.experts, data.labels, inputs.device, inputs.placement)
    for strategy in todo:
        found = partial(_found, inputs, data, fold, loader, prior, strategy)
        write_json(strategy_path(inputs, data, fold.name, strategy), with_less_memory(found, [loader]))


def fold_probes(inputs: Inputs, data: LanguageData, fold: Fold, normalise: str = "none") -> dict[str, list[float]]:
    """Dev UAR of every layer of every upstream on a fold's dev speakers; computed once, then read."""
    found = probed(inputs, data, fold.name, normalise)
    if found is None:
        began = time.monotonic()
        probes = probe_layers(data, fold, normalise)
        found = {"probes": probes, "fingerprint": data.fingerprint, "seconds": time.monotonic() - began}
        write_json(probes_path(inputs, data, fold.name, normalise), found)
    # In the order of the file, also when they were computed just now: of equal upstreams the first is chosen.
    return dict(sorted(found["probes"].items()))


def probed(inputs: Inputs, data: LanguageData, fold: str, normalise: str = "none") -> dict[str, Any] | None:
    """The probes of a fold and how long they took; None where they are missing or damaged."""
    return read_if_whole(probes_path(inputs, data, fold, normalise), PROBE_FIELDS)


def searched(inputs: Inputs, data: LanguageData, fold: str, strategy: str) -> dict[str, Any] | None:
    """What a strategy found for a fold; None where it is missing or damaged."""
    return read_if_whole(strategy_path(inputs, data, fold, strategy), SEARCH_FIELDS)


def _found(
    inputs: Inputs, data: LanguageData, fold: Fold, loader: Loader, prior: Prior, strategy: str
) -> dict[str, Any]:
    """What one strategy finds for a fold: genotype, its dev UAR once trained as all are, curves, seconds.

    Also the epoch in which that training diverged, if it did: the dev UAR is then that of the epoch before. Of random
    search: the best of its candidates, which it lists.
    """
    settings, split = inputs.settings, fold.splits[0]
    ingredients = Ingredients(data.shapes, len(data.emotions), prior, settings.features.space, settings.model)
    began = time.monotonic()
    extra: dict[str, Any] = {}
    curves: list[SearchCurve] = []
    if strategy == "random":
        # Other draws for every fold: the same structures everywhere would say little of chance.
        rng = np.random.default_rng([SEARCH_SEED, *fold.name.encode()])
        drawn = [random_genotype(tuple(data.stores), settings.features.space, rng) for _ in range(settings.candidates)]
        judged = _judged(inputs, data, fold, loader, prior, drawn)
        best = int(np.argmax([dev_uar for dev_uar, _ in judged]))
        genotype, (dev_uar, diverged) = drawn[best], judged[best]
        spent = time.monotonic() - began
        extra["candidates"] = [
            {"genotype": one.to_dict(), "text": str(one), "dev_uar": uar, "diverged": epoch}
            for one, (uar, epoch) in zip(drawn, judged, strict=True)
        ]
    else:
        genotype, curves = search(strategy, ingredients, loader, split, settings.search, SEARCH_SEED)
        spent = time.monotonic() - began
        ((dev_uar, diverged),) = _judged(inputs, data, fold, loader, prior, [genotype])
    return {
        "language": data.language,
        "fold": fold.name,
        "strategy": strategy,
        "fingerprint": data.fingerprint,
        "genotype": genotype.to_dict(),
        "text": str(genotype),
        "dev_uar": dev_uar,
        "diverged": diverged,
        "curves": [point.to_dict() for point in curves],
        "seconds": spent,
        **extra,
    }


def _judged(
    inputs: Inputs, data: LanguageData, fold: Fold, loader: Loader, prior: Prior, genotypes: Sequence[Genotype]
) -> list[tuple[float, int | None]]:
    """UAR on dev speakers of each structure, trained on the fold's other training speakers; percent.

    Beside it the epoch in which the training diverged, None where it did not.
    """
    split, language = fold.splits[0], data.language
    replicas = []
    for genotype in genotypes:
        torch.manual_seed(SEARCH_SEED)
        model = MultiGateModel([Domain(language, data.emotions, genotype, prior)], data.shapes, inputs.settings.model)
        replicas.append(Replica(model, {language: split.train}, SEARCH_SEED))
    # To the end: the dev speakers give the score, and so cannot say when to stop.
    settings = replace(inputs.settings.fit, patience=0)
    fitted = fit(replicas, {language: loader}, {language: fold.train}, settings)
    truth = data.labels[split.dev].numpy()
    said = [predict(replica.model, language, loader, split.dev)[0].argmax(1) for replica in replicas]
    return [(score(truth, own).uar, one.diverged) for own, one in zip(said, fitted, strict=True)]


def structure_of(inputs: Inputs, data: LanguageData, fold: str, strategy: str) -> Genotype:
    """The structure by which a fold is trained; the fixed one needs no search.

    Raises:
        RunError: as :func:`read_strategy`. GenotypeError: what was read is no structure of the space that is trained.
    """
    space = inputs.settings.features.space
    if strategy == "fixed":
        return fixed_genotype(tuple(data.stores), space)
    path = strategy_path(inputs, data, fold, strategy)
    genotype = Genotype.from_dict(read_strategy(inputs, data, fold, strategy)["genotype"], path)
    space.require(genotype, path)
    return genotype.simplest()


def read_strategy(inputs: Inputs, data: LanguageData, fold: str, strategy: str) -> dict[str, Any]:
    """What a strategy found for a fold.

    Raises:
        RunError: it was not searched with these inputs and settings, or the file is damaged.
    """
    found = searched(inputs, data, fold, strategy)
    if found is None:
        raise RunError(
            f"Language {data.language} was not searched by {strategy} with these upstreams and settings.",
            file=strategy_path(inputs, data, fold, strategy),
            hint=f'run `make search LANG={data.language} STRATEGIES="{strategy}"` with the same UPSTREAMS, FEATURES '
            "and FRAME_RATE",
        )
    return found
