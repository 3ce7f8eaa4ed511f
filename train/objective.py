"""What a training step minimises, as one module, so that many replicas of it can run as one program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mser.augment import draw_partners
from mser.checkpoint import Model
from mser.config import FROM_ZERO, require_numbers, share
from mser.errors import ConfigError
from mser.gating import gate_imbalance
from mser.loader import Batch
from mser.losses import GE2ESoftmaxLoss, SupervisedContrastiveLoss, balanced_weights, weighted_cross_entropy
from mser.noise import Noise

CONTRASTIVE = ("supcon", "ge2e", "ge2e-truncated", "none")


@dataclass(frozen=True)
class LossSettings:
    """What is minimised.

    Attributes:
        contrastive: ``supcon``, ``ge2e``, ``ge2e-truncated`` (as the authors of arXiv 2211.08237 have it) or
            ``none``; on the embedding before the classifier, across languages where they share an emotion.
        contrastive_weight: a in cross-entropy + a * contrastive.
        balanced: whether each emotion weighs the same, however often it occurs in training.
        label_smoothing: of the cross-entropy.
        mixup: largest share of another utterance in a fused embedding, 0 to 0.5; 0 for none.
        gate_balance: factor of the gates' imbalance (:func:`mser.gating.gate_imbalance`).

    Raises:
        ConfigError: a value that nothing can be minimised with.
    """

    contrastive: str = "supcon"
    contrastive_weight: float = 0.1
    balanced: bool = True
    label_smoothing: float = 0.0
    mixup: float = 0.0
    gate_balance: float = 0.0

    def __post_init__(self) -> None:
        if self.contrastive not in CONTRASTIVE:
            raise ConfigError(
                "Unknown contrastive loss.",
                field="contrastive",
                expected=" ".join(CONTRASTIVE),
                found=self.contrastive,
            )
        rules = {"contrastive_weight": FROM_ZERO, "gate_balance": FROM_ZERO}
        rules |= {"label_smoothing": share(below=True), "mixup": share(0.5)}
        require_numbers(self, "No loss can be computed with this.", rules)


class Objective(nn.Module):
    """A model with its loss.

    Args:
        labels: for each language (n,) the labels of its training rows.
        shared: for each language (E_g,) the index of each of its emotions among those of all languages.
        steps: of an epoch; the losses of an epoch's steps average to the mean over its utterances.
    """

    def __init__(
        self,
        model: Model,
        settings: LossSettings,
        labels: Mapping[str, Tensor],
        shared: Mapping[str, Tensor],
        steps: int,
    ) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        emotions = 1 + max(int(indices.max()) for indices in shared.values())
        kinds = {
            "supcon": lambda: SupervisedContrastiveLoss(),
            "ge2e": lambda: GE2ESoftmaxLoss(emotions),
            "ge2e-truncated": lambda: GE2ESoftmaxLoss(emotions, truncate=True),
            "none": nn.Identity,
        }
        self.contrastive = kinds[settings.contrastive]()
        total = sum(len(one) for one in labels.values())
        for language, own in labels.items():
            classes = len(model.domains[language].emotions)
            balance = balanced_weights(own.cpu(), classes) if settings.balanced else torch.ones(classes)
            self.register_buffer(f"balance_{language}", balance * steps / total)
            self.register_buffer(f"shared_{language}", shared[language])

    def forward(
        self, batches: Mapping[str, Batch], counted: Mapping[str, Tensor], seed: Tensor, step: Tensor
    ) -> Tensor:
        """The loss of one step, ().

        Args:
            batches: of each language. counted: (B,) for each, 1 for training rows, 0 for others.
            seed, step: () int32, what is random depends on.
        """
        settings = self.settings
        loss = torch.zeros((), device=step.device)
        embeddings, labels, weights = [], [], []
        for language, batch in batches.items():
            noise = Noise.of(seed, step, batch.rows)
            counts = counted[language]
            partners = draw_partners(noise, counts, settings.mixup) if settings.mixup else None
            output = self.model(language, batch, noise, partners)
            loss = loss + self._cross_entropy(language, output.logits, batch.labels, counts, partners)
            if settings.gate_balance:
                loss = loss + settings.gate_balance * gate_imbalance(output.gate, counts)
            embeddings.append(output.embedding)
            labels.append(getattr(self, f"shared_{language}")[batch.labels])
            weights.append(counts)
        if settings.contrastive != "none":
            loss = loss + settings.contrastive_weight * self._across(embeddings, labels, weights)
        return loss

    def _cross_entropy(
        self, language: str, logits: Tensor, labels: Tensor, counts: Tensor, partners: Tensor | None
    ) -> Tensor:
        weights = counts * getattr(self, f"balance_{language}")[labels]
        if partners is None:
            return weighted_cross_entropy(logits, labels, weights, self.settings.label_smoothing)
        size = logits.shape[1]
        targets = partners @ (labels[:, None] == torch.arange(size, device=labels.device)).to(partners.dtype)
        targets = targets * (1 - self.settings.label_smoothing) + self.settings.label_smoothing / size
        return -((targets * logits.log_softmax(1)).sum(1) * weights).sum()

    def _across(self, embeddings: list[Tensor], labels: list[Tensor], counts: list[Tensor]) -> Tensor:
        """The contrastive loss over all languages of a batch whose embeddings have one width."""
        widths = sorted({embedding.shape[1] for embedding in embeddings})
        total = torch.zeros((), device=embeddings[0].device)
        for width in widths:
            chosen = [number for number, embedding in enumerate(embeddings) if embedding.shape[1] == width]
            total = total + self.contrastive(
                torch.cat([embeddings[number] for number in chosen]),
                torch.cat([labels[number] for number in chosen]),
                torch.cat([counts[number] for number in chosen]),
            )
        return total / len(widths)
