"""Unsupervised adversarial adaptation to a language (Latif et al. 2019, arXiv 1907.06083).

A shared encoder turns the vector of an utterance into a code. A head tells emotions of labelled codes. A second head,
the adversary, tells codes of the source from codes of the unlabelled target, and the encoder learns to defeat it, so
that what the first head learnt on the source holds for the target. The paper plays the game as a GAN does; the same
game in one step, by reversed gradients, is that of Ganin et al. 2016, JMLR 17 (arXiv 1505.07818). Inputs, widths and
rates are ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.swa_utils import AveragedModel

from mser.config import ABOVE_ZERO, FROM_ZERO, require_numbers, share, whole
from train.systems.base import System
from train.systems.descent import Steps, class_weights, descend, labels_of, parameters_of, probabilities
from train.systems.task import FEW_SHOT, ZERO_SHOT, Answer, Part, Task
from train.systems.vectors import FEATURES, NORMALISE, Vectors, require_known, vectors_of

REVERSAL, GAN, NONE = "reversal", "gan", "none"


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, codes: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return codes.view_as(codes)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradient, None


def reverse(codes: Tensor, strength: float) -> Tensor:
    """The codes themselves, of any shape; the gradient comes back times minus ``strength``."""
    reversed_codes: Tensor = _Reversal.apply(codes, strength)
    return reversed_codes


def ramp(progress: float) -> float:
    """Strength of the adversary after a share of the training, from 0 towards 1: 2 / (1 + exp(-10 p)) - 1.

    Ganin et al. 2016, section 5.2.2. Early on the codes mean nothing yet, and to defeat the adversary would be idle.

    >>> ramp(0.0), round(ramp(0.5), 4), round(ramp(1.0), 4)
    (0.0, 0.9866, 0.9999)
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


