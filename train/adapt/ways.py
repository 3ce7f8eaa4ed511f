"""The ways onto a new language, and what each says of the half of the speakers that is tested.

n utterances of the test half, E emotions of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mser.averaged import AveragedModel, member_name
from mser.config import fingerprint
from mser.loader import Loader
from mser.mapping import LabelMapping
from mser.model import Domain, MultiGateModel, Prior
from mser.nas.genotype import fixed_genotype
from mser.probe import fit_logistic
from mser.transfer import Standard, averaged_gates, distances, new_language, standardised_by
from train.adapt.rows import teach_new_rows
from train.adapt.target import Start, Target
from train.fit import FitSettings, Replica, fit, predict
from train.halves import draw_shots
from train.objective import LossSettings
from train.pseudo_labels import CONFIDENT, confident

ALONE = LossSettings(contrastive="none")


@dataclass(frozen=True)
class Way:
    """One row of the study.

    Attributes:
        needs: ``nothing`` of the language, ``unlabelled`` clips of it, these and the list of its ``emotions``, or
            ``shots``.
        scratch: it knows no run. kept: the model for use may be made so.
    """

    name: str
    title: str
    needs: str
    scratch: bool = False
    kept: bool = False


WAYS = (
    Way("averaged", "every language's network, gates averaged", "nothing"),
    Way("nearest", "the nearest language's network; unlabelled clips tell which", "unlabelled"),
    Way("averaged-unlabelled", "every network, on the language's own mean and deviation", "unlabelled"),
    Way("nearest-unlabelled", "the nearest network, on the language's own mean and deviation", "unlabelled"),
    Way("self-trained", "its own network, tuned on what all networks are sure of", "emotions"),
    Way("shots", "new gate, layer mix, branches and head; shared trunk frozen", "shots", kept=True),
    Way("shots-gentle", "the same, the trunk tuned at a tenth of the rate", "shots", kept=True),
    Way("scratch", "the fixed network, from scratch", "shots", scratch=True),
    Way("scratch-logistic", "logistic regression, all layers averaged", "shots", scratch=True),
)
#: Names of those with labelled clips, and of those that the model for use may be made by; the first of equals is kept.
ON_SHOTS, KEPT = tuple(one.name for one in WAYS if one.needs == "shots"), tuple(one.name for one in WAYS if one.kept)
#: Labelled clips an emotion, None for all there are -> the ways that are asked with them.
Asked = Mapping[int | None, Sequence[str]]


def ways_at(shots: Sequence[int | None]) -> dict[int | None, tuple[str, ...]]:
    """Every way at each value of k, and at all clips those of the model for use, which is made of all clips.

    >>> ways_at([1])
    {1: ('shots', 'shots-gentle', 'scratch', 'scratch-logistic'), None: ('shots', 'shots-gentle')}
    """
    every = dict.fromkeys(shots, ON_SHOTS)
    return {**every, None: every.get(None, KEPT)} if every else {}


@dataclass(frozen=True)
class AdaptSettings:
    """Of the trainings on the new language.

    Attributes:
        tuning: on top of the run's network. gentle: factor of the rate for the trunk where it is tuned.
        scratch: of a network that begins anew.
    """

    tuning: FitSettings = field(default_factory=lambda: FitSettings(epochs=10, least_steps=30, loss=ALONE))
    gentle: float = 0.1
    scratch: FitSettings = field(default_factory=lambda: FitSettings(epochs=10, least_steps=300, loss=ALONE))

    @property
    def key(self) -> str:
        return fingerprint([repr(self), CONFIDENT])


@dataclass(frozen=True)
class Said:
    """An answer: probabilities (n, E) of the test half, over these emotions.

    Attributes:
        k: labelled clips an emotion; 0 for none, None for all there are. shots: rows that were learned from.
    """

    way: str
    k: int | None
    emotions: tuple[str, ...]
    probabilities: np.ndarray
    shots: np.ndarray


@dataclass(frozen=True)
class Half:
    """One half of one draw.

    Attributes:
        adapt: rows of the other half: whose states may be looked at, and of which the shots are drawn. test: rows.
    """

    draw: int
    number: int
    adapt: np.ndarray
    test: np.ndarray


class Adapter:
    """All ways of one run onto one language."""

    def __init__(self, start: Start, target: Target, settings: AdaptSettings, device: torch.device, placement: str):
        self.start, self.target, self.settings, self.device = start, target, settings, device
        self.model = start.model.to(device)
        self.loader: Loader = target.loader(device, placement)
        #: E of the language, each with the run's emotions that count as it.
        parts = target.mapping.parts(start.emotions)
        self.parts: Mapping[str, Sequence[str]] = {one: parts.get(one, []) for one in target.emotions}

    def nearest(self, standard: Standard) -> str:
        """The language of the run whose states lie nearest."""
        found = self.distances(standard)
        return min(found, key=lambda name: found[name])

    def distances(self, standard: Standard) -> dict[str, float]:
        """How far the states of each of the run's languages lie."""
        there = {name: (shift.to(self.device), scale.to(self.device)) for name, (shift, scale) in standard.items()}
        return distances(self.model, there)

    def answers(self, half: Half, asked: Asked, without: bool = True) -> Iterator[Said]:
        """What the ways say of a half's test.

        Args:
            asked: ways with labelled clips. without: whether those without are asked, too.
        """
        if without:
            yield from self._without_labels(half)
        if not len(half.adapt):
            return
        standard = self.target.standard(half.adapt)
        for k, names in asked.items():
            rows = self.shots_of(half, k)
            for name, said in self.on_shots(half, rows, standard, names).items():
                yield Said(name, k, self.target.emotions, said, rows)

    def _without_labels(self, half: Half) -> Iterator[Said]:
        nobody, languages = half.test[:0], list(self.model.domains)
        every = averaged_gates(self.model)
        yield Said("averaged", 0, *self.of_networks(every, languages, half.test), nobody)
        if not len(half.adapt):
            return  # a single speaker: nothing may be learned of the language, not even which one is near
        standard = self.target.standard(half.adapt)
        near = self.nearest(standard)
        own, own_every = standardised_by(self.model, standard), standardised_by(every, standard)
        yield Said("nearest", 0, *self.of_networks(self.model, [near], half.test), nobody)
        yield Said("averaged-unlabelled", 0, *self.of_networks(own_every, languages, half.test), nobody)
        yield Said("nearest-unlabelled", 0, *self.of_networks(own, [near], half.test), nobody)
        sure, labels = confident(*self.of_networks(own_every, languages, half.adapt), self.target.emotions, half.adapt)
        if len(sure) > 1 and len(np.unique(labels)) > 1:
            model = self.tuned(self.begun(standard), sure, labels, half.draw, self.settings.tuning, 0.0)
            yield Said("self-trained", 0, self.target.emotions, self.said(model, half.test), nobody)

    def on_shots(self, half: Half, rows: np.ndarray, standard: Standard, names: Sequence[str]) -> dict[str, np.ndarray]:
        """What each of these ways says with the labelled clips ``rows``, (n, E)."""
        labels = self.target.labels[rows]
        if len(np.unique(labels)) < 2:
            return {}
        found = {}
        for name in names:
            if name == "scratch-logistic":
                found[name] = self.logistic(rows, half, standard)
            elif name == "scratch":
                anew = self.anew(standard, half.draw)
                model = self.tuned(anew, rows, labels, half.draw, self.settings.scratch, 1.0)
                found[name] = self.said(model, half.test)
            else:
                found[name] = self.said(self.on_top(name, rows, labels, standard, half.draw), half.test)
        return found

    def on_top(self, way: str, rows: np.ndarray, labels: np.ndarray, standard: Standard, seed: int) -> AveragedModel:
        """The run's networks tuned on labelled clips, by one of :data:`KEPT`."""
        trunk = self.settings.gentle if way == "shots-gentle" else 0.0
        return self.tuned(self.begun(standard), rows, labels, seed, self.settings.tuning, trunk)

    def shots_of(self, half: Half, k: int | None) -> np.ndarray:
        """Rows of k labelled clips of each emotion by the speakers that are not tested."""
        there = half.adapt[self.target.labels[half.adapt] >= 0]
        return there[draw_shots(self.target.labels[there], len(self.target.emotions), k, [half.draw, half.number])]

    def begun(self, standard: Standard) -> AveragedModel:
        """Networks of the new language that begin as those of each of the run's languages."""
        begins = list(self.model.domains)
        return new_language(self.model, begins, self.target.name, self.parts, standard).to(self.device)

    def anew(self, standard: Standard, seed: int) -> AveragedModel:
        """A network that knows nothing of the run: the fixed structure, drawn by the seed."""
        experts = self.model.experts
        prior = Prior(Prior.uniform(experts).layers, torch.zeros(len(experts)), standard)
        genotype = fixed_genotype(self.start.upstreams, self.start.features.space)
        torch.manual_seed(seed)
        domain = Domain(member_name(self.target.name, "scratch"), self.target.emotions, genotype, prior)
        return AveragedModel([domain], experts).to(self.device)

    def tuned(
        self, model: AveragedModel, rows: np.ndarray, labels: np.ndarray, seed: int, settings: FitSettings, trunk: float
    ) -> AveragedModel:
        """The model, each of its networks trained on these rows with these labels; first what it knows nothing of."""
        if trunk != 1:
            unknown = [number for number, parts in enumerate(self.parts.values()) if not parts]
            teach_new_rows(model, self.target.name, self.loader, rows, labels, unknown)
        kept = self.loader.labels.clone()
        self.loader.labels[torch.from_numpy(rows)] = torch.from_numpy(labels)
        try:
            names = model.names[self.target.name]
            each = dict.fromkeys(names, rows)
            fit([Replica(model.members, each, seed)], dict.fromkeys(names, self.loader), each, settings, trunk=trunk)
        finally:
            self.loader.labels.copy_(kept)
        return model.eval()

    def said(self, model: AveragedModel, rows: np.ndarray) -> np.ndarray:
        return predict(model, self.target.name, self.loader, rows)[0]

    def of_networks(
        self, model: MultiGateModel, languages: Sequence[str], rows: np.ndarray
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """What networks of the run say together, over the labels that their emotions count as: (n, E)."""
        answers = [(model.domains[one].emotions, predict(model, one, self.loader, rows)[0]) for one in languages]
        return together(answers, self.target.mapping)

    def logistic(self, rows: np.ndarray, half: Half, standard: Standard) -> np.ndarray:
        """Logistic regression on the utterances' means, standardised and averaged over layers."""
        parts = []
        for expert in self.target.experts:
            shift, scale = standard[expert.name]
            parts.append(((expert.moments[:, :, 0] - shift) * scale).mean(1))
        features = torch.cat(parts, dim=1).numpy()
        classifier = fit_logistic(features[rows], self.target.labels[rows])
        found = np.zeros((len(half.test), len(self.target.emotions)))
        found[:, classifier.classes_] = classifier.predict_proba(features[half.test])
        return found


def together(
    answers: Sequence[tuple[Sequence[str], np.ndarray]], mapping: LabelMapping
) -> tuple[tuple[str, ...], np.ndarray]:
    """The mean of several answers, each over its own emotions: a label's is over those that know it; rows sum to 1.

    Emotions that the mapping leaves out are no answer.

    Args:
        answers: emotions and probabilities (n, E_i).
    """
    summed: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for emotions, said in answers:
        for label, parts in mapping.parts(emotions).items():
            columns = [list(emotions).index(part) for part in parts]
            summed[label] = summed.get(label, 0) + said[:, columns].sum(1)
            counts[label] = counts.get(label, 0) + 1
    names = tuple(sorted(summed))
    found = np.stack([summed[name] / counts[name] for name in names], axis=1)
    return names, found / found.sum(1, keepdims=True).clip(min=1e-12)
