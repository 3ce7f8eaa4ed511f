"""One trunk for emotion, gender, intensity and phone-like units (SpeechEQ, Kang et al. 2022, arXiv 2206.13101).

The trunk sees one vector an utterance; every auxiliary is one linear layer on it that helps to train it and is not
asked afterwards. Intensities, which each corpus writes on a scale of its own, are brought onto one from 0 to 1.

Of the paper the abstract alone was at hand: what is named open below is a decision of this project. Recognition of
phonemes is replaced by units found by k-means, since the corpora have no phonetic labels.

n utterances of a part, B batch, T frames, D features, E emotions, G genders, C clusters.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional

from mser.errors import ConfigError
from train.systems.base import System
from train.systems.descent import Sequences, Steps, class_weights, descend, parameters_of, probabilities
from train.systems.intensities import UNKNOWN, unified_intensity
from train.systems.layers import best_layer, best_layers
from train.systems.task import Answer, Part, Task

GENDER, INTENSITY, PHONES = "gender", "intensity", "phones"
AUXILIARIES = (GENDER, INTENSITY, PHONES)


def masked_mean_loss(losses: Tensor, known: Tensor) -> Tensor:
    """The mean over the utterances whose label is known, 0 where none is: losses (B,), known (B,) bool -> ()."""
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def auxiliary_loss(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """() mean over the utterances whose label is known.

    Args:
        name: ``gender``: cross-entropy of logits (B, G) and indices (B,). ``intensity``: squared error of the sigmoid
            of logits (B, 1) and (B,) from 0 to 1. ``phones``: cross-entropy of logits (B, C) and shares (B, C).
        labels: float; NaN where not known.
    """
    known = ~labels.reshape(len(labels), -1).isnan().any(1)
    # What stands for an unknown label must give a finite loss: masked, NaN would still reach the gradient.
    labels = labels.nan_to_num(0.0)
    if name == INTENSITY:
        losses = (logits[:, 0].sigmoid() - labels).square()
    else:
        losses = functional.cross_entropy(logits, labels if name == PHONES else labels.long(), reduction="none")
    return masked_mean_loss(losses, known)


def unit_shares(units: Sequence[np.ndarray], count: int) -> Tensor:
    """(n, C) float32: the share of each of C = ``count`` units among the frames of n utterances, each (T,) int."""
    return torch.from_numpy(np.stack([np.bincount(own, minlength=count) / len(own) for own in units])).float()


class Units:
    """Phone-like units: k-means clusters of standardised frames of one layer.

    Args:
        part: the source. upstream, rate, layer: of its frames. count: C.

    Raises:
        ConfigError: it has fewer frames than units.
    """

    def __init__(self, part: Part, upstream: str, rate: float, layer: int, count: int, seed: int) -> None:
        self.place = (upstream, rate, (layer,))
        frames = Sequences(part, *self.place)
        self.standard, rows = frames.standard, torch.cat(frames.frames)[:, 0].numpy()
        if len(rows) < count:
            expected = f"at most its {len(rows)} frames"
            raise ConfigError("The source has too few frames.", field=PHONES, expected=expected, found=count)
        self.clusters = MiniBatchKMeans(count, random_state=seed, n_init=1).fit(rows)

    def shares(self, part: Part) -> Tensor:
        """(n, C) share of each unit among an utterance's frames."""
        frames = Sequences(part, *self.place, self.standard).frames
        return unit_shares([self.clusters.predict(own[:, 0].numpy()) for own in frames], self.clusters.n_clusters)


