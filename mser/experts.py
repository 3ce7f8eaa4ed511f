"""The states of one upstream for the utterances of a language: where they lie, and their moments.

N utterances, L layers, T frames, D features, S = mean and deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mser.errors import StoreError
from mser.manifest import Utterance
from mser.sources import Grouped, HeldStates, Source, StoredFrames, all_finite, reduced
from mser.store import Store

#: A feature that varies less than this over the training frames is taken for constant.
SMALLEST_DEVIATION = 1e-5
#: Utterances whose moments are turned into float64 at a time.
MOMENTS_BLOCK = 256


@dataclass(frozen=True)
class Expert:
    """The states of one upstream for N utterances, as cached: nothing is standardised.

    Attributes:
        name: of the upstream's stores.
        frames: (N,) int64, T of each row.
        moments: (N, L, S, D) float32: mean and deviation over each utterance's stored frames.
        source: of the states.
        dtype: float16 or float32, what a cache of the states is kept in and what every placement rounds to.
    """

    name: str
    frames: Tensor
    moments: Tensor
    source: Source
    dtype: torch.dtype = torch.float32

    @classmethod
    def of_states(cls, name: str, states: Sequence[Tensor]) -> Expert:
        """An expert of states (L, T, D) that lie in memory, float16 or float32; computes their moments."""
        moments = [torch.stack([x.float().mean(1), x.float().std(1, correction=0)], dim=1) for x in states]
        frames = torch.tensor([x.shape[1] for x in states])
        places = [(name, f"row {row}") for row in range(len(states))]
        source = HeldStates.of(states, places)
        return cls(name, frames, torch.stack(moments), source, source.packed.dtype)

    @property
    def layers(self) -> int:
        return self.moments.shape[1]

    @property
    def dim(self) -> int:
        return self.moments.shape[3]

    def __getitem__(self, row: int) -> Tensor:
        """(L, T, D) float32: the values that batches hold."""
        return self.source.read(row).to(self.dtype).to(torch.float32, copy=True)

    def read_into(self, row: int, target: Tensor) -> None:
        """Writes the frames of an utterance into ``target`` (T, L, D), of ``dtype`` or float32.

        Raises:
            StoreError: a state is not finite.
        """
        states = self.source.read(row).to(self.dtype)
        if not all_finite(states):
            raise self.not_finite(row)
        target.copy_(states.transpose(0, 1))

    def not_finite(self, row: int) -> StoreError:
        """The error to raise for an utterance with NaN or infinite values."""
        folder, utterance = self.source.place(row)
        return StoreError(
            "States hold values that are not finite.",
            file=folder,
            field=utterance,
            expected="finite numbers",
            found="NaN or infinity",
            hint="run `make verify`, which names the damaged shard; delete it and run `make extract` again",
        )

    def require_finite(self, rows: Tensor | None = None) -> None:
        """Raises StoreError naming an utterance of ``rows`` (or of all) whose moments are not finite."""
        moments = self.moments if rows is None else self.moments[rows]
        if all_finite(moments):
            return
        first = next(number for number, own in enumerate(moments) if not all_finite(own))
        raise self.not_finite(first if rows is None else int(rows[first]))

    def standard(self, rows: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """What gives each layer and feature mean 0 and deviation 1 over the frames of ``rows`` (training rows only).

        Returns:
            Shift and scale, each (L, D) float32: ``(states - shift) * scale``. The scale of a feature that does not
            vary is 0.

        Raises:
            StoreError: their moments are not finite.
        """
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        shift, deviation = moments_over(self.moments[chosen], self.frames[chosen])
        if not (all_finite(shift) and all_finite(deviation)):
            self.require_finite(chosen)
        return shift, scale_of(deviation)

    def by_group(self, groups: Tensor) -> Expert:
        """Each utterance's states less its group's mean, over its group's deviation; no labels are looked at.

        Args:
            groups: (N,) int64, such as the speaker or the corpus of each row. Mean and deviation are those of each
                layer and feature over all frames of the group, by :meth:`standard`: of a group with a single pooled
                utterance nothing is left but zeros.

        Raises:
            StoreError: moments are not finite.
        """
        self.require_finite()
        _, members = torch.unique(groups, return_inverse=True)
        found = [self.standard(torch.nonzero(members == number)[:, 0]) for number in range(int(members.max()) + 1)]
        shift, scale = (torch.stack(parts) for parts in zip(*found, strict=True))
        moments = self.moments.clone()
        for own, member in zip(moments, members.tolist(), strict=True):
            own[:, 0].sub_(shift[member]).mul_(scale[member])
            own[:, 1].mul_(scale[member])
        grouped: Source = Grouped(self.source, members.tolist(), shift, scale)
        if isinstance(self.source, HeldStates):
            grouped = self.source.holding(grouped)
        return replace(self, moments=moments, source=grouped)


def scale_of(deviation: Tensor) -> Tensor:
    """One over a deviation; 0 where it is below SMALLEST_DEVIATION."""
    return torch.where(deviation > SMALLEST_DEVIATION, 1 / deviation.clamp(min=SMALLEST_DEVIATION), 0.0)


def moments_over(moments: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over all frames of many utterances, from those of each: exact, reads no frame.

    Args:
        moments: (N, L, S, D). frames: (N,), the weights.

    Returns:
        Mean and deviation, each (L, D) float32.
    """
    weights = (frames.double() / frames.sum())[:, None, None]
    mean = torch.zeros(moments.shape[1], moments.shape[3], dtype=torch.float64)
    square = torch.zeros_like(mean)
    # In blocks: the moments of a large corpus are gigabytes, and float64 doubles them.
    for weight, block in zip(weights.split(MOMENTS_BLOCK), moments.split(MOMENTS_BLOCK), strict=True):
        means, deviations = block[:, :, 0].double(), block[:, :, 1].double()
        mean += (weight * means).sum(0)
        square += (weight * (deviations.square_() + means.square())).sum(0)
    return mean.float(), (square - mean.square()).clamp(min=0).sqrt().float()


