"""Heads of one method, from its settings and folds to trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from mser.faithful import FaithfulModel
from mser.loader import Loader
from mser.model import Domain, ExpertShape, MultiGateModel
from mser.protocol import Fold
from train.data import LanguageData
from train.fit import Replica, fit
from train.keeper import Fitted
from train.methods import FAITHFUL, METHODS, Method
from train.prior import prior_of
from train.search import fold_probes, structure_of
from train.settings import Inputs

#: Of the authors' code, over the number of languages.
FAITHFUL_RATE = 5e-4


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

    On a CPU core pooled statistics do, 2.6 times: a step alone is many small operations. Frames do not, 0.7 times:
    there a step is bound by memory traffic, and stacked tensors leave the caches. A CUDA device is never filled by one.
    """
    return inputs.settings.features.kind == "pooled" or not inputs.device.startswith("cpu")


def shared_labels(datas: Sequence[LanguageData]) -> dict[str, torch.Tensor]:
    """For each language (E_g,) the index of each of its emotions among those of all languages."""
    every = sorted({emotion for data in datas for emotion in data.emotions})
    return {data.language: torch.tensor([every.index(emotion) for emotion in data.emotions]) for data in datas}


def facts_of(inputs: Inputs, name: str, datas: Sequence[LanguageData], seed: int, **more: Any) -> dict[str, Any]:
    """What a model's file says of how it was trained, so that it can be used without the run and its stores."""
    stores = {
        data.language: {
            upstream: asdict(next(iter(stores.values())).provenance) for upstream, stores in data.stores.items()
        }
        for data in datas
    }
    return {
        "method": name,
        "seed": seed,
        "data": {data.language: data.fingerprint for data in datas},
        "features": asdict(inputs.settings.features),
        "normalise": METHODS[name].normalise,
        "stores": stores,
        **more,
    }
