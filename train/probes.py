"""Methods that fit scikit-learn's logistic regression, on the states as they are cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mser.probe import fit_logistic
from mser.protocol import Fold
from mser.shared_probe import Corpus, choose, predict_shared, window
from train.data import LanguageData
from train.methods import Method
from train.prior import best_layer


def single_layer(
    method: Method, data: LanguageData, fold: Fold, probes: Mapping[str, list[float]]
) -> tuple[np.ndarray, dict[str, Any]]:
    """The bar: one layer of one upstream, the one that dev speakers prefer.

    Returns:
        Probabilities (N, E) of the test rows, and what was chosen.
    """
    upstream, layer, dev_uar = best_layer(probes)
    features, labels = data.means(upstream, method.normalise)[:, layer], data.labels.numpy()
    classifier = fit_logistic(features[fold.train], labels[fold.train])
    probabilities = np.zeros((len(fold.test), len(data.emotions)))
    probabilities[:, classifier.classes_] = classifier.predict_proba(features[fold.test])
    return probabilities, {"upstream": upstream, "layer": layer, "dev_uar": dev_uar}


def shared_layers(
    method: Method, data: LanguageData, others: Sequence[LanguageData], fold: Fold, probes: Mapping[str, list[float]]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Several layers of one upstream, with the utterances of the other languages as training data.

    Returns:
        Probabilities (N, E) of the test rows, and what was chosen.
    """
    upstream = best_layer(probes)[0]
    layers = window(probes[upstream])
    own, *foreign = [_corpus(one, upstream, method.normalise, layers) for one in (data, *others)]
    choice = choose(own, foreign, fold)
    known, said = predict_shared(own, foreign, fold.train, fold.test, choice)
    probabilities = np.zeros((len(fold.test), len(data.emotions)))
    probabilities[:, [data.emotions.index(str(emotion)) for emotion in known]] = said
    chosen = {"upstream": upstream, "layers": list(layers), "weight": choice.weight, "penalty": choice.penalty}
    return probabilities, {**chosen, "dev_uar": float(np.mean(choice.dev_uar)), "dev_uar_of_splits": choice.dev_uar}


def _corpus(data: LanguageData, upstream: str, normalise: str, layers: range) -> Corpus:
    means = data.means(upstream, normalise)[:, layers.start : layers.stop]
    return Corpus(means.reshape(len(means), -1), np.array([row.emotion for row in data.utterances]))
