"""Probes of frozen layers: which layer of a speech model tells emotions best, by a linear probe of each.

Singh and Gupta 2023, "Decoding Emotions", arXiv 2308.08713. Their linear probe takes the mean over frames of one layer
through 128 hidden units. They choose the best layer on the test; here the dev speakers of the source choose, and what
the other layers would have said is told as alternatives. Their dense probe is in :mod:`train.systems.dense_probe`.

Two things differ from the paper: states are standardised by the source, since layers of some models differ in scale by
orders of magnitude, and each emotion weighs the same in the loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mser.errors import ConfigError
from mser.experts import scale_of
from train.systems.base import System
from train.systems.descent import Steps, class_weights, descend, labels_of, parameters_of
from train.systems.task import Answer, Part, Task

#: Utterances that are judged at a time.
BLOCK = 256

#: Mean and one over the deviation, by upstream.
Scales = dict[str, tuple[Tensor, Tensor]]


class StackedProbes(nn.Module):
    """A linear probe for each of L layers, trained at once by batched products: none sees another's layer.

    Of layer l: ``W2_l relu(W1_l x_l + b1_l) + b2_l``. That a ReLU stands between is read off the paper's public code.
    """

    def __init__(self, layers: int, features: int, hidden: int, emotions: int) -> None:
        super().__init__()
        self.layers = layers

        def drawn(*shape: int, fan_in: int) -> nn.Parameter:
            # As torch.nn.Linear draws weights and biases.
            return nn.Parameter(torch.empty(layers, *shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))

        self.first, self.first_bias = drawn(features, hidden, fan_in=features), drawn(1, hidden, fan_in=features)
        self.second, self.second_bias = drawn(hidden, emotions, fan_in=hidden), drawn(1, emotions, fan_in=hidden)

    def forward(self, means: Tensor) -> Tensor:
        """Logits (L, B, E) of means over frames (L, B, D)."""
        hidden = torch.baddbmm(self.first_bias, means, self.first).relu()
        return torch.baddbmm(self.second_bias, hidden, self.second)

    @torch.no_grad()
    def take(self, other: StackedProbes, layers: np.ndarray) -> None:
        """Makes the probes of these layers those of ``other``."""
        for own, others in zip(self.parameters(), other.parameters(), strict=True):
            own[layers] = others[layers]


def stacked_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The sum over layers of each one's weighted mean cross-entropy.

    Args:
        logits: (L, B, E). labels: (B,). weights: (E,).
    """
    layers, _, emotions = logits.shape
    return layers * functional.cross_entropy(logits.reshape(-1, emotions), labels.repeat(layers), weights)


