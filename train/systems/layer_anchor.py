"""Layer anchoring: the layers that two languages agree on most are drawn together while the head is trained.

Upadhyay, Busso and Lee 2024, "A Layer-Anchoring Strategy for Enhancing Cross-Lingual Speech Emotion Recognition",
arXiv 2407.04966: an analysis of how alike layers are in both languages chooses the anchors, single layers or groups of
them, and the CORAL distance between the languages at the anchors is added to the loss of the emotions:
``CE(source) + weight * sum_{l in A} ||Cov(h_s^l) - Cov(h_t^l)||_F^2 / (4 P^2)`` with P features of h.

Layers of a frozen model cannot be drawn together. So h^l is the head's own linear projection of the mean over frames of
layer l, which CORAL can change. A softmax over layers mixes what the projections give, and a linear layer judges.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mser.errors import ConfigError
from mser.experts import scale_of
from train.systems.base import System
from train.systems.descent import Steps, class_weights, descend, labels_of, parameters_of, probabilities
from train.systems.layers import best_layer
from train.systems.task import FEW_SHOT, ZERO_SHOT, Answer, Part, Task


def covariance(rows: Tensor) -> Tensor:
    """Covariance over utterances, unbiased: (..., n, D) -> (..., D, D)."""
    centred = rows - rows.mean(-2, keepdim=True)
    return centred.transpose(-1, -2) @ centred / max(1, rows.shape[-2] - 1)


def coral(source: Tensor, target: Tensor) -> Tensor:
    """``||Cov(source) - Cov(target)||_F^2 / (4 D^2)``: (..., n, D) and (..., m, D) -> (...).

    The loss of Deep CORAL (Sun and Saenko 2016, arXiv 1607.01719, equation 1).
    """
    gap = covariance(source) - covariance(target)
    return gap.square().sum((-1, -2)) / (4 * source.shape[-1] ** 2)


def likeness(source: Tensor, target: Tensor) -> Tensor:
    """How alike each layer is in two languages: the cosine of its covariances, of (L, n, D) and (L, m, D) -> (L,).

    ``<C_s, C_t>_F / (||C_s||_F ||C_t||_F)``, from 0 to 1: linear CKA (Kornblith et al. 2019, arXiv 1905.00414) with the
    roles of utterances and features exchanged, since the languages share the features and no utterances. It says
    whether features go together in the same way, which is what CORAL compares; 0 where a layer does not vary.
    """
    # One layer after the other: covariances of all layers of a large model would take gigabytes.
    found = []
    for own, others in zip(source, target, strict=True):
        pair = covariance(own).flatten(), covariance(others).flatten()
        found.append(functional.cosine_similarity(*pair, dim=0, eps=1e-12))
    return torch.stack(found)


def anchors_of(alike: np.ndarray, groups: int, count: int) -> list[int]:
    """The layers to anchor, sorted.

    Args:
        alike: (L,), of each layer. groups: of neighbouring layers, of about equal size; 0: each layer by itself.
        count: of groups that are taken, those that are most alike in the mean; the earlier of equals.
    """
    parted = np.array_split(np.arange(len(alike)), min(groups or len(alike), len(alike)))
    order = sorted(parted, key=lambda layers: -alike[layers].mean())
    return sorted(int(layer) for layers in order[:count] for layer in layers)


class AnchoredHead(nn.Module):
    """A projection of each of L layers, their softmax mix, and a linear layer: ``h^l = W_l x^l + b_l``."""

    def __init__(self, layers: int, features: int, hidden: int, emotions: int, dropout: float) -> None:
        super().__init__()
        # As torch.nn.Linear draws weights and biases.
        bound = features**-0.5
        self.weight = nn.Parameter(torch.empty(layers, features, hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(layers, 1, hidden).uniform_(-bound, bound))
        self.mix = nn.Parameter(torch.zeros(layers))
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, emotions))

    def project(self, rows: Tensor, layers: Sequence[int]) -> Tensor:
        """h of these layers: rows (A, B, D) of theirs -> (A, B, P)."""
        if len(layers) == len(self.mix):
            return torch.baddbmm(self.bias, rows, self.weight)
        return torch.baddbmm(self.bias[layers], rows, self.weight[layers])

    def judge(self, projected: Tensor) -> Tensor:
        """Logits (B, E) of the projections of all layers (L, B, P)."""
        return self.output(torch.einsum("lbp,l->bp", projected.relu(), self.mix.softmax(0)))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, L, D) -> logits (B, E)."""
        return self.judge(self.project(rows.transpose(0, 1), range(len(self.mix))))


