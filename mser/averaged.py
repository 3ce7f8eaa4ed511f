"""Several networks of one language in one model, whose answers are averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mser.loader import Batch
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Output
from mser.noise import Noise

DEFAULT = ModelSettings()
#: Between a language and the name of one of its networks.
BETWEEN = "/"


def member_name(language: str, begin: str) -> str:
    """The domain of a network of ``language`` that began as that of another language.

    >>> member_name("it", "de")
    'it/de'
    """
    return f"{language}{BETWEEN}{begin}"


def on_every_expert(model: MultiGateModel) -> MultiGateModel:
    """The model itself, whose networks now take batches of all its experts, in their order.

    A network of a language that was trained without some of the experts takes batches without them.
    """
    for network in model.networks.values():
        own: Any = network
        own.places = own.used
    return model


def mean_of(outputs: Sequence[Output]) -> Output:
    """What networks of one language say together, as :meth:`AveragedModel.forward` has it."""
    mean = torch.stack([one.logits.log_softmax(1) for one in outputs]).logsumexp(0) - math.log(len(outputs))
    gate = torch.stack([one.gate for one in outputs]).mean(0)
    return Output(mean, torch.cat([one.embedding for one in outputs], dim=1), gate)


class AveragedModel(nn.Module):
    """Networks of each language, by :func:`member_name`; a language's answer is the mean of its networks' ones.

    All networks take the same batches, of every expert of the model, though some may leave experts out.

    Args:
        domains: of the networks; those of one language have the same emotions.

    Attributes:
        members: the networks, trained as a model of as many languages. domains: the languages, each with the first of
            its networks' structures.
    """

    kind = "averaged"

    def __init__(
        self,
        domains: Sequence[Domain],
        experts: Sequence[ExpertShape],
        settings: ModelSettings = DEFAULT,
    ) -> None:
        super().__init__()
        self.members = on_every_expert(MultiGateModel(domains, experts, settings))
        self.experts, self.settings = self.members.experts, settings
        self.names: dict[str, list[str]] = {}
        for domain in domains:
            self.names.setdefault(domain.language.partition(BETWEEN)[0], []).append(domain.language)
        first = {language: self.members.domains[names[0]] for language, names in self.names.items()}
        self.domains = {language: replace(domain, language=language, experts=()) for language, domain in first.items()}

    @property
    def structure(self) -> str:
        """The same text for models whose parameters differ in nothing but their values."""
        return f"averaged: {self.members.structure}"

    def forward(
        self, language: str, batch: Batch, noise: Noise | None = None, partners: Tensor | None = None
    ) -> Output:
        """What the networks of a language say together: the logarithm of the mean of their probabilities (B, E), their
        embeddings side by side, and the mean of their gates (B, K)."""
        return mean_of([self.members(name, batch, noise, partners) for name in self.names[language]])

    def layer_weights(self, language: str) -> dict[str, list[float]]:
        """The mean over the networks of the layer mix of each expert that any of them uses."""
        found: dict[str, list[Tensor]] = {}
        for name in self.names[language]:
            for expert, weights in self.members.layer_weights(name).items():
                found.setdefault(expert, []).append(torch.tensor(weights))
        return {expert: torch.stack(each).mean(0).tolist() for expert, each in found.items()}
