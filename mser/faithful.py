"""The authors' network of arXiv 2211.08237 as their published code has it, on cached states: the ``faithful`` preset.

What the code leaves open, or what does not carry over, is decided here:

- Their experts are single sequences; of an upstream with several layers the last one is taken.
- Their gate reads a speaker vector that no upstream here gives; it reads the mean of the experts' vectors.
- Their speaker expert is joined to the fused vector; without one the fused vector is that of the frame experts alone.
- Sub-networks of the routing layer: one an expert before it, two after it.
- H of the head is 128. Sequences are cut to 250 frames of the rate that is trained on.
- They go through the languages in a random order, a step each; here a step holds utterances of all languages, and the
  contrastive loss goes across them. Their weight of it differs by language (0.01 to 0.1); here it is 0.01.
- The rate falls along a half cosine, as in every training here; theirs is constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mser.augment import mixed_up
from mser.errors import ConfigError
from mser.heads import frame_mask, silenced
from mser.loader import Batch
from mser.model import Domain, ExpertShape, ModelSettings, Output
from mser.noise import Dropout, Noise, number_places

#: Size of an expert's vector, frames that are kept, H of the head, dropout of the head.
SIZE, FRAMES, HIDDEN, DROPOUT = 256, 250, 128, 0.1
#: Hard-concrete gates: temperature and the interval that is stretched to (Louizos et al. 2018, arXiv 1712.01312).
BETA, LOW, HIGH = 0.9, -0.1, 2.0
#: None of them is used: sizes are the authors'.
DEFAULT_SETTINGS = ModelSettings()
#: Sub-networks after the routing layer.
ROUTED = 2


class LastLayer(nn.Module):
    """The last layer of an upstream, standardised: (B, T, L, D) -> (B, T, D).

    Args:
        shift, scale: (L, D), of the training frames of a language.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift[-1].clone())
        self.register_buffer("scale", scale[-1].clone())

    def forward(self, states: Tensor) -> Tensor:
        return (states[:, :, -1] - self.shift) * self.scale


class SequenceEncoder(nn.Module):
    """Conv1d of 3 and of 5 frames, summed; a BiLSTM; attention whose query is the last frame's state."""

    #: The LSTM of torch has no stacked form.
    batchable = False

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, SIZE, kernel, padding=kernel // 2) for kernel in (3, 5))
        self.lstm = nn.LSTM(SIZE, SIZE // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D), lengths (B,) -> (B, SIZE)."""
        x = silenced(x, lengths)[:, :FRAMES].transpose(1, 2)
        lengths = lengths.clamp(max=FRAMES)
        convolved = torch.stack([convolve(one, x) for one in self.convolutions]).sum(0).transpose(1, 2)
        packed = pack_padded_sequence(convolved, lengths.cpu(), batch_first=True, enforce_sorted=False)
        encoded, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=convolved.shape[1])
        last = encoded.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, SIZE))
        scores = (encoded * last).sum(2, keepdim=True).masked_fill(frame_mask(lengths, encoded.shape[1]) == 0, -1e9)
        return (scores.softmax(1) * encoded).sum(1)


def convolve(convolution: nn.Module, x: Tensor) -> Tensor:
    """A convolution over time, (B, D, T) -> (B, SIZE, T); of a single frame only the middle tap sees anything."""
    if x.shape[2] > 1:
        return torch.as_tensor(convolution(x))
    weight: Any = convolution.weight
    return functional.conv1d(x, weight[:, :, weight.shape[2] // 2, None], convolution.bias)  # type: ignore[arg-type]


class UtteranceGate(nn.Module):
    """An MLP SIZE - 128 - 64 - 32 - K with ReLU on one vector of an utterance, then softmax."""

    def __init__(self, experts: int) -> None:
        super().__init__()
        sizes = (SIZE, 128, 64, 32)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], experts)

    def forward(self, vector: Tensor) -> Tensor:
        """(B, SIZE) -> (B, K), rows sum to 1."""
        for linear in self.hidden:
            vector = torch.relu(linear(vector))
        return self.last(vector).softmax(1)