@dataclass(frozen=True)
class Auxiliaries:
    """What the source can teach beside emotions.

    Attributes:
        outputs: of each auxiliary in use, by name. genders: in the order of their indices. left_out: why, by name.
    """

    outputs: Mapping[str, int]
    genders: tuple[str, ...]
    units: Units | None
    left_out: Mapping[str, str]

    @classmethod
    def of(cls, source: Part, asked: Sequence[str], units: Units | None) -> Auxiliaries:
        """Those of ``asked`` with two values or more in the source."""
        rows = source.utterances
        genders = tuple(sorted({row.gender for row in rows} - {""}))
        values: dict[str, Sequence[object]] = {GENDER: genders}
        if INTENSITY in asked:
            levels = {unified_intensity(row.intensity, row.corpus) for row in rows}
            values[INTENSITY] = sorted(level for level in levels if not math.isnan(level))
        corpora = ", ".join(sorted({row.corpus for row in rows}))
        left_out = {
            name: f"{corpora}: {f'{own[0]} alone' if own else 'no label'}"
            for name, own in values.items()
            if name in asked and len(own) < 2
        }
        outputs = {GENDER: len(genders), INTENSITY: 1, PHONES: units.clusters.n_clusters if units else 0}
        return cls({name: outputs[name] for name in asked if name not in left_out}, genders, units, left_out)

    def labels(self, part: Part, device: torch.device) -> dict[str, Tensor]:
        """Of each auxiliary in use, as :func:`auxiliary_loss` takes them, of n utterances; NaN: not known."""
        found = {}
        if GENDER in self.outputs:
            index = {name: float(number) for number, name in enumerate(self.genders)}
            found[GENDER] = torch.tensor([index.get(row.gender, UNKNOWN) for row in part.utterances])
        if INTENSITY in self.outputs:
            levels = [unified_intensity(row.intensity, row.corpus) for row in part.utterances]
            found[INTENSITY] = torch.tensor(levels)
        if self.units:
            found[PHONES] = self.units.shares(part)
        return {name: values.to(device) for name, values in found.items()}


class MultitaskModel(nn.Module):
    """A trunk of one hidden layer, a linear layer for emotions, and one for each auxiliary.

    Args:
        inputs: D. emotions: E. auxiliaries: outputs by name.
    """

    def __init__(self, inputs: int, emotions: int, auxiliaries: Mapping[str, int], hidden: int, dropout: float) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout))
        # Auxiliaries come last: trunk and emotions begin alike with and without them.
        self.emotion = nn.Linear(hidden, emotions)
        self.auxiliaries = nn.ModuleDict({name: nn.Linear(hidden, outputs) for name, outputs in auxiliaries.items()})

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> logits of emotions (B, E)."""
        return self.emotion(self.trunk(x))

    def everything(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, D) -> logits of emotions (B, E), and of each auxiliary by name."""
        shared = self.trunk(x)
        return self.emotion(shared), {name: layer(shared) for name, layer in self.auxiliaries.items()}


