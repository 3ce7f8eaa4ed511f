"""Continuous metric learning (Das et al. 2022, arXiv 2203.14867).

A denoising autoencoder turns the vector of an utterance into a short code. Where the utterance's emotion is known, a
metric loss bends the code so that the way between two utterances in it follows the way between their emotions in the
valence-arousal plane, continuously, not merely alike or unlike. The authors have annotators' ratings of each utterance;
here each has the position of its emotion in the documented table of the unified emotions; a label that stands for
several emotions has the mean of theirs. A classifier then learns emotions from codes. The loss and what is said below
of the authors' settings are those of their public code:
github.com/DTUComputeStatisticsAndDataAnalysis/Continuous-Metric-Learning-For-Transferable-Speech-Emotion-Recognition-and-Embedding
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pdist

from mser.config import ABOVE_ZERO, FROM_ZERO, require_numbers, share, whole
from mser.errors import ConfigError, ProtocolError
from mser.labels import load_labels
from train.systems.base import System
from train.systems.descent import Steps, class_weights, descend, parameters_of
from train.systems.task import Answer, Part, Task
from train.systems.vectors import FEATURES, NORMALISE, Vectors, require_known, vectors_of

AXES = {"arousal": ("arousal",), "valence": ("valence",), "both": ("arousal", "valence")}
SLOPE, DISTANCE = "slope", "distance"


def slope_loss(codes: Tensor, positions: Tensor) -> Tensor:
    """The authors' loss: over all pairs, the code's mean must rise as the position does: (B, C), (B,) -> ().

    With m_i the mean over the units of code i, the line m_i - m_j = b (v_i - v_j) through the origin is fitted to all
    pairs i < j by least squares; the loss is |b - 1| + the mean square of what the line leaves. Differences in a pair
    are those of deviations from the batch's means, so that b is the slope of m on v, and the mean square is twice the
    residual's unbiased variance: no pair need be formed. 0 where all positions are the same, or none is given.
    """
    means = codes.mean(1)
    along, across = positions - positions.mean(), means - means.mean()
    spread = (along**2).sum()
    if len(positions) < 2 or not float(spread) > 0:
        return codes.sum() * 0
    slope = (along * across).sum() / spread
    return (slope - 1).abs() + 2 * ((across - slope * along) ** 2).sum() / (len(positions) - 1)


def distance_loss(codes: Tensor, positions: Tensor, kappa: float) -> Tensor:
    """Mean over pairs i < j of (|z_i - z_j| - kappa |v_i - v_j|)^2: codes z (B, C), positions v (B, P) -> ().

    Unlike the sum over pairs, the mean does not weigh larger batches more. 0 where there is no pair.
    """
    if len(codes) < 2:
        return codes.sum() * 0
    return ((pdist(codes) - kappa * pdist(positions)) ** 2).mean()


def positions_of(task: Task, dimension: str) -> Tensor:
    """Where the task's E labels lie: (E, P) float32 in [-1, 1], a column an axis; NaN where no place is known.

    An emotion lies where the table has it; a label that stands for several, at the mean of theirs. So the system learns
    from the labels that its rivals have, and not from the finer ones of the source.
    """
    table, axes = load_labels(), AXES[dimension]
    found = np.full((len(task.emotions), len(axes)), np.nan, dtype=np.float32)
    for number, label in enumerate(task.emotions):
        meant = [table[name] for name in task.meanings.get(label, (label,)) if name in table]
        for column, axis in enumerate(axes):
            known = [value for one in meant if (value := getattr(one, axis)) is not None]
            if known:
                found[number, column] = np.mean(known)
    return torch.from_numpy(found)


class Autoencoder(nn.Module):
    """Vectors (B, D), in training with Gaussian noise added -> their reconstruction (B, D) and codes (B, C).

    As the authors': ReLU between the layers of the encoder, and but one in the decoder, which mirrors it.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], code: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        widths = [inputs, *hidden, code]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.encode = nn.Sequential(*layers[:-1])
        back = [nn.Linear(after, before) for before, after in pairwise(widths)][::-1]
        middle = len(back) // 2
        self.decode = nn.Sequential(*back[:middle], nn.ReLU(), *back[middle:])

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        noisy = rows + self.noise * torch.randn_like(rows) if self.training else rows
        codes = self.encode(noisy)
        return self.decode(codes), codes