class PublishedRouting(nn.Module):
    """Sub-network routing as the authors published it: v_m = sum_k z_km W_km h_k (Ma et al. 2019, AAAI).

    z = clip((HIGH - LOW) s + LOW, 0, 1) with s = sigmoid((log u - log(1 - u) + log alpha) / beta). Here u, which should
    be drawn anew in each step, is a learned parameter that nothing keeps between 0 and 1; nothing is sampled and no L0
    term pulls routes shut. Beyond 0 or 1 s is no number: such a training stops and keeps its last good epoch.

    Args:
        experts: K.
    """

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.full((experts, ROUTED), 0.5))
        self.log_alpha = nn.Parameter(torch.zeros(experts, ROUTED))
        self.weights = nn.Parameter(torch.empty(experts, ROUTED, SIZE // ROUTED, SIZE))
        nn.init.normal_(self.weights, std=SIZE**-0.5)

    def routes(self) -> Tensor:
        """(K, ROUTED): how far each route is open, 0 to 1."""
        s = torch.sigmoid((self.u.log() - (1 - self.u).log() + self.log_alpha) / BETA)
        return ((HIGH - LOW) * s + LOW).clamp(0, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, K, SIZE) -> (B, SIZE)."""
        return torch.einsum("km,kmos,bks->bmo", self.routes(), self.weights, vectors).flatten(1)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that counts as training when there is noise, and else uses what it has seen."""

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """(B, features) -> the same."""
        # One utterance has no deviation.
        training = noise is not None and len(x) > 1
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training, self.momentum or 0.0, self.eps
        )


class FaithfulHead(nn.Module):
    """SIZE - 2 H - H - H / 2 - E, batch normalisation, ReLU and dropout after each hidden layer."""

    def __init__(self, emotions: int) -> None:
        super().__init__()
        sizes = (SIZE, 2 * HIDDEN, HIDDEN, HIDDEN // 2)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.norms = nn.ModuleList(BatchNorm(size) for size in sizes[1:])
        self.dropouts = nn.ModuleList(Dropout(DROPOUT) for _ in sizes[1:])
        self.classifier = nn.Linear(sizes[-1], emotions)

    def forward(self, fused: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """(B, SIZE) -> the embedding before the classifier (B, H / 2), and logits (B, E)."""
        for linear, norm, dropout in zip(self.hidden, self.norms, self.dropouts, strict=True):
            fused = dropout(torch.relu(norm(linear(fused), noise)), noise)
        return fused, self.classifier(fused)


class FaithfulNetwork(nn.Module):
    """The parts that a language has for itself: how its states are standardised, its gate and its head."""

    def __init__(self, domain: Domain, experts: Sequence[ExpertShape]) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(LastLayer(*domain.prior.standard[expert.name]) for expert in experts)
        self.gate = UtteranceGate(len(experts))
        self.head = FaithfulHead(len(domain.emotions))


class FaithfulModel(nn.Module):
    """Encoders and one routing layer shared by all languages; a gate and a head for each.

    It takes languages, batches and noise as :class:`mser.model.MultiGateModel` does. Of a domain's prior it uses how
    states are standardised, and of its genotype nothing.
    """

    kind = "faithful"

    def __init__(
        self,
        domains: Sequence[Domain],
        experts: Sequence[ExpertShape],
        settings: ModelSettings = DEFAULT_SETTINGS,
    ) -> None:
        super().__init__()
        lacking = [domain.language for domain in domains if len(domain.prior.standard) < len(experts)]
        if lacking:
            raise ConfigError(
                "The faithful preset needs every upstream for every language.",
                field="UPSTREAMS",
                expected=" ".join(expert.name for expert in experts),
                found=f"fewer for {' '.join(lacking)}",
                hint="extract the rest, or train without this method",
            )
        self.domains = {domain.language: domain for domain in domains}
        self.experts, self.settings = tuple(experts), settings
        self.encoders = nn.ModuleList(SequenceEncoder(expert.dim) for expert in experts)
        self.routing = PublishedRouting(len(experts))
        self.networks = nn.ModuleDict(
            {f"lang_{domain.language}": FaithfulNetwork(domain, experts) for domain in domains}
        )
        number_places(self)

    @property
    def structure(self) -> str:
        """The same text for models whose parameters differ in nothing but their values."""
        emotions = [f"{one.language} ({len(one.emotions)})" for one in self.domains.values()]
        return "; ".join(["faithful", *emotions, str(self.experts)])

    def forward(
        self, language: str, batch: Batch, noise: Noise | None = None, partners: Tensor | None = None
    ) -> Output:
        """What the model says of a batch; see :meth:`mser.model.MultiGateModel.forward`."""
        network: Any = self.networks[f"lang_{language}"]
        vectors = torch.stack(
            [
                encoder(standardised(states), lengths)
                for encoder, standardised, states, lengths in zip(
                    self.encoders, network.inputs, batch.states, batch.lengths, strict=True
                )
            ],
            dim=1,
        )
        gate = network.gate(vectors.mean(1))
        fused = mixed_up(self.routing(gate.unsqueeze(2) * vectors), partners)
        embedding, logits = network.head(fused, noise)
        return Output(logits, embedding, gate)

    def layer_weights(self, language: str) -> dict[str, list[float]]:
        """All weight is on each expert's last layer."""
        return {expert.name: [0.0] * (expert.layers - 1) + [1.0] for expert in self.experts}
