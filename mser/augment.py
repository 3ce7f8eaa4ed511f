"""Augmentation of cached states in training: runs of frames or features are hidden, embeddings are mixed up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mser.noise import Noise, uniform


class FrameMask(nn.Module):
    """Hides a run of frames and a run of features of each utterance, as SpecAugment does on spectrograms.

    (Park et al. 2019, arXiv 1904.08779, without warping; hidden values are 0, the mean of standardised states.)
    The runs' lengths are uniform from 0 to a share of the utterance's frames, or of the features.

    Args:
        frames, features: the largest shares, 0 to 1.
    """

    def __init__(self, frames: float, features: float) -> None:
        super().__init__()
        for share in (frames, features):
            if not 0 <= share <= 1:
                raise ValueError(f"expected a share from 0 to 1, found {share}")
        self.frames, self.features = frames, features
        self.place: int = 0

    def forward(self, x: Tensor, lengths: Tensor, noise: Noise | None) -> Tensor:
        """(B, T, D), lengths (B,) -> (B, T, D)."""
        if noise is None or not (self.frames or self.features):
            return x
        drawn = uniform(noise, self.place, 4)
        sizes = torch.full_like(lengths, x.shape[2])
        hidden = _run(drawn[:, :2], lengths, self.frames, x.shape[1])[:, :, None]
        hidden = hidden | _run(drawn[:, 2:], sizes, self.features, x.shape[2])[:, None]
        return x.masked_fill(hidden, 0.0)


def _run(drawn: Tensor, sizes: Tensor, share: float, width: int) -> Tensor:
    """(B, width) bool: in each row a run of at most ``share`` of its size, somewhere in it."""
    length = drawn[:, 0] * share * sizes
    start = drawn[:, 1] * (sizes - length)
    at = torch.arange(width, device=sizes.device) + 0.5
    return (at >= start[:, None]) & (at < (start + length)[:, None])


def mixed_up(embeddings: Tensor, partners: Tensor | None) -> Tensor:
    """Mixes embeddings of a batch (Verma et al. 2019, manifold mixup, arXiv 1806.05236): (B, H) -> (B, H).

    Args:
        partners: (B, B), rows sum to 1: how much of each utterance (column) goes into each row; None: nothing is
            mixed. The targets are to be mixed alike.
    """
    return embeddings if partners is None else partners.to(embeddings.dtype) @ embeddings


def draw_partners(noise: Noise, counted: Tensor, strength: float) -> Tensor:
    """One partner for each counted utterance, with a weight uniform from 0 to ``strength``: (B, B).

    Partners are drawn among counted utterances only, so that no utterance beyond the training rows leaks in.

    Args:
        counted: (B,) 0 or 1. strength: at most 0.5, so that an utterance stays the larger part of its row.
    """
    drawn = uniform(noise, PARTNER_PLACE, 2)
    rank = counted.cumsum(0)
    wanted = torch.minimum((drawn[:, 0] * rank[-1]).floor() + 1, rank[-1])
    # (B, B): the counted utterance of the wanted rank.
    chosen = ((rank[None] == wanted[:, None]) & (counted[None] > 0)).to(drawn.dtype)
    weight = (drawn[:, 1] * strength * counted)[:, None]
    return torch.eye(len(counted), device=counted.device) * (1 - weight) + chosen * weight


#: A place that no module of a model has.
PARTNER_PLACE = 1 << 20