@dataclass(frozen=True)
class LayerAnchor(System):
    """Softmax mix of the projected layers of one upstream, with CORAL at the layers that both languages share most.

    The upstream is that of the layer that dev speakers of the source prefer; an utterance is the mean over frames of
    each of its layers. Open, and decided here: the measure of likeness (:func:`likeness`, on the
    standardised means of all source and all unlabelled target utterances), the number of groups and of anchors,
    P, dropout and both trainings.

    Attributes:
        groups: of neighbouring layers, of which anchors are chosen; 0: single layers.
        anchors: how many groups (or layers) are anchored.
        weight: of CORAL; 0: the control, which learns from the source alone. Sun and Saenko want both losses to be
            about equal in the end. That cannot be chosen on dev speakers, who speak the source's language.
        hidden: P, features of a projection. dropout: on the mix.
        normalise: ``each``: the target is standardised by its unlabelled utterances; ``source``: by the source, so that
            CORAL alone brings the languages together.
        steps: of the training on the source, with as many unlabelled utterances of the target in each step. Batches are
            larger than elsewhere, since a covariance is estimated on each.
        tuning: of what follows on the shots: cross-entropy alone, from the model that has been anchored without them.
    """

    groups: int = 0
    anchors: int = 1
    weight: float = 1.0
    hidden: int = 128
    dropout: float = 0.2
    normalise: str = "each"
    steps: Steps = field(default=Steps(epochs=30, batch_size=64, rate=1e-3))
    tuning: Steps = field(default=Steps(epochs=10, batch_size=32, rate=3e-4, least_steps=30))
    protocols: ClassVar[tuple[str, ...]] = (ZERO_SHOT, FEW_SHOT)
    adapts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.normalise not in ("each", "source"):
            raise ConfigError(
                "There is no such normalisation.", field="normalise", expected="each source", found=self.normalise
            )
        least = {"groups": 0, "anchors": 1, "weight": 0, "hidden": 1, "dropout": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ConfigError(
                    "Layers cannot be anchored so.",
                    field=name,
                    expected=f"{bound} or more",
                    found=getattr(self, name),
                )
        if self.groups and self.anchors > self.groups:
            raise ConfigError(
                "There are fewer groups.", field="anchors", expected=f"{self.groups} at most", found=self.anchors
            )
        if not self.dropout < 1:
            raise ConfigError("Dropout would leave nothing.", field="dropout", expected="below 1", found=self.dropout)

    def answer(self, task: Task) -> Answer:
        # Both halves of a target have a model each; all k of a half tune the same one.
        key = (self, "anchored", task.adapt.rows.tobytes())
        head, upstream, target, facts = task.once(key, lambda: self._anchored(task))
        if len(task.shots):
            head = copy.deepcopy(head)
            torch.manual_seed(task.seed)
            rows, labels = _standardised(task.shots, upstream, target).to(task.device), labels_of(task.shots, task)
            criterion = self._criterion(task.shots, task)
            head.train()
            descend(
                head.parameters(),
                lambda at, _: criterion(head(rows[at]), labels[at]),
                len(rows),
                self.tuning,
                task.seed,
            )
        head.eval()
        said = probabilities(head, _standardised(task.test, upstream, target).to(task.device))
        return Answer(said, parameters_of(head), facts)

    def _anchored(self, task: Task) -> tuple[AnchoredHead, str, Scale, dict[str, Any]]:
        """The model before shots, its upstream, what standardises the target, and what was chosen."""
        upstream, _ = best_layer(task)
        own = _scale(task.source, upstream)
        target = _scale(task.adapt, upstream) if self.normalise == "each" else own
        rows = _standardised(task.source, upstream, own).to(task.device)
        unlabelled = _standardised(task.adapt, upstream, target).to(task.device)
        alike = likeness(rows.transpose(0, 1), unlabelled.transpose(0, 1)).cpu().numpy()
        layers = anchors_of(alike, self.groups, self.anchors)
        torch.manual_seed(task.seed)
        head = AnchoredHead(rows.shape[1], rows.shape[2], self.hidden, len(task.emotions), self.dropout)
        losses, distances = self._train(head.to(task.device), rows, unlabelled, layers, task)
        facts = {
            "upstream": upstream,
            "anchors": layers,
            "likeness": alike.astype(float).round(4).tolist(),
            "coral": [distances[0], distances[-1]],
            "mix": head.mix.detach().softmax(0).tolist(),
            "losses": losses,
        }
        return head, upstream, target, facts

    def _train(
        self, head: AnchoredHead, rows: Tensor, unlabelled: Tensor, layers: list[int], task: Task
    ) -> tuple[list[float], list[float]]:
        """Losses, and CORAL's share before it is weighed, of each epoch."""
        labels, criterion = labels_of(task.source, task), self._criterion(task.source, task)
        rng = np.random.default_rng([task.seed, len(unlabelled)])
        stack, anchored = rows.transpose(0, 1).contiguous(), unlabelled.transpose(0, 1)[layers]
        distances: list[float] = []
        means: list[float] = []

        def loss(at: np.ndarray, _: float) -> Tensor:
            projected = head.project(stack[:, at], range(len(stack)))
            drawn = rng.permutation(len(unlabelled))[: len(at)]
            distance = coral(projected[layers], head.project(anchored[:, drawn], layers)).sum()
            distances.append(float(distance.detach()))
            return criterion(head.judge(projected), labels[at]) + self.weight * distance

        def close(_: int) -> None:
            means.append(float(np.mean(distances)))
            distances.clear()

        head.train()
        return descend(head.parameters(), loss, len(rows), self.steps, task.seed, close), means

    def _criterion(self, part: Part, task: Task) -> nn.CrossEntropyLoss:
        return nn.CrossEntropyLoss(class_weights(part.labels, len(task.emotions)).to(task.device))


#: Mean and one over the deviation over utterances, each (L, D).
Scale = tuple[Tensor, Tensor]


def _scale(part: Part, upstream: str) -> Scale:
    rows = part.pooled(upstream)[:, :, 0]
    return rows.mean(0), scale_of(rows.std(0, correction=0))


def _standardised(part: Part, upstream: str, scale: Scale) -> Tensor:
    """Means over frames of each layer, (n, L, D)."""
    return (part.pooled(upstream)[:, :, 0] - scale[0]) * scale[1]
