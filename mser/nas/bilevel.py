"""What strategies with a supernet share: weights learned on some speakers, alphas on others, in turns.

min_alpha L_dev(w*(alpha), alpha) with w*(alpha) = argmin_w L_train(w, alpha) (Liu et al. 2019, arXiv 1806.09055,
equations 3 and 4), one step of each at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mser.errors import ProtocolError, RunError
from mser.loader import Loader
from mser.losses import balanced_weights, weighted_cross_entropy
from mser.nas.operations import PARAMETER_FREE
from mser.nas.settings import SearchCurve, SearchSettings
from mser.nas.supernet import Ingredients, Mixture, Supernet
from mser.noise import Noise
from mser.protocol import Split

#: Called after each epoch with how many are done, and of how many.
Advance = Callable[[int, int], None]


class Relaxation:
    """How alphas become weights of candidates; this one: by softmax.

    Attributes:
        rate: of Adam on the alphas.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self.rate = settings.alpha_rate

    def mixture(self, supernet: Supernet, noise: Noise, progress: float) -> Mixture:
        """The weights of one step.

        Args:
            noise: of the step's choices, a key for each edge, for strategies that sample.
            progress: 0 in the first epoch, 1 in the last.
        """
        return supernet.mixture()

    def penalty(self, supernet: Supernet, progress: float) -> Tensor | None:
        """What is added to the alphas' loss, (), if anything."""
        return None

    def distribution(self, supernet: Supernet) -> dict[str, Tensor]:
        """Edge -> how likely each candidate is, (candidates,), without gradient; the genotype takes the likeliest."""
        return supernet.distribution()


class Turn(NamedTuple):
    """One weight step and one alpha step.

    Attributes:
        train, dev: rows of the weight and of the alpha batch. number: from 0, over all epochs.
        progress: 0 in the first epoch, 1 in the last.
    """

    train: np.ndarray
    dev: np.ndarray
    number: int
    progress: float


@dataclass(frozen=True)
class Clock:
    """What the noise of a step follows from, on the device, so that no step waits for a copy.

    Attributes:
        seed: () int32. steps: (steps,) int32, 0, 1, 2, ... choices: (edges,) int32, numbers that no row has.
    """

    seed: Tensor
    steps: Tensor
    choices: Tensor

    @classmethod
    def started(cls, seed: int, steps: int, edges: int, device: torch.device) -> Clock:
        # The low 31 bits: noise takes int32.
        start = torch.tensor(seed & 0x7FFFFFFF, dtype=torch.int32)
        numbers = [start, torch.arange(steps, dtype=torch.int32), -1 - torch.arange(edges, dtype=torch.int32)]
        return cls(*(number.to(device) for number in numbers))

    def noise(self, step: int, rows: Tensor) -> Noise:
        """Of the utterances of a step: rows (B,) int32."""
        return Noise.of(self.seed, self.steps[step], rows)


