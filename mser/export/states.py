"""States to compare an exported head on: those of the run's stores where they are at hand, else made-up ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mser.config import Workspace
from mser.errors import MserError, StoreError
from mser.experts import Expert, frames_expert, pooled_expert
from mser.export.network import networks_of
from mser.loader import Batch, Loader
from mser.manifest import read_manifests
from mser.predict.head import TrainedHead
from mser.store import Store

#: Utterances that are compared at most, evenly drawn: enough to meet every length that matters.
MOST = 1000
#: Made-up utterances, and their frames at most.
MADE_UP, FRAMES = 48, 40
#: Utterances a batch; the first ones come alone.
BATCH, ALONE = 32, 4


@dataclass(frozen=True)
class Sample:
    """States to compare on.

    Attributes:
        loader: over ``rows``. rows: of each batch. real: whether they are of recordings.
        reason: why they are not.
    """

    loader: Loader
    rows: list[np.ndarray]
    real: bool
    reason: str = ""

    @property
    def utterances(self) -> int:
        return sum(len(rows) for rows in self.rows)

    def batches(self) -> Iterator[Batch]:
        """Each is valid until the next one is asked for."""
        return (self.loader.gather(rows) for rows in self.rows)


def sample(head: TrainedHead, workspace: Workspace, most: int = MOST) -> Sample:
    """Real states of the head's language if the workspace has those it was trained on, else made-up ones.

    Args:
        most: utterances.
    """
    try:
        experts = stored_experts(head, workspace)
    except MserError as error:
        return made_up(head, error.what)
    count = len(experts[0].frames)
    rows = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
    # Of long frames only those that are compared are read.
    placement = "streamed" if head.features == "frames" else "auto"
    return Sample(_loader(experts, placement), cut(rows), real=True)


def stored_experts(head: TrainedHead, workspace: Workspace) -> list[Expert]:
    """The states of every utterance of the head's language, as training had them.

    Raises:
        ManifestError, StoreError: they are not there, or are not those that the head was trained on.
    """
    manifests = read_manifests(workspace, [head.language])
    utterances = [row for manifest in manifests for row in manifest.utterances]
    experts = []
    for name, key in head.keys.items():
        stores = {one.corpus: Store(workspace.store(one.corpus, name)) for one in manifests}
        for store in stores.values():
            if store.provenance.states != head.stores[key].states:
                raise StoreError(
                    f"The states of {name} in the workspace are not those that the head was trained on.",
                    file=store.folder,
                )
        if head.features == "pooled":
            experts.append(pooled_expert(stores, utterances))
        else:
            experts.append(frames_expert(stores, utterances, head.frame_rate))
    return experts


def made_up(head: TrainedHead, reason: str) -> Sample:
    """White noise of several lengths, with the mean and deviation that the head takes states to have."""
    rng = torch.Generator().manual_seed(0)
    shapes = {shape.name: shape for shape in head.model.experts}
    standard = standards(head)
    experts = []
    for name in head.keys:
        shape = shapes[name]
        most = torch.randint(1, FRAMES + 1, (MADE_UP,), generator=rng) if head.features == "frames" else [1] * MADE_UP
        shift, deviation = standard.get(name, (torch.zeros(1, 1), torch.ones(1, 1)))
        states = [
            torch.randn(shape.layers, int(count), shape.dim, generator=rng) * deviation[:, None] + shift[:, None]
            for count in most
        ]
        experts.append(Expert.of_states(name, states))
    return Sample(_loader(experts), cut(np.arange(MADE_UP)), real=False, reason=reason)


def standards(head: TrainedHead) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and deviation (L, D) of the states of each upstream that the head uses; 0 where a feature does not vary."""
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    model, names = networks_of(head)
    for name in names:
        network: Any = model.network(name)
        for number, mix in zip(network.used, network.mixes, strict=True):
            deviation = torch.where(mix.scale > 0, 1 / mix.scale.clamp(min=1e-12), 0.0)
            # An adaptation's networks standardise alike.
            found.setdefault(model.experts[number].name, (mix.shift, deviation))
    return found


def cut(rows: np.ndarray) -> list[np.ndarray]:
    """Batches of one utterance and of many: a model must not depend on who else is in its batch."""
    alone, rest = rows[:ALONE], rows[ALONE:]
    parts = [rest[start : start + BATCH] for start in range(0, len(rest), BATCH)]
    return [*(alone[number : number + 1] for number in range(len(alone))), *parts]


def _loader(experts: list[Expert], placement: str = "auto") -> Loader:
    return Loader(experts, torch.zeros(len(experts[0].frames), dtype=torch.int64), "cpu", placement)
