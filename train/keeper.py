"""Which epoch of a training counts: the last, the best on dev speakers, or the last before it diverged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.replicas import Replicas


@dataclass
class Fitted:
    """What became of a training.

    Attributes:
        losses: mean of each epoch up to its end.
        dev_uar: of each epoch up to its end, percent; none where dev speakers are not asked.
        best: the epoch whose weights the model has, counted from 0; -1 for those it began with.
        diverged: the epoch in which the loss or a weight was no finite number any more; the model then has the weights
            of ``best``. None: it never did.
    """

    losses: list[float]
    best: int = -1
    diverged: int | None = None
    dev_uar: list[float] = field(default_factory=list)


class Keeper:
    """Keeps the weights that count of each replica, with its statistics, and tells when all of them have stopped.

    A replica that has stopped goes on in the program of the others, but nothing of it is kept any more: so it ends
    exactly as if it had been trained alone.

    Args:
        patience: epochs without a better score after which a replica stops; 0: scores are not asked for.
        scores: the present score of each replica on dev speakers.
    """

    def __init__(self, program: Replicas, patience: int, scores: Callable[[], list[float]]) -> None:
        self.program, self.patience, self.scores = program, patience, scores
        self.found = [Fitted([]) for _ in program.each()]
        self.stopped = [False] * len(self.found)
        self.highest = [float("-inf")] * len(self.found)
        self.kept = self._values(range(len(self.found)))

    def judge(self, epoch: int, losses: Tensor) -> bool:
        """Takes in one epoch; true once every replica has stopped.

        Args:
            losses: (R,), means over the epoch.
        """
        finite = (losses.isfinite() & self.program.finite()).tolist()
        scores = self.scores() if self.patience else [float(epoch)] * len(finite)
        better = []
        for number, loss in enumerate(losses.tolist()):
            if self.stopped[number]:
                continue
            found = self.found[number]
            if not finite[number]:
                found.diverged, self.stopped[number] = epoch, True
                continue
            found.losses.append(loss)
            found.dev_uar += [scores[number]] if self.patience else []
            if scores[number] > self.highest[number]:
                self.highest[number], found.best = scores[number], epoch
                better.append(number)
            elif epoch - found.best >= self.patience:
                self.stopped[number] = True
        self.kept.update(self._values(better))
        return all(self.stopped)

    def finish(self) -> list[Fitted]:
        """Writes the weights that count into the replicas' models."""
        with torch.no_grad():
            for number, values in enumerate(self.program.each()):
                for name, value in values.items():
                    value.copy_(self.kept[number][name])
        self.program.write_back()
        return self.found

    def _values(self, numbers: range | list[int]) -> dict[int, dict[str, Tensor]]:
        each = self.program.each() if len(numbers) else []
        return {number: {name: value.detach().clone() for name, value in each[number].items()} for number in numbers}
