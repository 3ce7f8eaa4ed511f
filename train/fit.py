"""Trains models, one by one or many as one program, and asks them for predictions.

Every training is a replica: a model, its seed and its training rows. The order of the batches depends on the seed and
on the rows of the whole language; a replica counts its own training rows of each batch. So replicas with other test
speakers share their batches, and give the same results whether they are trained alone or together, up to rounding.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mser.checkpoint import Model
from mser.config import FROM_ZERO, require_numbers, whole
from mser.gating import is_mixture
from mser.loader import Batch, Loader
from mser.metrics import score
from train.keeper import Fitted, Keeper
from train.memory import with_less_memory
from train.objective import LossSettings, Objective
from train.replicas import Single, Stacked, batchable

#: Above this batch size nothing is gained in prediction.
PREDICTION_BATCH = 256
#: Placements of a loader that make batches ahead of the steps.
MADE_AHEAD = ("pinned", "streamed")


@dataclass(frozen=True)
class FitSettings:
    """Settings of a training; the same for every structure, so that structures compare.

    Attributes:
        epochs: over the rows of the languages; more where that makes fewer than ``least_steps`` steps.
        batch_size: utterances of all languages together, those that a replica does not count among them.
        rate, decay: AdamW on the weights, the rate falling to zero along a half cosine.
        mixture_rate: Adam step of layer-mix and gate logits, without decay.
        patience: epochs without a better UAR on dev speakers after which a training stops and its best epoch counts;
            0: train to the end on all training speakers.

    Raises:
        ConfigError: a value that no training can run with.
    """

    epochs: int = 30
    least_steps: int = 300
    batch_size: int = 32
    rate: float = 1e-3
    decay: float = 1e-2
    mixture_rate: float = 1e-2
    patience: int = 0
    loss: LossSettings = field(default_factory=LossSettings)

    def __post_init__(self) -> None:
        least = {"epochs": 1, "least_steps": 1, "batch_size": 1, "patience": 0}
        rules = {name: whole(count) for name, count in least.items()}
        rules |= dict.fromkeys(("rate", "decay", "mixture_rate"), FROM_ZERO)
        require_numbers(self, "No training can run with this.", rules)


@dataclass(frozen=True)
class Replica:
    """One training.

    Attributes:
        rows: for each language of the model, its training rows.
        dev: for each language, rows of other speakers that decide when to stop; needed with ``patience``.
    """

    model: Model
    rows: Mapping[str, np.ndarray]
    seed: int
    dev: Mapping[str, np.ndarray] | None = None


def fit(
    replicas: Sequence[Replica],
    loaders: Mapping[str, Loader],
    population: Mapping[str, np.ndarray],
    settings: FitSettings,
    shared_labels: Mapping[str, Tensor] | None = None,
    together: bool = False,
    trunk: float = 1.0,
) -> list[Fitted]:
    """Trains the models of ``replicas`` in place.

    Args:
        loaders: of each language. population: the rows of each language whose order all replicas share.
        shared_labels: for each language (E_g,) the index of each of its emotions among all languages' emotions,
            for a contrastive loss across languages; the language's own indices if not given.
        together: as one program where their structures are alike and can be stacked; the others one by one.
        trunk: factor of the rate for what languages share, the projections; 0: they stay as they are.
    """
    found: dict[int, Fitted] = {}
    for numbers in grouped(replicas) if together else [[number] for number in range(len(replicas))]:
        chosen = [replicas[number] for number in numbers]
        fitted = _fit_what_fits(chosen, loaders, population, settings, shared_labels, trunk)
        found.update(zip(numbers, fitted, strict=True))
    return [found[number] for number in range(len(replicas))]


def _fit_what_fits(
    replicas: Sequence[Replica],
    loaders: Mapping[str, Loader],
    population: Mapping[str, np.ndarray],
    settings: FitSettings,
    shared_labels: Mapping[str, Tensor] | None,
    trunk: float,
) -> list[Fitted]:
    """Trains replicas as one program, or as two of half the size where the device's memory is too small."""
    began = [{name: value.clone() for name, value in one.model.state_dict().items()} for one in replicas]

    def trained() -> list[Fitted]:
        for replica, values in zip(replicas, began, strict=True):
            replica.model.load_state_dict(values)
        return Training(replicas, loaders, population, settings, shared_labels, trunk).run()

    if len(replicas) == 1:
        return with_less_memory(trained, loaders.values())
    with contextlib.suppress(torch.OutOfMemoryError):
        return trained()
    warnings.warn(f"{len(replicas)} trainings do not fit on the device together; halves are tried.", stacklevel=2)
    for replica, values in zip(replicas, began, strict=True):
        replica.model.load_state_dict(values)
    torch.cuda.empty_cache()
    found: list[Fitted] = []
    for half in (replicas[: len(replicas) // 2], replicas[len(replicas) // 2 :]):
        # Anew from the start: a half may cut through a seed's group.
        found += fit(half, loaders, population, settings, shared_labels, together=True, trunk=trunk)
    return found


def grouped(replicas: Sequence[Replica]) -> list[list[int]]:
    """Numbers of the replicas that can be trained as one program: alike in structure, as many of every seed."""
    alike: dict[str, dict[int, list[int]]] = {}
    alone = []
    for number, replica in enumerate(replicas):
        if batchable(replica.model):
            alike.setdefault(replica.model.structure, {}).setdefault(replica.seed, []).append(number)
        else:
            alone.append([number])
    found = []
    for seeds in alike.values():
        # Groups of one program are equally large: seeds with as many replicas go together.
        sizes: dict[int, list[int]] = {}
        for numbers in seeds.values():
            sizes.setdefault(len(numbers), []).extend(numbers)
        found += list(sizes.values())
    return found + alone


class Training:
    """The training of replicas that run as one program."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        loaders: Mapping[str, Loader],
        population: Mapping[str, np.ndarray],
        settings: FitSettings,
        shared_labels: Mapping[str, Tensor] | None,
        trunk: float = 1.0,
    ) -> None:
        self.trunk = trunk
        self.replicas, self.loaders, self.population, self.settings = list(replicas), loaders, population, settings
        self.device = next(iter(loaders.values())).device
        self.steps = math.ceil(sum(len(rows) for rows in population.values()) / settings.batch_size)
        self.epochs = max(settings.epochs, math.ceil(settings.least_steps / self.steps))
        self.seeds = list(dict.fromkeys(replica.seed for replica in replicas))
        objectives = [self._objective(replica, shared_labels).to(self.device) for replica in replicas]
        self.program: Single | Stacked
        if len(replicas) == 1:
            self.program = Single(objectives[0], self.seeds[0], self.device)
        else:
            self.program = Stacked(objectives, self.seeds, self.device)
        self.counted = {language: self._counted(language) for language in population}
        self.optimizer = self._optimizer()

    def _objective(self, replica: Replica, shared_labels: Mapping[str, Tensor] | None) -> Objective:
        labels = {language: self.loaders[language].labels[rows] for language, rows in replica.rows.items()}
        own = {language: torch.arange(len(replica.model.domains[language].emotions)) for language in replica.rows}
        return Objective(replica.model, self.settings.loss, labels, shared_labels or own, self.steps)

    def _counted(self, language: str) -> Tensor:
        """(R, N): 1 for the training rows of each replica."""
        counted = torch.zeros(len(self.replicas), len(self.loaders[language].labels))
        for mask, replica in zip(counted, self.replicas, strict=True):
            mask[replica.rows[language]] = 1
        return counted.to(self.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        named = self.program.parameters()
        mixtures = [value for name, value in named.items() if is_mixture(name)]
        settings = self.settings
        # One group of all weights unless the trunk has a rate of its own: groups decide how steps are fused.
        trunk = {name for name in named if ".projections." in name} if self.trunk != 1 else set()
        weights = [value for name, value in named.items() if not is_mixture(name) and name not in trunk]
        shared = [named[name] for name in sorted(trunk)]
        groups = [
            {"params": weights, "lr": settings.rate, "weight_decay": settings.decay},
            {"params": mixtures, "lr": settings.mixture_rate, "weight_decay": 0.0},
            {"params": shared, "lr": settings.rate * self.trunk, "weight_decay": settings.decay},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)

    def run(self) -> list[Fitted]:
        """Trains all replicas to the end, or until each has stopped."""
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.epochs * self.steps)
        keeper = Keeper(self.program, self.settings.patience, self._dev_uar)
        step = torch.zeros((), dtype=torch.int32, device=self.device)
        for epoch in range(self.epochs):
            summed = torch.zeros(len(self.replicas), device=self.device)
            for batches, counted in self._epoch(epoch):
                self.optimizer.zero_grad(set_to_none=True)
                losses = self.program.losses(batches, counted, step)
                losses.sum().backward()
                self.optimizer.step()
                schedule.step()
                summed += losses.detach()
                step += 1
            # The only point at which the host waits for the device.
            if keeper.judge(epoch, summed / self.steps):
                break
        return keeper.finish()

    def _epoch(self, epoch: int) -> Iterator[tuple[list[dict[str, Batch]], dict[str, Tensor]]]:
        """The batches of each seed's group and what each replica counts of them, step by step."""
        rows = {language: self._rows(language, epoch) for language, own in self.population.items() if len(own)}
        sources = {
            (number, language): self._batches(self.loaders[language], [one[0] for one in group])
            for language, groups in rows.items()
            for number, group in enumerate(groups)
        }
        for step in range(self.steps):
            batches: list[dict[str, Batch]] = [{} for _ in self.seeds]
            counted: dict[str, Tensor] = {}
            for language, groups in rows.items():
                masks = self.counted[language].unflatten(0, (len(self.seeds), -1))
                counts = []
                for number, group in enumerate(groups):
                    chosen, real = group[step]
                    batch = batches[number][language] = next(sources[number, language])
                    # By the batch's own rows, which lie on the device: a copy from the host would wait for it.
                    real_rows = torch.arange(len(chosen), device=self.device) < real
                    counts.append(masks[number][:, batch.rows.long()] * real_rows)
                counted[language] = torch.cat(counts)
            yield batches, counted

    def _batches(self, loader: Loader, cut: Sequence[np.ndarray]) -> Iterator[Batch]:
        """The batches of one group, made ahead where the placement does so."""
        if loader.placement in MADE_AHEAD:
            return loader.batches(cut)
        # With several groups a buffer would be filled again before the step.
        return (_kept(loader.gather(rows), len(self.seeds) > 1) for rows in cut)

    def _rows(self, language: str, epoch: int) -> list[list[tuple[np.ndarray, int]]]:
        """For each seed's group the rows of each step, as many in every group, and how many of them are no filling."""
        loader, population = self.loaders[language], self.population[language]
        orders = [loader.order(population, self.steps, seed, epoch) for seed in self.seeds]
        steps = [self._same_size([order[step] for order in orders], language) for step in range(self.steps)]
        return [[step[number] for step in steps] for number in range(len(self.seeds))]

    def _same_size(self, rows: list[np.ndarray], language: str) -> list[tuple[np.ndarray, int]]:
        """Each group's rows, as many in each: filled up with rows that nobody counts.

        A step without a row is a step all the same: weights decay in it. One replica alone leaves the rows that it does
        not count out.
        """
        if len(self.replicas) == 1:
            rows = [rows[0][np.isin(rows[0], self.replicas[0].rows[language])]]
        size = max([1, *(len(one) for one in rows)])
        filler = self.population[language][:1]
        return [(np.concatenate([one, np.repeat(filler, size - len(one))]), len(one)) for one in rows]

    def _dev_uar(self) -> list[float]:
        """Of each replica at its present weights, percent; the mean over its languages."""
        self.program.write_back()
        found = []
        for replica in self.replicas:
            if replica.dev is None:
                raise ValueError("patience needs dev rows")
            scores = []
            for language, rows in replica.dev.items():
                said = predict(replica.model, language, self.loaders[language], rows)[0].argmax(1)
                scores.append(score(self.loaders[language].labels[rows].numpy(), said).uar)
            found.append(float(np.mean(scores)))
        return found


def _kept(batch: Batch, copy: bool) -> Batch:
    """A batch that stays valid when the next one is gathered into the same buffers."""
    return batch._replace(states=tuple(states.clone() for states in batch.states)) if copy else batch


@torch.inference_mode()
def predict(model: Model, language: str, loader: Loader, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, E) and gate weights (N, K) of ``rows``, in their order."""
    probabilities, gates = [], []
    for start in range(0, len(rows), PREDICTION_BATCH):
        output = model(language, loader.gather(rows[start : start + PREDICTION_BATCH]))
        probabilities.append(output.logits.softmax(1).cpu())
        gates.append(output.gate.cpu())
    return torch.cat(probabilities).numpy(), torch.cat(gates).numpy()
