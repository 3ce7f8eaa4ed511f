"""Differentiable search, first order, with beta-decay against collapse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as functional

from mser.errors import RunError
from mser.loader import Loader
from mser.losses import balanced_weights
from mser.nas.genotype import Genotype
from mser.nas.supernet import Supernet
from mser.protocol import Split


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a differentiable search.

    Attributes:
        epochs: over the weight speakers; more where that makes fewer than ``least_steps`` steps.
        batch_size: utterances, of weight and of alpha batches.
        rate, decay: AdamW on the weights. alpha_rate, alpha_decay: Adam on the alphas.
        beta_decay: largest factor of the beta-decay loss; it rises linearly from 0 over the epochs. 0: plain DARTS.
    """

    epochs: int = 30
    least_steps: int = 300
    batch_size: int = 32
    rate: float = 2e-3
    decay: float = 1e-2
    alpha_rate: float = 1e-2
    alpha_decay: float = 1e-3
    beta_decay: float = 1.0


@dataclass(frozen=True)
class SearchCurve:
    """One epoch of a search: mean losses on weight and alpha speakers, and the signs of collapse."""

    epoch: int
    weight_loss: float
    alpha_loss: float
    entropy: float
    parameter_free: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def search(
    supernet: Supernet,
    loader: Loader,
    split: Split,
    settings: SearchSettings,
    seed: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Genotype, list[SearchCurve]]:
    """Learns weights on ``split.train`` and alphas on ``split.dev``: disjoint speakers.

    Each step takes the alphas' gradient at the current weights (first order: Liu et al. 2019, section 2.3, xi = 0),
    then the weights' gradient.

    Raises:
        RunError: a loss is not finite any more.
    """
    device = loader.device
    balance = balanced_weights(loader.labels[split.train], int(loader.labels.max()) + 1).to(device)
    weights = torch.optim.AdamW(supernet.weights(), lr=settings.rate, weight_decay=settings.decay, fused=True)
    alphas = torch.optim.Adam(
        supernet.alphas(), lr=settings.alpha_rate, betas=(0.5, 0.999), weight_decay=settings.alpha_decay, fused=True
    )
    rng = np.random.default_rng([seed, 1])
    steps = math.ceil(len(split.train) / settings.batch_size)
    epochs = max(settings.epochs, math.ceil(settings.least_steps / steps))
    curves = []
    supernet.train()
    for epoch in range(epochs):
        factor = settings.beta_decay * epoch / max(1, epochs - 1)
        losses = []
        for rows in loader.order(split.train, steps, seed, epoch):
            dev = rng.choice(split.dev, size=min(len(split.dev), settings.batch_size), replace=False)
            alpha_loss = _step(supernet, loader, dev, balance, alphas, factor)
            losses.append((_step(supernet, loader, rows, balance, weights, 0.0), alpha_loss))
        means = torch.tensor(losses).mean(0).tolist()
        if not all(math.isfinite(mean) for mean in means):
            raise RunError(
                "The search diverged.",
                field=f"losses of epoch {epoch}",
                expected="finite numbers",
                found=means,
                hint="check the store with `make verify`, or lower the rate",
            )
        curves.append(SearchCurve(epoch, means[0], means[1], **supernet.diagnostics()))
        advance(epoch + 1, epochs)
    return supernet.genotype(), curves


def _step(
    supernet: Supernet,
    loader: Loader,
    rows: np.ndarray,
    balance: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    factor: float,
) -> float:
    batch = loader.gather(rows)
    summed = functional.cross_entropy(supernet(batch).logits, batch.labels, weight=balance, reduction="sum")
    # Dev speakers may have emotions that training speakers lack; a batch of these alone says nothing.
    loss = summed / balance[batch.labels].sum().clamp(min=1e-6)
    supernet.zero_grad(set_to_none=True)
    (loss + factor * supernet.beta_decay() if factor else loss).backward()
    optimizer.step()
    return float(loss.detach())
