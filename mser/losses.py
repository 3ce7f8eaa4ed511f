"""Losses: class-balanced cross-entropy and two contrastive losses on embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

#: Start of the scale and shift of the similarity (Wan et al. 2018, arXiv 1710.10467, section 2.1).
GE2E_SCALE, GE2E_SHIFT = 10.0, -5.0
#: Vectors shorter than this have no direction.
SMALLEST_NORM = 1e-8
#: A logit in the place of minus infinity: rows without any other entry stay finite, in the backward pass too.
ABSENT = -1e9


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Class weights N / (E * N_e), so that each occurring emotion weighs the same: (N,) -> (E,)."""
    counts = torch.bincount(labels, minlength=classes).float()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), 0.0)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """The sum of weighted cross-entropies: logits (B, E), labels (B,), weights (B,) -> ().

    Args:
        smoothing: share of the target that is spread over all emotions (Szegedy et al. 2016, arXiv 1512.00567).
    """
    each = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (each * weights).sum()


class GE2ESoftmaxLoss(nn.Module):
    """The softmax variant of the generalised end-to-end loss, with emotions for speakers.

    For embedding e_ji of emotion j, and centroids c_k over the batch, where the own emotion's centroid
    leaves e_ji out: S_jik = w cos(e_ji, c_k) + b, and the loss is the cross-entropy of S_ji against j
    (Wan et al. 2018, arXiv 1710.10467, equations 5, 6, 8 and 9). All utterances of the batch count, not
    only as many of each emotion as the rarest has. Emotions with one utterance in the batch have no
    centroid without it and are left out.

    Args:
        classes: E, of the labels that may come.
        truncate: as the authors of arXiv 2211.08237 have it, of each emotion only as many utterances count as the
            rarest emotion of the batch has, the first ones.
    """

    def __init__(self, classes: int, truncate: bool = False) -> None:
        super().__init__()
        self.classes, self.truncate = classes, truncate
        self.scale = nn.Parameter(torch.tensor(GE2E_SCALE))
        self.shift = nn.Parameter(torch.tensor(GE2E_SHIFT))

    def forward(self, embeddings: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
        """Embeddings (B, H), labels (B,), counted (B,) 0 or 1 -> (); 0 where fewer than two emotions occur twice."""
        classes = torch.arange(self.classes, device=labels.device)
        members = (labels[:, None] == classes).to(embeddings.dtype) * counted[:, None]
        if self.truncate:
            counts = members.sum(0)
            rarest = torch.where(counts > 0, counts, float("inf")).amin()
            members = members * (members.cumsum(0) <= rarest)
        members = members * (members.sum(0) > 1)
        counts = members.sum(0)
        sums = members.T @ embeddings
        centroids = sums / counts.clamp(min=1)[:, None]
        own = (members @ sums - embeddings) / (members @ counts - 1).clamp(min=1)[:, None]
        unit = functional.normalize(embeddings, dim=1, eps=SMALLEST_NORM)
        cosine = unit @ functional.normalize(centroids, dim=1, eps=SMALLEST_NORM).T
        cosine_own = (unit * functional.normalize(own, dim=1, eps=SMALLEST_NORM)).sum(1, keepdim=True)
        similarity = self.scale.clamp(min=1e-6) * torch.where(members > 0, cosine_own, cosine) + self.shift
        present = counts > 0
        log_softmax = similarity.masked_fill(~present, ABSENT).log_softmax(1)
        each = -torch.where(members > 0, log_softmax, 0.0).sum(1)
        return each.sum() / members.sum().clamp(min=1) * (present.sum() > 1)


class SupervisedContrastiveLoss(nn.Module):
    """Pulls utterances of one emotion together, across languages where they share it.

    L = mean over i with positives P(i) of -1/|P(i)| sum_{p in P(i)} log softmax_{a != i}(z_i z_a / t)_p
    (Khosla et al. 2020, arXiv 2004.11362, equation 2), z normalised to length 1.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
        """Embeddings (B, H), labels (B,), counted (B,) 0 or 1 -> (); 0 where no emotion occurs twice."""
        z = functional.normalize(embeddings, dim=1, eps=SMALLEST_NORM)
        others = (counted[:, None] * counted > 0) & ~torch.eye(len(labels), dtype=torch.bool, device=z.device)
        logits = (z @ z.T / self.temperature).masked_fill(~others, ABSENT)
        log_softmax = functional.log_softmax(logits, dim=1)
        positives = (labels[:, None] == labels) & others
        counts = positives.sum(1)
        each = -torch.where(positives, log_softmax, 0.0).sum(1) / counts.clamp(min=1)
        return each.sum() / (counts > 0).sum().clamp(min=1)
