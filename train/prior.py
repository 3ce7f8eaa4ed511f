"""Where mixtures start: from what single layers achieve on dev speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mser.experts import Expert
from mser.model import Prior
from mser.probe import choose_layer
from mser.protocol import Fold
from train.data import LanguageData
from train.settings import StudySettings


def probe_layers(data: LanguageData, fold: Fold, normalise: str) -> dict[str, list[float]]:
    """Dev UAR of logistic regression on each layer of each upstream, percent; training speakers only."""
    labels = data.labels.numpy()
    return {name: choose_layer(data.means(name, normalise), labels, fold).dev_uar.tolist() for name in data.stores}


def prior_of(
    probes: Mapping[str, list[float]], experts: Sequence[Expert], train: np.ndarray, settings: StudySettings
) -> Prior:
    """Logits in proportion to dev UAR, so that training begins near the layers and experts that tell emotions.

    States are standardised over the frames of the training rows ``train``.

    A few hundred utterances cannot move a mixture far from where it starts; started uniform, it stays near the mean
    of all layers, which is worse than one good layer.
    """
    layers = {name: torch.tensor(scores) / settings.layer_scale for name, scores in probes.items()}
    layers = {name: logits - logits.max() for name, logits in layers.items()}
    # By name: probes that were read from a file are in another order than the experts.
    best = torch.tensor([max(probes[expert.name]) for expert in experts]) / settings.expert_scale
    standard = {expert.name: expert.standard(train) for expert in experts}
    return Prior(layers, best - best.max(), standard)


def best_layer(probes: Mapping[str, list[float]]) -> tuple[str, int, float]:
    """Upstream, layer and dev UAR of the best single layer."""
    name = max(probes, key=lambda key: max(probes[key]))
    layer = int(np.argmax(probes[name]))
    return name, layer, probes[name][layer]


def choices(probes: Mapping[str, list[float]], fold: str) -> dict[str, Any]:
    """The row of the report's table of chosen layers."""
    name, layer, dev_uar = best_layer(probes)
    return {"fold": fold, "upstream": name, "layer": layer, "dev_uar": dev_uar}
