"""One vector an utterance: which layers it is made of, and by whose statistics it is standardised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mser.errors import ConfigError
from train.systems.layers import best_layer, best_layers
from train.systems.task import Part, Task

#: ``layer``: of the upstream and layer that dev speakers of the source prefer. ``all``: of each upstream's best layer.
FEATURES = ("layer", "all")
#: Whose mean and deviation standardise the target: the source's, or those of its own unlabelled utterances.
NORMALISE = ("source", "each")
#: A feature that varies less is constant.
SMALLEST_DEVIATION = 1e-5


@dataclass(frozen=True)
class Vectors:
    """Standardised vectors of a task's parts, on its device.

    Attributes:
        source, shots, adapt, test: (n, D) float32 of each part, without rows where the task has none of it.
        layers: that they are made of, by upstream.
    """

    source: Tensor
    shots: Tensor
    adapt: Tensor
    test: Tensor
    layers: Mapping[str, int]


def vectors_of(task: Task, features: str, normalise: str) -> Vectors:
    """Mean and deviation over frames of the chosen layers, joined and standardised.

    Args:
        features: one of :data:`FEATURES`. normalise: one of :data:`NORMALISE`; where there is nothing unlabelled of
            the target, all are standardised by the source.
    """
    layers = dict([best_layer(task)]) if features == "layer" else best_layers(task)

    def joined(part: Part) -> Tensor:
        return torch.cat([part.pooled(name)[:, layer].flatten(1) for name, layer in layers.items()], dim=1)

    source, adapt = joined(task.source), joined(task.adapt)
    own = _statistics(source)
    others = _statistics(adapt) if normalise == "each" and len(adapt) else own

    def scaled(rows: Tensor, statistics: tuple[Tensor, Tensor]) -> Tensor:
        return ((rows - statistics[0]) / statistics[1]).to(task.device)

    shots, test = scaled(joined(task.shots), others), scaled(joined(task.test), others)
    return Vectors(scaled(source, own), shots, scaled(adapt, others), test, layers)


def require_known(system: object, what: str, allowed: Mapping[str, Sequence[str]]) -> None:
    """Raises ConfigError where a field of the system is none of its allowed words.

    Args:
        what: the message's first sentence.
    """
    for name, known in allowed.items():
        found = getattr(system, name)
        if found not in known:
            raise ConfigError(what, field=name, expected=", ".join(known), found=found)


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of rows (n, D), each (D,)."""
    return rows.mean(0), rows.std(0, correction=0).clamp(min=SMALLEST_DEVIATION)
