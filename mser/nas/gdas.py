"""GDAS: one candidate of each choice is drawn in every step, and only that one is computed.

(Dong and Yang 2019, arXiv 1910.04465.)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mser.nas.bilevel import Relaxation
from mser.nas.settings import SearchSettings
from mser.nas.supernet import Mixture, Supernet, without_zero
from mser.noise import Noise, uniform

#: Uniform numbers are kept this far from 0 and 1, where logarithms end.
MARGIN = 1e-6


class Gumbel(Relaxation):
    """Samples of softmax(alpha), with the gradient of the Gumbel-softmax at a falling temperature.

    Which candidates were drawn is read from the device once a step: it decides what is computed.
    """

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.first, self.last = settings.first_temperature, settings.last_temperature

    def mixture(self, supernet: Supernet, noise: Noise, progress: float) -> Mixture:
        temperature = self.first + (self.last - self.first) * progress
        return drawn(supernet.logits(), supernet.edges, noise, temperature)


def step_uniform(noise: Noise, edges: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Edge -> (candidates,) uniform between 0 and 1; ``noise`` has a key for each edge."""
    numbers = uniform(noise, 0, max(map(len, edges.values()))).clamp(MARGIN, 1 - MARGIN)
    return {edge: row[: len(names)] for row, (edge, names) in zip(numbers, edges.items(), strict=True)}


def drawn(
    alpha: Mapping[str, Tensor], edges: Mapping[str, tuple[str, ...]], noise: Noise, temperature: float
) -> Mixture:
    """One candidate of each edge, drawn with the probabilities softmax(alpha), at weight 1.

    With h = log softmax(alpha) - log(-log u), the candidate of the largest h is drawn; its gradient is that of
    softmax(h / temperature) (equations 3 and 4). An expert for which ``zero`` is drawn gets no gate. It is computed
    all the same, with the second largest h, which is a draw among its other operations: so ``zero`` has a gradient as
    well. Where ``zero`` is drawn for every expert, all keep their gates: nearly nothing shared out among them has
    gradients that are as good as infinite.
    """
    numbers = step_uniform(noise, edges)
    scores = {edge: alpha[edge].log_softmax(0) - (-numbers[edge].log()).log() for edge in edges}
    others = {edge: without_zero(names, scores[edge]) for edge, names in edges.items()}
    strongest, runners = torch.stack(
        [torch.stack([score.detach().argmax() for score in one.values()]) for one in (scores, others)]
    ).tolist()

    weights: dict[str, dict[str, Tensor]] = {}
    for (edge, names), place in zip(edges.items(), runners, strict=True):
        name = [name for name in names if name != "zero"][place]
        weights[edge] = {name: _valued(1.0, (others[edge] / temperature).softmax(0)[place])}
    zeros = {
        edge: first == (names.index("zero") if "zero" in names else None)
        for (edge, names), first in zip(edges.items(), strongest, strict=True)
        if edge.startswith("operation")
    }
    kept = []
    for edge, left_out in zeros.items():
        names, shares = edges[edge], (scores[edge] / temperature).softmax(0)
        share = shares[names.index("zero")] if "zero" in names else shares.new_zeros(())
        kept.append(_valued(float(not left_out or all(zeros.values())), 1 - share))
    return Mixture(weights, tuple(kept))


def _valued(value: float, soft: Tensor) -> Tensor:
    """This value, with the gradient of ``soft``."""
    return value + (soft - soft.detach())
