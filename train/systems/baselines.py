"""What a reviewer would ask for first: systems without an idea of their own."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from mser.errors import ConfigError
from train.systems.base import System
from train.systems.descent import Steps, class_weights, descend, parameters_of, probabilities
from train.systems.layers import best_layer, best_layers
from train.systems.task import FEW_SHOT, Answer, Part, Task


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
        kind: ``logistic`` or ``svm`` (one against the rest, squared hinge).
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
        return (FEW_SHOT,) if self.learn == "target" else System.protocols

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
        classifier = self._fitted(np.concatenate(scaled), labels, weights)
        said = self._probabilities(classifier, others.transform(vectors(task.test)), len(task.emotions))
        count = int(classifier.coef_.size + classifier.intercept_.size)
        return Answer(said, count, {"upstream": upstream, "layer": layer})

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

    def _fitted(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> ClassifierMixin:
        if self.kind == "svm":
            return LinearSVC(C=self.penalty, random_state=0).fit(rows, labels, weights)
        return LogisticRegression(C=self.penalty, max_iter=200, tol=1e-3).fit(rows, labels, weights)

    def _probabilities(self, classifier: ClassifierMixin, rows: np.ndarray, emotions: int) -> np.ndarray:
        """(n, E); of the SVM a softmax of its margins, which ranks and does not promise probabilities."""
        said = np.zeros((len(rows), emotions))
        if self.kind == "logistic":
            said[:, classifier.classes_] = classifier.predict_proba(rows)
            return said
        margins = classifier.decision_function(rows)
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        margins = np.exp(margins - margins.max(1, keepdims=True))
        said[:, classifier.classes_] = margins / margins.sum(1, keepdims=True)
        return said


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