class Bilevel:
    """The alternating search of one language and fold.

    Everything random follows from the seed; the supernet's weights are drawn with torch's generator, whose state is
    left as it was.

    Args:
        split: weights see ``split.train`` only, alphas ``split.dev`` only.
        gradient: dev loss () and its gradient for each alpha, of one turn.

    Raises:
        ProtocolError: a part of the split is empty, or rows are in both.
    """

    def __init__(
        self,
        ingredients: Ingredients,
        loader: Loader,
        split: Split,
        settings: SearchSettings,
        seed: int,
        relaxation: Relaxation,
        gradient: Callable[[Bilevel, Turn], tuple[Tensor, Sequence[Tensor]]],
    ) -> None:
        if not len(split.train) or not len(split.dev) or np.intersect1d(split.train, split.dev).size:
            raise ProtocolError(
                "A search needs weight speakers and other alpha speakers.",
                field="split",
                expected="two parts without a common row",
                found=f"{len(split.train)} and {len(split.dev)} rows",
            )
        self.loader, self.split, self.settings, self.seed = loader, split, settings, seed
        self.relaxation, self.gradient = relaxation, gradient
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.supernet = Supernet(ingredients).to(loader.device)
        self.names = ingredients.names
        labels = loader.labels[torch.from_numpy(split.train).to(loader.labels.device)]
        self.balance = balanced_weights(labels, ingredients.emotions).to(loader.device)
        self.optimizer = torch.optim.AdamW(
            self.supernet.weights(), lr=settings.rate, weight_decay=settings.decay, fused=True
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.supernet.alphas(),
            lr=relaxation.rate,
            betas=(0.5, 0.999),
            weight_decay=settings.alpha_decay,
            fused=True,
        )
        self.steps = math.ceil(len(split.train) / settings.batch_size)
        self.epochs = max(settings.epochs, math.ceil(settings.least_steps / self.steps))
        self.rng = np.random.default_rng([seed, 1])
        # Two losses a turn; and those of re-tuning, one set for each choice.
        retuning = settings.retune_steps * len(self.supernet.edges)
        self.clock = Clock.started(
            seed, 2 * self.steps * self.epochs + retuning, len(self.supernet.edges), loader.device
        )

    def loss(self, rows: np.ndarray, step: int, progress: float, mixture: Mixture | None = None) -> Tensor:
        """The class-balanced cross-entropy of a training step on ``rows``, ().

        Args:
            step: decides all noise, and the sample of strategies that sample.
            mixture: weights of the candidates; those of the relaxation if not given.
        """
        batch = self.loader.gather(rows)
        if mixture is None:
            mixture = self.relaxation.mixture(self.supernet, self.clock.noise(step, self.clock.choices), progress)
        logits = self.supernet(batch, self.clock.noise(step, batch.rows), mixture).logits
        return self.balanced(logits, batch.labels)

    def balanced(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the utterances (B, E), each with the weight of its emotion among the training rows: ()."""
        weights = self.balance[labels]
        # Dev speakers may have emotions that training speakers lack; a batch of these alone says nothing.
        return weighted_cross_entropy(logits, labels, weights) / weights.sum().clamp(min=1e-6)

    def weight_step(self, loss: Tensor) -> None:
        """Moves the weights, and nothing else, down a loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=self.supernet.weights())
        self.optimizer.step()

    def alpha_step(self, gradients: Sequence[Tensor]) -> None:
        """Moves the alphas, and nothing else."""
        for alpha, gradient in zip(self.supernet.alphas(), gradients, strict=True):
            alpha.grad = gradient
        self.alpha_optimizer.step()

    def run(self, advance: Advance) -> list[SearchCurve]:
        """All epochs: an alpha step, then a weight step, for each batch of weight rows.

        Raises:
            RunError: a loss is not finite any more.
        """
        curves = []
        for epoch in range(self.epochs):
            progress = epoch / max(1, self.epochs - 1)
            losses = torch.zeros(2, device=self.loader.device)
            for place, rows in enumerate(self.loader.order(self.split.train, self.steps, self.seed, epoch)):
                turn = Turn(rows, self._dev_rows(), epoch * self.steps + place, progress)
                alpha_loss, gradients = self.gradient(self, turn)
                self.alpha_step(gradients)
                loss = self.loss(rows, 2 * turn.number, progress)
                self.weight_step(loss)
                losses += torch.stack([loss.detach(), alpha_loss.detach()])
            curves.append(self._curve(epoch, losses / self.steps))
            advance(epoch + 1, self.epochs)
        return curves

    def _dev_rows(self) -> np.ndarray:
        size = min(len(self.split.dev), self.settings.batch_size)
        return self.rng.choice(self.split.dev, size=size, replace=False)

    def _curve(self, epoch: int, losses: Tensor) -> SearchCurve:
        """The epoch's point, with one read from the device."""
        signs = collapse(self.relaxation.distribution(self.supernet), self.supernet.edges)
        means = torch.cat([losses, signs]).tolist()
        if not all(math.isfinite(mean) for mean in means[:2]):
            raise RunError(
                "The search diverged.",
                field=f"losses of epoch {epoch}",
                expected="finite numbers",
                found=means[:2],
                hint="check the store with `make verify`, or lower the rate",
            )
        return SearchCurve(epoch, *means)


def first_order(bilevel: Bilevel, turn: Turn) -> tuple[Tensor, Sequence[Tensor]]:
    """The alphas' gradient at the current weights (Liu et al. 2019, section 2.3, xi = 0)."""
    loss = bilevel.loss(turn.dev, 2 * turn.number + 1, turn.progress)
    penalty = bilevel.relaxation.penalty(bilevel.supernet, turn.progress)
    total = loss if penalty is None else loss + penalty
    return loss, torch.autograd.grad(total, bilevel.supernet.alphas(), materialize_grads=True)


def collapse(distribution: Mapping[str, Tensor], edges: Mapping[str, Sequence[str]]) -> Tensor:
    """Entropy and weight of parameter-free operations, as :class:`SearchCurve` has them: (2,)."""
    chosen = {edge: names for edge, names in edges.items() if edge.startswith("operation")}
    signs = []
    for edge, names in chosen.items():
        shares = distribution[edge]
        free = torch.tensor([float(name in PARAMETER_FREE) for name in names], device=shares.device)
        entropy = torch.special.entr(shares).sum() / math.log(max(2, len(names)))
        signs.append(torch.stack([entropy, (shares * free).sum()]))
    return torch.stack(signs).mean(0)