def frames_expert(stores: Mapping[str, Store], utterances: Sequence[Utterance], max_frame_rate: float) -> Expert:
    """The frames of one upstream, averaged down to at most ``max_frame_rate`` frames a second.

    Frames as stored in float16 are kept so. Averages are kept as float32, which loses nothing: of two frames or more
    they take no more memory than the float16 frames did. So are frames of int8 stores, four times their size.

    Args:
        stores: of each corpus of the utterances, all by one upstream.

    Raises:
        StoreError: a store lacks utterances, or holds states of other recordings, or of another upstream.
    """
    store = _one_upstream(stores, utterances)
    factor = averaging(store.provenance.frame_rate, max_frame_rate)
    counts = [stores[row.corpus].num_frames(row.utterance_id) for row in utterances]
    frames = torch.tensor([math.ceil(count / factor) for count in counts])
    moments = pooled_moments(stores, utterances)
    half = factor == 1 and {one.provenance.dtype for one in stores.values()} == {"float16"}
    dtype = torch.float16 if half else torch.float32
    return Expert(store.folder.name, frames, moments, StoredFrames(stores, utterances, factor), dtype)


def pooled_expert(stores: Mapping[str, Store], utterances: Sequence[Utterance]) -> Expert:
    """The pooled statistics of one upstream, as one frame of 2 D features: means, then deviations over frames.

    Raises:
        StoreError: as :func:`frames_expert`.
    """
    store = _one_upstream(stores, utterances)
    places = [(str(stores[row.corpus].folder), row.utterance_id) for row in utterances]
    return expert_of_pooled(store.folder.name, pooled_moments(stores, utterances), places)


def expert_of_pooled(name: str, pooled: Tensor, places: Sequence[tuple[str, str]]) -> Expert:
    """Pooled statistics (N, L, S, D) as one frame of S D features.

    Args:
        places: folder and utterance of each row, for messages.
    """
    states = pooled.flatten(2)
    frames = torch.ones(len(states), dtype=torch.int64)
    moments = torch.stack([states, torch.zeros_like(states)], dim=2)
    return Expert(name, frames, moments, HeldStates.of(states.unsqueeze(2), places))


def expert_of_frames(name: str, frames: Sequence[Tensor], factor: int) -> Expert:
    """Frames (L, T, D) in memory as a store would hold them, averaged down as :func:`frames_expert` does."""
    return Expert.of_states(name, list(frames) if factor == 1 else [reduced(x.float(), factor) for x in frames])


def averaging(frame_rate: float, max_frame_rate: float) -> int:
    """How many frames are averaged into one, so that there are at most ``max_frame_rate`` a second."""
    return max(1, math.ceil(frame_rate / max_frame_rate - 1e-9))


def pooled_moments(stores: Mapping[str, Store], utterances: Sequence[Utterance]) -> Tensor:
    """Mean and deviation over frames of each utterance: (N, L, S, D) float32."""
    first = next(iter(stores.values())).provenance
    found = torch.empty(len(utterances), first.layers, 2, first.dim)
    for corpus, store in stores.items():
        rows = [number for number, row in enumerate(utterances) if row.corpus == corpus]
        found[rows] = torch.from_numpy(store.pooled([utterances[row].utterance_id for row in rows]))
    return found


def _one_upstream(stores: Mapping[str, Store], utterances: Sequence[Utterance]) -> Store:
    """The first store, once all of them are seen to hold every utterance by one and the same upstream."""
    first = next(iter(stores.values()))
    for corpus, store in stores.items():
        if store.provenance.states != first.provenance.states:
            raise StoreError(
                "The stores of a language were made by different upstreams of one name, or keep different layers.",
                file=store.folder,
                expected=first.provenance.states,
                found=store.provenance.states,
                hint="extract them with one model and the same LAYERS, WINDOW and OVERLAP",
            )
        rows = [row for row in utterances if row.corpus == corpus]
        absent, changed = store.missing({row.utterance_id: row.sha256 for row in rows})
        if absent or changed:
            raise StoreError(
                "The store does not fit the manifest: it lacks utterances, or recordings changed since.",
                file=store.folder,
                expected=f"the {len(rows)} utterances of the manifest",
                found=f"{len(absent)} missing, {len(changed)} of other recordings; first: {(absent or changed)[0]}",
                hint=f'run `make extract LANG={rows[0].language} UPSTREAMS="{store.folder.name}"` with the name or '
                "folder that the upstream was given by" + (", and REPLACE_CHANGED=1" if changed else ""),
            )
    return first
