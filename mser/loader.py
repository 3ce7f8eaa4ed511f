"""From stores to batches: the states of a language's utterances, gathered and padded.

Whatever holds the tensors (memory or the memory-mapped store), the batches are the same bit for bit:
both ways run the same arithmetic on the same values, and the order depends on the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mser.errors import ConfigError, StoreError
from mser.manifest import Utterance
from mser.store import Store

#: Batches drawn together and sorted by length before they are cut: keeps padding at a few percent.
POOL_BATCHES = 20
#: A feature that varies less than this over the training frames is taken for constant.
SMALLEST_DEVIATION = 1e-5


@dataclass(frozen=True)
class Batch:
    """Padded states of B utterances, one tensor an expert.

    Attributes:
        states: for each expert (B, L, T, D) float32, standardised, zero behind each utterance's end.
        lengths: for each expert (B,) int64, frames.
        labels: (B,) int64, emotion indices.
    """

    states: tuple[Tensor, ...]
    lengths: tuple[Tensor, ...]
    labels: Tensor


@dataclass(frozen=True)
class Expert:
    """The states of one upstream for N utterances, standardised when read.

    Attributes:
        name: of the upstream's stores.
        read: row -> (L, T, D) float32, before standardisation.
        frames: (N,) int64, T of each row.
        moments: (N, L, S, D) float32: mean and deviation over each utterance's stored frames.
        shift, scale: (L, 1, D): what is taken off, and what is multiplied with, on reading.
    """

    name: str
    read: Callable[[int], Tensor]
    frames: Tensor
    moments: Tensor
    shift: Tensor | None = None
    scale: Tensor | None = None

    @property
    def layers(self) -> int:
        return self.moments.shape[1]

    @property
    def dim(self) -> int:
        return self.moments.shape[3]

    def __getitem__(self, row: int) -> Tensor:
        """(L, T, D) float32, standardised where that was asked for."""
        states = self.read(row)
        if self.shift is None or self.scale is None:
            return states
        return (states - self.shift).mul_(self.scale)

    def standardised(self, rows: np.ndarray) -> Expert:
        """With mean 0 and deviation 1 of each layer and feature over the frames of ``rows`` (training rows only)."""
        shift, deviation = moments_over(self.moments[rows], self.frames[rows])
        scale = torch.where(deviation > SMALLEST_DEVIATION, 1 / deviation.clamp(min=SMALLEST_DEVIATION), 0.0)
        return replace(self, shift=shift[:, None], scale=scale[:, None])

    def resident(self, rows: np.ndarray | None = None) -> Expert:
        """With the (standardised) states of ``rows``, or of all, held in memory."""
        wanted = range(len(self.frames)) if rows is None else rows.tolist()
        held = {row: self[row] for row in wanted}
        return replace(self, read=held.__getitem__, shift=None, scale=None)


def moments_over(moments: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over all frames of many utterances, from those of each: exact, reads no frame.

    Args:
        moments: (N, L, S, D). frames: (N,), the weights.

    Returns:
        Mean and deviation, each (L, D) float32.
    """
    weights = (frames.double() / frames.sum())[:, None, None]
    means, deviations = moments[:, :, 0].double(), moments[:, :, 1].double()
    mean = (weights * means).sum(0)
    square = (weights * (deviations.square() + means.square())).sum(0)
    return mean.float(), (square - mean.square()).clamp(min=0).sqrt().float()


def reduced(states: Tensor, factor: int) -> Tensor:
    """Averages runs of ``factor`` frames, the last run over what is left: (L, T, D) -> (L, ceil(T/factor), D)."""
    layers, frames, dim = states.shape
    whole = frames // factor
    parts = states[:, : whole * factor].reshape(layers, whole, factor, dim).mean(2)
    if whole * factor == frames:
        return parts
    return torch.cat([parts, states[:, whole * factor :].mean(1, keepdim=True)], dim=1)


