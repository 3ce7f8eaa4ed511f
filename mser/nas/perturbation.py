"""Perturbation-based selection: a choice is decided by what its candidates are worth, not by their alphas.

(Wang et al. 2021, DARTS-PT, arXiv 2108.04392, algorithm 1.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mser.nas.bilevel import Bilevel
from mser.nas.genotype import Genotype

#: Batches of the dev rows are this many times as large as in training: nothing is kept for gradients.
EVALUATION_BATCHES = 8


def select(bilevel: Bilevel) -> Genotype:
    """Decides one choice after the other, in an order drawn by the seed.

    Of each choice the candidate is kept without which the supernet's loss on the alpha speakers is largest. After each
    the weights are tuned to what is left, ``settings.retune_steps`` steps on weight speakers.

    Args:
        bilevel: with a trained supernet; its weights are changed.
    """
    supernet, settings = bilevel.supernet, bilevel.settings
    left: dict[str, tuple[str, ...]] = dict(supernet.edges)
    rng = np.random.default_rng([bilevel.seed, 2])
    tuned = 0
    for edge in rng.permutation(list(left)).tolist():
        if len(left[edge]) == 1:
            continue
        candidates = [name for name in left[edge] if name != "zero" or _another_expert(left, edge)]
        harm = torch.stack([dev_loss(bilevel, without(left, edge, name)) for name in candidates])
        left[edge] = (candidates[int(harm.argmax())],)
        order = _batches(bilevel, tuned, settings.retune_steps)
        for rows in order:
            # Behind the steps of the search, so that no noise comes twice.
            step = 2 * bilevel.steps * bilevel.epochs + tuned
            bilevel.weight_step(bilevel.loss(rows, step, 1.0, supernet.mixture(left)))
            tuned += 1
    return supernet.space.genotype(bilevel.names, {edge: names[0] for edge, names in left.items()})


def without(left: Mapping[str, Sequence[str]], edge: str, name: str) -> dict[str, tuple[str, ...]]:
    """All candidates but one."""
    kept = tuple(one for one in left[edge] if one != name)
    return {**{other: tuple(names) for other, names in left.items()}, edge: kept}


def dev_loss(bilevel: Bilevel, left: Mapping[str, Sequence[str]]) -> Tensor:
    """The balanced cross-entropy over all alpha rows, without noise, of the candidates that are left: ()."""
    rows = bilevel.split.dev
    parts = math.ceil(len(rows) / (EVALUATION_BATCHES * bilevel.settings.batch_size))
    logits, labels = [], []
    with torch.no_grad():
        mixture = bilevel.supernet.mixture(left)
        for part in np.array_split(rows, parts):
            batch = bilevel.loader.gather(part)
            logits.append(bilevel.supernet(batch, None, mixture).logits)
            labels.append(batch.labels)
        return bilevel.balanced(torch.cat(logits), torch.cat(labels))


def _another_expert(left: Mapping[str, Sequence[str]], edge: str) -> bool:
    """Whether an expert would be left if this one were left out; true for choices of other things."""
    experts = [names for other, names in left.items() if other.startswith("operation") and other != edge]
    return not edge.startswith("operation") or any(tuple(names) != ("zero",) for names in experts)


def _batches(bilevel: Bilevel, tuned: int, steps: int) -> list[np.ndarray]:
    """The next ``steps`` batches of weight rows, in epochs that follow those of the search."""
    found: list[np.ndarray] = []
    epoch = bilevel.epochs + tuned
    while len(found) < steps:
        found += bilevel.loader.order(bilevel.split.train, bilevel.steps, bilevel.seed, epoch)
        epoch += 1
    return found[:steps]
