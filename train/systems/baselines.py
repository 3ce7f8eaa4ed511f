"""What a reviewer would ask for first: systems without an idea of their own."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from mser.errors import ConfigError
from train.systems.base import System
from train.systems.descent import Steps, class_weights, descend, parameters_of, probabilities
from train.systems.layers import best_layer, best_layers
from train.systems.task import FEW_SHOT, ZERO_SHOT, Answer, Part, Task


@dataclass(frozen=True)
class Majority(System):
    """Says the emotion of the source (with shots: of these) that is most frequent, whatever it hears."""

    seeded: ClassVar[bool] = False

    def answer(self, task: Task) -> Answer:
        counts = np.bincount(task.learnt[-1].labels, minlength=len(task.emotions))
        said = np.zeros((len(task.test), len(task.emotions)))
        said[:, counts.argmax()] = 1
        return Answer(said, facts={"emotion": task.emotions[int(counts.argmax())]})


@dataclass(frozen=True)
class Linear(System):
    """A linear classifier on one vector an utterance, by scikit-learn.

    Attributes:
        kind: ``logistic`` or ``svm`` (linear, one emotion against another).
        features: ``layer``: mean over frames of the layer that dev speakers of the source prefer. Otherwise the name of
            an upstream, such as openSMILE's ``compare``, of which the first layer's mean is taken.
        penalty: C. balanced: whether each emotion weighs the same.
        normalise: ``source``: all are standardised by the source's statistics. ``each``: the target by those of its
            unlabelled utterances. The simplest adaptation there is.
        learn: ``both``: source and shots; ``target``: shots alone.
        shots_share: of all weight that the shots have together, whatever their number. Open: there are no dev speakers
            of the target on whom to choose it.
    """

    kind: str = "logistic"
    features: str = "layer"
    penalty: float = 1.0
    balanced: bool = True
    normalise: str = "source"
    learn: str = "both"
    shots_share: float = 0.5
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        allowed = {"kind": ("logistic", "svm"), "normalise": ("source", "each"), "learn": ("both", "target")}
        for name, known in allowed.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    "There is no such linear system.", field=name, expected=" ".join(known), found=getattr(self, name)
                )

    @property
    def extra(self) -> tuple[str, ...]:
        return () if self.features == "layer" else (self.features,)

    @property
    def adapts(self) -> bool:  # type: ignore[override]
        return self.normalise == "each"

    @property
    def protocols(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.learn == "target":
            return (FEW_SHOT,)
        return (ZERO_SHOT, FEW_SHOT) if self.adapts else System.protocols  # within there is nothing to adapt to

    def answer(self, task: Task) -> Answer:
        upstream, layer = best_layer(task) if self.features == "layer" else (self.features, 0)

        def vectors(part: Part) -> np.ndarray:
            return part.pooled(upstream)[:, layer, 0].numpy()

        own = StandardScaler().fit(vectors(task.source))
        others = StandardScaler().fit(vectors(task.adapt)) if self.normalise == "each" and len(task.adapt) else own
        parts = [one for one in task.learnt if one is not task.source or self.learn == "both"]
        scaled = [(own if one is task.source else others).transform(vectors(one)) for one in parts]
        labels = np.concatenate([one.labels for one in parts])
        weights = np.concatenate(self._weights(parts, len(task.emotions)))
        if len(set(labels.tolist())) == 1:  # nothing to tell apart: it is certain
            return Answer(np.eye(len(task.emotions))[np.repeat(labels[:1], len(task.test))])
        rows, asked = np.concatenate(scaled), others.transform(vectors(task.test))
        said = np.zeros((len(asked), len(task.emotions)))
        known, said_of_known = self._judged(rows, labels, weights, asked)
        said[:, known] = said_of_known
        pairs = len(known) * (len(known) - 1) // 2
        planes = len(known) if self.kind == "logistic" and pairs > 1 else pairs
        return Answer(said, planes * (rows.shape[1] + 1), {"upstream": upstream, "layer": layer})

    def _weights(self, parts: list[Part], emotions: int) -> list[np.ndarray]:
        found = []
        for one in parts:
            weights = np.ones(len(one))
            if self.balanced:
                weights = class_weights(one.labels, emotions).numpy()[one.labels].astype(float)
            found.append(weights)
        if len(parts) == 2:
            total = sum(len(one) for one in parts)
            shares = (1 - self.shots_share, self.shots_share)
            found = [own * share * total / own.sum() for own, share in zip(found, shares, strict=True)]
        return found

    def _judged(
        self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, asked: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels that occur, and the probability of each (n, E); of the SVM a softmax of its margins, which ranks."""
        if self.kind == "logistic":
            model = LogisticRegression(C=self.penalty, max_iter=200, tol=1e-3).fit(rows, labels, weights)
            return model.classes_, model.predict_proba(asked)
        # All inner products at once: the solver's own, one by one, take ten times as long on thousands of features.
        model = SVC(C=self.penalty, kernel="precomputed").fit(rows @ rows.T, labels, weights)
        margins = model.decision_function(asked @ rows.T)
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        margins = np.exp(margins - margins.max(1, keepdims=True))
        return model.classes_, margins / margins.sum(1, keepdims=True)


@dataclass(frozen=True)
class Perceptron(System):
    """A multilayer perceptron on all experts: mean and deviation of each one's best layer on dev speakers, joined.

    Attributes:
        hidden: units of its one hidden layer. dropout: on inputs and hidden units.
        steps: of the source's training. tuning: of what follows on the shots.
    """

    hidden: int = 256
    dropout: float = 0.3
    steps: Steps = field(default=Steps(epochs=30, rate=1e-3, decay=1e-2))
    tuning: Steps = field(default=Steps(epochs=10, rate=3e-4, decay=1e-2, least_steps=30))

    def answer(self, task: Task) -> Answer:
        layers = best_layers(task)

        def vectors(part: Part) -> torch.Tensor:
            return torch.cat([part.pooled(name)[:, layer].flatten(1) for name, layer in layers.items()], dim=1)

        rows = vectors(task.source)
        mean, deviation = rows.mean(0), rows.std(0).clamp(min=1e-5)

        def trained() -> tuple[nn.Sequential, list[float]]:
            torch.manual_seed(task.seed)
            model = nn.Sequential(
                nn.Dropout(self.dropout), nn.Linear(rows.shape[1], self.hidden), nn.ReLU(),
                nn.Dropout(self.dropout), nn.Linear(self.hidden, len(task.emotions)),
            ).to(task.device)  # fmt: skip
            return model, self._descend(model, (rows - mean) / deviation, task.source, task, self.steps)

        model, curve = task.once("source", trained)
        if len(task.shots):
            model = copy.deepcopy(model)
            torch.manual_seed(task.seed)
            self._descend(model, (vectors(task.shots) - mean) / deviation, task.shots, task, self.tuning)
        model.eval()
        said = probabilities(model, ((vectors(task.test) - mean) / deviation).to(task.device))
        return Answer(said, parameters_of(model), {"layers": layers, "losses": curve})

    def _descend(self, model: nn.Module, rows: torch.Tensor, part: Part, task: Task, steps: Steps) -> list[float]:
        labels = torch.from_numpy(part.labels).to(task.device)
        criterion = nn.CrossEntropyLoss(class_weights(part.labels, len(task.emotions)).to(task.device))
        inputs = rows.to(task.device)
        model.train()
        return descend(
            model.parameters(), lambda at, _: criterion(model(inputs[at]), labels[at]), len(part), steps, task.seed
        )