@dataclass(frozen=True)
class Multitask(System):
    """Emotion and auxiliaries on one trunk: mean and deviation of each expert's best layer on dev speakers, joined.

    An auxiliary of which the source has fewer than two values is left out; the answer's facts say which and why.

    Attributes:
        gender_weight, intensity_weight, phones_weight: of each auxiliary's loss beside the emotions'; 0: not used.
            Open: equal, and small enough that the emotions lead.
        phones: phone-like units; 0: not used. phone_rate: frames a second that are clustered, of the middle layer of
            the upstream that dev speakers prefer. Open: the paper has phonemes.
        require: auxiliaries without which it does not go on.
        hidden: units of the trunk's one layer; dev speakers of EmoDB had no use for a second. dropout: on inputs and
            hidden units. Open.
        steps: of the source's training; the same dev speakers had none for more than 15 epochs.
        tuning: of what follows on the shots, with the auxiliaries that they have.
    """

    gender_weight: float = 0.3
    intensity_weight: float = 0.3
    phones_weight: float = 0.3
    phones: int = 0
    phone_rate: float = 10.0
    require: tuple[str, ...] = ()
    hidden: int = 256
    dropout: float = 0.3
    steps: Steps = field(default=Steps(epochs=15, rate=1e-3, decay=1e-2))
    tuning: Steps = field(default=Steps(epochs=10, rate=3e-4, decay=1e-2, least_steps=30))

    def __post_init__(self) -> None:
        limits = {
            **{name: (getattr(self, name) >= 0, "0 or more") for name in (*map(weight_of, AUXILIARIES), PHONES)},
            "phone_rate": (self.phone_rate > 0, "above 0"),
            "hidden": (self.hidden > 0, "1 or more"),
            "dropout": (0 <= self.dropout < 1, "0 or more, below 1"),
            "require": (set(self.require) <= set(self.asked), f"some of: {' '.join(self.asked) or '(none is used)'}"),
        }
        for name, (holds, expected) in limits.items():
            if not holds:
                found = getattr(self, name)
                raise ConfigError("The tasks cannot be combined so.", field=name, expected=expected, found=found)

    @property
    def asked(self) -> tuple[str, ...]:
        """The auxiliaries that the options ask for."""
        weighty = [name for name in AUXILIARIES if getattr(self, weight_of(name)) > 0]
        return tuple(name for name in weighty if name != PHONES or self.phones)

    def answer(self, task: Task) -> Answer:
        layers = best_layers(task)

        def vectors(part: Part) -> Tensor:
            return torch.cat([part.pooled(name)[:, layer].flatten(1) for name, layer in layers.items()], dim=1)

        rows = vectors(task.source)
        mean, deviation = rows.mean(0), rows.std(0).clamp(min=1e-5)

        def scaled(part: Part) -> Tensor:
            return ((vectors(part) - mean) / deviation).to(task.device)

        def trained() -> tuple[MultitaskModel, Auxiliaries, list[float]]:
            found = self._auxiliaries(task)
            torch.manual_seed(task.seed)
            sizes = (rows.shape[1], len(task.emotions), found.outputs)
            model = MultitaskModel(*sizes, self.hidden, self.dropout).to(task.device)
            return model, found, self._descend(model, found, scaled(task.source), task.source, task, self.steps)

        model, found, curve = task.once((type(self).__name__, self), trained)
        if len(task.shots):
            model = copy.deepcopy(model)
            torch.manual_seed(task.seed)
            self._descend(model, found, scaled(task.shots), task.shots, task, self.tuning)
        model.eval()
        facts = {
            "layers": layers, "losses": curve, "auxiliaries": list(found.outputs), "left_out": dict(found.left_out)
        }  # fmt: skip
        return Answer(probabilities(model, scaled(task.test)), parameters_of(model), facts)

    def _auxiliaries(self, task: Task) -> Auxiliaries:
        """Raises ConfigError where the source lacks one that is required."""
        units = None
        if PHONES in self.asked:
            upstream, _ = best_layer(task)
            middle = task.source.pooled(upstream).shape[1] // 2
            units = Units(task.source, upstream, self.phone_rate, middle, self.phones, task.seed)
        found = Auxiliaries.of(task.source, self.asked, units)
        for name in self.require:
            if name in found.left_out:
                raise ConfigError(
                    f"The source has no {name} to tell apart, and it is required.",
                    field="require",
                    expected=f"two or more values of {name} in the manifest",
                    found=found.left_out[name],
                    hint=f"leave {name} out of `require`, or take a corpus that has it",
                )
        return found

    def _descend(
        self, model: MultitaskModel, found: Auxiliaries, inputs: Tensor, part: Part, task: Task, steps: Steps
    ) -> list[float]:
        labels = torch.from_numpy(part.labels).to(task.device)
        others = found.labels(part, task.device)
        criterion = nn.CrossEntropyLoss(class_weights(part.labels, len(task.emotions)).to(task.device))

        def loss(at: np.ndarray, _: float) -> Tensor:
            chosen = torch.from_numpy(at).to(task.device)
            emotions, said = model.everything(inputs[chosen])
            total = criterion(emotions, labels[chosen])
            for name, logits in said.items():
                total = total + getattr(self, weight_of(name)) * auxiliary_loss(name, logits, others[name][chosen])
            return total

        model.train()
        return descend(model.parameters(), loss, len(part), steps, task.seed)


def weight_of(name: str) -> str:
    """The option that holds an auxiliary's weight."""
    return f"{name}_weight"