@dataclass(frozen=True)
class ContinuousMetric(System):
    """A denoising autoencoder with a metric loss on codes, then logistic regression on these.

    The autoencoder learns from the source and the target's unlabelled utterances together, the metric loss from the
    source alone; the authors have it see the source only. The classifier is trained after it, as theirs, on codes of
    the source and the shots: those train no autoencoder, so that all k of a target share one.

    Attributes:
        metric: ``slope``: the authors' loss. ``distance``: distances of codes are proportional to those of positions,
            which are those of the task's labels (:func:`positions_of`).
        dimension: ``arousal`` or ``valence``, as the paper has it, or ``both``, which the authors' code has as well:
            with ``slope`` half of the code for each, with ``distance`` distances in the plane. By default both, since
            anger, fear and joy share their arousal.
        weight: of the metric loss; that of the reconstruction is 1, as the authors', who descend the logarithm of the
            sum. kappa: how far codes lie apart at a distance of 1 in the plane, of ``distance`` alone: of the order in
            which random codes of 64 units differ.
        features, normalise: see :mod:`train.systems.vectors`.
        hidden, code: units of the encoder's layers and of the code. The authors have 40, 20, 10 and 2 for 88 features;
            ours are a thousand, and seven emotions do not fit into 2. On dev speakers of EmoDB one wide layer does
            better than two narrow ones.
        noise: deviation of what is added to standardised vectors in training.
        steps: the authors have 100 epochs of batches of 64 at a rate of 1e-4, on a larger corpus: fewer and larger
            steps here, so that a training takes about a second.
        penalty, shots_share: of the classifier, as of :class:`train.systems.baselines.Linear`.
    """

    metric: str = SLOPE
    dimension: str = "both"
    weight: float = 1.0
    kappa: float = 5.0
    features: str = "layer"
    normalise: str = "each"
    hidden: tuple[int, ...] = (256,)
    code: int = 64
    noise: float = 1.0
    penalty: float = 1.0
    shots_share: float = 0.5
    steps: Steps = field(default=Steps(epochs=20, batch_size=64, rate=1e-3))
    adapts: ClassVar[bool] = True
    version_mapped: ClassVar[int] = 2  # 1: positions were those of the source's emotions, finer than the labels

    def __post_init__(self) -> None:
        what = "There is no such continuous metric system."
        allowed = {"metric": (SLOPE, DISTANCE), "dimension": tuple(AXES), "features": FEATURES, "normalise": NORMALISE}
        require_known(self, what, allowed)
        rules = {"weight": FROM_ZERO, "kappa": ABOVE_ZERO, "code": whole(2), "noise": FROM_ZERO}
        require_numbers(self, what, {**rules, "penalty": ABOVE_ZERO, "shots_share": share()})
        require_numbers(self.steps, what, {"epochs": whole(1), "batch_size": whole(2), "rate": ABOVE_ZERO})
        if not self.hidden or any(not isinstance(units, int) or units < 1 for units in self.hidden):
            raise ConfigError(what, field="hidden", expected="one or more whole numbers from 1", found=self.hidden)

    def answer(self, task: Task) -> Answer:
        vectors = vectors_of(task, self.features, self.normalise)
        key = (self, "autoencoder", task.adapt.rows.tobytes())
        model, curve = task.once(key, lambda: self._trained(task, vectors))
        parts = [(task.source, vectors.source), (task.shots, vectors.shots)][: len(task.learnt)]
        with torch.inference_mode():
            codes = [model.encode(rows).cpu().numpy() for _, rows in parts]
            asked = model.encode(vectors.test).cpu().numpy()
        scaler = StandardScaler().fit(codes[0])
        weights = self._weights([part for part, _ in parts], len(task.emotions))
        labels = np.concatenate([part.labels for part, _ in parts])
        classifier = LogisticRegression(C=self.penalty, max_iter=200, tol=1e-3)
        classifier.fit(scaler.transform(np.concatenate(codes)), labels, weights)
        said = np.zeros((len(task.test), len(task.emotions)))
        said[:, classifier.classes_] = classifier.predict_proba(scaler.transform(asked))
        count = parameters_of(model.encode) + int(classifier.coef_.size + classifier.intercept_.size)
        return Answer(said, count, {"layers": dict(vectors.layers), "losses": curve})

    def metric_loss(self, codes: Tensor, positions: Tensor) -> Tensor:
        """Codes (B, C) and positions (B, P), NaN where an emotion has none, whose utterances are left out -> ()."""
        placed = ~positions.isnan().any(1)
        codes, positions = codes[placed], positions[placed]
        if self.metric == DISTANCE:
            return distance_loss(codes, positions, self.kappa)
        shares = codes.tensor_split(positions.shape[1], dim=1)
        each = [slope_loss(own, positions[:, axis]) for axis, own in enumerate(shares)]
        return torch.stack(each).sum()

    def _trained(self, task: Task, vectors: Vectors) -> tuple[Autoencoder, list[float]]:
        """The autoencoder, for use, and its losses."""
        places = positions_of(task, self.dimension)
        positions = places[torch.from_numpy(task.source.labels)].to(task.device)
        require_apart(task, positions)
        rows = torch.cat([vectors.source, vectors.adapt])
        unknown = positions.new_full((len(vectors.adapt), positions.shape[1]), torch.nan)
        positions = torch.cat([positions, unknown])
        torch.manual_seed(task.seed)
        model = Autoencoder(rows.shape[1], self.hidden, self.code, self.noise).to(task.device)

        def loss(at: np.ndarray, _: float) -> Tensor:
            reconstruction, codes = model(rows[at])
            return mse_loss(reconstruction, rows[at]) + self.weight * self.metric_loss(codes, positions[at])

        curve = descend(model.parameters(), loss, len(rows), self.steps, task.seed)
        return model.eval(), curve

    def _weights(self, parts: list[Part], emotions: int) -> np.ndarray:
        """(n,) of the labelled utterances: emotions of a part weigh the same, the shots as much as is their share."""
        shares = (1 - self.shots_share, self.shots_share) if len(parts) == 2 else (1.0,)
        total, found = sum(map(len, parts)), []
        for part, own in zip(parts, shares, strict=True):
            weights = class_weights(part.labels, emotions).numpy()[part.labels].astype(float)
            found.append(weights * own * total / weights.sum())
        return np.concatenate(found)


def require_apart(task: Task, positions: Tensor) -> None:
    """Raises ProtocolError unless two utterances of the source have different positions (n, P)."""
    placed = positions[~positions.isnan().any(1)]
    if len(placed.unique(dim=0)) < 2:
        raise ProtocolError(
            "A metric of emotions needs two of them whose places in the valence-arousal plane are known and differ.",
            field="emotion",
            expected="two or more that have a valence and an arousal in data_manifest/labels.yaml",
            found=", ".join(task.emotions),
        )