def recalls(said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """UAR, percent: said (L, n) and truth (n,) -> (L,)."""
    return 100 * np.mean([(said[:, truth == one] == one).mean(1) for one in np.unique(truth)], axis=0)


@dataclass(frozen=True)
class LayerProbe(System):
    """A linear probe of every layer of every upstream of the task; that of one layer answers, dev speakers choose it.

    Attributes:
        hidden: units of a probe.
        steps: of the training on the first split's training speakers, while its dev speakers choose each layer's epoch
            and, by its score then, the layer. Then the probes are trained on the whole source, each as long.
        tuning: of what follows on the shots, which the paper does not have.
    """

    hidden: int = 128
    steps: Steps = field(default=Steps(epochs=30, batch_size=32, rate=1e-3))
    tuning: Steps = field(default=Steps(epochs=10, batch_size=32, rate=3e-4, least_steps=30))

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError("A probe needs hidden units.", field="hidden", expected="1 or more", found=self.hidden)

    def answer(self, task: Task) -> Answer:
        probes, scales, facts = task.once((self, "source"), lambda: self._trained(task))
        if len(task.shots):
            probes = copy.deepcopy(probes)
            self._descend(probes, _stacks(task.shots, scales, task), task.shots, task, self.tuning)
        said: dict[str, np.ndarray] = {}
        for name, probe, x in zip(scales, probes, _stacks(task.test, scales, task), strict=True):
            said |= {f"{name}:{layer}": one for layer, one in enumerate(_softmax(probe, x))}
        answering = probes[list(scales).index(facts["upstream"])]
        count = parameters_of(answering) // answering.layers
        return Answer(said[f"{facts['upstream']}:{facts['layer']}"], count, facts, said)

    def _trained(self, task: Task) -> tuple[list[StackedProbes], Scales, dict[str, Any]]:
        """The probes of the whole source, each of its own epoch; what standardises; what was chosen."""
        curves = self._dev_curves(task)
        epochs = [curve.argmax(0) for curve in curves]
        scales = _scales(task.source, task)
        stacks = _stacks(task.source, scales, task)
        probes = self._made(stacks, task)
        kept = copy.deepcopy(probes)

        def keep(epoch: int) -> None:
            for own, now, chosen in zip(kept, probes, epochs, strict=True):
                own.take(now, np.flatnonzero(chosen == epoch))

        steps = replace(self.steps, epochs=int(max(map(max, epochs))) + 1, least_steps=0)
        losses = self._descend(probes, stacks, task.source, task, steps, keep)
        number = int(np.argmax([curve.max() for curve in curves]))
        layer = int(curves[number].max(0).argmax())
        facts = {
            "upstream": list(scales)[number],
            "layer": layer,
            "epochs": int(epochs[number][layer]) + 1,
            "dev": {name: curve.max(0).round(2).tolist() for name, curve in zip(scales, curves, strict=True)},
            "losses": losses,
        }
        return kept, scales, facts

    def _dev_curves(self, task: Task) -> list[np.ndarray]:
        """UAR (epochs, L) of each upstream on the dev speakers of the first split."""
        train, dev = task.dev
        scales = _scales(train, task)
        stacks, asked = _stacks(train, scales, task), _stacks(dev, scales, task)
        probes = self._made(stacks, task)
        curves: list[list[np.ndarray]] = [[] for _ in probes]

        def judge(_: int) -> None:
            for own, x, curve in zip(probes, asked, curves, strict=True):
                curve.append(recalls(_softmax(own, x).argmax(2), dev.labels))

        self._descend(probes, stacks, train, task, self.steps, judge)
        return [np.stack(curve) for curve in curves]

    def _made(self, stacks: list[Tensor], task: Task) -> list[StackedProbes]:
        torch.manual_seed(task.seed)
        made = [StackedProbes(x.shape[0], x.shape[2], self.hidden, len(task.emotions)) for x in stacks]
        return [probe.to(task.device) for probe in made]

    def _descend(
        self,
        probes: list[StackedProbes],
        stacks: list[Tensor],
        part: Part,
        task: Task,
        steps: Steps,
        after: Callable[[int], None] | None = None,
    ) -> list[float]:
        labels, weights = labels_of(part, task), class_weights(part.labels, len(task.emotions)).to(task.device)

        def loss(at: np.ndarray, _: float) -> Tensor:
            own = labels[at]
            said = (probe(x[:, at]) for probe, x in zip(probes, stacks, strict=True))
            return torch.stack([stacked_cross_entropy(logits, own, weights) for logits in said]).sum()

        weights_of_all = [value for probe in probes for value in probe.parameters()]
        return descend(weights_of_all, loss, len(part), steps, task.seed, after)


def _scales(part: Part, task: Task) -> Scales:
    """Over utterances, of the means over frames of each layer; each (L, 1, D)."""
    found = {}
    for name in task.upstreams:
        means = part.pooled(name)[:, :, 0].transpose(0, 1)
        found[name] = (means.mean(1, keepdim=True), scale_of(means.std(1, correction=0, keepdim=True)))
    return found


def _stacks(part: Part, scales: Scales, task: Task) -> list[Tensor]:
    """Standardised means over frames (L, n, D) of each upstream."""
    return [
        ((part.pooled(name)[:, :, 0].transpose(0, 1) - mean) * scale).to(task.device)
        for name, (mean, scale) in scales.items()
    ]


def _softmax(probe: StackedProbes, means: Tensor) -> np.ndarray:
    """Probabilities (L, n, E) float64 of means (L, n, D)."""
    with torch.inference_mode():
        return torch.cat([probe(x).double().softmax(2).cpu() for x in means.split(BLOCK, dim=1)], dim=1).numpy()
