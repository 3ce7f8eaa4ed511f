"""Statistics of the states of each layer, over stores larger than memory.

Dask hands out the work (a layer of some shards), torch computes. The cost is the products of all pairs of features,
from which the effective rank follows. Within a block they are summed in float32, of values less the block's mean, so
that nothing cancels; over blocks in float64. Blocks whose squares float32 could not hold are computed in float64.
"""

from __future__ import annotations

import threading
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
        count: frames, or utterances. over: ``frames`` or ``utterance means``.
    """

    mean: Tensor
    deviation: Tensor
    norm: Tensor
    rank: Tensor
    count: int
    over: str

    @property
    def dead(self) -> Tensor:
        """(L,) share of the features that vary so little that training takes them for constant."""
        return (self.deviation < SMALLEST_DEVIATION).double().mean(1)


def layer_statistics(
    store: Store, over: str | None = None, workers: int | None = None, advance: Advance | None = None
) -> LayerStatistics:
    """Statistics of a store of any size; of a store opened without its damaged shards, those of the others.

    Args:
        over: ``frames`` or ``utterance means``; frames where the store has them, if not given.
        workers: threads; one a core if not given.
        advance: told after each shard of a layer.

    Raises:
        StoreError: the store holds nothing of the kind, or values that are not finite.
    """
    chosen = over or (FRAMES if "frames" in store.provenance.keep else MEANS)
    store.require("frames" if chosen == FRAMES else "pooled")
    if not store.shards:
        raise StoreError("The store holds no utterance.", file=store.folder, hint="run `make extract` again")
    groups = list(_groups(store.shards)) if chosen == FRAMES else [store.shards]
    blocks = layer_blocks if chosen == FRAMES else _mean_blocks
    layers = range(store.provenance.layers)
    told = _Told(advance, len(layers) * len(store.shards))
    of_group, of_layer = dask.delayed(_sums, pure=False), dask.delayed(_finished, pure=False)
    tasks = [of_layer([of_group(blocks, _Kept(group), layer, told) for group in groups]) for layer in layers]
    with torch_threads(1):  # Dask's threads take a core each
        # Asked for by name, Dask would look for a cluster first, and import the library of clusters.
        found = dask.compute(*tasks, scheduler=dask.threaded.get, num_workers=workers or usable_cores())
    means, deviations, norms, ranks, counts = zip(*found, strict=True)
    return LayerStatistics(
        torch.stack(means), torch.stack(deviations), torch.tensor(norms), torch.tensor(ranks), counts[0], chosen
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

    def __init__(self, states: Tensor) -> None:
        """Of a block (n, D), float32 or float64, which is overwritten."""
        self.count = len(states)
        self.lengths = float(torch.linalg.vector_norm(states, dim=1).sum(dtype=torch.float64))
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
    """Counts the shards that are done, from any thread."""

    def __init__(self, advance: Advance | None, total: int) -> None:
        self.advance, self.total, self.done = advance, total, 0
        self.lock = threading.Lock()

    def one_more(self) -> None:
        with self.lock:
            self.done += 1
            if self.advance is not None:
                self.advance(self.done, self.total)


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


def _sums(blocks: Callable[[Shard, int], Iterable[np.ndarray]], group: _Kept, layer: int, told: _Told) -> Sums:
    whole: Sums | None = None
    for shard in group.shards:
        for block in blocks(shard, layer):
            found = Sums(_widened(torch.from_numpy(block)))
            if not (np.isfinite(found.lengths) and found.mean.isfinite().all()):
                raise StoreError(
                    "States hold values that are not finite.",
                    file=shard.path,
                    field=f"layer {shard.provenance.layer_numbers[layer]}",
                    hint="run `make verify`, which names the utterance; delete the file and run `make extract` again",
                )
            if whole is None:
                whole = found
            else:
                whole.add(found)
        told.one_more()
    assert whole is not None  # no shard is without frames
    return whole


def _widened(block: Tensor) -> Tensor:
    """In float32, or in float64 where float32 could not hold the squares."""
    large = block.dtype != torch.float16 and float(block.abs().max()) > LARGEST
    return block.double() if large else block.float()


def _finished(parts: Sequence[Sums]) -> tuple[Tensor, Tensor, float, float, int]:
    """Mean (D,), deviation (D,), mean length, effective rank, count."""
    whole = parts[0]
    for part in parts[1:]:
        whole.add(part)
    covariance = whole.products / whole.count
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    return whole.mean, deviation, whole.lengths / whole.count, effective_rank(covariance), whole.count
