"""DARTS: softmax-weighted candidates, by first-order or second-order gradients, and with beta-decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mser.nas.bilevel import Bilevel, Relaxation, Turn
from mser.nas.settings import SearchSettings
from mser.nas.supernet import Supernet

#: The finite difference moves the weights by this length (Liu et al. 2019, footnote 2).
DIFFERENCE = 0.01


class BetaDecay(Relaxation):
    """Softmax, with a loss against few large alphas, that rises linearly over the epochs.

    (Ye et al. 2022, beta-DARTS, arXiv 2203.01665.)
    """

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.factor = settings.beta_decay

    def penalty(self, supernet: Supernet, progress: float) -> Tensor | None:
        return self.factor * progress * beta_decay(supernet.alphas())


def beta_decay(alphas: Iterable[Tensor]) -> Tensor:
    """The mean of logsumexp(alpha) over all choices, () (Ye et al. 2022, arXiv 2203.01665, equation 11)."""
    return torch.stack([alpha.logsumexp(0) for alpha in alphas]).mean()


def second_order(bilevel: Bilevel, turn: Turn) -> tuple[Tensor, Sequence[Tensor]]:
    """The alphas' gradient through one step of the weights; see :func:`hypergradient`."""
    return hypergradient(
        lambda: bilevel.loss(turn.train, 2 * turn.number, turn.progress),
        lambda: bilevel.loss(turn.dev, 2 * turn.number + 1, turn.progress),
        bilevel.supernet.weights(),
        bilevel.supernet.alphas(),
        bilevel.settings.inner_rate,
    )


def hypergradient(
    train_loss: Callable[[], Tensor],
    dev_loss: Callable[[], Tensor],
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    rate: float,
) -> tuple[Tensor, list[Tensor]]:
    """d L_dev(w - xi dL_train/dw (w, a), a) / da, the mixed second derivative by a finite difference.

    With w' the moved weights and v = dL_dev/dw' there, it is

        dL_dev/da (w', a) - xi (dL_train/da (w + eps v, a) - dL_train/da (w - eps v, a)) / (2 eps)

    with eps = 0.01 / ||v|| (Liu et al. 2019, arXiv 1806.09055, equations 7 and 8).

    Args:
        train_loss, dev_loss: () at the present values of ``weights`` and ``alphas``; each must be the same function at
            every call: one batch, one noise.
        weights: moved in place meanwhile, and put back to the bit. rate: xi.

    Returns:
        The dev loss at w', and the gradient for each alpha.
    """
    start = [weight.detach().clone() for weight in weights]

    def move(directions: Sequence[Tensor], length: Tensor | float) -> None:
        with torch.no_grad():
            for weight, origin, direction in zip(weights, start, directions, strict=True):
                weight.copy_(origin + length * direction)

    try:
        inner = torch.autograd.grad(train_loss(), weights, materialize_grads=True)
        move(inner, -rate)
        loss = dev_loss()
        found = torch.autograd.grad(loss, [*alphas, *weights], materialize_grads=True)
        direct, outer = found[: len(alphas)], found[len(alphas) :]
        length = torch.stack([gradient.norm() for gradient in outer]).norm()
        # Where the dev loss is flat there is nothing to follow, and the difference below is 0.
        step = DIFFERENCE / length.clamp(min=torch.finfo(length.dtype).tiny ** 0.5)
        move(outer, step)
        above = torch.autograd.grad(train_loss(), alphas, materialize_grads=True)
        move(outer, -step)
        below = torch.autograd.grad(train_loss(), alphas, materialize_grads=True)
    finally:
        with torch.no_grad():
            for weight, origin in zip(weights, start, strict=True):
                weight.copy_(origin)
    mixed = [(high - low) / (2 * step) for high, low in zip(above, below, strict=True)]
    return loss, [gradient - rate * second for gradient, second in zip(direct, mixed, strict=True)]
