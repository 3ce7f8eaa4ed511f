"""Trains one model on the training rows of each of its languages, and asks it for predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from mser.errors import ConfigError, RunError
from mser.loader import Loader
from mser.losses import GE2ESoftmaxLoss, SupervisedContrastiveLoss, balanced_weights
from mser.model import MultiGateModel

#: Above this batch size nothing is gained in prediction.
PREDICTION_BATCH = 256


@dataclass(frozen=True)
class FitSettings:
    """Settings of a training; the same for every structure, so that structures compare.

    Attributes:
        epochs: over the training rows; more where that makes fewer than ``least_steps`` steps.
        batch_size: utterances of all languages together.
        rate, decay: AdamW on the weights, the rate falling to zero along a half cosine.
        mixture_rate: Adam step of layer-mix and gate logits, without decay.
        contrastive: ``supcon``, ``ge2e`` or ``none``; on the embedding before the classifier.
        contrastive_weight: a in cross-entropy + a * contrastive.
        label_smoothing: of the cross-entropy.
    """

    epochs: int = 30
    least_steps: int = 300
    batch_size: int = 32
    rate: float = 1e-3
    decay: float = 1e-2
    mixture_rate: float = 1e-2
    contrastive: str = "supcon"
    contrastive_weight: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.contrastive not in ("supcon", "ge2e", "none"):
            raise ConfigError(
                "Unknown contrastive loss.",
                field="contrastive",
                expected="supcon, ge2e or none",
                found=self.contrastive,
            )


def fit(
    model: MultiGateModel,
    loaders: Mapping[str, Loader],
    rows: Mapping[str, np.ndarray],
    settings: FitSettings,
    seed: int,
    shared_labels: Mapping[str, Tensor] | None = None,
) -> list[float]:
    """Trains ``model`` in place.

    Args:
        loaders, rows: for each language of the model, its loader and training rows.
        shared_labels: for each language (E_g,) the index of each of its emotions among all languages' emotions,
            for a contrastive loss across languages; the language's own indices if not given.

    Returns:
        The mean loss of each epoch.

    Raises:
        RunError: the loss is not finite any more.
    """
    device = next(iter(loaders.values())).device
    total = sum(len(chosen) for chosen in rows.values())
    steps = math.ceil(total / settings.batch_size)
    contrastive = _contrastive(settings).to(device)
    optimizer = _optimizer(model, contrastive, settings)
    epochs = max(settings.epochs, math.ceil(settings.least_steps / steps))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    balance = {
        language: balanced_weights(loaders[language].labels[chosen], len(model.domains[language].emotions)).to(device)
        for language, chosen in rows.items()
    }
    losses = []
    model.train()
    for epoch in range(epochs):
        summed = torch.zeros((), device=device)
        orders = [(language, loaders[language].order(chosen, steps, seed, epoch)) for language, chosen in rows.items()]
        for step in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.zeros((), device=device)
            embeddings, labels = [], []
            for language, order in orders:
                if step >= len(order) or not len(order[step]):
                    continue
                batch = loaders[language].gather(order[step])
                output = model(language, batch)
                share = len(batch.labels) * steps / total
                loss = loss + share * functional.cross_entropy(
                    output.logits, batch.labels, weight=balance[language], label_smoothing=settings.label_smoothing
                )
                embeddings.append(output.embedding)
                labels.append(batch.labels if shared_labels is None else shared_labels[language][batch.labels])
            if not embeddings:  # fewer rows than steps, in every language
                continue
            if settings.contrastive != "none":
                loss = loss + settings.contrastive_weight * _across(contrastive, embeddings, labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            summed += loss.detach()
        losses.append(float(summed) / steps)
        if not math.isfinite(losses[-1]):
            raise RunError(
                "Training diverged.",
                field=f"loss of epoch {epoch}",
                expected="a finite number",
                found=losses[-1],
                hint="check the store with `make verify`, or lower the rate",
            )
    return losses


def _across(contrastive: nn.Module, embeddings: list[Tensor], labels: list[Tensor]) -> Tensor:
    """The contrastive loss over all languages of a batch whose embeddings have one width."""
    widths = {embedding.shape[1] for embedding in embeddings}
    total = embeddings[0].sum() * 0.0
    for width in widths:
        chosen = [(e, y) for e, y in zip(embeddings, labels, strict=True) if e.shape[1] == width]
        total = total + contrastive(torch.cat([e for e, _ in chosen]), torch.cat([y for _, y in chosen]))
    return total / len(widths)


def _contrastive(settings: FitSettings) -> nn.Module:
    kinds = {"supcon": SupervisedContrastiveLoss, "ge2e": GE2ESoftmaxLoss, "none": nn.Identity}
    return kinds[settings.contrastive]()


def _optimizer(model: MultiGateModel, contrastive: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    mixtures = model.mixture_parameters()
    known = {id(value) for value in mixtures}
    weights = [value for value in model.parameters() if id(value) not in known] + list(contrastive.parameters())
    return torch.optim.AdamW(
        [
            {"params": weights, "lr": settings.rate, "weight_decay": settings.decay},
            {"params": mixtures, "lr": settings.mixture_rate, "weight_decay": 0.0},
        ],
        fused=True,
    )


@torch.inference_mode()
def predict(model: MultiGateModel, language: str, loader: Loader, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, E) and gate weights (N, K) of ``rows``, in their order."""
    model.eval()
    probabilities, gates = [], []
    for start in range(0, len(rows), PREDICTION_BATCH):
        output = model(language, loader.gather(rows[start : start + PREDICTION_BATCH]))
        probabilities.append(output.logits.softmax(1).cpu())
        gates.append(output.gate.cpu())
    return torch.cat(probabilities).numpy(), torch.cat(gates).numpy()