def language_loss(source: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of telling the languages apart, each weighing the same: logits (n,) and (m,) of *target* -> ().

    With its arguments exchanged it is the loss of a GAN's generator, whose labels are flipped.
    """
    return (softplus(source).mean() + softplus(-target).mean()) / 2


def discriminator_step(
    discriminator: nn.Module, optimizer: torch.optim.Optimizer, source: Tensor, target: Tensor
) -> Tensor:
    """One step of the discriminator alone, on codes (n, C) and (m, C) whose encoder it does not reach -> its loss."""
    optimizer.zero_grad(set_to_none=True)
    loss = language_loss(discriminator(source.detach())[:, 0], discriminator(target.detach())[:, 0])
    loss.backward()
    optimizer.step()
    return loss.detach()


class Network(nn.Module):
    """Vectors (B, D) -> logits of emotions (B, E). Its ``encoder`` gives codes (B, C), non-negative."""

    def __init__(self, inputs: int, hidden: int, code: int, emotions: int, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(inputs, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, code), nn.ReLU(),
        )  # fmt: skip
        self.emotion = nn.Linear(code, emotions)

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.emotion(self.encoder(rows))
        return logits


@dataclass(frozen=True)
class Adversarial(System):
    """An encoder and a head of emotions, against an adversary that tells the languages apart.

    Attributes:
        adversary: ``reversal``: all descend together, the gradient from the adversary to the encoder reversed.
            ``gan``: a step of the adversary on codes as they are, then one of the encoder and its head against it, the
            languages exchanged; as the paper has it. ``none``: no adversary, the paper's control.
        features, normalise: see :mod:`train.systems.vectors`. To standardise each language by itself is an adaptation
            of its own, which hides the adversary's worth.
        hidden, code: units of the encoder's two layers. critic: of the adversary's hidden layer. Open.
        dropout: on the encoder's inputs and hidden units. critic_dropout: on the codes that the adversary sees, so that
            it looks at many of their units. Open.
        strength: of the adversary at the end of :func:`ramp`, which ``gan`` follows too. Open in the paper.
        average: share of the epochs, the last ones, whose weights are averaged to those that answer, in the control
            too: encoder and adversary go round each other rather than come to rest, and any one epoch is as good as
            another. Open; half does better than none on dev speakers of EmoDB.
        steps: epochs count the source. Each step sees as many utterances of the target as of the source.
            Open; twice the perceptron's batch and rate, so that a training takes about a second.
        tuning: of encoder and head on the shots, once the languages have met: the paper has no labelled target.
    """

    adversary: str = REVERSAL
    features: str = "layer"
    normalise: str = "source"
    hidden: int = 128
    code: int = 64
    critic: int = 64
    dropout: float = 0.3
    critic_dropout: float = 0.5
    strength: float = 1.0
    average: float = 0.5
    steps: Steps = field(default=Steps(epochs=30, batch_size=64, rate=2e-3, decay=1e-2))
    tuning: Steps = field(default=Steps(epochs=10, rate=3e-4, decay=1e-2, least_steps=30))

    def __post_init__(self) -> None:
        what = "There is no such adversarial system."
        allowed = {"adversary": (REVERSAL, GAN, NONE), "features": FEATURES, "normalise": NORMALISE}
        require_known(self, what, allowed)
        rules = {name: whole(1) for name in ("hidden", "code", "critic")}
        rules |= {name: share(below=True) for name in ("dropout", "critic_dropout")}
        rules |= {"strength": FROM_ZERO, "average": share()}
        require_numbers(self, what, rules)
        for steps in (self.steps, self.tuning):
            require_numbers(steps, what, {"epochs": whole(1), "batch_size": whole(1), "rate": ABOVE_ZERO})

    @property
    def adapts(self) -> bool:  # type: ignore[override]
        return self.adversary != NONE or self.normalise == "each"

    @property
    def protocols(self) -> tuple[str, ...]:  # type: ignore[override]
        return (ZERO_SHOT, FEW_SHOT) if self.adapts else System.protocols

    def answer(self, task: Task) -> Answer:
        vectors = vectors_of(task, self.features, self.normalise)
        # Without an adversary the target takes no part in the training, so that both halves share it.
        met = b"" if self.adversary == NONE else task.adapt.rows.tobytes()
        model, curve, told = task.once((self, met), lambda: self._trained(task, vectors))
        if len(task.shots):
            model = self._tuned(task, vectors, model)
        said = probabilities(model, vectors.test)
        return Answer(said, parameters_of(model), {"layers": dict(vectors.layers), "losses": curve, **told})

    def _trained(self, task: Task, vectors: Vectors) -> tuple[Network, list[float], dict[str, float]]:
        """The network, for use; its losses; how well the languages are told apart by its codes."""
        torch.manual_seed(task.seed)
        inputs = vectors.source.shape[1]
        model = Network(inputs, self.hidden, self.code, len(task.emotions), self.dropout).to(task.device)
        critic = nn.Sequential(
            nn.Dropout(self.critic_dropout), nn.Linear(self.code, self.critic), nn.ReLU(), nn.Linear(self.critic, 1)
        ).to(task.device)
        criterion, labels = balanced(task.source, task), labels_of(task.source, task)
        languages = self._language_loss(task, vectors, critic)

        def loss(at: np.ndarray, progress: float) -> Tensor:
            codes = model.encoder(vectors.source[at])
            total: Tensor = criterion(model.emotion(codes), labels[at])
            return total if self.adversary == NONE else total + languages(model.encoder, codes, ramp(progress))

        learnt = [*model.parameters(), *(critic.parameters() if self.adversary == REVERSAL else ())]
        means = AveragedModel(model), AveragedModel(critic)
        epochs = self.steps.epochs_for(len(task.source))
        first = epochs - max(1, round(self.average * epochs))

        def after(epoch: int) -> None:
            if epoch >= first:
                means[0].update_parameters(model)
                means[1].update_parameters(critic)

        curve = descend(learnt, loss, len(task.source), self.steps, task.seed, after)
        network = cast(Network, means[0].module).eval()
        told = {} if self.adversary == NONE else languages_told(network.encoder, means[1].module.eval(), vectors)
        return network, curve, told

    def _tuned(self, task: Task, vectors: Vectors, model: Network) -> Network:
        """A copy that went on with the shots."""
        model = copy.deepcopy(model).train()
        torch.manual_seed(task.seed)
        criterion, labels = balanced(task.shots, task), labels_of(task.shots, task)
        descend(
            model.parameters(), lambda at, _: criterion(model(vectors.shots[at]), labels[at]), len(task.shots),
            self.tuning, task.seed,
        )  # fmt: skip
        return model.eval()

    def _language_loss(
        self, task: Task, vectors: Vectors, critic: nn.Module
    ) -> Callable[[nn.Module, Tensor, float], Tensor]:
        """What the adversary adds to the loss: of the encoder, codes of the source (B, C), and the ramp."""
        draw = Draw(len(task.adapt), self.steps.batch_size, [task.seed, 2])
        optimizer = torch.optim.AdamW(critic.parameters(), lr=self.steps.rate, weight_decay=self.steps.decay)

        def loss(encoder: nn.Module, source: Tensor, grown: float) -> Tensor:
            target = encoder(vectors.adapt[draw()])
            if self.adversary == GAN:
                discriminator_step(critic, optimizer, source, target)
                # The critic's own gradients of this are dropped by its next step: it is not among what descends.
                return self.strength * grown * language_loss(critic(target)[:, 0], critic(source)[:, 0])
            each = [critic(reverse(codes, self.strength * grown))[:, 0] for codes in (source, target)]
            return language_loss(*each)

        return loss


class Draw:
    """Batches of positions below ``count``, each once before any comes again, in an order that the seed decides."""

    def __init__(self, count: int, size: int, seed: list[int]) -> None:
        self.count, self.size = count, min(count, size)
        self._rng = np.random.default_rng(seed)
        self._left = np.zeros(0, dtype=np.int64)

    def __call__(self) -> np.ndarray:
        """(size,) int64; a rest that fills no batch is left out."""
        if len(self._left) < self.size:
            self._left = self._rng.permutation(self.count)
        drawn, self._left = self._left[: self.size], self._left[self.size :]
        return drawn


def balanced(part: Part, task: Task) -> nn.CrossEntropyLoss:
    """Cross-entropy in which each emotion of the part weighs the same."""
    return nn.CrossEntropyLoss(class_weights(part.labels, len(task.emotions)).to(task.device))


def languages_told(encoder: nn.Module, critic: nn.Module, vectors: Vectors) -> dict[str, float]:
    """How often codes tell source from unlabelled target, percent, both weighing the same; 50 is chance.

    Returns:
        ``language_head``: by the adversary, which may merely have lost its way. ``language_probe``: by a new logistic
        regression that learns from every other code and is asked the rest.
    """
    with torch.inference_mode():
        codes = [encoder(rows) for rows in (vectors.source, vectors.adapt)]
        head = [(critic(own)[:, 0] > 0).double().mean().item() for own in codes]
    each = [own.cpu().double().numpy() for own in codes]
    learnt, asked = (np.concatenate([own[start::2] for own in each]) for start in (0, 1))
    truth, true = (np.repeat([0, 1], [len(own[start::2]) for own in each]) for start in (0, 1))
    found = {"language_head": 50 * (1 - head[0] + head[1])}
    if min(map(len, each)) > 1:
        scaler = StandardScaler().fit(learnt)
        probe = LogisticRegression(C=0.1, class_weight="balanced", max_iter=200, tol=1e-3)
        said = probe.fit(scaler.transform(learnt), truth).predict(scaler.transform(asked))
        found["language_probe"] = 50 * float((said[true == 0] == 0).mean() + (said[true == 1] == 1).mean())
    return found
