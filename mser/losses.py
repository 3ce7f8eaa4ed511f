"""Losses: class-balanced cross-entropy and two contrastive losses on embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

#: Start of the scale and shift of the similarity (Wan et al. 2018, arXiv 1710.10467, section 2.1).
GE2E_SCALE, GE2E_SHIFT = 10.0, -5.0


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Class weights N / (E * N_e), so that each occurring emotion weighs the same: (N,) -> (E,)."""
    counts = torch.bincount(labels, minlength=classes).float()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), 0.0)


class GE2ESoftmaxLoss(nn.Module):
    """The softmax variant of the generalised end-to-end loss, with emotions for speakers.

    For embedding e_ji of emotion j, and centroids c_k over the batch, where the own emotion's centroid
    leaves e_ji out: S_jik = w cos(e_ji, c_k) + b, and the loss is the cross-entropy of S_ji against j
    (Wan et al. 2018, arXiv 1710.10467, equations 5, 6, 8 and 9). All utterances of the batch count, not
    only as many of each emotion as the rarest has. Emotions with one utterance in the batch have no
    centroid without it and are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(GE2E_SCALE))
        self.shift = nn.Parameter(torch.tensor(GE2E_SHIFT))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Embeddings (B, H) and labels (B,) -> (); 0 where fewer than two emotions occur twice."""
        members = functional.one_hot(labels).to(embeddings.dtype)
        members = members * (members.sum(0) > 1)
        kept = members.sum(1) > 0
        emotions = members.sum(0) > 0
        if emotions.sum() < 2:
            return embeddings.sum() * 0.0
        members, embeddings = members[kept][:, emotions], embeddings[kept]
        counts = members.sum(0)
        sums = members.T @ embeddings
        own_sums, own_counts = members @ sums - embeddings, members @ counts - 1
        centroids = (sums / counts[:, None]).expand(len(embeddings), -1, -1)
        own = (own_sums / own_counts[:, None])[:, None]
        centroids = torch.where(members[:, :, None] > 0, own, centroids)
        cosine = functional.cosine_similarity(embeddings[:, None], centroids, dim=2)
        similarity = self.scale.clamp(min=1e-6) * cosine + self.shift
        return functional.cross_entropy(similarity, members.argmax(1))


class SupervisedContrastiveLoss(nn.Module):
    """Pulls utterances of one emotion together, across languages where they share it.

    L = mean over i with positives P(i) of -1/|P(i)| sum_{p in P(i)} log softmax_{a != i}(z_i z_a / t)_p
    (Khosla et al. 2020, arXiv 2004.11362, equation 2), z normalised to length 1.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Embeddings (B, H) and labels (B,) -> (); 0 where no emotion occurs twice."""
        z = functional.normalize(embeddings, dim=1)
        logits = z @ z.T / self.temperature
        same = torch.eye(len(z), dtype=torch.bool, device=z.device)
        log_softmax = functional.log_softmax(logits.masked_fill(same, float("-inf")), dim=1)
        positives = (labels[:, None] == labels[None]) & ~same
        counts = positives.sum(1)
        if not counts.any():
            return embeddings.sum() * 0.0
        each = -log_softmax.masked_fill(~positives, 0.0).sum(1)
        return (each[counts > 0] / counts[counts > 0]).mean()
