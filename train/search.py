"""Searches a structure for each test fold of a language, and one for use, beside random search and a fixed head.

The search is nested: the structure with which a test speaker is judged was found without that speaker.
"""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.config import read_json, write_json
from mser.errors import RunError
from mser.loader import Loader
from mser.metrics import score
from mser.model import Domain, MultiGateModel, Prior
from mser.nas import darts
from mser.nas.genotype import Genotype, fixed_genotype, random_genotype
from mser.nas.supernet import Supernet
from mser.protocol import Fold, everyone
from train.data import LanguageData
from train.fit import fit, predict
from train.prior import prior_of, probe_layers
from train.settings import Inputs

#: A search learns from one split into training and dev speakers, with this seed.
SEARCH_SEED = 0


@lru_cache(maxsize=2)
def loaded(inputs: Inputs, language: str) -> LanguageData:
    """A language's data, opened once in each process."""
    return inputs.load(language)


def folds_to_search(data: LanguageData) -> list[Fold]:
    """The test folds, and everyone: for the structure of a model that is to be used."""
    return [*data.folds, everyone(data.utterances)]


def search_path(inputs: Inputs, data: LanguageData, fold: str) -> Path:
    return inputs.search_folder(data) / f"{fold}.json"


def search_block(inputs: Inputs, language: str, number: int) -> None:
    """Searches one fold, unless that was done before; writes ``<fold>.json``."""
    data = loaded(inputs, language)
    fold = folds_to_search(data)[number]
    path = search_path(inputs, data, fold.name)
    if not path.is_file():
        write_json(path, search_fold(inputs, data, fold))


def search_fold(inputs: Inputs, data: LanguageData, fold: Fold) -> dict[str, Any]:
    """Probes, differentiable search, random search and the fixed head on a fold's first split.

    Returns:
        ``probes`` (upstream -> dev UAR a layer), ``genotype`` and ``dev_uar`` of each of ``searched``, ``random``
        (its best candidate) and ``fixed``, all ``candidates``, the search's ``curves``, and ``seconds``.
    """
    settings = inputs.settings
    began = time.monotonic()
    probes = probe_layers(data, fold)
    prior = prior_of(probes, settings)
    split = fold.splits[0]
    experts = [expert.standardised(split.train).resident(fold.train) for expert in data.experts]
    loader = Loader(experts, data.labels, inputs.device)
    names = tuple(data.stores)
    ready = time.monotonic()

    torch.manual_seed(SEARCH_SEED)
    supernet = Supernet(data.shapes, len(data.emotions), prior, settings.features.space, settings.model)
    genotype, curves = darts.search(supernet.to(inputs.device), loader, split, settings.search, SEARCH_SEED)
    searched = time.monotonic()

    rng = np.random.default_rng(SEARCH_SEED)
    drawn = [random_genotype(names, settings.features.space, rng) for _ in range(settings.candidates)]
    fixed = fixed_genotype(names, settings.features.space)

    def dev_uar(structure: Genotype) -> float:
        return _dev_uar(inputs, data, loader, structure, prior, split.train, split.dev)

    candidates: list[dict[str, Any]] = [
        {"genotype": one.to_dict(), "text": str(one), "dev_uar": dev_uar(one)} for one in drawn
    ]
    tried = time.monotonic()
    best = max(candidates, key=lambda one: one["dev_uar"])
    return {
        "language": data.language,
        "fold": fold.name,
        "fingerprint": data.fingerprint,
        "probes": probes,
        "searched": {"genotype": genotype.to_dict(), "text": str(genotype), "dev_uar": dev_uar(genotype)},
        "random": best,
        "candidates": candidates,
        "fixed": {"genotype": fixed.to_dict(), "text": str(fixed), "dev_uar": dev_uar(fixed)},
        "curves": [point.to_dict() for point in curves],
        "seconds": {"probes": ready - began, "search": searched - ready, "random": tried - searched},
    }


def _dev_uar(
    inputs: Inputs,
    data: LanguageData,
    loader: Loader,
    genotype: Genotype,
    prior: Prior,
    train: np.ndarray,
    dev: np.ndarray,
) -> float:
    torch.manual_seed(SEARCH_SEED)
    domain = Domain(data.language, data.emotions, genotype, prior)
    model = MultiGateModel([domain], data.shapes, inputs.settings.model).to(inputs.device)
    fit(model, {data.language: loader}, {data.language: train}, inputs.settings.fit, SEARCH_SEED)
    probabilities, _ = predict(model, data.language, loader, dev)
    return score(data.labels[dev].numpy(), probabilities.argmax(1)).uar


def read_search(inputs: Inputs, data: LanguageData, fold: str) -> dict[str, Any]:
    """What a search of a fold found.

    Raises:
        RunError: it was not searched with these inputs and settings.
    """
    path = search_path(inputs, data, fold)
    if not path.is_file():
        raise RunError(
            f"Language {data.language} was not searched with these upstreams and settings.",
            file=path,
            hint=f"run `make search LANG={data.language}` with the same UPSTREAMS, FEATURES and FRAME_RATE",
        )
    return read_json(path)
