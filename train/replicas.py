"""Many trainings as one program: replicas of a model with stacked parameters, on batches that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import pad

from mser.loader import Batch
from train.objective import Objective


class Replicas(Protocol):
    """R replicas in S groups of one seed each; a group's replicas see the same batches."""

    def parameters(self) -> dict[str, Tensor]:
        """What is trained, by name; with R in front where replicas are stacked."""

    def losses(self, batches: Sequence[Mapping[str, Batch]], counted: Mapping[str, Tensor], step: Tensor) -> Tensor:
        """The loss of each replica, (R,).

        Args:
            batches: for each group the batch of each language, of the same shape in every group.
            counted: for each language (R, B).
        """

    def finite(self) -> Tensor:
        """(R,) bool: whether all of :meth:`each` is finite."""

    def each(self) -> list[dict[str, Tensor]]:
        """What training changes of each replica, as views: parameters, and statistics such as those of batch norm."""

    def write_back(self) -> None:
        """Gives each replica's model what was trained."""


class Single:
    """One replica, run as it is, on the device where it lies."""

    def __init__(self, objective: Objective, seed: int, device: torch.device) -> None:
        self.objective = objective
        self.seed = torch.tensor(seed, dtype=torch.int32, device=device)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.objective.named_parameters())

    def losses(self, batches: Sequence[Mapping[str, Batch]], counted: Mapping[str, Tensor], step: Tensor) -> Tensor:
        own = {language: rows[0] for language, rows in counted.items()}
        return self.objective(batches[0], own, self.seed, step)[None]

    def finite(self) -> Tensor:
        return torch.stack([value.isfinite().all() for value in self.each()[0].values()]).all()[None]

    def each(self) -> list[dict[str, Tensor]]:
        return [{**self.parameters(), **dict(self.objective.named_buffers())}]

    def write_back(self) -> None:
        """Nothing to do: the model's own parameters were trained."""


class Stacked:
    """R replicas of one structure, S groups of F: every operation runs once for all of them.

    Models whose buffers change in training are not :func:`batchable`, so parameters are all that there is to keep.

    Args:
        objectives: R, group by group, on the device. seeds: S.
    """

    def __init__(self, objectives: Sequence[Objective], seeds: Sequence[int], device: torch.device) -> None:
        self.objectives, self.groups = list(objectives), len(seeds)
        self.seeds = torch.tensor(seeds, dtype=torch.int32, device=device)
        self._parameters = {
            name: torch.stack([dict(one.named_parameters())[name].detach() for one in objectives]).requires_grad_()
            for name, _ in objectives[0].named_parameters()
        }
        self._buffers = {
            name: torch.stack([dict(one.named_buffers())[name] for one in objectives])
            for name, _ in objectives[0].named_buffers()
        }
        # A skeleton without values: what runs is the stacked tensors.
        self._skeleton = objectives[0]

    def parameters(self) -> dict[str, Tensor]:
        return self._parameters

    def losses(self, batches: Sequence[Mapping[str, Batch]], counted: Mapping[str, Tensor], step: Tensor) -> Tensor:
        def one(
            parameters: Mapping[str, Tensor],
            buffers: Mapping[str, Tensor],
            counts: Mapping[str, Tensor],
            own: Mapping[str, Batch],
            seed: Tensor,
        ) -> Tensor:
            return functional_call(self._skeleton, {**parameters, **buffers}, (own, counts, seed, step))

        def grouped(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.unflatten(0, (self.groups, -1)) for name, value in values.items()}

        inner = vmap(one, in_dims=(0, 0, 0, None, None))
        if self.groups == 1:
            return inner(self._parameters, self._buffers, dict(counted), batches[0], self.seeds[0])
        outer = vmap(inner, in_dims=(0, 0, 0, 0, 0))
        together = {language: _stacked([batch[language] for batch in batches]) for language in batches[0]}
        return outer(
            grouped(self._parameters), grouped(self._buffers), grouped(counted), together, self.seeds
        ).flatten()

    def finite(self) -> Tensor:
        each = [value.isfinite().reshape(len(value), -1).all(1) for value in self._parameters.values()]
        return torch.stack(each).all(0)

    def each(self) -> list[dict[str, Tensor]]:
        count = len(self.objectives)
        return [{name: value[number] for name, value in self._parameters.items()} for number in range(count)]

    def write_back(self) -> None:
        with torch.no_grad():
            for objective, values in zip(self.objectives, self.each(), strict=True):
                for name, value in objective.named_parameters():
                    value.copy_(values[name])


def _stacked(batches: Sequence[Batch]) -> Batch:
    """Batches of one size, with S in front of every tensor; shorter ones are padded with zeros."""
    states = []
    for own in zip(*(batch.states for batch in batches), strict=True):
        longest = max(one.shape[1] for one in own)
        states.append(torch.stack([pad(one, (0, 0, 0, 0, 0, longest - one.shape[1])) for one in own]))
    return Batch(
        tuple(states),
        tuple(torch.stack(lengths) for lengths in zip(*(batch.lengths for batch in batches), strict=True)),
        torch.stack([batch.labels for batch in batches]),
        torch.stack([batch.rows for batch in batches]),
    )


def batchable(model: nn.Module) -> bool:
    """Whether a model's replicas can be stacked: no part of it says otherwise, or keeps statistics of its batches."""
    return not any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) or not getattr(module, "batchable", True)
        for module in model.modules()
    )