def frames_expert(stores: Mapping[str, Store], utterances: Sequence[Utterance], max_frame_rate: float) -> Expert:
    """The frames of one upstream, averaged down to at most ``max_frame_rate`` frames a second.

    Args:
        stores: of each corpus of the utterances, all by one upstream.

    Raises:
        StoreError: a store lacks utterances, or holds states of other recordings, or of another upstream.
    """
    store = _one_upstream(stores, utterances)
    factor = max(1, math.ceil(store.provenance.frame_rate / max_frame_rate - 1e-9))

    def read(row: int) -> Tensor:
        utterance = utterances[row]
        # Copied: a tensor must not write through to the mapped file.
        frames = np.array(stores[utterance.corpus].frames(utterance.utterance_id))
        return reduced(torch.from_numpy(frames).float(), factor)

    counts = [stores[row.corpus].num_frames(row.utterance_id) for row in utterances]
    frames = torch.tensor([math.ceil(count / factor) for count in counts])
    return Expert(store.folder.name, read, frames, pooled_moments(stores, utterances))


def pooled_expert(stores: Mapping[str, Store], utterances: Sequence[Utterance]) -> Expert:
    """The pooled statistics of one upstream, as one frame of 2 D features: means, then deviations over frames.

    Raises:
        StoreError: as :func:`frames_expert`.
    """
    store = _one_upstream(stores, utterances)
    states = pooled_moments(stores, utterances).flatten(2).unsqueeze(2)
    moments = torch.stack([states[:, :, 0], torch.zeros_like(states[:, :, 0])], dim=2)
    return Expert(store.folder.name, states.__getitem__, torch.ones(len(states), dtype=torch.int64), moments)


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


class Loader:
    """Batches over one language's utterances.

    Args:
        experts: K, standardised by the caller on training rows.
        labels: (N,) int64.
        device: where the batches are wanted.
    """

    def __init__(self, experts: Sequence[Expert], labels: Tensor, device: torch.device | str = "cpu") -> None:
        if not experts:
            raise ConfigError("No expert to train on.", field="UPSTREAMS", expected="one upstream or more")
        self.experts, self.labels, self.device = tuple(experts), labels, torch.device(device)
        self._buffers: dict[int, Tensor] = {}

    def gather(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, in their order. Valid until the next call on the CPU: its buffers are reused."""
        states, lengths = [], []
        for number, expert in enumerate(self.experts):
            frames = expert.frames[rows]
            padded = self._buffer(number, (len(rows), expert.layers, int(frames.max()), expert.dim))
            for target, row, length in zip(padded, rows.tolist(), frames.tolist(), strict=True):
                target[:, :length] = expert[row]
                target[:, length:] = 0
            states.append(padded.to(self.device))
            lengths.append(frames.to(self.device))
        return Batch(tuple(states), tuple(lengths), self.labels[rows].to(self.device))

    def _buffer(self, number: int, shape: tuple[int, ...]) -> Tensor:
        # A fresh large buffer for each batch costs more in page faults than the copy itself.
        size = math.prod(shape)
        if number not in self._buffers or self._buffers[number].numel() < size:
            # A tensor made while predicting could not be written to while training.
            with torch.inference_mode(False):
                self._buffers[number] = torch.empty(size)
        return self._buffers[number][:size].view(shape)

    def order(self, rows: np.ndarray, batches: int, seed: int, epoch: int) -> list[np.ndarray]:
        """Cuts ``rows`` into ``batches`` batches of like length, in an order that seed and epoch decide.

        Where there are fewer rows than batches, some batches are empty.
        """
        rng = np.random.default_rng([seed, epoch])
        shuffled = rng.permutation(rows)
        lengths = self.experts[0].frames.numpy()
        pools = max(1, batches // POOL_BATCHES)
        counts = [len(part) for part in np.array_split(np.arange(batches), pools)]
        cut: list[np.ndarray] = []
        for pool, count in zip(np.array_split(shuffled, pools), counts, strict=True):
            inside = pool[np.argsort(lengths[pool], kind="stable")]
            cut += np.array_split(inside, count)
        rng.shuffle(cut)
        return cut

    def epoch(self, rows: np.ndarray, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """All ``rows`` once, in batches of about ``batch_size``."""
        for chosen in self.order(rows, math.ceil(len(rows) / batch_size), seed, epoch):
            yield self.gather(chosen)
