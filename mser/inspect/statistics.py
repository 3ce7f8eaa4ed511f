"""Statistics of the states of each layer, over stores larger than memory.

Dask hands out the work (a layer of some shards), torch computes. The cost is the products of all pairs of features,
from which the effective rank follows. Within a block they are summed in float32, of values less the block's mean, so
that nothing cancels; over blocks in float64. Blocks whose squares float32 could not hold are computed in float64.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import dask
import dask.threaded
import numpy as np
import torch
from torch import Tensor

from mser.cores import torch_threads, usable_cores
from mser.errors import StoreError
from mser.experts import SMALLEST_DEVIATION
from mser.inspect.blocks import layer_blocks
from mser.store import Store
from mser.store.shard import Shard

#: Frames of a layer that one task reads; what it returns (D x D) is small beside them.
TASK_FRAMES = 1 << 17
#: The square of a larger value, summed over a block, may not fit float32.
LARGEST = 1e15
FRAMES, MEANS = "frames", "utterance means"

#: Told after each shard of a layer: how many are done, of how many. May raise, to stop.
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class LayerStatistics:
    """Of each layer over all frames of a store, or over its utterances' means.

    Attributes:
        mean, deviation: (L, D) float64, the deviation with the number of frames as the denominator.
        norm: (L,) mean length (2-norm) of a state.
        rank: (L,) effective rank: the exponential of the entropy of the covariance's eigenvalues, each as a share of
            their sum (Roy & Vetterli 2007, EUSIPCO). D where all directions vary alike, 1 where one does, 0 where none.
        count: frames, or utterances; the most of any layer. over: ``frames`` or ``utterance means``.
        left_out: in a sentence, which values are not finite and of which layers, and what to run; empty where all are.
    """

    mean: Tensor
    deviation: Tensor
    norm: Tensor
    rank: Tensor
    count: int
    over: str
    left_out: str = ""

    @property
    def dead(self) -> Tensor:
        """(L,) share of the features that vary so little that training takes them for constant."""
        return (self.deviation < SMALLEST_DEVIATION).double().mean(1)


def layer_statistics(
    store: Store, over: str | None = None, workers: int | None = None, advance: Advance | None = None
) -> LayerStatistics:
    """Statistics of a store of any size; of a store opened without its damaged shards, those of the others.

    Frames, or means, that hold a value that is not finite are left out of that layer's.

    Args:
        over: ``frames`` or ``utterance means``; frames where the store has them, if not given.
        workers: threads; one a core if not given.
        advance: told after each shard of a layer.

    Raises:
        StoreError: the store holds nothing of the kind, or a layer of it nothing that is finite.
    """
    chosen = over or (FRAMES if "frames" in store.provenance.keep else MEANS)
    store.require("frames" if chosen == FRAMES else "pooled")
    if not store.shards:
        raise StoreError("The store holds no utterance.", file=store.folder, hint="run `make extract` again")
    groups = list(_groups(store.shards)) if chosen == FRAMES else [store.shards]
    blocks = layer_blocks if chosen == FRAMES else _mean_blocks
    layers = range(store.provenance.layers)
    told = _Told(chosen, advance, len(layers) * len(store.shards))
    of_group, of_layer = dask.delayed(_sums, pure=False), dask.delayed(_finished, pure=False)
    tasks = [of_layer([of_group(blocks, _Kept(group), layer, told) for group in groups]) for layer in layers]
    with torch_threads(1):  # Dask's threads take a core each
        # Asked for by name, Dask would look for a cluster first, and import the library of clusters.
        found = dask.compute(*tasks, scheduler=dask.threaded.get, num_workers=workers or usable_cores())
    if None in found:
        number = store.provenance.layer_numbers[found.index(None)]
        raise StoreError(
            "No state of a layer is finite.",
            file=store.folder,
            field=f"layer {number}",
            hint="run `make verify`, which names the files; delete these and run `make extract` again",
        )
    means, deviations, norms, ranks, counts = zip(*found, strict=True)
    return LayerStatistics(
        torch.stack(means),
        torch.stack(deviations),
        torch.tensor(norms),
        torch.tensor(ranks),
        max(counts),
        chosen,
        told.left_out,
    )


def effective_rank(covariance: Tensor) -> float:
    """The exponential of the entropy of the eigenvalues' shares of their sum; of (D, D) float64, 0 where it is zero.

    >>> round(effective_rank(torch.eye(5).double()), 6), effective_rank(torch.zeros(2, 2).double())
    (5.0, 0.0)
    """
    largest = covariance.abs().max()
    if largest == 0:
        return 0.0
    # Rounding leaves eigenvalues a little below zero where they are zero.
    values = torch.linalg.eigvalsh(covariance / largest).clamp(min=0)
    shares = values[values > 0] / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


class Sums:
    """Of n states of D features, all float64.

    Attributes:
        count: n. mean: (D,). products: (D, D) sums of the products of the features less their means. lengths: the sum
            of the states' lengths.
    """

    def __init__(self, states: Tensor, lengths: Tensor) -> None:
        """Of a block (n, D), float32 or float64, which is overwritten; and the lengths (n,) of its states."""
        self.count = len(states)
        self.lengths = float(lengths.sum(dtype=torch.float64))
        near = states.mean(0)
        states -= near
        # The mean in float32 is not quite the mean: what it misses is taken off the products.
        missed = states.sum(0, dtype=torch.float64) / self.count
        self.mean = near.double() + missed
        self.products = (states.T @ states).double().addr_(missed, missed, alpha=-self.count)

    def add(self, other: Sums) -> None:
        """Becomes that of both (Chan et al. 1979, Stanford STAN-CS-79-773)."""
        count = self.count + other.count
        step = other.mean - self.mean
        self.products.add_(other.products).addr_(step, step, alpha=self.count * other.count / count)
        self.mean.add_(step, alpha=other.count / count)
        self.count, self.lengths = count, self.lengths + other.lengths


class _Kept:
    """Shards that Dask is to hand on as they are, without looking into them."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards


