"""From stores to batches: the states of a language's utterances, gathered and padded.

Whatever holds the states (the accelerator, memory, or the store alone), the batches are the same bit for bit: states
are rounded to one dtype before they are cached or batched, and the order depends on the seed alone.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mser.cores import exact_on
from mser.errors import ConfigError
from mser.experts import (
    SMALLEST_DEVIATION,
    Expert,
    frames_expert,
    moments_over,
    pooled_expert,
    pooled_moments,
    scale_of,
)
from mser.placement import Packed, Streamed, caches, choose, out_of_memory, smaller
from mser.prefetch import BUFFERS, Buffers, prefetched
from mser.sources import reduced

__all__ = [
    "SMALLEST_DEVIATION",
    "Batch",
    "Expert",
    "Loader",
    "frames_expert",
    "moments_over",
    "pooled_expert",
    "pooled_moments",
    "reduced",
    "scale_of",
]

#: Batches drawn together and sorted by length before they are cut: keeps padding at a few percent.
POOL_BATCHES = 20


class Batch(NamedTuple):
    """Padded states of B utterances, one tensor an expert (K experts).

    Attributes:
        states: for each expert (B, T, L, D) float32, as cached, zero behind each utterance's end.
        lengths: for each expert (B,) int64, frames.
        labels: (B,) int64, emotion indices.
        rows: (B,) int32, the utterances' row numbers.
    """

    states: tuple[Tensor, ...]
    lengths: tuple[Tensor, ...]
    labels: Tensor
    rows: Tensor


class Loader:
    """Batches over one language's utterances.

    Placements, the fastest first:

    - ``device`` (CUDA): cached on the device and gathered there; making a batch waits for nothing.
    - ``pinned`` (CUDA): cached in memory; a thread gathers batches into pinned buffers and copies them to the device on
      a stream of its own, ahead of the steps.
    - ``memory`` (CPU): cached in memory.
    - ``streamed``: not cached; a thread reads the utterances of the next batches from the stores. For states that are
      larger than memory.

    ``auto`` takes the first whose cache is at most DEVICE_SHARE or HOST_SHARE of the free memory. Where memory runs out
    all the same, the next one is taken, with a warning, and the batches stay the same.

    Args:
        experts: K, all over the same N utterances.
        labels: (N,) int64.
        device: where the batches are wanted: a CPU or a CUDA device.
        placement: one of the above that the device has, or ``auto``.

    Attributes:
        placement: the one in use.

    Raises:
        ConfigError: no expert, or no such placement for the device.
        StoreError: a cached state is not finite; of what is streamed, when its batch is made.
    """

    def __init__(
        self, experts: Sequence[Expert], labels: Tensor, device: torch.device | str = "cpu", placement: str = "auto"
    ) -> None:
        if not experts:
            raise ConfigError("No expert to train on.", field="UPSTREAMS", expected="one upstream or more")
        self.experts, self.labels, self.device = tuple(experts), labels, torch.device(device)
        exact_on(self.device)
        self.placement = choose(self.experts, self.device, placement)
        self._lengths = [expert.frames.numpy() for expert in experts]
        self._pool: list[Buffers] = []
        self._own: Buffers | None = None
        self._stream: torch.cuda.Stream | None = None
        self._caches: list[Packed | Streamed] = []
        self._place()

    def gather(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, in their order. On the CPU it is valid until the next call: buffers are reused."""
        rows = np.asarray(rows, dtype=np.int64)
        if self.placement == "device":
            with contextlib.suppress(torch.OutOfMemoryError):
                return self._on_device(rows)
            self._fall()
        if self._own is None:
            self._own = Buffers(pinned=self.device.type == "cuda")
        return self._batch(self._own, rows)

    def order(self, rows: np.ndarray, batches: int, seed: int, epoch: int) -> list[np.ndarray]:
        """Cuts ``rows`` into ``batches`` batches of like length, in an order that seed and epoch decide.

        Where there are fewer rows than batches, some batches are empty.
        """
        rng = np.random.default_rng([seed, epoch])
        shuffled = rng.permutation(rows)
        lengths = self._lengths[0]
        pools = max(1, batches // POOL_BATCHES)
        counts = [len(part) for part in np.array_split(np.arange(batches), pools)]
        cut: list[np.ndarray] = []
        for pool, count in zip(np.array_split(shuffled, pools), counts, strict=True):
            inside = pool[np.argsort(lengths[pool], kind="stable")]
            cut += np.array_split(inside, count)
        rng.shuffle(cut)
        return cut

    def batches(self, cut: Sequence[np.ndarray], start: int = 0) -> Iterator[Batch]:
        """The batches of these rows in turn, made ahead of their use where the placement does so.

        A batch on the CPU is valid until the next one is asked for. Several of these iterators may run side by side.

        Args:
            cut: what :meth:`order` gave. start: the batch to begin with, to resume in mid-epoch.
        """
        wanted = [np.asarray(rows, dtype=np.int64) for rows in cut[start:]]
        for number, rows in enumerate(wanted):
            if self.placement != "device":
                yield from self._through_buffers(wanted[number:])
                return
            yield self.gather(rows)

    def _through_buffers(self, wanted: list[np.ndarray]) -> Iterator[Batch]:
        # A thread pays where something is waited for: the disk, or a device.
        ahead = self.device.type == "cuda" or any(isinstance(cache, Streamed) for cache in self._caches)
        count = BUFFERS if ahead else 1
        buffers = [self._pool.pop() if self._pool else Buffers(self.device.type == "cuda") for _ in range(count)]
        try:
            if ahead:
                yield from self._prefetched(buffers, wanted)
            else:
                for rows in wanted:
                    yield self._batch(buffers[0], rows)
        finally:
            self._pool += buffers

    def _prefetched(self, buffers: Sequence[Buffers], wanted: list[np.ndarray]) -> Iterator[Batch]:
        if self.device.type == "cuda" and self._stream is None:
            self._stream = torch.cuda.Stream(self.device)
        stream = self._stream

        def make(own: Buffers, number: int) -> Batch:
            if number + 1 < len(wanted):
                for cache in self._caches:
                    cache.ahead(wanted[number + 1])
            with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
                return self._batch(own, wanted[number])

        for own, batch in prefetched(make, len(wanted), buffers):
            if own.copied is not None:
                current = torch.cuda.current_stream(self.device)
                current.wait_event(own.copied)
                # The batch was allocated on the copying stream: without this, its memory could be given to a later
                # batch while the step that used it still runs.
                for tensor in (*batch.states, *batch.lengths, batch.labels, batch.rows):
                    tensor.record_stream(current)
            yield batch

    def _batch(self, own: Buffers, rows: np.ndarray) -> Batch:
        """A batch through host buffers; on CUDA copied on the current stream."""
        own.wait()
        cuda = self.device.type == "cuda"
        states, lengths_of = [], [lengths[rows] for lengths in self._lengths]
        for number, (expert, cache, chosen) in enumerate(zip(self.experts, self._caches, lengths_of, strict=True)):
            shape = (len(rows), int(chosen.max(initial=0)), expert.layers, expert.dim)
            # On the way to a device half as many bytes are copied; the cast is exact on either side.
            target = own.view(number, shape, expert.dtype if cuda else torch.float32)
            cache.fill(rows, chosen, target)
            states.append(target.to(self.device, non_blocking=True).float() if cuda else target)
        *lengths_sent, labels, numbers = self._sent(lengths_of, rows)
        if cuda:
            own.copied = own.copied or torch.cuda.Event()
            own.copied.record(torch.cuda.current_stream(self.device))
        return Batch(tuple(states), tuple(lengths_sent), labels, numbers.int())

    def _on_device(self, rows: np.ndarray) -> Batch:
        """A batch gathered from the caches on the device. The host knows all lengths, so it need not ask for them."""
        held = [cache for cache in self._caches if isinstance(cache, Packed)]
        lengths = [lengths[rows] for lengths in self._lengths]
        *sent, labels, numbers = self._sent([*lengths, *(cache.offsets[rows] for cache in held)], rows)
        states = [
            cache.gathered(offsets, own, int(host.max(initial=0)))
            for cache, own, offsets, host in zip(held, sent, sent[len(held) :], lengths, strict=False)
        ]
        return Batch(tuple(states), tuple(sent[: len(held)]), labels, numbers.int())

    def _sent(self, numbers: Sequence[np.ndarray], rows: np.ndarray) -> list[Tensor]:
        """Each of ``numbers``, then labels and rows, all (B,) int64, on the device: one copy, that nobody waits for."""
        together = torch.from_numpy(np.stack([*numbers, self.labels.numpy()[rows], rows]))
        if self.device.type == "cuda":
            together = together.pin_memory().to(self.device, non_blocking=True)
        return list(together.unbind())

    def _place(self) -> None:
        """Makes the caches of the placement, or of the next smaller ones until they fit."""
        while True:
            try:
                self._caches = caches(self.experts, self.placement, self.device)
                return
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or smaller(self.placement, self.device) is None:
                    raise
            self._fall_once()

    def fall(self) -> bool:
        """Goes to the next smaller placement, since a step needs the memory; false where there is none."""
        if smaller(self.placement, self.device) is None:
            return False
        self._fall()
        return True

    def _fall(self) -> None:
        self._fall_once()
        self._place()

    def _fall_once(self) -> None:
        """Goes to the next smaller placement, and lets go of what the last one held."""
        next_one = smaller(self.placement, self.device)
        if next_one is None:
            raise ConfigError("There is no smaller placement.", field="placement", found=self.placement)
        warnings.warn(
            f"There is not enough memory to keep states in the placement {self.placement!r}: they are {next_one!r} "
            "from now on. Results stay the same; steps may take longer.",
            RuntimeWarning,
            stacklevel=4,
        )
        self._caches = []
        self.placement = next_one
