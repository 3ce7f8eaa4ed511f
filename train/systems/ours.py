"""The gated head of this project as a system of the benchmark: layer mixes, a gate over experts, contrastive loss.

The same model and training as in a study (:mod:`mser.model`, :mod:`train.fit`), on one source language. All seeds of a
source train as one program.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mser.errors import ConfigError
from mser.experts import Expert, expert_of_pooled
from mser.loader import Loader
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import POOLED_SPACE, Genotype, fixed_genotype
from mser.nas.search import STRATEGIES
from mser.protocol import EVERYONE
from train.fit import FitSettings, Replica, fit, predict
from train.objective import LossSettings
from train.prior import prior_of
from train.search import structure_of
from train.settings import Inputs, StudySettings
from train.systems.base import System
from train.systems.descent import parameters_of
from train.systems.layers import layer_scores
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Answer, Part, Task

#: Few clips: two of an emotion may not meet in a batch, so cross-entropy alone.
ON_SHOTS = FitSettings(epochs=10, least_steps=30, rate=3e-4, loss=LossSettings(contrastive="none"))


@dataclass(frozen=True)
class Gated(System):
    """Experts mixed by a gate, layers by learnt weights, on pooled statistics.

    Attributes:
        structure: ``fixed``, or a search strategy; its structure of the source is read from the searches, which were
            made with the default settings: of the very fold within a language, of all the source's speakers across.
        normalise: ``source``: all are standardised by the source's statistics; ``each``: the target by those of its
            unlabelled utterances.
        model, fit: as in a study. tuning: of what follows on the shots: gate, mixes and head go on together.
    """

    structure: str = "fixed"
    normalise: str = "source"
    model: ModelSettings = field(default_factory=ModelSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    tuning: FitSettings = ON_SHOTS
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, known in {"structure": tuple(STRATEGIES), "normalise": ("source", "each")}.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    "There is no such gated head.", field=name, expected=" ".join(known), found=getattr(self, name)
                )

    @property
    def adapts(self) -> bool:  # type: ignore[override]
        return self.normalise == "each"

    @property
    def protocols(self) -> tuple[str, ...]:  # type: ignore[override]
        """Within a language there is nothing to adapt to."""
        return (ZERO_SHOT, FEW_SHOT) if self.adapts else System.protocols

    def answer(self, task: Task) -> Answer:
        return next(self.answers([task]))

    def answers(self, tasks: Sequence[Task]) -> Iterator[Answer]:
        models: dict[tuple[bytes, int], MultiGateModel] = {}
        for task in tasks:
            key = task.source.rows.tobytes()
            if (key, task.seed) not in models:
                alike = {one.seed: one for one in tasks if one.source.rows.tobytes() == key}
                trained = self._trained(task, list(alike))
                models.update({(key, seed): model for seed, model in zip(alike, trained, strict=True)})
            yield self._judged(task, models[key, task.seed])

    def _trained(self, task: Task, seeds: Sequence[int]) -> list[MultiGateModel]:
        """Models of the task's source, one a seed."""
        language = task.source.language
        experts = self._experts(task, task.source)
        prior = self._prior(task, experts)
        shapes = [ExpertShape(one.name, one.layers, one.dim) for one in experts]
        domain = Domain(language.name, task.emotions, self._genotype(task), prior, task.upstreams)
        replicas = []
        for seed in seeds:
            torch.manual_seed(seed)
            model = MultiGateModel([domain], shapes, self.model)
            replicas.append(Replica(model, {language.name: task.source.rows}, seed))
        loaders = {language.name: Loader(experts, _labels(task.source), task.device)}
        fit(replicas, loaders, {language.name: task.source.rows}, self.fit, together=True)
        return [replica.model.eval() for replica in replicas]  # type: ignore[misc]

    def _prior(self, task: Task, experts: Sequence[Expert]) -> Prior:
        """Where mixtures start."""
        return prior_of(layer_scores(task), experts, task.source.rows, StudySettings())

    def _adapted(self, task: Task, model: MultiGateModel) -> MultiGateModel:
        """The source's model as it judges the target, before shots."""
        return model

    def _judged(self, task: Task, model: MultiGateModel) -> Answer:
        name, target = task.source.language.name, task.test
        model = self._adapted(task, model)
        experts = self._experts(task, target)
        if len(task.shots):
            model = copy.deepcopy(model)
            loaders = {name: Loader(experts, _labels(task.shots), task.device)}
            replica = Replica(model, {name: task.shots.rows}, task.seed)
            fit([replica], loaders, {name: task.shots.rows}, self.tuning)
            model.eval()
        loader = Loader(experts, torch.zeros(len(target.language), dtype=torch.int64), task.device)
        said, gates = predict(model, name, loader, target.rows)
        facts = {"gate": dict(zip(task.upstreams, gates.mean(0).round(4).tolist(), strict=True))}
        return Answer(said, parameters_of(model), {**facts, "layers": model.layer_weights(name)})

    def _experts(self, task: Task, part: Part) -> list[Expert]:
        """The experts of all utterances of a part's language."""
        language, found = part.language, []
        within = task.protocol == WITHIN
        for name in task.upstreams:
            pooled = self._statistics(language.pooled(name))
            if self.normalise == "each" and not within:
                by = task.source if part is task.source else task.adapt
                pooled = _standardised(pooled, pooled[torch.from_numpy(by.rows)])
            places = [(name, f"row {row}") for row in range(len(language))]
            found.append(expert_of_pooled(name, pooled, places))
        return found

    def _statistics(self, pooled: Tensor) -> Tensor:
        """What is learned from of mean and deviation over frames, (N, L, S, D)."""
        return pooled

    def _genotype(self, task: Task) -> Genotype:
        if self.structure == "fixed":
            return fixed_genotype(task.upstreams, POOLED_SPACE)
        language = task.source.language
        inputs = Inputs(language.workspace.root, language.upstreams, StudySettings())
        fold = task.name if task.protocol == WITHIN else EVERYONE
        return structure_of(inputs, language.data, fold, self.structure)


def _labels(part: Part) -> Tensor:
    """(N,) of the part's whole language; those outside the part are never looked at."""
    labels = np.zeros(len(part.language), dtype=np.int64)
    labels[part.rows] = part.labels
    return torch.from_numpy(labels)


def _standardised(pooled: Tensor, own: Tensor) -> Tensor:
    """Pooled states (N, L, S, D), each statistic with mean 0 and deviation 1 over ``own``, (n, L, S, D)."""
    deviation = own.std(0)
    return (pooled - own.mean(0)) * torch.where(deviation > 1e-5, 1 / deviation.clamp(min=1e-5), 0.0)