class _Told:
    """Counts the shards that are done, and what in them is not finite, from any thread."""

    def __init__(self, over: str, advance: Advance | None, total: int) -> None:
        self.over, self.advance, self.total, self.done = over, advance, total, 0
        self.lock = threading.Lock()
        # Layer, shard, utterance -> how many of its frames, or means, are left out.
        self.bad: Counter[tuple[int, str, str]] = Counter()

    def one_more(self) -> None:
        with self.lock:
            self.done += 1
            if self.advance is not None:
                self.advance(self.done, self.total)

    def not_finite(self, shard: Shard, layer: int, rows: np.ndarray) -> None:
        """Takes down that these of a shard's frames, or means, are left out of a layer."""
        number = shard.provenance.layer_numbers[layer]
        owners = np.searchsorted(shard.offsets, rows, side="right") - 1 if self.over == FRAMES else rows
        with self.lock:
            self.bad.update((number, shard.path.name, shard.utterance_ids[owner]) for owner in owners)

    @property
    def left_out(self) -> str:
        """What is left out, in a sentence; empty where nothing is."""
        if not self.bad:
            return ""
        layers = ", ".join(map(str, sorted({number for number, _, _ in self.bad})))
        _, file, utterance = min(self.bad)
        return (
            f"{self.bad.total()} {self.over} that are not finite are left out, of layers {layers}; the first are of "
            f"{utterance}, in {file}; run `make verify`, which names every file to delete, and `make extract` again"
        )


def _groups(shards: Sequence[Shard]) -> Iterator[list[Shard]]:
    group: list[Shard] = []
    frames = 0
    for shard in shards:
        group.append(shard)
        frames += int(shard.offsets[-1])
        if frames >= TASK_FRAMES:
            yield group
            group, frames = [], 0
    if group:
        yield group


def _mean_blocks(shard: Shard, layer: int) -> Iterable[np.ndarray]:
    return [np.ascontiguousarray(shard.pooled(slice(layer, layer + 1))[:, 0, 0])]


def _sums(blocks: Callable[[Shard, int], Iterable[np.ndarray]], group: _Kept, layer: int, told: _Told) -> Sums | None:
    """The sums of a layer of some shards over what is finite; None where nothing is."""
    whole: Sums | None = None
    for shard in group.shards:
        start = 0
        for block in blocks(shard, layer):
            states = _widened(torch.from_numpy(block))
            lengths = torch.linalg.vector_norm(states, dim=1)
            finite = lengths.isfinite()
            if not finite.all():
                told.not_finite(shard, layer, start + torch.nonzero(~finite)[:, 0].numpy())
                states, lengths = states[finite], lengths[finite]
            if len(states):
                found = Sums(states, lengths)
                if whole is None:
                    whole = found
                else:
                    whole.add(found)
            start += len(block)
        told.one_more()
    return whole


def _widened(block: Tensor) -> Tensor:
    """In float32, or in float64 where float32 could not hold the squares."""
    # NaN is neither smaller nor larger: beside it values may be large.
    small = block.dtype == torch.float16 or float(block.abs().max()) <= LARGEST
    return block.float() if small else block.double()


def _finished(parts: Sequence[Sums | None]) -> tuple[Tensor, Tensor, float, float, int] | None:
    """Mean (D,), deviation (D,), mean length, effective rank, count; None where nothing was finite."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    whole = found[0]
    for part in found[1:]:
        whole.add(part)
    covariance = whole.products / whole.count
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    return whole.mean, deviation, whole.lengths / whole.count, effective_rank(covariance), whole.count
