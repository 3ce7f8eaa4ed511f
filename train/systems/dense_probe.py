"""Dense probes of frozen layers: a small network on the frames of one layer, or of a combination of all layers.

Singh and Gupta 2023, "Decoding Emotions", arXiv 2308.08713: two 1x1 convolutions with ReLU, the mean over frames, a
linear layer. Their point is that the best single layer beats both ways to combine all of them; it was chosen on the
test there. Here the dev speakers of the source choose the layer, and the epoch.

Two things differ from the paper: states are standardised by the source, since layers of some models differ in scale by
orders of magnitude, and each emotion weighs the same in the loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mser.errors import ConfigError
from train.systems.base import System
from train.systems.descent import Sequences, Steps, class_weights, descend, labels_of, parameters_of
from train.systems.layer_probe import recalls
from train.systems.layers import best_layer
from train.systems.task import Answer, Part, Task

#: Utterances that are judged at a time.
BLOCK = 64

#: An upstream and some of its layers.
Place = tuple[str, tuple[int, ...]]


def averaging(lengths: Tensor) -> Tensor:
    """The matrix (B, F) that takes the mean over each utterance's frames: lengths (B,), F their sum.

    As a product it gives the same on a GPU each time, which adding by index does not.
    """
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return functional.one_hot(owner, len(lengths)).T.float() / lengths[:, None]


class LayerConv(nn.Module):
    """A 1x1 convolution over layers without bias or normalisation: ``sum_l w_l h_l``, of any weights."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(layers).uniform_(-(layers**-0.5), layers**-0.5))

    def forward(self, frames: Tensor) -> Tensor:
        """(F, L, D) -> (F, D)."""
        return torch.einsum("fld,l->fd", frames, self.shares())

    def shares(self) -> Tensor:
        """What each layer counts, (L,)."""
        return self.weights


class LayerMix(nn.Module):
    """``gamma * sum_l softmax(w)_l h_l``; begins as the plain mean of the layers."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weights, self.gamma = nn.Parameter(torch.zeros(layers)), nn.Parameter(torch.ones(()))

    def forward(self, frames: Tensor) -> Tensor:
        """(F, L, D) -> (F, D)."""
        return torch.einsum("fld,l->fd", frames, self.shares())

    def shares(self) -> Tensor:
        """What each layer counts, (L,): positive with gamma."""
        return self.gamma * self.weights.softmax(0)


class DenseHead(nn.Module):
    """Combined layers, two 1x1 convolutions with ReLU, the mean over each utterance's frames, a linear layer.

    A 1x1 convolution is a linear layer on each frame, so frames of all utterances are joined and none is padding.
    """

    def __init__(self, combine: nn.Module, features: int, hidden: int, emotions: int) -> None:
        super().__init__()
        self.combine = combine
        self.frames = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )  # fmt: skip
        self.output = nn.Linear(hidden, emotions)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, E) of the joined frames (F, L, D) of utterances with lengths (B,), whose sum is F."""
        return self.output(averaging(lengths) @ self.frames(self.combine(frames)))


@dataclass(frozen=True)
class DenseProbe(System):
    """A dense probe on frames of one layer, or of a combination of the layers of one upstream.

    Attributes:
        combine: ``one`` layer; ``all`` by :class:`LayerConv`; the ``mix`` of :class:`LayerMix`.
        choice: of the one layer: ``logistic`` regression on means over frames chooses it, or the dense ``probe``
            itself, as the paper has it, which trains one for each layer of each upstream. The upstream whose layers are
            combined is always that of the best single layer by logistic regression.
        first: of how many layers the mix is, from the first cached one on; 0: of all. The paper varies it.
        rate: frames a second, to which states are averaged down. The paper has all 50, with twenty times
            the work.
        hidden: channels of both convolutions.
        steps: of the training on the first split's training speakers, while its dev speakers choose the epoch. Then
            the probe is trained on the whole source as long.
        tuning: of what follows on the shots, which the paper does not have.
    """

    combine: str = "one"
    choice: str = "logistic"
    first: int = 0
    rate: float = 2.5
    hidden: int = 256
    steps: Steps = field(default=Steps(epochs=30, batch_size=32, rate=1e-3))
    tuning: Steps = field(default=Steps(epochs=10, batch_size=32, rate=3e-4, least_steps=30))

    def __post_init__(self) -> None:
        for name, known in {"combine": ("one", "all", "mix"), "choice": ("logistic", "probe")}.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    "There is no such dense probe.", field=name, expected=" ".join(known), found=getattr(self, name)
                )
        if self.choice == "probe" and self.combine != "one":
            raise ConfigError("Only one layer can be chosen.", field="choice", expected="logistic", found=self.choice)
        if self.first and self.combine != "mix":
            raise ConfigError("Only a mix can be of the first layers.", field="first", expected=0, found=self.first)
        for name, least in {"first": 0, "hidden": 1, "rate": 1e-3}.items():
            if not getattr(self, name) >= least:
                raise ConfigError(
                    "A dense probe cannot be so.", field=name, expected=f"{least} or more", found=getattr(self, name)
                )

    def answer(self, task: Task) -> Answer:
        head, (upstream, layers), scale, facts = task.once((self, "source"), lambda: self._trained(task))
        if len(task.shots):
            head = copy.deepcopy(head)
            shots = Sequences(task.shots, upstream, self.rate, layers, scale, task.device)
            self._descend(head, shots, task.shots, task, self.tuning)
        asked = Sequences(task.test, upstream, self.rate, layers, scale, task.device)
        return Answer(_judged(head, asked), parameters_of(head), facts)

    def _trained(self, task: Task) -> tuple[DenseHead, Place, tuple[Tensor, Tensor], dict[str, Any]]:
        """The probe of the whole source, what it sees, what standardises, and what was chosen."""
        curves = {place: self._dev_curve(task, *place) for place in self._candidates(task)}
        upstream, layers = max(curves, key=lambda place: max(curves[place]))
        best = int(np.argmax(curves[upstream, layers]))
        steps = replace(self.steps, epochs=best + 1, least_steps=0)
        source = Sequences(task.source, upstream, self.rate, layers, device=task.device)
        head = self._made(source, task)
        losses = self._descend(head, source, task.source, task, steps)
        facts = {"upstream": upstream, "layers": list(layers), "epochs": best + 1}
        if isinstance(head.combine, LayerConv | LayerMix):
            facts["weights"] = head.combine.shares().tolist()
        return head, (upstream, layers), source.standard, {**facts, "losses": losses}

    def _candidates(self, task: Task) -> list[Place]:
        """Upstreams and layers of which dev speakers choose."""
        counts = {name: task.source.pooled(name).shape[1] for name in task.upstreams}
        if self.choice == "probe":
            return [(name, (layer,)) for name, count in counts.items() for layer in range(count)]
        upstream, layer = best_layer(task)
        if self.combine == "one":
            return [(upstream, (layer,))]
        if self.first > counts[upstream]:
            raise ConfigError(
                f"{upstream} has fewer layers.", field="first", expected=f"{counts[upstream]} at most", found=self.first
            )
        return [(upstream, tuple(range(self.first or counts[upstream])))]

    def _dev_curve(self, task: Task, upstream: str, layers: tuple[int, ...]) -> list[float]:
        """UAR on the dev speakers of the first split after each epoch."""
        train, dev = task.dev
        learnt = Sequences(train, upstream, self.rate, layers, device=task.device)
        asked = Sequences(dev, upstream, self.rate, layers, learnt.standard, task.device)
        head = self._made(learnt, task)
        curve: list[float] = []
        self._descend(
            head, learnt, train, task, self.steps,
            lambda _: curve.append(float(recalls(_judged(head, asked).argmax(1)[None], dev.labels)[0])),
        )  # fmt: skip
        return curve

    def _made(self, learnt: Sequences, task: Task) -> DenseHead:
        torch.manual_seed(task.seed)
        _, layers, features = learnt.frames[0].shape
        combine: nn.Module = nn.Flatten(1)
        if self.combine != "one":
            combine = LayerConv(layers) if self.combine == "all" else LayerMix(layers)
        return DenseHead(combine, features, self.hidden, len(task.emotions)).to(task.device)

    def _descend(
        self,
        head: DenseHead,
        learnt: Sequences,
        part: Part,
        task: Task,
        steps: Steps,
        after: Callable[[int], None] | None = None,
    ) -> list[float]:
        labels, weights = labels_of(part, task), class_weights(part.labels, len(task.emotions)).to(task.device)

        def loss(at: np.ndarray, _: float) -> Tensor:
            return functional.cross_entropy(head(*_joined(learnt, at)), labels[at], weights)

        return descend(head.parameters(), loss, len(part), steps, task.seed, after)


def _joined(sequences: Sequences, at: np.ndarray) -> tuple[Tensor, Tensor]:
    """Frames (F, L, D) of the utterances at these positions (B,), one after the other, and lengths (B,)."""
    return torch.cat([sequences.frames[position] for position in at]), sequences.lengths[at]


def _judged(head: DenseHead, asked: Sequences) -> np.ndarray:
    """Probabilities (n, E) float64."""
    blocks = [np.arange(start, min(start + BLOCK, len(asked))) for start in range(0, len(asked), BLOCK)]
    with torch.inference_mode():
        return torch.cat([head(*_joined(asked, at)).double().softmax(1).cpu() for at in blocks]).numpy()
